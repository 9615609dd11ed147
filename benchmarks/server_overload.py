"""The server under more than it can do, under signals, and under clients that take their time.

Three parts over HTTP, all with a network that sleeps 50 ms: an open loop at 3 and 10 times the
capacity that was measured just before; SIGTERM again and again while requests run; and 500
sockets that are silent, drip headers, drip a body, or never take their answer, while others are
served. Writes benchmarks/reports/server_overload.*; exits 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from overload import HEAD, MIN_GOODPUT, RUN_S, Outcome, Refused, Submit, capacity, offer, row
from server_process import ROOT, STUB, ServerProcess, stub_server

from openkeypoints.cli import load
from openkeypoints.cli.machine import cpu
from openkeypoints.cli.wire import Reply, Wire

REPORTS = ROOT / "benchmarks" / "reports"
PICTURE = (ROOT / "src" / "openkeypoints" / "samples" / "people.jpg").read_bytes()
PATH = f"/v1/models/{STUB}/predict"
STREAMS = 2
TIMEOUT_S = 30.0
DRAIN_CLIENTS = 8
SETTLING_S = 0.05
"""A request that was sent so long before the signal has been accepted."""
PEERS = tuple(f"127.0.0.{n}" for n in range(2, 10))
IN_TIME_S = {"silent": 12.0, "headers": 12.0, "body": 12.0, "unread": 42.0}
"""The server's limits (10, 10, 10 and 30 s, the last one behind up to 10 of serving) and 2 s."""
MAX_SLOWDOWN = 1.5
Closed = dict[str, list[float]]
"""Seconds after which the sockets of each mode were closed."""

# ------------------------------------------------------------------------- overload


def submitter(wires: Sequence[Wire]) -> Submit:
    """Return what sends a picture, from one address after the other."""
    request = wires[0].request("POST", PATH, PICTURE, {"Content-Type": "image/jpeg"})
    turns = cycle(wires)

    async def submit() -> Reply:
        reply = await next(turns).send(request, TIMEOUT_S)
        if reply.status == 503:
            after = reply.headers.get("retry-after")
            raise Refused(None if after is None else float(after))
        if reply.status != 200:
            raise AssertionError(f"status {reply.status}")
        return reply

    return submit


async def _under_load(server: ServerProcess, loads: Sequence[float], seconds: float) -> Any:
    wires = [Wire(server.url, source=peer) for peer in PEERS]
    submit = submitter(wires)
    rows, missed, text = [], [], []
    full = await capacity(submit, 4 * STREAMS, seconds)
    for factor in loads:
        before = server.memory()
        peak = asyncio.create_task(_peak(server))
        outcome: Outcome = await offer(submit, factor * full, seconds)
        peak.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await peak
        outcome.growth = max(0, peak_of(peak) - before)
        name = f"{factor:g}x"
        text.append(row(name, outcome, full))
        print(text[-1], flush=True)
        missed += [f"{name}: {what}" for what in outcome.misses(full)]
        rows.append(
            {
                "load": factor,
                "goodput": round(outcome.goodput / full, 3),
                "rejects": len(outcome.refused),
                "rejects_p99_ms": round((load.percentile(outcome.refused, 99) or 0) * 1e3, 1),
                "answers_p99_ms": round((load.percentile(outcome.answered, 99) or 0) * 1e3, 1),
                "without_retry_after": outcome.silent,
                "failures": outcome.failures,
                "memory_mb": round(outcome.growth / 1e6, 1),
            }
        )
        await asyncio.sleep(2)
    return full, rows, missed, text


_peaks: dict[int, int] = {}


async def _peak(server: ServerProcess) -> None:
    """Keep the most memory that the server ever holds."""
    own = id(asyncio.current_task())
    while True:
        _peaks[own] = max(_peaks.get(own, 0), server.memory())
        await asyncio.sleep(0.25)


def peak_of(task: asyncio.Task[None]) -> int:
    """Return what a task of :func:`_peak` has seen."""
    return _peaks.pop(id(task), 0)


def overload(loads: Sequence[float], seconds: float) -> dict[str, Any]:
    """Offer more than the server can do, and return figures, table and missed targets."""
    with stub_server(RUN_S, STREAMS) as server:
        full, rows, missed, text = asyncio.run(_under_load(server, loads, seconds))
    said = f"Capacity {full:.1f}/s; {STREAMS / RUN_S:.0f}/s if nothing but sleep took time."
    table = "\n".join((said, "", HEAD, *text))
    return {"capacity": round(full, 2), "rows": rows, "missed": missed, "text": table}


# ------------------------------------------------------------------------- SIGTERM


@dataclass
class Drained:
    """What became of the requests of one server that was told to end."""

    accepted: Counter[str] = field(default_factory=Counter)
    later: Counter[str] = field(default_factory=Counter)
    code: int = 0
    took_s: float = 0.0


async def _until_gone(server: ServerProcess, after_s: float) -> Drained:
    drained = Drained()
    signalled = float("inf")
    stop = asyncio.Event()

    async def client() -> None:
        wire = Wire(server.url)
        request = wire.request("POST", PATH, PICTURE)
        async with wire:
            while not stop.is_set():
                sent = time.perf_counter()
                try:
                    reply = await wire.send(request, TIMEOUT_S)
                    result = str(reply.status)
                    if reply.status == 503 and "retry-after" not in reply.headers:
                        result = "503 without Retry-After"
                except (OSError, TimeoutError) as error:
                    result = type(error).__name__
                before = sent < signalled - SETTLING_S
                (drained.accepted if before else drained.later)[result] += 1
                if result != "200":
                    await asyncio.sleep(0.05)

    clients = [asyncio.create_task(client()) for _ in range(DRAIN_CLIENTS)]
    await asyncio.sleep(after_s)
    signalled = time.perf_counter()
    server.process.send_signal(signal.SIGTERM)
    drained.code = await asyncio.to_thread(server.process.wait, TIMEOUT_S)
    drained.took_s = time.perf_counter() - signalled
    stop.set()
    await asyncio.gather(*clients)
    return drained


def drains(times: int) -> dict[str, Any]:
    """End a server again and again while requests run in it."""
    chance = random.Random(5)  # noqa: S311  # moments, no secret
    accepted: Counter[str] = Counter()
    later: Counter[str] = Counter()
    codes: Counter[int] = Counter()
    longest = 0.0
    for _ in range(times):
        with stub_server(RUN_S, STREAMS) as server:
            drained = asyncio.run(_until_gone(server, chance.uniform(0.3, 0.8)))
        accepted.update(drained.accepted)
        later.update(drained.later)
        codes[drained.code] += 1
        longest = max(longest, drained.took_s)
    missed = [f"accepted requests: {dict(accepted)}"] if set(accepted) - {"200"} else []
    unsaid = [name for name in later if name.startswith("5") and name != "503"]
    if unsaid:
        missed.append(f"requests after the signal: {dict(later)}")
    if set(codes) != {0}:
        missed.append(f"exit codes {dict(codes)}")
    text = (
        f"{times} servers ended by SIGTERM under {DRAIN_CLIENTS} clients: of the requests sent "
        f"before it {_told(accepted)}; of those after it {_told(later)}; exit codes "
        f"{_told(codes)}; the longest took {longest:.2f} s to end."
    )
    print(text, flush=True)
    return {
        "accepted": accepted,
        "later": later,
        "codes": codes,
        "longest_s": round(longest, 2),
        "missed": missed,
        "text": text,
    }


def _told(counts: Counter[Any]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items())) or "none"


# ------------------------------------------------------------------------- slow sockets


async def _normal(server: ServerProcess, rate: float, seconds: float) -> load.Outcome:
    wire = Wire(server.url, source="127.0.0.1")
    request = wire.request("POST", PATH, PICTURE)
    async with wire:
        return await load.offer(
            lambda: wire.send(request, TIMEOUT_S), rate=rate, seconds=seconds, most=100
        )


async def _attack(server: ServerProcess, count: int, seconds: float) -> Closed:
    """Return when the sockets of each mode were closed; those that were not are missing."""
    command = (sys.executable, str(ROOT / "benchmarks" / "slow_sockets.py"))
    options = (server.url, PATH, "--sockets", str(count), "--seconds", str(seconds))
    process = await asyncio.create_subprocess_exec(
        *command, *options, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    if process.returncode:
        sys.exit("The slow sockets broke down.")
    closed: Closed = json.loads(said)
    return closed


def slow_clients(count: int, seconds: float) -> dict[str, Any]:
    """Measure normal traffic alone, and beside many slow sockets."""
    rate = 0.3 * STREAMS / RUN_S
    longest = max(IN_TIME_S.values()) + 8

    async def both(server: ServerProcess) -> tuple[load.Outcome, load.Outcome, Closed]:
        await _normal(server, rate, 2)
        alone = await _normal(server, rate, seconds)
        attack = asyncio.create_task(_attack(server, count, longest))
        beside = await _normal(server, rate, seconds)
        return alone, beside, await attack

    with stub_server(RUN_S, STREAMS) as server:
        alone, beside, sockets = asyncio.run(both(server))
    missed, modes = [], {}
    for mode, closed in sockets.items():
        modes[mode] = {"sockets": count // len(sockets), "closed": len(closed)}
        modes[mode]["last_s"] = round(max(closed, default=0), 1)
        modes[mode]["first_s"] = round(min(closed, default=0), 1)
        if len(closed) < modes[mode]["sockets"] or max(closed, default=0) > IN_TIME_S[mode]:
            missed.append(f"{mode}: {modes[mode]} within {IN_TIME_S[mode]} s")
    p99 = [load.percentile(outcome.answered, 99) or 0 for outcome in (alone, beside)]
    if p99[1] > MAX_SLOWDOWN * p99[0]:
        missed.append(f"normal p99 {p99[1] * 1e3:.0f} ms beside {p99[0] * 1e3:.0f} ms alone")
    if set(beside.took) != {200} or beside.failures:
        missed.append(f"normal answers {dict(beside.failures)}, {sorted(beside.took)}")
    normal = (
        f"Normal traffic ({rate:.0f}/s, {len(beside.answered)} answers): p99 {p99[0] * 1e3:.1f} ms "
        f"alone, {p99[1] * 1e3:.1f} ms beside them ({p99[1] / p99[0]:.2f}x)."
    )
    text = "\n".join(
        (
            "| mode | sockets | closed | first after s | last after s | allowed s |",
            "| --- | --: | --: | --: | --: | --: |",
            *(
                f"| {mode} | {of['sockets']} | {of['closed']} | {of['first_s']} | {of['last_s']} "
                f"| {IN_TIME_S[mode]:.0f} |"
                for mode, of in modes.items()
            ),
            "",
            normal,
        )
    )
    print(text, flush=True)
    return {"modes": modes, "p99_ms": [round(p * 1e3, 1) for p in p99], "missed": missed,
            "text": text}  # fmt: skip


# ------------------------------------------------------------------------- report


def parts(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the parts that were asked for."""
    if "overload" in arguments.parts:
        yield "Overload", overload((3.0, 10.0), arguments.seconds)
    if "drain" in arguments.parts:
        yield "SIGTERM under load", drains(arguments.times)
    if "slow" in arguments.parts:
        yield "Slow clients", slow_clients(arguments.sockets, max(arguments.seconds, 20))


def main() -> None:
    """Measure, write the report, and fail where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--parts", nargs="+", default=["overload", "drain", "slow"])
    parser.add_argument("--try", dest="trial", action="store_true", help="write no report")
    arguments = parser.parse_args()
    file = REPORTS / "server_overload.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    fresh = dict(parts(arguments))
    found = {**kept, **fresh}  # parts that were not asked for stay as they were
    missed = [f"{name}: {what}" for name, part in found.items() for what in part["missed"]]
    facts = cpu()
    note = (
        f"The network sleeps {RUN_S * 1e3:.0f} ms, {STREAMS} streams; goodput wanted "
        f"{MIN_GOODPUT}, rejects' p99 50 ms. {facts['cores']} cores, clients and server on one "
        f"machine, load average at the end {os.getloadavg()[0]:.1f}."
    )
    text = "\n\n".join(f"## {name}\n\n{part['text']}" for name, part in found.items())
    verdict = "Missed:\n\n" + "\n".join(f"- {m}" for m in missed) if missed else "All targets hold."
    if not arguments.trial:
        page = f"# The server under load\n\n{note}\n\n{text}\n\n{verdict}\n"
        (REPORTS / "server_overload.md").write_text(page, encoding="utf-8")
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(verdict)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
