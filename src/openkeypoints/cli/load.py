"""Offers requests to a server at a given rate, whether or not it keeps up, and counts the answers.

An open loop: each request has a moment at which it is due, and its time counts from there, so a
server that stalls cannot make its figures better by slowing down whoever asks.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from openkeypoints.cli.wire import BrokenAnswerError, Reply

_SEED = 5

Send = Callable[[], Awaitable[Reply]]
"""Sends one request; raises TimeoutError, OSError or BrokenAnswerError where no answer comes."""


@dataclass(slots=True)
class Outcome:
    """What came of the requests.

    Attributes:
        offered_s: seconds in which they were due.
        due: requests.
        took: seconds from due to the end of the answer, by status.
        failures: what came in place of an answer: ``timeout``, ``connection``, ``no HTTP``.
        not_sent: requests given up because too many waited for their answers.
        silent: refusals (429, 503) without ``Retry-After``.
        latest_s: from the first due moment to the last answer.
    """

    offered_s: float
    due: int = 0
    took: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    not_sent: int = 0
    silent: int = 0
    latest_s: float = 0.0

    @property
    def answered(self) -> list[float]:
        """Seconds of the answers with a status of 2xx."""
        return [took for status, all_ in self.took.items() if 200 <= status < 300 for took in all_]


async def offer(send: Send, *, rate: float, seconds: float, most: int) -> Outcome:
    """Send requests at chance moments of a fixed mean rate, and wait for all their answers.

    Args:
        send: sends one.
        rate: per second, on average; the moments are a Poisson process, the same one each time.
        seconds: in which they are due.
        most: requests that may wait for their answers at once.
    """
    outcome = Outcome(seconds)
    chance = random.Random(_SEED)  # noqa: S311  # moments, no secret
    tasks: set[asyncio.Task[None]] = set()
    began = due = time.perf_counter()
    while (due := due + chance.expovariate(rate)) < began + seconds:
        if (pause := due - time.perf_counter()) > 0:
            await asyncio.sleep(pause)
        outcome.due += 1
        if len(tasks) >= most:
            outcome.not_sent += 1
            continue
        task = asyncio.create_task(_one(send, outcome, due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    outcome.latest_s = time.perf_counter() - began
    return outcome


async def _one(send: Send, outcome: Outcome, due: float) -> None:
    try:
        reply = await send()
    except TimeoutError:
        outcome.failures["timeout"] += 1
    except OSError:
        outcome.failures["connection"] += 1
    except BrokenAnswerError:
        outcome.failures["no HTTP"] += 1
    else:
        outcome.took[reply.status].append(time.perf_counter() - due)
        if reply.status in (429, 503) and "retry-after" not in reply.headers:
            outcome.silent += 1


def percentile(values: Sequence[float], q: float) -> float | None:
    """Return the smallest value that ``q`` percent of all do not exceed, None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -int(-q * len(ordered) // 100) - 1))]
