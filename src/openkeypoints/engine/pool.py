"""The loaded models: loading once for all who wait, a budget of memory, eviction, replacement."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Self

from openkeypoints.engine.admission import MIN_RETRY_S
from openkeypoints.engine.calls import Loaded, ModelState, ModelStats
from openkeypoints.engine.executor import Executor
from openkeypoints.engine.limits import Limits
from openkeypoints.engine.machine import give_back_memory, resident_bytes
from openkeypoints.engine.threads import in_thread
from openkeypoints.errors import (
    InferenceError,
    OpenKeypointsError,
    OverloadedError,
    OverloadReason,
)
from openkeypoints.models.base import Model

CLOSE_S = 5.0
LOADING_RETRY_S = 5.0
MAX_STUCK = 2
"""Hanging copies of one model, beyond which it is not opened again."""
MAX_REMEMBERED = 256

logger = logging.getLogger(__name__)


class Entry:
    """One model in the pool, from the beginning of its loading until it is gone.

    A context manager: within it the model has one user more.

    Attributes:
        ready: done when it can be used, or with the error of its loading.
        users: calls that hold it or wait for it; with one it is neither evicted nor closed.
        idle: set while it has no users.
    """

    def __init__(self, model_id: str, *, pinned: bool) -> None:
        self.id, self.pinned = model_id, pinned
        self.state: ModelState = "loading"
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.users = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.model: Model | None = None
        self.executor: Executor | None = None
        self.bytes = 0
        self.load_s = 0.0
        self.last_used = time.time()

    def fail(self, error: OpenKeypointsError) -> None:
        """Tell those who wait that it will not be ready."""
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # an error that nobody waits for is not overlooked

    def __enter__(self) -> Self:
        self.users += 1
        self.idle.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self.users -= 1
        self.last_used = time.time()
        if not self.users:
            self.idle.set()

    def loaded(self) -> Loaded | None:
        """Return what outsiders may know, None unless it is ready."""
        if self.model is None or self.state != "ready":
            return None
        return Loaded(self.model, self.load_s, self.bytes, self.last_used, self.pinned)

    def stats(self) -> ModelStats:
        """Return how it stands."""
        if self.executor is None:
            return ModelStats(self.state, calls=self.users, bytes=self.bytes)
        return self.executor.stats(
            self.state, calls=self.users, bytes=self.bytes, load_s=self.load_s
        )


@dataclass(frozen=True, slots=True)
class _Failure:
    error: OpenKeypointsError
    until: float
    backoff_s: float


class Pool:
    """Keeps models ready. Everything runs on the event loop but opening and closing them."""

    def __init__(
        self,
        open_model: Callable[[str], Model],
        limits: Limits,
        *,
        predict_bytes: Callable[[str], int],
        held_bytes: Callable[[], int] = resident_bytes,
    ) -> None:
        """Make an empty pool.

        Args:
            open_model: opens a model; called in a thread of its own.
            limits: of memory and loading.
            predict_bytes: memory that a model will take, 0 = unknown.
            held_bytes: memory that the process holds, 0 = unknown.
        """
        self._open_model, self._limits = open_model, limits
        self._predict_bytes, self._held_bytes = predict_bytes, held_bytes
        self._table: OrderedDict[str, Entry] = OrderedDict()  # least recently used first
        self._leaving: set[Entry] = set()
        self._failures: OrderedDict[str, _Failure] = OrderedDict()
        self._learned: OrderedDict[str, int] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._making_room = asyncio.Lock()
        self.counts: Counter[str] = Counter()

    # ------------------------------------------------------------ for the engine

    def hold(self, model_id: str) -> Entry:
        """Return a model, loading or ready; as a context manager it stays until the block ends.

        Raises:
            OverloadedError: too many wait for it, or too much is being loaded.
            OpenKeypointsError: its loading failed a moment ago.
        """
        entry = self._entry(model_id)
        room = self._limits.room(self._limits.streams)
        if not entry.ready.done() and entry.users >= room:
            raise OverloadedError(
                f"The model {model_id!r} is being loaded and {room} calls wait for it: try again "
                "in a moment.",
                LOADING_RETRY_S,
                "loading",
            )
        return entry

    async def ready(self, entry: Entry, deadline: float | None) -> Executor:
        """Wait until a model can be used.

        Raises:
            OverloadedError: it cannot before the deadline (on the monotonic clock).
            OpenKeypointsError: its loading failed.
        """
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not entry.ready.done():
            await asyncio.wait((entry.ready,), timeout=timeout)
        if not entry.ready.done():
            raise OverloadedError(
                f"The model {entry.id!r} is still being loaded: try again in a moment.",
                LOADING_RETRY_S,
                "loading",
            )
        entry.ready.result()
        if entry.executor is None:
            raise OverloadedError(
                f"The model {entry.id!r} has just been unloaded: try again.", MIN_RETRY_S, "memory"
            )
        return entry.executor

    def executor(self, model_id: str) -> Executor | None:
        """Return what runs a model now, None where it is not there or still being loaded."""
        entry = self._table.get(model_id)
        return None if entry is None else entry.executor

    def loaded_now(self, model_id: str) -> Loaded | None:
        """Return a model if it is ready."""
        entry = self._table.get(model_id)
        return None if entry is None else entry.loaded()

    def loaded(self) -> dict[str, Loaded]:
        """Return the models that are ready, least recently used first."""
        found = {entry.id: entry.loaded() for entry in self._table.values()}
        return {model_id: loaded for model_id, loaded in found.items() if loaded is not None}

    async def unload(self, model_id: str) -> None:
        """Take a model out; its calls finish first. New ones load it anew meanwhile."""
        self._failures.pop(model_id, None)
        if (entry := self._table.pop(model_id, None)) is not None:
            await asyncio.wait((self._retire(entry, "draining"),), timeout=self._limits.hang_s)

    async def clear(self) -> None:
        """Take every model out; see ``unload``."""
        async with asyncio.TaskGroup() as group:
            for model_id in (*self._table, *self._failures):
                group.create_task(self.unload(model_id))

    def refuse_all(self, message: str, reason: OverloadReason) -> None:
        """Fail the calls that wait for models or are in them."""
        for entry in (*self._table.values(), *self._leaving):
            entry.fail(OverloadedError(message, MIN_RETRY_S, reason))
            if entry.executor is not None:
                entry.executor.stop(message, reason)

    @property
    def bytes(self) -> int:
        """Memory of all models, those that are leaving included."""
        return sum(entry.bytes for entry in (*self._table.values(), *self._leaving))

    @property
    def stuck(self) -> int:
        """How many models were given up and still hang."""
        return sum(entry.state == "stuck" for entry in self._leaving)

    def stats(self) -> dict[str, ModelStats]:
        """Return how each model stands, the failed ones included."""
        now = time.monotonic()
        failed = {
            model_id: ModelStats("failed")
            for model_id, failure in self._failures.items()
            if failure.until > now
        }
        return {**failed, **{entry.id: entry.stats() for entry in self._table.values()}}

    # ------------------------------------------------------------ loading

    def _entry(self, model_id: str) -> Entry:
        if (entry := self._table.get(model_id)) is not None:
            self._table.move_to_end(model_id)
            return entry
        failure = self._failures.get(model_id)
        if failure is not None and failure.until > time.monotonic():
            raise failure.error.with_traceback(None)  # else it would grow with each time
        hanging = [e for e in self._leaving if e.id == model_id and e.state == "stuck"]
        if len(hanging) >= MAX_STUCK:
            raise OverloadedError(
                f"The model {model_id!r} hangs again and again and is not opened any more: "
                "restart the server.",
                self._limits.hang_s,
                "stuck",
            )
        if self._loading() >= self._limits.max_loading:
            raise OverloadedError(
                f"{self._loading()} models are being loaded, and {model_id!r} has to wait for "
                "them: try again in a moment.",
                LOADING_RETRY_S,
                "loading",
            )
        entry = Entry(model_id, pinned=model_id in self._limits.pinned)
        self._table[model_id] = entry
        self._spawn(self._load(entry))
        return entry

    def _loading(self) -> int:
        return sum(entry.state in ("loading", "warming") for entry in self._table.values())

    async def _load(self, entry: Entry) -> None:
        began = time.monotonic()
        try:
            entry.bytes = predicted = self._predicted(entry.id)
            await self._make_room(entry)
            measured = await in_thread(f"okp-load-{entry.id}", lambda: self._open(entry))
            # Loads at the same time see each other's memory. Memory that an earlier model gave
            # back is used again unseen, but the file itself is a quarter of the prediction.
            entry.bytes = max(measured // max(1, self._loading()), predicted // 4)
            await self._make_room(entry)
        except OpenKeypointsError as error:
            self._give_up(entry, error.with_traceback(None))
        except Exception:
            logger.exception("The model %r could not be loaded.", entry.id)
            message = f"The model {entry.id!r} could not be loaded; the log has the reason."
            self._give_up(entry, InferenceError(message))
        else:
            self._start(entry, time.monotonic() - began)

    def _predicted(self, model_id: str) -> int:
        if (learned := self._learned.get(model_id)) is not None:
            return learned
        try:
            return self._predict_bytes(model_id)
        except OSError:  # a file that is gone: opening it says so better
            return 0

    def _open(self, entry: Entry) -> int:
        """Open and warm up a model, and return the memory that it took. In a thread."""
        before = self._held_bytes()
        entry.model = self._open_model(entry.id)
        if self._limits.warmup:
            entry.state = "warming"
            entry.model.warmup()
        return self._held_bytes() - before

    def _start(self, entry: Entry, load_s: float) -> None:
        self._failures.pop(entry.id, None)
        _remember(self._learned, entry.id, max(entry.bytes, self._learned.get(entry.id, 0)))
        self.counts["loads"] += 1
        entry.load_s = load_s
        if entry in self._leaving:  # unloaded meanwhile: those who waited still get it
            entry.state = "draining"
        elif not entry.ready.done():
            entry.state = "ready"
        if entry.model is not None and not entry.ready.done():
            entry.executor = Executor(
                entry.id, entry.model, self._limits, lambda: self._replace(entry)
            )
            entry.ready.set_result(None)

    def _give_up(self, entry: Entry, error: OpenKeypointsError) -> None:
        self.counts["load_failures"] += 1
        before = self._failures.pop(entry.id, None)
        limits = self._limits
        backoff = limits.backoff_s
        if before is not None:
            backoff = min(2 * before.backoff_s, limits.max_backoff_s)
        failure = _Failure(error, time.monotonic() + backoff, backoff)
        _remember(self._failures, entry.id, failure)
        entry.fail(error)
        if entry.model is None:
            entry.bytes = 0
        if self._table.get(entry.id) is entry:
            del self._table[entry.id]
            self._retire(entry, "failed")

    # ------------------------------------------------------------ leaving

    async def _make_room(self, entry: Entry) -> None:
        """Evict until all models fit: the least recently used, one at a time.

        Raises:
            OverloadedError: what is left is pinned or at work.
        """
        async with self._making_room:
            while (used := self._counted()) > (limit := self._limits.memory_bytes):
                victim = next((e for e in self._table.values() if _evictable(e, entry)), None)
                if victim is None:
                    raise OverloadedError(
                        f"The model {entry.id!r} needs about {entry.bytes >> 20} MB; of the "
                        f"{limit >> 20} MB for models {(used - entry.bytes) >> 20} MB belong to "
                        "others that are pinned or at work.",
                        LOADING_RETRY_S,
                        "memory",
                    )
                logger.info("The model %r is unloaded to make room.", victim.id)
                self.counts["evictions"] += 1
                del self._table[victim.id]
                await asyncio.wait((self._retire(victim, "draining"),), timeout=CLOSE_S)

    def _counted(self) -> int:
        # A hanging copy cannot be freed, and must not keep its own replacement out.
        return self.bytes - sum(e.bytes for e in self._leaving if e.state == "stuck")

    def _replace(self, entry: Entry) -> None:
        """Open a model anew whose threads hang; the old one is closed when they ever end."""
        wanted = self._table.get(entry.id) is entry
        if wanted:
            del self._table[entry.id]
        self._retire(entry, "stuck")
        if wanted:
            with contextlib.suppress(OpenKeypointsError):  # then the next call tries
                self._entry(entry.id)

    def _retire(self, entry: Entry, state: ModelState) -> asyncio.Task[None]:
        """Close a model that is no longer in the table, when it can be closed."""
        if entry.ready.done():
            entry.state = state
        self._leaving.add(entry)
        return self._spawn(self._close(entry))

    async def _close(self, entry: Entry) -> None:
        if not entry.ready.done():
            await asyncio.wait((entry.ready,))
        await entry.idle.wait()
        if entry.executor is not None:
            entry.executor.stop(f"The model {entry.id!r} has been unloaded.", "memory")
            await entry.executor.ended.wait()
        model, entry.model, entry.executor = entry.model, None, None
        if model is not None:
            holder = [model]
            del model
            await in_thread(f"okp-close-{entry.id}", lambda: _close_model(holder))
        self._leaving.discard(entry)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)
        return task


def _evictable(entry: Entry, newcomer: Entry) -> bool:
    return entry is not newcomer and entry.state == "ready" and not (entry.pinned or entry.users)


def _close_model(holder: list[Model]) -> None:
    try:
        holder.pop().close()
    except Exception:
        logger.exception("A model could not be closed.")
    give_back_memory()


def _remember(table: OrderedDict[str, Any], key: str, value: object) -> None:
    """Keep a value, and forget the oldest ones: callers choose the keys."""
    table[key] = value
    table.move_to_end(key)
    while len(table) > MAX_REMEMBERED:
        table.popitem(last=False)
