"""The records that go into the engine and come out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from openkeypoints.models import Model, Request
from openkeypoints.models.request import DEFAULT_REQUEST
from openkeypoints.results import Image, Prediction

ModelState = Literal["loading", "warming", "ready", "draining", "stuck", "failed"]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One inference.

    Attributes:
        model_id: as ``open_model`` takes it.
        images: encoded bytes, or RGB uint8 (H, W, 3) arrays. Never text or paths.
        request: what is asked of the model; ``options.boxes`` has one array per image.
        orient: turn encoded pictures upright as their EXIF orientation says.
        deadline_s: seconds from arrival after which the answer is of no use; at most, and by
            default, ``Limits.deadline_s``.
    """

    model_id: str
    images: tuple[bytes | Image, ...]
    request: Request = DEFAULT_REQUEST
    orient: bool = True
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a call gets.

    Attributes:
        predictions: one per image, in the order of the call.
        images: the decoded pictures, RGB, for drawing.
        cold_start: the model was not ready when the call arrived.
        waited_ms: from arrival until the last image's turn came, decoding not counted.
    """

    predictions: list[Prediction]
    images: list[Image]
    cold_start: bool
    waited_ms: float


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A model that is ready.

    Attributes:
        model: for its description; call it through the engine.
        load_s: seconds of opening and warming up.
        bytes: what it holds of the main memory, as far as could be measured.
        last_used: seconds since 1970.
        pinned: never evicted.
    """

    model: Model
    load_s: float
    bytes: int
    last_used: float
    pinned: bool


@dataclass(frozen=True, slots=True)
class ModelStats:
    """One model as it is now; the last five count since it was loaded.

    Attributes:
        state: what it is doing.
        calls: that hold it, or wait for it.
        waiting: images whose turn has not come, those being decoded included.
        running: images in the network.
        oldest_run_s: how long the oldest of them has been there, 0 = none.
        predicted_wait_s: of a call that came now.
        service_s: predicted run of one image, None before the first.
        bytes: of main memory.
        load_s: seconds of opening and warming up.
        runs: of the network.
        images: of all runs.
        run_s: seconds of all runs.
        wait_s: seconds that the images waited for their turn, together.
        failures: images on which it failed.
    """

    state: ModelState
    calls: int = 0
    waiting: int = 0
    running: int = 0
    oldest_run_s: float = 0.0
    predicted_wait_s: float = 0.0
    service_s: float | None = None
    bytes: int = 0
    load_s: float = 0.0
    runs: int = 0
    images: int = 0
    run_s: float = 0.0
    wait_s: float = 0.0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """The engine as it is now, and what it has done since it was made.

    Attributes:
        models: by id; those that are leaving are not among them.
        draining: new calls are refused.
        active: calls being answered.
        inflight_bytes: memory of their encoded and decoded pictures.
        model_bytes: memory of all models, those that are leaving included.
        stuck: models given up whose threads still hang.
        calls: that arrived.
        answered: with an answer.
        failed: with an error of the call or the model.
        cancelled: by their caller.
        rejected: with an OverloadedError, by its reason.
        loads: models loaded.
        load_failures: loads that failed.
        evictions: models unloaded to make room.
    """

    models: Mapping[str, ModelStats]
    draining: bool
    active: int
    inflight_bytes: int
    model_bytes: int
    stuck: int
    calls: int
    answered: int
    failed: int
    cancelled: int
    rejected: Mapping[str, int]
    loads: int
    load_failures: int
    evictions: int
