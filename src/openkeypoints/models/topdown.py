"""Top-down models: a detector finds boxes, a crop network finds the keypoints in each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import InputError
from openkeypoints.geometry import (
    area,
    clip_boxes,
    crop_matrix,
    invert_affine,
    transform_points,
)
from openkeypoints.images import warp
from openkeypoints.models.base import Model
from openkeypoints.models.request import InferOptions, Request
from openkeypoints.results import Image, Prediction, Skeleton

Floats = NDArray[np.float32]

CROPS_PER_RUN = 16
"""Crops that go through the network at once: more gains nothing on a CPU and costs memory."""


class Found(NamedTuple):
    """Boxes of one picture: (N, 4) x1 y1 x2 y2 px, (N,) scores, (N,) class ids.

    The score of a box that no detector found is NaN: its keypoints will tell.
    """

    boxes: Floats
    scores: Floats
    class_ids: NDArray[np.int64]


class Finder(Protocol):
    """The first half: finds boxes. Thread-safe."""

    honours: frozenset[str]
    input_size: tuple[int, int]

    def find(self, images: Sequence[Image], request: Request, /) -> tuple[list[Found], float]:
        """Return the boxes of each picture, and the milliseconds that the network took."""
        ...

    def close(self) -> None:
        """Free what the runtime holds."""
        ...


class CropKeypoints(NamedTuple):
    """Keypoints of N crops.

    ``points`` (N, K, 2) and ``covariances`` (N, K, 2, 2) in pixels of the crop, ``scores`` (N, K).
    """

    points: Floats
    scores: Floats
    covariances: Floats


class CropReader(Protocol):
    """The second half: reads the keypoints of crops. Thread-safe.

    Attributes:
        size: (width, height) of a crop.
        fill: part of the crop that the box takes.
        count: keypoints of a crop, K.
    """

    size: tuple[int, int]
    fill: float
    count: int
    runtime: str
    device: str
    precision: str

    def read(self, crops: NDArray[np.uint8], *, flip_test: bool) -> CropKeypoints:
        """Return the keypoints of (N, H, W, 3) crops; ``flip_test`` averages with the mirrored."""
        ...

    def close(self) -> None:
        """Free what the runtime holds."""
        ...


@dataclass(frozen=True, slots=True)
class View:
    """What of a crop network's keypoints a model shows.

    Attributes:
        class_names: name of each class id.
        skeletons: class id -> skeleton; a class without keypoints has none.
        maps: class id -> indexes of its keypoints among the network's.
    """

    class_names: tuple[str, ...]
    skeletons: Mapping[int, Skeleton]
    maps: Mapping[int, tuple[int, ...]]


class TopDown:
    """Joins a finder and a crop reader into a predictor.

    Adds ``box_index`` (N,) to the extras where the caller gave the boxes: the row of each
    instance's box. There the score is the mean keypoint score, every box is of the first class,
    and no threshold or filter is applied.
    """

    def __init__(self, model_id: str, view: View, finder: Finder, reader: CropReader) -> None:
        self.model_id, self.view, self.finder, self.reader = model_id, view, finder, reader
        self.honours = finder.honours | {
            "boxes",
            "box_threshold",
            "flip_test",
            "max_persons",
            "whole_image",
        }
        self.runtime, self.device = reader.runtime, reader.device
        self.precision = reader.precision
        self._slots = max(len(maps) for maps in view.maps.values())

    def predict(self, images: Sequence[Image], request: Request) -> list[Prediction]:
        """Find instances, then the keypoints of each."""
        began = time.perf_counter()
        found, find_ms = self._boxes(images, request)
        crops = [(i, box) for i, rows in enumerate(found) for box in rows.boxes]
        keypoints, read_ms = read_keypoints(
            self.reader, images, crops, flip_test=request.options.flip_test
        )
        run_ms = (find_ms + read_ms) / max(1, len(images))
        prepare_ms = (time.perf_counter() - began) * 1e3 / max(1, len(images)) - run_ms
        results, start = [], 0
        for image, rows in zip(images, found, strict=True):
            finish = time.perf_counter()
            span = slice(start, start := start + len(rows.boxes))
            mine = CropKeypoints(*(values[span] for values in keypoints))
            prediction = self._assemble(image, rows, mine, request)
            finish_ms = (time.perf_counter() - finish) * 1e3
            timings = {"prepare": prepare_ms, "run": run_ms, "finish": finish_ms}
            results.append(replace(prediction, timings=timings))
        return results

    def close(self) -> None:
        """Close both halves."""
        self.finder.close()
        self.reader.close()

    def _boxes(self, images: Sequence[Image], request: Request) -> tuple[list[Found], float]:
        options = request.options
        if options.boxes is not None:
            return [given_boxes(boxes) for boxes in options.boxes], 0.0
        threshold, wanted = options.box_threshold, request.class_ids
        asked = request if threshold is None else replace(request, confidence=threshold)
        found, milliseconds = self.finder.find(images, asked)
        if wanted is not None:
            found = [part(f, np.isin(f.class_ids, sorted(wanted))) for f in found]
        limit = min(options.max_persons or request.max_detections, request.max_detections)
        found = [part(f, slice(limit)) for f in found]
        if options.whole_image and (wanted is None or 0 in wanted):
            found = [
                f if len(f.boxes) else whole_picture(image)
                for f, image in zip(found, images, strict=True)
            ]
        return found, milliseconds

    def _assemble(
        self, image: Image, found: Found, read: CropKeypoints, request: Request
    ) -> Prediction:
        n, k = len(found.boxes), self._slots
        points = np.full((n, k, 2), np.nan, np.float32)
        scores = np.zeros((n, k), np.float32)
        covariances = np.full((n, k, 2, 2), np.nan, np.float32)
        for class_id, maps in self.view.maps.items():
            rows, take = np.nonzero(found.class_ids == class_id)[0], list(maps)
            points[rows, : len(take)] = read.points[rows][:, take]
            scores[rows, : len(take)] = read.scores[rows][:, take]
            covariances[rows, : len(take)] = read.covariances[rows][:, take]
        lengths = np.array([len(self.view.maps[int(c)]) for c in found.class_ids], np.float32)
        mean = scores.sum(1) / np.maximum(lengths, 1)
        instance = np.where(np.isnan(found.scores), mean, found.scores).astype(np.float32)
        order = np.argsort(-instance, kind="stable")
        given = request.options.boxes is not None
        extras = {"box_index": np.arange(n, dtype=np.int64)[order]} if given else {}
        return Prediction(
            image_size=(image.shape[1], image.shape[0]),
            model_id=self.model_id,
            class_names=self.view.class_names,
            skeletons=self.view.skeletons,
            boxes=found.boxes[order],
            scores=instance[order],
            class_ids=found.class_ids[order],
            keypoints=points[order],
            keypoint_scores=scores[order],
            covariances=covariances[order],
            extras=extras,
            keypoint_confidence=request.keypoint_confidence,
            details=self._details(request.options),
        )

    def _details(self, options: InferOptions) -> dict[str, Any]:
        details: dict[str, Any] = {"head": "top-down", "crop_size": self.reader.size}
        if options.boxes is None:
            details["input_size"] = options.input_size or self.finder.input_size
            if "letterbox" in self.finder.honours:
                details["letterbox"] = options.letterbox or "rect"
        return details


def read_keypoints(
    reader: CropReader,
    images: Sequence[Image],
    boxes: Sequence[tuple[int, Floats]],
    *,
    flip_test: bool = False,
) -> tuple[CropKeypoints, float]:
    """Return the keypoints of boxes in pixels of their pictures, and the network's milliseconds.

    Args:
        reader: the crop network.
        images: pictures.
        boxes: (index of the picture, (4,) x1 y1 x2 y2 px) for each instance.
        flip_test: average with the mirrored crops.
    """
    parts: list[CropKeypoints] = []
    milliseconds = 0.0
    for start in range(0, len(boxes), CROPS_PER_RUN):
        chunk = boxes[start : start + CROPS_PER_RUN]
        matrices = [crop_matrix(box, reader.size, fill=reader.fill) for _, box in chunk]
        crops = [
            warp(images[i], matrix, reader.size)
            for (i, _), matrix in zip(chunk, matrices, strict=True)
        ]
        began = time.perf_counter()
        read = reader.read(np.stack(crops), flip_test=flip_test)
        milliseconds += (time.perf_counter() - began) * 1e3
        parts.append(_to_pictures(read, matrices))
    if not parts:
        none = (np.zeros((0, reader.count, *tail), np.float32) for tail in ((2,), (), (2, 2)))
        return CropKeypoints(*none), 0.0
    return CropKeypoints(*map(np.concatenate, zip(*parts, strict=True))), milliseconds


class ModelFinder:
    """Any loaded model as the finder of a top-down one: its instances of the class ``person``.

    Raises:
        InputError: the model knows no class ``person``.
    """

    honours = frozenset[str]()

    def __init__(self, model: Model, *, owned: bool = False) -> None:
        if "person" not in model.class_names:
            raise InputError(
                f"The detector {model.id!r} finds {', '.join(model.class_names)} and no 'person': "
                "give a model that finds persons."
            )
        self._model, self._owned = model, owned
        self._person = model.class_names.index("person")
        self.input_size = model.input_size

    def find(self, images: Sequence[Image], request: Request) -> tuple[list[Found], float]:
        """Return the persons of each picture."""
        asked = replace(
            request,
            class_filter=(self._person,),
            options=InferOptions(),
        )
        predictions = self._model.predictor.predict(images, asked)
        found = [Found(p.boxes, p.scores, np.zeros(len(p), np.int64)) for p in predictions]
        return found, sum(p.timings.get("run", 0.0) for p in predictions)

    def close(self) -> None:
        """Close a model that nobody else holds; the caller's own one stays open."""
        if self._owned:
            self._model.close()


class NoFinder:
    """Stands where a crop network has no detector: the caller has to give the boxes."""

    honours = frozenset[str]()

    def __init__(self, input_size: tuple[int, int]) -> None:
        self.input_size = input_size

    def find(self, _images: Sequence[Image], _request: Request) -> tuple[list[Found], float]:
        """Refuse.

        Raises:
            InputError: always.
        """
        raise InputError("This model has no detector: give the boxes as options.boxes.")

    def close(self) -> None:
        """Do nothing."""


def given_boxes(boxes: object) -> Found:
    """Check boxes that the caller gave; their scores are not known yet."""
    advice = "give (N, 4) finite numbers x1 y1 x2 y2, with x1 < x2 and y1 < y2, in pixels"
    try:
        array = np.asarray(boxes, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"options.boxes holds no array ({error}): {advice}.") from error
    if array.size == 0:
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(f"options.boxes holds an array of shape {array.shape}: {advice}.")
    wrong = ~(np.isfinite(array).all(1) & (array[:, :2] < array[:, 2:]).all(1))
    if wrong.any():
        raise InputError(f"options.boxes holds {array[wrong][0].tolist()}: {advice}.")
    return Found(array, np.full(len(array), np.nan, np.float32), np.zeros(len(array), np.int64))


def part(found: Found, rows: slice | NDArray[np.bool_]) -> Found:
    """Return some of the boxes."""
    return Found(found.boxes[rows], found.scores[rows], found.class_ids[rows])


def whole_picture(image: Image) -> Found:
    """Return the whole picture as one box of the first class."""
    return given_boxes([[0, 0, image.shape[1], image.shape[0]]])


def _to_pictures(read: CropKeypoints, matrices: Sequence[NDArray[np.float64]]) -> CropKeypoints:
    back = [invert_affine(matrix) for matrix in matrices]
    points = [transform_points(p, m) for p, m in zip(read.points, back, strict=True)]
    linear = np.stack(back)[:, :, :2]
    covariances = np.einsum("nij,nkjl,nml->nkim", linear, read.covariances, linear)
    return CropKeypoints(np.stack(points), read.scores, covariances.astype(np.float32))


def inside(found: Found, image: Image) -> Found:
    """Return the boxes cut to the picture, without those that have nothing in it."""
    boxes = clip_boxes(found.boxes, (image.shape[1], image.shape[0])).astype(np.float32)
    return part(found._replace(boxes=boxes), area(boxes) > 0)
