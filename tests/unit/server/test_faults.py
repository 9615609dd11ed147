"""Faults: what breaks is told with the right code, is over within 5 s, and hurts nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from openkeypoints.engine import Engine
from openkeypoints.models import ModelSpec
from openkeypoints.samples import sample
from openkeypoints.server.config import NamedModel, ServerConfig
from tests.live_server import live_server
from tests.synthetic import KEY, weights_api, write_package
from tests.unit.engine.stubs import Shop, limits

RECOVERY_S = 5.0
START_S = 60.0
SMALL_FILES = 1000
"""Bytes of a file on the disk that is full: less than weights or compiled networks have."""
PICTURE = sample("people").read_bytes()


def predict(client: httpx.Client, model: str) -> httpx.Response:
    return client.post(f"/v1/models/{model}/predict", content=PICTURE)


def until(fact: Callable[[], object], limit_s: float) -> float:
    """Wait until something is so; return how long that took."""
    began = time.monotonic()
    while not fact():
        assert time.monotonic() - began < limit_s
        time.sleep(0.05)
    return time.monotonic() - began


# ---------------------------------------------------------------------------------- processes


class Program:
    """``okp serve`` in a process of its own, whose files may not grow beyond a limit."""

    def __init__(self, folder: Path, cache: Path, arguments: tuple[str, ...], **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "openkeypoints.cli", "serve", "--json", "--port", "0",
             *arguments],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                 "HOME": str(folder), "OKP_CACHE_DIR": str(cache),
                 # A module compiled under the limit would be cut off for everybody after.
                 "PYTHONDONTWRITEBYTECODE": "1", **env},
        )  # fmt: skip
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "".join(self.log)
        self.client = httpx.Client(
            base_url=json.loads(line)["url"], timeout=START_S, trust_env=False
        )

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(self.process.stderr)

    def status(self, path: str) -> int:
        with contextlib.suppress(httpx.TransportError):
            return self.client.get(path).status_code
        return 0

    def file_limit(self, count: int) -> None:
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (count, hard))

    def end(self) -> None:
        self.client.close()
        self.process.terminate()
        try:
            self.process.wait(START_S)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join()
            for stream in (self.process.stdout, self.process.stderr):
                assert stream is not None
                stream.close()


@pytest.fixture
def serving(tmp_path, settings) -> Iterator[Callable[..., Program]]:
    running: list[Program] = []

    def start(*arguments: str, cache: Path = settings.cache_dir, **env: str) -> Program:
        running.append(Program(tmp_path, cache, arguments, **env))
        until(lambda: running[-1].status("/readiness") == 200, START_S)
        return running[-1]

    yield start
    for program in running:
        program.end()


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return [c for c in found if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]


@pytest.mark.slow
def test_a_killed_worker_is_replaced_while_the_other_answers(serving, tiny_okp):
    program = serving("--workers", "2", "--model", f"tiny={tiny_okp}")
    until(lambda: len(children(program.process.pid)) == 2, START_S)
    killed = children(program.process.pid)[0]
    os.kill(killed, signal.SIGKILL)

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):  # of the connection to the one killed
            return predict(program.client, "tiny").status_code == 200
        return False

    until(answers, RECOVERY_S)
    assert all(answers() for _ in range(10))
    until(lambda: len(set(children(program.process.pid)) - {killed}) == 2, START_S)
    assert answers()
    assert any(f"Worker {killed} ended" in line for line in program.log)


@pytest.mark.slow
def test_a_full_disk_stops_downloads_alone_until_there_is_room(serving, tmp_path, tiny_okp):
    package = write_package(tmp_path / "package")
    with weights_api(package) as api:
        program = serving(
            cache=tmp_path / "cache", OKP_ROBOFLOW_URL=api, OKP_RELEASES_URL=api,
            ROBOFLOW_API_KEY=KEY,
        )  # fmt: skip
        program.file_limit(SMALL_FILES)
        full = predict(program.client, "my-pose/3")
        assert full.status_code == 502
        assert str(tmp_path) not in full.text
        assert predict(program.client, "person").status_code == 200
        program.file_limit(resource.RLIM_INFINITY)
        until(lambda: predict(program.client, "my-pose/3").status_code == 200, RECOVERY_S)
    assert any("full" in line for line in program.log)


@pytest.mark.slow
def test_a_network_that_cannot_be_kept_compiled_is_used_all_the_same(serving, tmp_path, tiny_okp):
    cache = tmp_path / "cache"
    program = serving("--no-load", "--model", "person", "--model", f"tiny={tiny_okp}", cache=cache)
    program.client.post("/model/remove", json={"model_id": "tiny"})
    for blob in cache.rglob("*.blob"):
        blob.unlink()
    program.file_limit(SMALL_FILES)
    assert predict(program.client, "tiny").status_code == 200
    assert predict(program.client, "person").status_code == 200
    again = serving("--model", f"tiny={tiny_okp}", cache=cache)  # what was left does no harm
    assert predict(again.client, "tiny").status_code == 200


# ---------------------------------------------------------------------------------- files


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("suffix", ["okp", "pt"])
@pytest.mark.parametrize(("breaks", "status"), [(Path.unlink, 404), (truncated, 502)])
def test_a_file_that_breaks_is_told_when_it_is_read_and_mended_when_it_is_back(
    settings, tmp_path, tiny_okp, tiny_pt, suffix, breaks, status
):
    source = {"okp": tiny_okp, "pt": tiny_pt}[suffix]
    path = tmp_path / f"mine.{suffix}"
    path.write_bytes(source.read_bytes())
    named = (
        NamedModel("mine", ModelSpec(str(path))),
        NamedModel("other", ModelSpec(str(tiny_okp))),
    )
    with live_server(ServerConfig(port=0, models=named), settings=settings) as server:
        client = server.client
        load_s = server.context.engine.loaded()["mine"].load_s  # this machine may be busy
        breaks(path)
        assert predict(client, "mine").status_code == 200  # it is loaded, and needs no file
        client.post("/model/remove", json={"model_id": "mine"})
        broken = predict(client, "mine")
        assert broken.status_code == status
        assert str(tmp_path) not in broken.text
        assert predict(client, "other").status_code == 200
        path.write_bytes(source.read_bytes())
        until(lambda: predict(client, "mine").status_code == 200, RECOVERY_S + load_s)


# ---------------------------------------------------------------------------------- executors


def test_a_model_that_hangs_is_replaced_and_the_others_go_on(settings):
    shop = Shop()
    engine = Engine(shop.open, limits(deadline_s=1.0, grace_s=0.3, inflight_bytes=10**8))
    named = (NamedModel("team/1", ModelSpec("team/1")), NamedModel("team/2", ModelSpec("team/2")))
    config = ServerConfig(port=0, models=named)
    with (
        live_server(config, engine=engine, settings=settings) as server,
        ThreadPoolExecutor() as pool,
    ):
        hanging = shop.of("team/1")[0]
        hanging.gate.clear()
        try:
            began = time.monotonic()
            waiting = pool.submit(predict, server.client, "team/1")
            until(lambda: hanging.entered.acquire(blocking=False), RECOVERY_S)
            assert predict(server.client, "team/2").status_code == 200
            answer = waiting.result(RECOVERY_S)
            assert time.monotonic() - began >= 1.0
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            until(lambda: predict(server.client, "team/1").status_code == 200, RECOVERY_S)
            assert server.client.get("/healthz").status_code == 503  # a thread is lost
        finally:
            hanging.gate.set()
        until(lambda: server.client.get("/healthz").status_code == 200, RECOVERY_S)
