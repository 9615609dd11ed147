"""Overload: how much of its capacity is left when more is offered than can be done.

Calls arrive by chance at a fixed mean rate, whether or not earlier ones have been answered (an open
loop). The model does nothing but sleep 50 ms, so that a machine that is busy with other things
changes little; its capacity is measured in the same run by clients that wait for each answer (a
closed loop), and ``streams / 50 ms`` stands beside it. :func:`offer` and :func:`capacity` drive any
server through a ``submit`` coroutine; run as a program this drives the engine and exits 1 where a
target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openkeypoints.engine import Call, Engine, Limits
from openkeypoints.engine.machine import resident_bytes
from openkeypoints.errors import OverloadedError
from openkeypoints.results import Image, Prediction

RUN_S = 0.05
WARM_UP_S = 1.0
MIN_GOODPUT = 0.9
MAX_REJECT_P99_S = 0.05
MAX_GROWTH = 300_000_000
MAX_OUTSTANDING = 5000
SEED = 5


class Refused(Exception):  # noqa: N818  # an answer, not an error
    """The server had no room; ``retry_after_s`` is what it said, None where it said nothing."""

    def __init__(self, retry_after_s: float | None) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s


Submit = Callable[[], Awaitable[object]]
"""Sends one call and waits for its answer; raises ``Refused``, or anything else as a failure."""


@dataclass
class Outcome:
    """What came of the calls that were offered.

    Attributes:
        offered_s: seconds that counted.
        arrivals: calls.
        answered: seconds from arrival to answer, of answers within ``offered_s``.
        late: answers after it.
        refused: seconds from arrival to refusal.
        silent: refusals that did not say when to come again.
        failures: what else happened, by its name.
        skipped: calls that were not sent because too many were outstanding.
        growth: bytes of memory that this process had more at its largest.
    """

    offered_s: float
    arrivals: int = 0
    answered: list[float] = field(default_factory=list)
    late: int = 0
    refused: list[float] = field(default_factory=list)
    silent: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    growth: int = 0

    @property
    def goodput(self) -> float:
        """Answers per second."""
        return len(self.answered) / self.offered_s

    def misses(self, full: float) -> list[str]:
        """Return the targets that were missed; ``full`` is the capacity in answers per second."""
        found = []
        if self.goodput < MIN_GOODPUT * full:
            found.append(f"goodput {self.goodput:.1f}/s of {full:.1f}/s")
        if self.refused and (p99 := percentile(self.refused, 99)) > MAX_REJECT_P99_S:
            found.append(f"rejects' p99 {p99 * 1e3:.0f} ms")
        if self.silent:
            found.append(f"{self.silent} rejects without Retry-After")
        if self.failures or self.skipped:
            found.append(f"failures {self.failures}, not sent {self.skipped}")
        if self.growth > MAX_GROWTH:
            found.append(f"memory grew by {self.growth >> 20} MB")
        return found


def percentile(seconds: Sequence[float], q: float) -> float:
    """Return a percentile, 0 of nothing."""
    return float(np.percentile(seconds, q)) if seconds else 0.0


async def capacity(submit: Submit, clients: int, seconds: float) -> float:
    """Return the answers per second of clients that each wait for an answer before they go on."""
    answered = 0
    closes = time.perf_counter() + WARM_UP_S + seconds

    async def client() -> None:
        nonlocal answered
        while (now := time.perf_counter()) < closes:
            await submit()
            answered += closes - seconds <= now and time.perf_counter() < closes

    await asyncio.gather(*(client() for _ in range(clients)))
    return answered / seconds


async def offer(submit: Submit, rate: float, seconds: float) -> Outcome:
    """Offer calls at ``rate`` per second; the first second does not count.

    Args:
        submit: sends one call.
        rate: mean of the arrivals, which are a Poisson process.
        seconds: that count. All calls are waited for, however late they are answered.
    """
    outcome = Outcome(seconds)
    arrivals = random.Random(SEED)  # noqa: S311  # chance, no secret
    began = time.perf_counter()
    opens, closes = began + WARM_UP_S, began + WARM_UP_S + seconds
    before = resident_bytes()
    tasks: set[asyncio.Task[None]] = set()
    due, sent = began, 0
    while (due := due + arrivals.expovariate(rate)) < closes:
        if (pause := due - time.perf_counter()) > 0:
            await asyncio.sleep(pause)
        if len(tasks) >= MAX_OUTSTANDING:
            outcome.skipped += 1
            continue
        sent += 1
        if sent % 50 == 0:
            outcome.growth = max(outcome.growth, resident_bytes() - before)
        task = asyncio.create_task(_one(submit, outcome, due, (opens, closes)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return outcome


async def _one(submit: Submit, outcome: Outcome, due: float, window: tuple[float, float]) -> None:
    opens, closes = window
    counts = due >= opens
    outcome.arrivals += counts
    try:
        await submit()
    except Refused as refusal:
        if counts:
            outcome.refused.append(time.perf_counter() - due)
            outcome.silent += refusal.retry_after_s is None
    except Exception as error:  # noqa: BLE001  # counted and reported
        name = type(error).__name__
        outcome.failures[name] = outcome.failures.get(name, 0) + 1
    else:
        now = time.perf_counter()
        if opens <= now <= closes:  # by the time of the answer: those in the queue cancel out
            outcome.answered.append(now - due)
        outcome.late += now > closes


def row(name: str, outcome: Outcome, full: float) -> str:
    """Return the line of a Markdown table; see ``HEAD``."""
    answered, refused = outcome.answered, outcome.refused
    cells = (
        name,
        f"{outcome.arrivals / outcome.offered_s:.0f}/s",
        f"{outcome.goodput / full:.2f}",
        f"{percentile(answered, 50) * 1e3:.0f}",
        f"{percentile(answered, 99) * 1e3:.0f}",
        str(len(refused)),
        f"{percentile(refused, 99) * 1e3:.1f}",
        str(outcome.silent + outcome.skipped + sum(outcome.failures.values())),
        f"{outcome.growth / 2**20:.0f}",
    )
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| load | offered | goodput / capacity | answers p50 ms | p99 ms | rejects | rejects p99 ms "
    "| other | memory MB |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


class SleepingModel:
    """Sleeps 50 ms and finds nothing."""

    device = "cpu"

    def request(self, **_: Any) -> None:
        """Take any thresholds."""

    def run(self, images: Sequence[Image], *_: Any) -> list[Prediction]:
        """Return one empty prediction per picture, after 50 ms."""
        time.sleep(RUN_S)
        return [_nothing(image) for image in images]

    def warmup(self) -> None:
        """Need none."""

    def close(self) -> None:
        """Hold nothing."""


def _nothing(image: Image) -> Prediction:
    return Prediction(
        image_size=(image.shape[1], image.shape[0]),
        model_id="sleep",
        class_names=("thing",),
        skeletons={},
        boxes=np.zeros((0, 4), np.float32),
        scores=np.zeros(0, np.float32),
        class_ids=np.zeros(0, np.int64),
        keypoints=np.zeros((0, 0, 2), np.float32),
        keypoint_scores=np.zeros((0, 0), np.float32),
    )


def of_engine(engine: Engine, data: bytes) -> Submit:
    """Return what sends a call with one picture to an engine."""

    async def submit() -> None:
        try:
            await engine.infer(Call("sleep", (data,)))
        except OverloadedError as error:
            raise Refused(error.retry_after_s) from None

    return submit


async def overload(streams: int, loads: Sequence[float], seconds: float) -> bool:
    """Measure the engine under each load, print the table, and tell whether all targets hold."""
    import openkeypoints as okp  # noqa: PLC0415  # the sample alone

    data = okp.sample("people").read_bytes()
    missed = []
    for number, load in enumerate(loads):
        engine = Engine(lambda _: SleepingModel(), Limits(streams=streams))  # type: ignore[arg-type,return-value]
        await engine.load("sleep")
        submit = of_engine(engine, data)
        full = await capacity(submit, 4 * streams, seconds)
        outcome = await offer(submit, load * full, seconds)
        await engine.drain(5)
        if not number:
            print(f"Capacity {full:.1f}/s; {streams / RUN_S:.0f}/s if nothing but sleep took time.")
            print(HEAD)
        print(row(f"{load:g}x", outcome, full), flush=True)
        missed += [f"{load:g}x: {text}" for text in outcome.misses(full)]
    for text in missed:
        print(f"missed: {text}", file=sys.stderr)
    return not missed


def main() -> None:
    """Measure the engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--loads", type=float, nargs="+", default=[3.0, 10.0])
    arguments = parser.parse_args()
    good = asyncio.run(overload(arguments.streams, arguments.loads, arguments.seconds))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
