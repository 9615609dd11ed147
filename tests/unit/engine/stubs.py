"""Stub models whose runs the test opens and closes by hand, and what a call on them needs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from openkeypoints.engine import Call, Engine, Limits
from openkeypoints.models import Request
from openkeypoints.models.request import DEFAULT_REQUEST
from openkeypoints.results import Image, Prediction

T = TypeVar("T")
LIMITS = Limits(
    streams=1,
    decode_threads=2,
    deadline_s=20.0,
    grace_s=0.1,
    inflight_bytes=10**6,
    memory_bytes=1 << 30,
    backoff_s=0.0,
)


def limits(**changes: Any) -> Limits:
    return replace(LIMITS, **changes)


def picture(value: int = 0) -> Image:
    """A picture that says who it is."""
    return np.full((4, 6, 3), value, np.uint8)


def call(
    model_id: str = "a", *values: int, request: Request = DEFAULT_REQUEST, **changes: Any
) -> Call:
    return Call(model_id, tuple(picture(v) for v in values or (0,)), request, **changes)


def prediction(image: Image, model_id: str) -> Prediction:
    """A prediction of nothing that carries the value of its picture."""
    return Prediction(
        image_size=(image.shape[1], image.shape[0]),
        model_id=model_id,
        class_names=("thing",),
        skeletons={},
        boxes=np.zeros((0, 4), np.float32),
        scores=np.zeros(0, np.float32),
        class_ids=np.zeros(0, np.int64),
        keypoints=np.zeros((0, 0, 2), np.float32),
        keypoint_scores=np.zeros((0, 0), np.float32),
        timings={"run": 1.0},
        details={"value": int(image[0, 0, 0])},
    )


class StubModel:
    """Answers at once, or, while ``gate`` is closed, when it is opened."""

    def __init__(self, model_id: str = "a", *, device: str = "cpu") -> None:
        self.id, self.device = model_id, device
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.seen: list[list[int]] = []
        self.requests: list[Request] = []
        self.threads: set[str] = set()
        self.warmed = self.closed = False
        self.error: BaseException | None = None
        self._lock = threading.Lock()

    def request(self, asked: Request) -> Request:
        return asked

    def run(
        self, images: Sequence[Image], request: Request, decode_ms: Sequence[float]
    ) -> list[Prediction]:
        values = [int(image[0, 0, 0]) for image in images]
        with self._lock:
            self.seen.append(values)
            self.requests.append(request)
            self.threads.add(threading.current_thread().name)
        self.entered.release()
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        found = [prediction(image, self.id) for image in images]
        return [
            p.with_timings({**p.timings, "decode": spent})
            for p, spent in zip(found, decode_ms, strict=True)
        ]

    def warmup(self) -> None:
        self.warmed = True

    def close(self) -> None:
        self.closed = True


class Shop:
    """Opens stub models and keeps all that it has opened."""

    def __init__(self, **device: str) -> None:
        self.opened: list[StubModel] = []
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Semaphore(0)
        self.error: Exception | None = None
        self.device = device

    def open(self, model_id: str) -> Any:
        self.began.release()
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        model = StubModel(model_id, **self.device)
        self.opened.append(model)
        return model

    def of(self, model_id: str) -> list[StubModel]:
        return [model for model in self.opened if model.id == model_id]


async def until(fact: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(timeout_s):
        while not fact():  # noqa: ASYNC110  # threads set no asyncio events
            await asyncio.sleep(0.001)


async def entered(model: StubModel) -> None:
    """Wait until one more run has begun in a model."""
    await until(lambda: model.entered.acquire(blocking=False))


async def one_running(engine: Engine, shop: Shop, model_id: str = "a") -> StubModel:
    """Load a model and close its gate; what comes next stays in it."""
    await engine.load(model_id)
    model = shop.of(model_id)[-1]
    model.gate.clear()
    return model


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in debug mode's stead: an error that nobody handled fails the test."""
    overlooked: list[str] = []

    async def watched() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: overlooked.append(str(context)))
        async with asyncio.timeout(30):
            return await work

    result = asyncio.run(watched())
    assert not overlooked
    return result
