"""Servers in processes of their own, and what the system says of them: CPU, memory, descriptors.

Run as a program it is the server of stub models that the benchmarks drive: the whole of ``okp
serve`` but for the network, which sleeps for a while and finds the same people each time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from openkeypoints.models.base import Description, Model
from openkeypoints.models.request import Request
from openkeypoints.results import Image, Prediction
from openkeypoints.settings import Settings
from openkeypoints.skeletons import load_skeleton

ROOT = Path(__file__).resolve().parents[1]
STUB = "stub/1"
START_S = 90.0
STOP_S = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ServerProcess:
    """A server, and the processes that it started."""

    def __init__(self, command: Sequence[str | Path], **env: str) -> None:
        """Start it. Its first line on standard output is JSON with its ``url``.

        Args:
            command: program and arguments.
            env: entries in the place of this process's own.
        """
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # closed in stop
        path = os.pathsep.join((str(ROOT / "src"), str(ROOT / "benchmarks")))
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **env},
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"The server did not start: {self.said()[-2000:]}")
        self.url: str = json.loads(line)["url"]

    def ready(self, path: str = "/readiness") -> ServerProcess:
        """Wait until it answers 200 there."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(self.url + path, trust_env=False).status_code == 200:
                    return self
            time.sleep(0.05)
        sys.exit(f"{self.url}{path} is not ready: {self.said()[-2000:]}")

    def said(self) -> str:
        """Return its log."""
        self.log.seek(0)
        return self.log.read()

    def pids(self) -> list[int]:
        """Return its process and all below it."""
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (task / "children").read_text(encoding="ascii").split())
        return found

    def cpu_s(self) -> float:
        """Return the CPU seconds of all of them, and of those that have ended."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
                total += sum(map(int, text.split()[11:15]))
        return total / _TICKS

    def decoding_s(self) -> float:
        """Return the CPU seconds in which a stub server has decoded pictures."""
        self.process.send_signal(signal.SIGUSR1)
        assert self.process.stdout is not None
        seconds: float = json.loads(self.process.stdout.readline())["decoding_s"]
        return seconds

    def memory(self) -> int:
        """Return the bytes of main memory that all of them hold."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/statm").read_text(encoding="ascii")
                total += int(text.split()[1]) * _PAGE
        return total

    def counts(self) -> tuple[int, int]:
        """Return how many descriptors and threads the first process has."""
        own = Path(f"/proc/{self.process.pid}")
        return len(list((own / "fd").iterdir())), len(list((own / "task").iterdir()))

    def stop(self) -> int:
        """End it with all below it, and return its exit code."""
        below = self.pids()[1:]
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(STOP_S)
        finally:
            self.process.kill()
            self.process.wait()
            for pid in below:  # not every server ends what it began
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.log.close()


@contextlib.contextmanager
def stub_server(sleep_s: float, streams: int, *, people: int = 3) -> Iterator[ServerProcess]:
    """Run the server of this file."""
    options = ("--sleep-ms", str(sleep_s * 1e3), "--streams", str(streams), "--people", str(people))
    with running((sys.executable, Path(__file__), *options)) as server:
        yield server


@contextlib.contextmanager
def running(command: Sequence[str | Path], **env: str) -> Iterator[ServerProcess]:
    """Run a server until the block ends, ready for requests."""
    server = ServerProcess(command, **env)
    try:
        yield server.ready()
    finally:
        if server.process.poll() is None:
            server.stop()


# ------------------------------------------------------------------------- the stub


class StubNetwork:
    """Sleeps, and finds the same people in every picture."""

    honours: frozenset[str] = frozenset()
    runtime, device, precision = "stub", "cpu", "f32"

    def __init__(self, sleep_s: float, people: int) -> None:
        self._sleep_s = sleep_s
        self._skeleton = load_skeleton("coco17")
        count, points = people, len(self._skeleton.keypoints)
        chance = np.random.default_rng(5)
        self._arrays: Mapping[str, Any] = {
            "boxes": chance.uniform(0, 200, (count, 4)).astype(np.float32),
            "scores": np.linspace(0.9, 0.7, count, dtype=np.float32),
            "class_ids": np.zeros(count, np.int64),
            "keypoints": chance.uniform(0, 400, (count, points, 2)).astype(np.float32),
            "keypoint_scores": chance.uniform(0, 1, (count, points)).astype(np.float32),
        }
        self._arrays["boxes"][:, 2:] += 200

    def predict(self, images: Sequence[Image], request: Request) -> list[Prediction]:  # noqa: ARG002
        """Return the same for all of them."""
        if self._sleep_s:
            time.sleep(self._sleep_s)
        return [
            Prediction(
                image_size=(image.shape[1], image.shape[0]),
                model_id=STUB,
                class_names=("person",),
                skeletons={0: self._skeleton},
                timings={"prepare": 0.0, "run": self._sleep_s * 1e3, "finish": 0.0},
                **self._arrays,
            )
            for image in images
        ]

    def close(self) -> None:
        """Hold nothing."""


def stub_model(sleep_s: float, people: int = 3) -> Model:
    """Return a model without a network."""
    network = StubNetwork(sleep_s, people)
    description = Description(
        id=STUB,
        task="keypoint-detection",
        class_names=("person",),
        skeletons={0: load_skeleton("coco17")},
        input_size=(640, 640),
        confidence=0.25,
        iou_threshold=0.7,
        licence="Apache-2.0",
        card={},
    )
    return Model(description, network, Settings())


def count_decoding() -> None:
    """Count the CPU time of reading pictures, and tell it as JSON at each SIGUSR1.

    Decoding in the server itself is what its overhead comes on top of: beside other work it takes
    longer than in a loop of its own.
    """
    from openkeypoints.engine import decoding  # noqa: PLC0415

    spent: list[float] = []

    def timed(read: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            began = time.thread_time()
            try:
                return read(*arguments, **options)
            finally:
                spent.append(time.thread_time() - began)

        return call

    decoding.read_image = timed(decoding.read_image)
    tell = lambda *_: print(json.dumps({"decoding_s": sum(spent)}), flush=True)  # noqa: E731
    signal.signal(signal.SIGUSR1, tell)


def main() -> None:
    """Serve the stub at a free port until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sleep-ms", type=float, default=0.0)
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--people", type=int, default=3)
    arguments = parser.parse_args()
    from openkeypoints.engine import Engine, Limits  # noqa: PLC0415
    from openkeypoints.models import ModelSpec  # noqa: PLC0415
    from openkeypoints.server.app import make_app  # noqa: PLC0415
    from openkeypoints.server.config import NamedModel, ServerConfig  # noqa: PLC0415
    from openkeypoints.server.logs import start_logging  # noqa: PLC0415
    from openkeypoints.server.running import Server, bind  # noqa: PLC0415

    engine = Engine(
        lambda _: stub_model(arguments.sleep_ms / 1e3, arguments.people),
        Limits(streams=arguments.streams, pinned=frozenset({STUB})),
    )
    config = ServerConfig(port=0, models=(NamedModel(STUB, ModelSpec(STUB)),))
    count_decoding()
    with bind(config) as listening:
        print(json.dumps({"url": f"http://127.0.0.1:{listening.getsockname()[1]}"}), flush=True)
        start_logging()
        Server(make_app(config, engine), config, alone=True).run(sockets=[listening])


if __name__ == "__main__":
    main()
