"""The engine: calls in, answers out, whatever the load."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from openkeypoints.engine.admission import MIN_RETRY_S, ByteBudget
from openkeypoints.engine.calls import Answer, Call, Loaded, Stats
from openkeypoints.engine.decoding import Decoder, memory_of
from openkeypoints.engine.executor import Executor, Ticket
from openkeypoints.engine.jobs import Job
from openkeypoints.engine.limits import Limits
from openkeypoints.engine.pool import Pool
from openkeypoints.errors import InputError, OpenKeypointsError, OverloadedError
from openkeypoints.models.base import Model, check_boxes
from openkeypoints.results import Prediction

_DRAINING = "The server is shutting down and takes no more calls: try again, or another server."
_CLOSE_S = 5.0


class Engine:
    """Answers calls on many models. All of it belongs to one event loop; work runs in threads.

    A call is admitted or refused at once, by what waits already and by how long runs take; its
    pictures take turns in the threads of their model, which decode and run them. Those of a model
    on a GPU are decoded before, in a pool. The loop itself neither decodes nor infers.
    """

    def __init__(
        self,
        open_model: Callable[[str], Model],
        limits: Limits | None = None,
        *,
        predict_bytes: Callable[[str], int] = lambda _: 0,
    ) -> None:
        """Make an engine without models.

        Args:
            open_model: opens a model by its id, with ``Settings(streams=limits.streams,
                threads=limits.streams)`` on a CPU; called in threads, once for all who wait.
            limits: default: those of this machine.
            predict_bytes: memory that a model will take, for example 4 times its file; 0 where
                unknown. Models that were loaded once are known.
        """
        self.limits = limits or Limits()
        self.draining = False
        self._pool = Pool(open_model, self.limits, predict_bytes=predict_bytes)
        self._decoder = Decoder(self.limits)
        self._budget = ByteBudget(self.limits.inflight_bytes)
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._counts: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()

    async def infer(self, call: Call) -> Answer:
        """Answer a call; a model that is not there yet is loaded first.

        Cancelling drops the work that has not begun.

        Raises:
            OverloadedError: there is no room or no time for it now.
            InferenceError: the model broke down.
            OpenKeypointsError: what loading the model, reading the pictures or the model raise.
        """
        arrived = time.monotonic()
        self._counts["calls"] += 1
        self._active += 1
        self._idle.clear()
        try:
            answer = await self._answer(call, arrived)
        except OverloadedError as error:
            self._rejected[error.reason] += 1
            raise
        except OpenKeypointsError:
            self._counts["failed"] += 1
            raise
        except asyncio.CancelledError:
            self._counts["cancelled"] += 1
            raise
        else:
            self._counts["answered"] += 1
            return answer
        finally:
            self._active -= 1
            if not self._active:
                self._idle.set()

    def refuse_if_full(self, model_id: str) -> None:
        """Refuse a call of one image now if :meth:`infer` would, before its picture has come.

        Raises:
            OverloadedError: there is no room or no time for it now.
        """
        try:
            self._refuse_while_draining()
            if (executor := self._pool.executor(model_id)) is not None:
                executor.refuse_if_full(time.monotonic() + self.limits.deadline_s)
        except OverloadedError as error:
            self._counts["calls"] += 1
            self._rejected[error.reason] += 1
            raise

    async def load(self, model_id: str, deadline_s: float | None = None) -> Loaded:
        """Make a model ready, together with all who ask for it, and return it.

        Args:
            model_id: as ``open_model`` takes it.
            deadline_s: how long to wait; None = as long as it takes. It goes on loading then.

        Raises:
            OverloadedError: too much is being loaded, it does not fit, or the deadline has come.
            OpenKeypointsError: its loading failed, now or a moment ago.
        """
        self._refuse_while_draining()
        deadline = None if deadline_s is None else time.monotonic() + deadline_s
        with self._pool.hold(model_id) as entry:
            await self._pool.ready(entry, deadline)
            loaded = entry.loaded()
        if loaded is None:
            message = f"The model {model_id!r} has just been unloaded: try again."
            raise OverloadedError(message, MIN_RETRY_S, "memory")
        return loaded

    def loaded(self) -> Mapping[str, Loaded]:
        """Return the models that are ready by id, least recently used first."""
        return self._pool.loaded()

    def loaded_now(self, model_id: str) -> Loaded | None:
        """Return a model if it is ready, without counting this as its use."""
        return self._pool.loaded_now(model_id)

    async def unload(self, model_id: str) -> None:
        """Take a model out when its calls have finished; an unknown one is none."""
        await self._pool.unload(model_id)

    async def clear(self) -> None:
        """Take all models out, the pinned ones too."""
        await self._pool.clear()

    def start_draining(self) -> None:
        """Refuse new calls from now on; those that were accepted finish."""
        self.draining = True

    async def drain(self, timeout_s: float) -> None:
        """Refuse new calls, let the others finish, and close all models; the end of the engine.

        Args:
            timeout_s: after so long the calls that have not finished are refused too.
        """
        self.start_draining()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            self._pool.refuse_all(_DRAINING, "draining")
        try:
            async with asyncio.timeout(_CLOSE_S):  # a model that hangs does not hold us up
                await self._idle.wait()
                await self._pool.clear()
        except TimeoutError:
            pass
        self._decoder.close()

    def stats(self) -> Stats:
        """Return how the engine stands, and what it has done so far."""
        return Stats(
            models=self._pool.stats(),
            draining=self.draining,
            active=self._active,
            inflight_bytes=self._budget.used,
            model_bytes=self._pool.bytes,
            stuck=self._pool.stuck,
            calls=self._counts["calls"],
            answered=self._counts["answered"],
            failed=self._counts["failed"],
            cancelled=self._counts["cancelled"],
            rejected=dict(self._rejected),
            loads=self._pool.counts["loads"],
            load_failures=self._pool.counts["load_failures"],
            evictions=self._pool.counts["evictions"],
        )

    async def _answer(self, call: Call, arrived: float) -> Answer:
        self._refuse_while_draining()
        self._check(call)
        allowed = self.limits.deadline_s
        deadline = arrived + min(allowed if call.deadline_s is None else call.deadline_s, allowed)
        with self._budget.claim() as claim:
            claim.add(memory_of(call))
            with self._pool.hold(call.model_id) as entry:
                cold_start = not entry.ready.done()
                executor = await self._pool.ready(entry, deadline)
                with executor.admit(len(call.images), deadline) as ticket:
                    began = time.monotonic()
                    job = Job(call, claim, deadline)
                    found = await self._outcome(executor, job, ticket)
        images = [image for image in job.images if not isinstance(image, bytes)]
        waited_s = job.last_turn - job.submitted + began - arrived
        return Answer(found, images, cold_start, max(0.0, waited_s) * 1e3)

    async def _outcome(self, executor: Executor, job: Job, ticket: Ticket) -> list[Prediction]:
        """Run a call, after its pictures were decoded where the executor does not do that."""
        if executor.decodes:
            executor.submit(job, ticket)
            return await executor.outcome(job)
        done = partial(executor.submit_decoded, job, ticket)
        decoding = self._decoder.start(job.call, job.claim, done)
        try:
            return await executor.outcome(job)
        finally:
            decoding.cancel()

    def _check(self, call: Call) -> None:
        count = len(call.images)
        if not 1 <= count <= self.limits.max_images:
            raise InputError(
                f"The call has {count} images: give 1 to {self.limits.max_images} of them."
            )
        check_boxes(call.request, count)

    def _refuse_while_draining(self) -> None:
        if self.draining:
            raise OverloadedError(_DRAINING, MIN_RETRY_S, "draining")
