"""``okp serve`` and ``okp keys`` as programs: what they refuse, print, and do at a signal."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from openkeypoints.cli import cli
from openkeypoints.cli.serving import facts
from openkeypoints.server.config import ServerConfig
from openkeypoints.server.served import Served

WAIT_S = 40.0
OPEN = ("--host", "0.0.0.0")


class Running:
    """A server in a process of its own."""

    def __init__(self, folder: Path, cache: Path, *arguments: str) -> None:
        names = ("PATH", "PYTHONPATH", "SYSTEMROOT")
        env = {name: os.environ[name] for name in names if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "openkeypoints.cli", "serve", "--port", "0", *arguments],
            cwd=folder, env={**env, "OKP_CACHE_DIR": str(cache), "HOME": str(folder)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.log: list[str] = []
        threading.Thread(target=self._read_log, daemon=True).start()
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        assert first, self.ended()
        self.url = first.split()[-1]
        self.client = httpx.Client(base_url=self.url, timeout=20, verify=False, trust_env=False)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(self.process.stderr)

    def ready(self) -> Running:
        def asked() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return self.client.get("/readiness").status_code == 200
            return False

        until(asked)
        return self

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self) -> tuple[int, str]:
        code = self.process.wait(WAIT_S)
        return code, "".join(self.log)

    def records(self) -> list[dict]:
        return [json.loads(line) for line in list(self.log) if line.startswith("{")]


def until(fact) -> None:
    end = time.monotonic() + WAIT_S
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def start(tmp_path, tiny_okp, settings) -> Iterator:
    running: list[Running] = []

    def run(*arguments: str, model: str | None = "tiny") -> Running:
        named = () if model is None else ("--model", f"{model}={tiny_okp}")
        running.append(Running(tmp_path, settings.cache_dir, *named, *arguments))
        return running[-1]

    yield run
    for server in running:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()
        server.client.close()
        for stream in (server.process.stdout, server.process.stderr):
            with contextlib.suppress(ValueError, OSError):
                stream.close()


def okp(*arguments: object):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


# ---------------------------------------------------------------------------------- okp serve


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (OPEN, 4, "--allow-anonymous"),
        (("--trusted-proxy", "10.0.0.0/8"), 4, "--allow-anonymous"),
        (("--model", "persom"), 3, "person"),
        (("--model", "v1/x"), 4, "route"),
        (("--model", "a=/no/such/file.onnx"), 3, "/no/such/file.onnx"),
        (("--api-keys", "none.json"), 3, "okp keys add"),
        (("--tls-cert", "a.pem"), 4, "--tls-key"),
        (("--engine", "ray"), 4, "later version"),
        (("--port", "notanumber"), 2, "--port"),
        (("--host", "256.0.0.1", "--allow-anonymous"), 4, "--host"),
    ],
)
def test_what_cannot_start_ends_with_a_sentence(tmp_path, monkeypatch, arguments, code, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OKP_CACHE_DIR", str(tmp_path))
    done = okp("serve", *arguments)
    assert (done.exit_code, sentence in done.output) == (code, True), done.output
    assert done.stdout == ""


def test_packages_are_looked_for_by_their_own_names(monkeypatch):
    # python-multipart brings a module of the same name, which is no help.
    there = importlib.metadata.version

    def version(name: str) -> str:
        if name == "multipart":
            raise importlib.metadata.PackageNotFoundError(name)
        return there(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    done = CliRunner().invoke(cli, ["serve", "--port", "0"])
    assert done.exit_code != 0
    assert "`okp serve` (without multipart) needs the extra 'server'" in done.output


def test_a_port_that_is_taken_ends_with_a_sentence(start, tmp_path, monkeypatch):
    monkeypatch.setenv("OKP_CACHE_DIR", str(tmp_path))
    port = start().ready().url.rpartition(":")[2]
    done = okp("serve", "--port", port)
    assert (done.exit_code, f"127.0.0.1:{port}" in done.output) == (4, True)


def test_the_server_says_what_it_serves_and_how_to_call_it(start):
    server = start("--model", "person").ready()
    server.signal(signal.SIGTERM)
    code, _ = server.ended()
    text = server.process.stdout.read()
    assert code == 0
    assert "tiny, person" in text
    assert f'InferenceHTTPClient(api_url="{server.url}"' in text
    assert re.search(rf"curl .*{server.url}/person/1", text)
    for page in ("/docs", "/healthz", "/metrics"):
        assert server.url + page in text


def test_what_it_says_can_be_had_as_json(settings):
    config = ServerConfig(host="::1", root_path="/k", load=False)
    told = json.loads(facts(config, Served(config, settings), 9001))
    assert told["url"] == "http://[::1]:9001/k"
    assert (told["models"], told["loads_others"]) == (["person"], False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_with_code_0_and_a_clean_log(start, number):
    server = start().ready()
    server.signal(number)
    code, log = server.ended()
    assert code == 0
    assert "Traceback" not in log
    assert {"info"} == {record["level"] for record in server.records()}


def test_an_open_server_lets_strangers_infer_and_nothing_else(start):
    server = start(*OPEN, "--allow-anonymous").ready()
    assert server.client.get("/metrics").status_code == 403
    assert server.client.get("/model/registry").status_code == 200


def test_a_broken_model_ends_the_server_with_its_reason(start, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    server = start("--model", f"mine={tmp_path / 'broken.onnx'}", model=None)
    code, log = server.ended()
    assert code != 0
    assert "broken.onnx" in log.splitlines()[-1]


def test_keys_are_read_again_at_sighup(start, tmp_path):
    path = tmp_path / "keys.json"
    first = okp("keys", "add", "first", "--scope", "metrics", "--file", path).stdout.strip()
    server = start("--api-keys", str(path)).ready()

    def status(key: str) -> int:
        return server.client.get("/metrics", headers={"x-api-key": key}).status_code

    assert status(first) == 200
    second = okp("keys", "add", "second", "--scope", "metrics", "--file", path).stdout.strip()
    okp("keys", "revoke", "first", "--file", path)
    assert (status(first), status(second)) == (200, 401)
    server.signal(signal.SIGHUP)
    until(lambda: status(second) == 200)
    assert status(first) == 401
    assert first not in "".join(server.log)


def test_a_certificate_makes_it_https(start, tmp_path):
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path, capture_output=True, check=True, timeout=50,
    )  # fmt: skip
    assert made.returncode == 0
    certificate = str(tmp_path / "cert.pem")
    server = start("--tls-cert", certificate, "--tls-key", str(tmp_path / "key.pem")).ready()
    assert server.url.startswith("https://127.0.0.1:")
    trusting = ssl.create_default_context(cafile=certificate)
    assert httpx.get(f"{server.url}/healthz", verify=trusting, timeout=20).status_code == 200


def test_a_worker_that_is_killed_is_replaced(start):
    server = start("--workers", "2").ready()
    workers = children(server.process.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    until(lambda: len(children(server.process.pid)) == 2 and workers[0] not in children_of(server))
    server.ready()
    assert server.client.get("/healthz").status_code == 200
    server.signal(signal.SIGTERM)
    assert server.ended()[0] == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_workers_that_cannot_serve_end_the_server(start, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    model = f"mine={tmp_path / 'broken.onnx'}"
    code, log = start("--workers", "2", "--model", model, model=None).ended()
    assert (code, "broken.onnx" in log) == (1, True)


def children_of(server: Running) -> list[int]:
    return children(server.process.pid)


def children(pid: int) -> list[int]:
    """Return the workers of a process; multiprocessing has a child of its own beside them."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"\nPPid:\t{pid}\n" in status.read_text():
                command = (status.parent / "cmdline").read_bytes()
                if b"spawn_main" in command:
                    found.append(int(status.parent.name))
    return sorted(found)


# ---------------------------------------------------------------------------------- okp keys


def test_a_key_is_printed_once_and_listed_without_itself(tmp_path):
    path = tmp_path / "keys.json"
    done = okp("keys", "add", "cam", "--rate", "5", "--concurrency", "2", "--file", path)
    key = done.stdout.strip()
    assert re.fullmatch(r"okp_cam_[A-Za-z0-9_-]{43}", key)
    listed = json.loads(okp("keys", "list", "--file", path, "--json").stdout)
    assert [(row["id"], row["scopes"], row["rate"], row["concurrency"]) for row in listed] == [
        ("cam", "infer", 5.0, 2)
    ]
    assert key not in path.read_text() + okp("keys", "list", "--file", path).stdout


def test_a_key_may_be_printed_as_json_and_expire(tmp_path):
    path = tmp_path / "keys.json"
    made = okp("keys", "add", "cam", "--days", "1", "--json", "--file", path)
    assert json.loads(made.stdout)["key"].startswith("okp_cam_")
    (row,) = json.loads(okp("keys", "list", "--file", path, "--json").stdout)
    assert row["expires"] is not None


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("add", "A b"), 4),
        (("add", "a", "--rate", "0"), 2),
        (("add", "a", "--scope", "root"), 2),
        (("list",), 3),
        (("revoke", "a"), 3),
    ],
)
def test_what_cannot_be_done_with_keys_is_told(tmp_path, arguments, code):
    assert okp("keys", *arguments, "--file", tmp_path / "none.json").exit_code == code
