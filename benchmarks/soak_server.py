"""Five minutes of good, bad, slow and leaving clients: does the server stay as large as it was?

``okp serve`` with the person model in a process of its own. Memory, descriptors and threads are
read every second; the first minute is for caches and pools to fill. At both ends there is a pause
in which nobody asks, so that what was opened for requests is seen to be closed. Writes
benchmarks/reports/soak_server.*; exits 1 where a target is missed. ``make soak`` runs it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import random
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from server_process import ROOT, ServerProcess, running

from openkeypoints.cli.machine import cpu
from openkeypoints.cli.wire import Wire

REPORTS = ROOT / "benchmarks" / "reports"
PICTURE = (ROOT / "src" / "openkeypoints" / "samples" / "people.jpg").read_bytes()
WARM_UP_S = 60.0
REST_S = 12.0
TIMEOUT_S = 60.0
MAX_SLOPE_MB = 1.0
MAX_MORE = 2
"""Descriptors and threads by which two pauses may differ."""
FORM = "multipart/form-data; boundary=b0"
SLOW_CLIENTS = 6
BAD_STATUSES = (400, 404, 405, 413, 414, 422, 503)
"""503 is an answer to anybody: so many clients are more than a small machine can serve."""


@dataclass(frozen=True)
class Sample:
    """What the server held at a moment."""

    at_s: float
    bytes: int
    descriptors: int
    threads: int


def part(name: str, content: bytes) -> bytes:
    """Return a form with one file."""
    head = f'--b0\r\nContent-Disposition: form-data; name="{name}"; filename="a.jpg"\r\n\r\n'
    return head.encode() + content + b"\r\n--b0--\r\n"


def requests(wire: Wire) -> tuple[list[bytes], list[bytes]]:
    """Return good requests, on each kind of route, and bad ones."""
    text = base64.b64encode(PICTURE)
    form = {"Content-Type": FORM}
    plain = {"Content-Type": "application/x-www-form-urlencoded"}
    as_json = {"Content-Type": "application/json"}
    query = json.dumps(
        {"model_id": "person/1", "image": {"type": "base64", "value": text.decode()}}
    ).encode()
    good = [
        wire.request("POST", "/v1/models/person/predict", PICTURE),
        wire.request("POST", "/v1/models/person/predict?format=coco", PICTURE),
        wire.request("POST", "/person/1", text, plain),
        wire.request("POST", "/person/1?format=image", text, plain),
        wire.request("POST", "/infer/keypoints_detection", query, as_json),
        wire.request("POST", "/v1/predict/person", part("image", PICTURE), form),
        wire.request("POST", "/predict", part("file", PICTURE), form),
        wire.request("GET", "/model/registry"),
        wire.request("GET", "/metrics"),
        wire.request("GET", "/"),
    ]
    bad = [
        wire.request("POST", "/v1/models/person/predict", PICTURE[:5000]),
        wire.request("POST", "/v1/models/person/predict", b"no picture"),
        wire.request("POST", "/v1/models/person/predict?confidence=much", PICTURE),
        wire.request("POST", "/v1/models/nobody/predict", PICTURE),
        wire.request("POST", f"/nobody-{random.random()}/1", text, plain),  # noqa: S311
        wire.request("POST", "/infer/keypoints_detection", b"[" * 1000, as_json),
        wire.request("POST", "/v1/predict/person", part("image", PICTURE)[:-9], form),
        wire.request("POST", "/person/1?image=http://127.0.0.1/a.jpg"),
        wire.request("GET", "/no/such/page/at/all"),
        wire.request("DELETE", "/v1/models/person"),
        wire.request("GET", "/" + "x" * 20_000),
    ]
    return good, bad


class Crowd:
    """All the clients, until they are told to stop."""

    def __init__(self, url: str) -> None:
        self._url = url
        host, _, port = url.rpartition("/")[2].partition(":")
        self._address = host, int(port)
        self._stop = asyncio.Event()
        self._chance = random.Random(7)  # noqa: S311  # which client does what
        self.answers: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        """Let them come for so long."""
        clients = (
            *(self._asking(0) for _ in range(2)),
            self._asking(1),
            *(self._leaving() for _ in range(2)),
            *(self._slow(number) for number in range(SLOW_CLIENTS)),
        )
        tasks = [asyncio.create_task(client) for client in clients]
        await asyncio.sleep(seconds)
        self._stop.set()
        await asyncio.gather(*tasks)

    async def _asking(self, kind: int) -> None:
        wire = Wire(self._url)
        wanted = requests(wire)[kind]
        async with wire:
            while not self._stop.is_set():
                request = self._chance.choice(wanted)
                try:
                    reply = await wire.send(request, TIMEOUT_S)
                    result = str(reply.status)
                except (OSError, TimeoutError) as error:
                    result = type(error).__name__
                self.answers[f"{('good', 'bad')[kind]} {result}"] += 1
                await asyncio.sleep(self._chance.uniform(0, 0.02))

    async def _leaving(self) -> None:
        """Leave in the middle of a body, before the answer, or while it is being read."""
        request = Wire(self._url).request("POST", "/v1/models/person/predict", PICTURE)
        while not self._stop.is_set():
            async with self._connected() as (reader, writer):
                sent = self._chance.choice((len(request), len(request), 300, len(request) // 2))
                writer.write(request[:sent])
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._chance.uniform(0, 0.1)):
                        await reader.read(10)
                self.answers["left"] += 1
            await asyncio.sleep(self._chance.uniform(0, 0.1))

    async def _slow(self, number: int) -> None:
        """Send headers or a body byte by byte until the server closes, and come again."""
        head = b"POST /v1/models/person/predict HTTP/1.1\r\nHost: x\r\n"
        begins, drip = (
            (head, b"X-A: b\r\n") if number % 2 else (head + b"Content-Length: 90000\r\n\r\n", b"x")
        )
        while not self._stop.is_set():
            async with self._connected() as (reader, writer):
                writer.write(begins)
                while not self._stop.is_set() and not reader.at_eof():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.5):
                            await reader.read(1000)
                    writer.write(drip)
                self.answers["slow, closed by the server"] += reader.at_eof()

    @contextlib.asynccontextmanager
    async def _connected(self) -> Any:
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            with contextlib.suppress(ConnectionError):
                yield reader, writer
        finally:
            writer.transport.abort()


async def watch(server: ServerProcess, samples: list[Sample], began: float) -> None:
    """Read what the server holds, every second."""
    while True:
        samples.append(sample(server, began))
        await asyncio.sleep(1)


def sample(server: ServerProcess, began: float) -> Sample:
    """Read what the server holds now."""
    return Sample(time.monotonic() - began, server.memory(), *server.counts())


async def soak(server: ServerProcess, seconds: float) -> dict[str, Any]:
    """Run it all and return the figures."""
    began = time.monotonic()
    crowd = Crowd(server.url)
    await crowd.run(min(WARM_UP_S, seconds / 3))
    await asyncio.sleep(REST_S)
    first = sample(server, began)
    samples: list[Sample] = []
    watching = asyncio.create_task(watch(server, samples, began))
    again = Crowd(server.url)
    await again.run(seconds - min(WARM_UP_S, seconds / 3))
    watching.cancel()
    await asyncio.sleep(REST_S)
    last = sample(server, began)
    times = [s.at_s / 60 for s in samples]
    slopes = {
        "memory_mb_per_min": _slope(times, [s.bytes / 1e6 for s in samples]),
        "descriptors_per_min": _slope(times, [s.descriptors for s in samples]),
        "threads_per_min": _slope(times, [s.threads for s in samples]),
    }
    return {
        "seconds": seconds,
        "answers": dict(sorted((crowd.answers + again.answers).items())),
        **slopes,
        "at_rest": [first.__dict__, last.__dict__],
        "peak_mb": round(max(s.bytes for s in samples) / 1e6, 1),
        "samples": [[round(s.at_s), round(s.bytes / 1e6, 1), s.descriptors, s.threads]
                    for s in samples[::10]],
    }  # fmt: skip


def _slope(times: list[float], values: list[float] | list[int]) -> float:
    return round(statistics.linear_regression(times, values).slope, 3)


def misses(found: dict[str, Any]) -> list[str]:
    """Return the targets that were missed."""
    missed = []
    if found["memory_mb_per_min"] >= MAX_SLOPE_MB:
        missed.append(f"memory grows by {found['memory_mb_per_min']} MB per minute")
    first, last = found["at_rest"]
    missed += [
        f"{what}: {first[what]} before and {last[what]} after"
        for what in ("descriptors", "threads")
        if last[what] > first[what] + MAX_MORE
    ]
    wrong = [n for n in found["answers"] if n.startswith(("good", "bad"))]
    allowed = {"good 200", "good 503"} | {f"bad {status}" for status in BAD_STATUSES}
    if unexpected := sorted(set(wrong) - allowed):
        missed.append(f"answers {unexpected}")
    return missed


def page(found: dict[str, Any], missed: list[str]) -> str:
    """Return the report."""
    first, last = found["at_rest"]
    rows = [
        ("memory, MB", *(round(end["bytes"] / 1e6, 1) for end in (first, last)),
         found["memory_mb_per_min"], f"< {MAX_SLOPE_MB:g}"),
        *((what, first[what], last[what], found[f"{what}_per_min"], "flat")
          for what in ("descriptors", "threads")),
    ]  # fmt: skip
    answers = ", ".join(f"{name}: {count}" for name, count in found["answers"].items())
    about = (
        f"`okp serve --model person`, {found['seconds']:.0f} s of clients that are good, bad, slow "
        f"or leave, {cpu()['cores']} cores. The first minute does not count; at rest means "
        f"{REST_S:.0f} s after the last request."
    )
    lines = [
        "# The server over minutes",
        "",
        about,
        "",
        "| | at rest before | at rest after | slope per minute under load | target |",
        "| --- | --: | --: | --: | --- |",
        *(f"| {' | '.join(map(str, cells))} |" for cells in rows),
        "",
        f"Largest: {found['peak_mb']} MB. Answers: {answers}.",
        "",
        "Missed:\n\n" + "\n".join(f"- {m}" for m in missed) if missed else "All targets hold.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Soak, write the report, and fail where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--try", dest="trial", action="store_true", help="write no report")
    arguments = parser.parse_args()
    command = (sys.executable, "-m", "openkeypoints.cli", "serve", "--json", "--port", "0")
    with running((*command, "--model", "person")) as server:
        found = asyncio.run(soak(server, arguments.seconds))
        log = server.said()
    missed = misses(found)
    if "Traceback" in log:
        missed.append("the log has a traceback: " + log[log.index("Traceback") :][:1000])
    text = page(found, missed)
    print(text)
    if not arguments.trial:
        (REPORTS / "soak_server.md").write_text(text, encoding="utf-8")
        (REPORTS / "soak_server.json").write_text(
            json.dumps(found, indent=1) + "\n", encoding="utf-8"
        )
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
