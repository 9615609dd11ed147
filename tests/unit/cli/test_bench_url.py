"""``okp bench --url``: requests of each route, figures, and what is said of other servers."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from openkeypoints.cli.load import percentile
from openkeypoints.engine import Engine
from openkeypoints.models import ModelSpec
from openkeypoints.server.config import NamedModel, ServerConfig
from openkeypoints.settings import Settings
from tests.live_server import live_server
from tests.unit.engine.stubs import StubModel, limits

KEY = "a-key-of-the-operator"
QUICK = ("--rate", "40", "--seconds", "0.5")


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    folder = tmp_path_factory.mktemp("cache")
    return Settings(cache_dir=folder, hub_cache=folder / "hub", roboflow_caches=(folder / "rf",))


@pytest.fixture(scope="module")
def locked(settings, tiny_okp) -> Iterator[str]:
    named = NamedModel("tiny", ModelSpec(str(tiny_okp)))
    config = ServerConfig(port=0, api_key=KEY, models=(named,))
    with live_server(config, settings=settings) as server:
        yield server.url


class Slow(StubModel):
    """Answers four times a second."""

    def run(self, images, arguments, decode_ms):
        time.sleep(0.25)
        return super().run(images, arguments, decode_ms)


def bench(okp, url, *arguments):
    return okp("bench", "--url", url, *QUICK, *arguments)


@contextlib.contextmanager
def speaks(answer: bytes) -> Iterator[str]:
    """Run a server that gives one answer on each connection, and then says no more."""

    def answer_once(connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    def run() -> None:
        with contextlib.suppress(OSError):  # it was shut down
            while True:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    answer_once(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=run)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("route", ["roboflow", "ultralytics", "native"])
def test_each_route_is_answered_with_a_key(okp, locked, route):
    done = bench(okp, locked, "--model", "tiny", "--route", route, "--key", KEY, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert list(report["statuses"]) == ["200"]
    assert report["answered"] == report["requests"] == report["statuses"]["200"]["count"] > 5
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p95"]
    assert report["latency_ms"]["p95"] <= report["latency_ms"]["p99"] <= report["latency_ms"]["max"]
    assert (report["failures"], report["not_sent"]) == ({}, 0)


@pytest.mark.parametrize("route", ["roboflow", "ultralytics", "native"])
def test_a_server_that_says_no_ends_it_with_what_it_said(okp, locked, route):
    done = bench(okp, locked, "--model", "tiny", "--route", route)
    assert done.exit_code == 1
    assert "answers 401" in done.stderr
    assert "--key" in done.stderr


def test_a_key_is_shown_nowhere(okp, locked):
    wrong = bench(okp, locked, "--model", "tiny", "--key", "canary-key-that-is-wrong")
    right = bench(okp, locked, "--model", "tiny", "--key", KEY)
    assert "canary" not in wrong.output
    assert KEY not in right.output


def test_the_table_has_a_row_per_status(okp, locked):
    text = bench(okp, locked, "--model", "tiny", "--key", KEY).stdout
    assert "\nstatus  count  p50" in text
    assert "\n200 " in text


def test_a_server_that_falls_behind_is_measured_by_status(okp, settings):
    engine = Engine(Slow, limits(queue=1, inflight_bytes=10**8))
    with live_server(ServerConfig(port=0), engine=engine, settings=settings) as server:
        report = json.loads(bench(okp, server.url, "--json").stdout)
    counts = {status: of["count"] for status, of in report["statuses"].items()}
    assert set(counts) == {"200", "503"}
    assert sum(counts.values()) == report["requests"]
    assert report["refusals_without_retry_after"] == 0
    assert report["answered"] == counts["200"]


def test_a_refusal_without_a_time_to_come_again_is_counted(okp):
    busy = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with speaks(busy) as url:
        report = json.loads(bench(okp, url, "--json").stdout)
    assert report["refusals_without_retry_after"] == report["statuses"]["503"]["count"] > 0


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"", "closed before the answer"),
        (b"SSH-2.0-dropbear\r\n\r\n", "no HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", "closed before the answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "no readable length"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 8\r\n\r\nno model", "answers 404"),
        (b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", "'no'"),
        (b"HTTP/1.0 404 No\r\n\r\nno end", "'no end'"),
    ],
    ids=["closed", "other", "short", "length", "refused", "chunks", "until-close"],
)
def test_what_else_a_server_may_say_ends_with_a_sentence(okp, answer, what):
    with speaks(answer) as url:
        done = bench(okp, url)
    assert (done.exit_code, what in done.stderr) == (1, True), done.output


def test_where_nothing_runs_it_says_so(okp):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        done = bench(okp, f"http://127.0.0.1:{free.getsockname()[1]}")
    assert (done.exit_code, "is it running there?" in done.stderr) == (1, True)


def test_a_server_that_is_silent_is_not_waited_for_longer_than_said(okp):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = bench(okp, url, "--timeout", "0.3")
    assert (done.exit_code, "--timeout" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "ftp://x"),
        ("--url", "http://"),
        ("--url", "http://x:notaport"),
        ("--url", "http://x", "--rounds", "3"),
        ("--rate", "3"),
    ],
)
def test_what_does_not_fit_together_is_refused(okp, arguments):
    assert okp("bench", *arguments).exit_code == 4


def test_a_percentile_is_a_value_that_was_measured():
    assert [percentile(range(1, 101), q) for q in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert (percentile([7.0], 99), percentile([], 50)) == (7.0, None)
