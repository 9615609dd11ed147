"""Who is let in: the predicted wait of a call, and the memory of the calls under way."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import Self

from openkeypoints.errors import ImageTooLargeError, OverloadedError

RUNS = 50
MIN_RETRY_S = 1.0


class ServiceTime:
    """How long a run of n images takes: a line fitted on the last runs."""

    def __init__(self) -> None:
        self._runs: deque[tuple[int, float]] = deque()
        self._sums = (0.0, 0.0, 0.0, 0.0)  # of n, t, n * n and n * t
        self._line: tuple[float, float] | None = None

    def add(self, images: int, seconds: float) -> None:
        """Take one more run into account."""
        runs = self._runs
        runs.append((images, seconds))
        n, t, nn, nt = self._sums
        n, t, nn, nt = n + images, t + seconds, nn + images * images, nt + images * seconds
        if len(runs) > RUNS:
            old, took = runs.popleft()
            n, t, nn, nt = n - old, t - took, nn - old * old, nt - old * took
        self._sums = n, t, nn, nt
        count = len(runs)
        mean_n, mean_t = n / count, t / count
        spread = nn - n * mean_n
        slope = mean_t / mean_n  # of runs of one size nothing more is known
        if spread > 0:
            slope = min(slope, max(0.0, (nt - n * mean_t) / spread))
        self._line = slope, mean_t - slope * mean_n

    def seconds(self, images: int) -> float | None:
        """Return the predicted seconds of a run, None before the first."""
        if self._line is None:
            return None
        slope, start = self._line
        return slope * images + start


def predicted_wait(backlog: int, service: ServiceTime, *, streams: int, batch: int) -> float:
    """Return the seconds until one more image has its turn.

    Args:
        backlog: images that are in the network or wait for it.
        service: of the model; before its first run nothing is known and the answer is 0.
        streams: runs at once.
        batch: most images of a run.
    """
    ahead = max(0, backlog - streams + 1)
    seconds = service.seconds(batch)
    return 0.0 if seconds is None else ahead / streams * seconds / batch


class ByteBudget:
    """The memory of all calls under way. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.lock = threading.Lock()

    def claim(self) -> Claim:
        """Return what one call holds of it: nothing yet. A context manager, which gives it back."""
        return Claim(self)


class Claim:
    """What one call holds of the budget."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._held = 0
        self._ended = False

    def add(self, count: int) -> None:
        """Take ``count`` bytes more.

        Raises:
            ImageTooLargeError: one call may never have so much.
            OverloadedError: the calls under way have left too little.
        """
        budget = self._budget
        with budget.lock:
            if self._ended:
                raise OverloadedError("The call has ended.", MIN_RETRY_S, "inflight")
            if self._held + count > budget.limit:
                raise ImageTooLargeError(
                    f"The pictures of this call take more than {budget.limit // 10**6} MB of "
                    "memory, encoded and decoded: send fewer or smaller ones."
                )
            if budget.used + count > budget.limit:
                raise OverloadedError(
                    "The pictures of the calls under way leave no memory for this one: try again "
                    "in a moment.",
                    MIN_RETRY_S,
                    "inflight",
                )
            budget.used += count
            self._held += count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._budget.lock:
            self._budget.used -= self._held
            self._held, self._ended = 0, True
