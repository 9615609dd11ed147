"""The threads that run one model, and the bounded queue before them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from openkeypoints.engine.admission import MIN_RETRY_S, ServiceTime, predicted_wait
from openkeypoints.engine.calls import ModelState, ModelStats
from openkeypoints.engine.decoding import Decoded, picture_settings
from openkeypoints.engine.jobs import Job, Outcome, Turn
from openkeypoints.engine.limits import Limits
from openkeypoints.errors import (
    InferenceError,
    InputError,
    OpenKeypointsError,
    OverloadedError,
    OverloadReason,
)
from openkeypoints.models.base import Model
from openkeypoints.results import Prediction

logger = logging.getLogger(__name__)


class Ticket:
    """The right of a call to queue so many images. A context manager, which gives it back."""

    def __init__(self, executor: Executor, images: int) -> None:
        self._executor = executor
        self.images = images

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.images:  # they were never queued
            self._executor.give_back(self)


@dataclass(slots=True)
class _Counts:
    runs: int = 0
    images: int = 0
    run_s: float = 0.0
    wait_s: float = 0.0
    failures: int = 0


class Executor:
    """Runs one model. Made and called on the event loop; the model runs in threads.

    The queue is work-conserving: an idle thread takes what is there at once. Calls take turns,
    image by image, so that a call of many images does not hold up the others. On a CPU each of the
    model's streams has a thread, which decodes one image and runs it; on a GPU one thread collects
    those that may run together, decoded.
    """

    def __init__(
        self,
        model_id: str,
        model: Model,
        limits: Limits,
        on_stuck: Callable[[], None],
    ) -> None:
        """Start the threads.

        Args:
            model_id: for messages.
            model: runs in as many threads as it has streams.
            limits: of queue, wait and runs.
            on_stuck: is called once, on the loop, when a run hangs; all calls have failed then.
        """
        self._id, self._model, self._limits, self._on_stuck = model_id, model, limits, on_stuck
        on_cpu = model.device.startswith("cpu")
        self.decodes = on_cpu
        """Whether its threads decode the pictures themselves; else they come decoded."""
        self.streams = limits.streams if on_cpu else 1
        self._batch = 1 if on_cpu else limits.max_batch
        self._settings = picture_settings(limits)
        self.room = limits.room(self.streams * self._batch)
        self.ended = asyncio.Event()
        """Set when all threads have ended."""
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._queue: deque[Job] = deque()
        self._active: set[Job] = set()
        self._waiting = self._decoding = self._running = 0
        self._runs: dict[int, float] = {}
        self._service, self._counts = ServiceTime(), _Counts()
        self._refusal: tuple[str, OverloadReason] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._threads = self.streams
        for number in range(self.streams):
            name = f"okp-{model_id}-{number}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    # ------------------------------------------------------------ on the event loop

    def admit(self, images: int, deadline: float) -> Ticket:
        """Let a call in, or refuse it now, before anything has been done for it.

        Raises:
            OverloadedError: too much is waiting, or would have to wait too long.
        """
        with self._lock:
            self._check_room(images, deadline)
            self._decoding += images
        return Ticket(self, images)

    def give_back(self, ticket: Ticket) -> None:
        """Let others have the room of a call that queues no more images."""
        with self._lock:
            self._decoding -= ticket.images
            ticket.images = 0

    def refuse_if_full(self, deadline: float) -> None:
        """Refuse a call of one image as :meth:`admit` would; nothing is kept for it otherwise.

        Raises:
            OverloadedError: see :meth:`admit`.
        """
        with self._lock:
            self._check_room(1, deadline)

    def submit_decoded(
        self, job: Job, ticket: Ticket, decoded: list[Decoded] | OpenKeypointsError
    ) -> None:
        """Queue an admitted call whose images were decoded, or fail it. Thread-safe."""
        if isinstance(decoded, OpenKeypointsError):
            self._on_loop(job.refuse, decoded)
            return
        for index, picture in enumerate(decoded):
            job.keep(index, picture)
        self.submit(job, ticket)

    def submit(self, job: Job, ticket: Ticket) -> None:
        """Queue the images of an admitted call, encoded or not. Thread-safe."""
        with self._lock:
            if self._refusal is not None or job.dropped:  # whoever waited has been told
                return
            self._decoding -= ticket.images
            ticket.images = 0
            job.submitted = job.last_turn = time.monotonic()
            self._queue.append(job)
            self._waiting += len(job.images)
            self._changed.notify(len(job.images))

    async def outcome(self, job: Job) -> list[Prediction]:
        """Return the predictions in the order of the images.

        Cancelling drops the images that have not begun; the others finish unheard.

        Raises:
            OverloadedError: the turn did not come before the deadline, or the model hangs.
            InferenceError: the model broke down.
            OpenKeypointsError: a picture is bad, or what the model raises.
        """
        self._active.add(job)
        if self._watch is None:
            self._watch = self._loop.call_later(self._limits.hang_s, self._look_for_hangs)
        left = max(0.0, job.deadline - time.monotonic())
        job.timer = self._loop.call_later(left, self._expire, job, self._limits.grace_s)
        try:
            return await job.done
        finally:
            job.timer.cancel()
            self._active.discard(job)
            self._withdraw(job)
            job.abandon()

    def stop(self, message: str, reason: OverloadReason) -> None:
        """Fail the calls that are in it, take no more, and let the threads end."""
        with self._lock:
            if self._refusal is None:
                self._refusal = message, reason
            self._queue.clear()
            self._waiting = 0
            self._changed.notify_all()
        for job in tuple(self._active):
            job.refuse(OverloadedError(message, MIN_RETRY_S, reason))
        if self._watch is not None:
            self._watch.cancel()

    def stats(self, state: ModelState, *, calls: int, bytes: int, load_s: float) -> ModelStats:
        """Return how it stands; the arguments are what others know."""
        with self._lock:
            oldest = min(self._runs.values(), default=None)
            counts = self._counts
            return ModelStats(
                state=state,
                calls=calls,
                waiting=self._waiting + self._decoding,
                running=self._running,
                oldest_run_s=0.0 if oldest is None else time.monotonic() - oldest,
                predicted_wait_s=self._predicted_wait(),
                service_s=self._service.seconds(1),
                bytes=bytes,
                load_s=load_s,
                runs=counts.runs,
                images=counts.images,
                run_s=counts.run_s,
                wait_s=counts.wait_s,
                failures=counts.failures,
            )

    def _check_room(self, images: int, deadline: float) -> None:
        if self._refusal is not None:
            raise self._refused()
        backlog = self._waiting + self._decoding
        wait = self._predicted_wait()
        if backlog and backlog + images > self.room:
            raise OverloadedError(
                f"{backlog} images wait for the model {self._id!r}, which has room for "
                f"{self.room}: try again later.",
                max(MIN_RETRY_S, wait),
                "queue",
            )
        longest = min(self._limits.max_wait_s, deadline - time.monotonic())
        if wait > longest:
            raise OverloadedError(
                f"A call of the model {self._id!r} would wait {wait:.1f} s for its turn, more "
                f"than the {max(0.0, longest):.1f} s that it may: try again later.",
                max(MIN_RETRY_S, wait),
                "queue",
            )

    def _predicted_wait(self) -> float:
        backlog = self._waiting + self._decoding + self._running
        return predicted_wait(backlog, self._service, streams=self.streams, batch=self._batch)

    def _expire(self, job: Job, grace_s: float) -> None:
        """Fail a call whose deadline has come; one that runs by now has a little longer."""
        if grace_s and self._all_begun(job):
            job.timer = self._loop.call_later(grace_s, self._expire, job, 0.0)
        else:
            job.refuse(self._too_late(job))

    def _all_begun(self, job: Job) -> bool:
        with self._lock:
            return bool(job.submitted) and not job.waiting

    def _withdraw(self, job: Job) -> None:
        with self._lock:
            job.dropped = True
            if job in self._queue:
                self._queue.remove(job)
                self._waiting -= job.waiting

    def _look_for_hangs(self) -> None:
        self._watch = None
        now = time.monotonic()
        with self._lock:
            oldest = min(self._runs.values(), default=now)
            idle = not self._runs and not self._active
        left = oldest + self._limits.hang_s - now
        if left <= 0:
            logger.error("The model %r hangs; it is replaced.", self._id)
            self._give_up()
        elif not idle:
            self._watch = self._loop.call_later(left, self._look_for_hangs)

    def _give_up(self) -> None:
        if self._refusal is None:
            self.stop(f"The model {self._id!r} hangs and is being replaced: try again.", "stuck")
            self._on_stuck()

    def _refused(self) -> OverloadedError:
        message, reason = self._refusal or ("", "draining")
        return OverloadedError(message, MIN_RETRY_S, reason)

    def _too_late(self, job: Job) -> OverloadedError:
        if not job.submitted:
            message = "The pictures of this call were not decoded before its deadline: try again."
            return OverloadedError(message, MIN_RETRY_S, "deadline")
        with self._lock:
            wait = self._predicted_wait()
        return OverloadedError(
            f"The model {self._id!r} did not get through this call before its deadline: try again "
            "later, or allow more time.",
            max(MIN_RETRY_S, wait),
            "deadline",
        )

    # ------------------------------------------------------------ in the threads

    def _work(self) -> None:
        try:
            # A function of its own: its frame would keep the last pictures while the next are
            # waited for.
            while self._turn():
                pass
        except BaseException:  # a thread less would go unseen until all calls are late
            logger.exception("A thread of the model %r broke down; it is replaced.", self._id)
            self._on_loop(self._give_up)
        finally:
            with self._lock:
                self._threads -= 1
                last = not self._threads
            if last:
                self._on_loop(self.ended.set)

    def _turn(self) -> bool:
        """Wait for images, run them and hand out what came of them; False at the end."""
        turns = self._take()
        if turns is None:
            return False
        began = time.monotonic()
        outcomes = self._infer(turns)
        now = time.monotonic()
        errors = [outcome for outcome in outcomes if isinstance(outcome, OpenKeypointsError)]
        failures = sum(not isinstance(error, InputError | OverloadedError) for error in errors)
        with self._lock:
            del self._runs[threading.get_ident()]
            self._running -= len(turns)
            self._counts.runs += 1
            self._counts.images += len(turns)
            self._counts.run_s += now - began
            self._counts.failures += failures
            if not errors:  # an error comes sooner than an answer
                self._service.add(len(turns), now - began)
        self._on_loop(self._hand_out, turns, outcomes)
        return True

    def _take(self) -> list[Turn] | None:
        """Return the images that run next, None when the executor has been stopped."""
        with self._lock:
            turns: list[Turn] = []
            while not turns:
                while not self._queue and self._refusal is None:
                    self._changed.wait()
                if self._refusal is not None:
                    return None
                self._collect(turns)
                if self._batch > 1:
                    self._await_more(turns)
                    self._drop_unwanted(turns)
            self._runs[threading.get_ident()] = time.monotonic()
            return turns

    def _drop_unwanted(self, turns: list[Turn]) -> None:
        """Take out the images of calls that left while others were waited for."""
        wanted = [turn for turn in turns if not turn.job.dropped]
        self._running -= len(turns) - len(wanted)
        turns[:] = wanted

    def _await_more(self, turns: list[Turn]) -> None:
        """Wait a little for images that can run together with the first one."""
        until = time.monotonic() + self._limits.batch_delay_s
        while (
            0 < len(turns) < self._batch
            and turns[0].key is not None
            and self._refusal is None
            and (left := until - time.monotonic()) > 0
        ):
            self._changed.wait(left)
            self._collect(turns)

    def _collect(self, turns: list[Turn]) -> None:
        """Move the images whose turn it is from the queue to the run; the lock is held."""
        now = time.monotonic()
        passed: list[Job] = []
        while self._queue and len(turns) < self._batch:
            job = self._queue.popleft()
            if now > job.deadline:
                self._waiting -= job.waiting
                self._on_loop(self._refuse_late, job)
                continue
            turn = Turn(job, job.begun)
            if turns and (turn.key is None or turn.key != turns[0].key):
                passed.append(job)
                continue
            turns.append(turn)
            self._waiting -= 1
            self._running += 1
            self._counts.wait_s += now - job.submitted
            job.begun += 1
            job.last_turn = now
            if job.waiting:
                self._queue.append(job)
        self._queue.extendleft(reversed(passed))

    def _infer(self, turns: list[Turn]) -> list[Outcome]:
        if len(turns) == 1:
            return [self._run(turns)[0]]
        outcomes = self._run(turns)
        if any(isinstance(outcome, OpenKeypointsError) for outcome in outcomes):
            # One image may not fail those of other calls.
            return [self._run([turn])[0] for turn in turns]
        return outcomes

    def _run(self, turns: list[Turn]) -> list[Outcome]:
        try:
            images = [turn.image(self._settings) for turn in turns]
            request = self._model.request(turns[0].request)
            found = self._model.run(images, request, [turn.decode_ms for turn in turns])
            return [found[place] for place in range(len(turns))]
        except OpenKeypointsError as error:
            # The frames of its traceback hold the pictures.
            return [error.with_traceback(None)] * len(turns)
        except BaseException:
            logger.exception("The model %r broke down on a picture.", self._id)
            return [
                InferenceError(
                    f"The model {self._id!r} broke down on this picture; the log has the reason."
                )
            ] * len(turns)

    def _hand_out(self, turns: list[Turn], outcomes: list[Outcome]) -> None:
        for turn, outcome in zip(turns, outcomes, strict=True):
            turn.job.settle(turn.index, outcome)

    def _refuse_late(self, job: Job) -> None:
        job.refuse(self._too_late(job))

    def _on_loop(self, work: Callable[..., object], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(work, *arguments)
        except RuntimeError:  # the loop has ended: nobody waits any more
            return
