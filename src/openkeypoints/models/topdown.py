"""Top-down models: a detector finds boxes, a crop network finds the keypoints in each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import InputError
from openkeypoints.geometry import (
    area,
    clip_boxes,
    crop_matrix,
    invert_affine,
    oks_nms,
    transform_points,
)
from openkeypoints.images import warp
from openkeypoints.models.base import Model, Request
from openkeypoints.results import Image, Prediction, Skeleton

Floats = NDArray[np.float32]

CROPS_PER_RUN = 16
"""Crops that go through the network at once: more gains nothing on a CPU and costs memory."""


class Found(NamedTuple):
    """Boxes of one picture: (N, 4) x1 y1 x2 y2 px, (N,) scores, (N,) class ids."""

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
    """Keypoints of N crops: ``points`` (N, K, 2) and ``covariances`` (N, K, 2, 2) in crop pixels,
    ``scores`` (N, K).
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
        skeletons: class id -> skeleton.
        maps: class id -> indexes of its keypoints among the network's.
    """

    class_names: tuple[str, ...]
    skeletons: Mapping[int, Skeleton]
    maps: Mapping[int, tuple[int, ...]]


class TopDown:
    """Joins a finder and a crop reader into a predictor.

    Adds ``box_index`` (N,) to the extras where the caller gave the boxes: the row of each
    instance's box. There the score is the mean keypoint score, and no threshold is applied.
    """

    def __init__(self, model_id: str, view: View, finder: Finder, reader: CropReader) -> None:
        self.model_id, self.view, self.finder, self.reader = model_id, view, finder, reader
        self.honours = finder.honours | {
            "boxes",
            "box_threshold",
            "flip_test",
            "max_persons",
            "oks_nms",
            "whole_image",
        }
        self.runtime, self.device = reader.runtime, reader.device
        self.precision = reader.precision
        self._slots = max(len(maps) for maps in view.maps.values())

    def predict(self, images: Sequence[Image], request: Request) -> list[Prediction]:
        """Find instances, then the keypoints of each."""
        began = time.perf_counter()
        found, find_ms = self._boxes(images, request)
        find_wall = (time.perf_counter() - began) * 1e3
        crops = [(i, box) for i, rows in enumerate(found) for box in rows.boxes]
        keypoints, read_ms = read_keypoints(
            self.reader, images, crops, flip_test=request.options.flip_test
        )
        run_ms = (find_ms + read_ms) / max(1, len(images))
        prepare_ms = (find_wall - find_ms) / max(1, len(images))
        results, start = [], 0
        for image, rows in zip(images, found, strict=True):
            finish = time.perf_counter()
            part = slice(start, start := start + len(rows.boxes))
            mine = CropKeypoints(*(values[part] for values in keypoints))
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
        threshold = options.box_threshold
        asked = request if threshold is None else replace(request, confidence=threshold)
        found, milliseconds = self.finder.find(images, asked)
        limit = options.max_persons or request.max_detections
        rows = [Found(f.boxes[:limit], f.scores[:limit], f.class_ids[:limit]) for f in found]
        if options.whole_image:
            rows = [
                f if len(f.boxes) else whole_picture(image)
                for f, image in zip(rows, images, strict=True)
            ]
        return rows, milliseconds

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
        given = request.options.boxes is not None
        instance = found.scores
        if given:
            lengths = np.array([len(self.view.maps[int(c)]) for c in found.class_ids], np.float32)
            instance = (scores.sum(1) / np.maximum(lengths, 1)).astype(np.float32)
        order = self._order(found, instance, points, request)
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
            details={"head": "top-down", "input_size": self.reader.size},
        )

    def _order(
        self, found: Found, scores: Floats, points: Floats, request: Request
    ) -> NDArray[np.int64]:
        """Return the rows to keep, best first."""
        rows = np.argsort(-scores, kind="stable")
        if request.options.boxes is not None:
            return rows
        if request.options.oks_nms is not None and len(rows):
            skeleton = self.view.skeletons[0]
            rows = oks_nms(
                points[:, : len(skeleton)],
                scores,
                areas=area(found.boxes),
                sigmas=np.array(skeleton.sigmas),
                threshold=request.options.oks_nms,
            )
        keep = scores[rows] >= request.confidence
        if request.options.whole_image:
            keep |= scores[rows] == 0
        if request.class_ids is not None:
            keep &= np.isin(found.class_ids[rows], sorted(request.class_ids))
        return rows[keep][: request.max_detections]


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

    def __init__(self, model: Model) -> None:
        if "person" not in model.class_names:
            raise InputError(
                f"The detector {model.id!r} finds {', '.join(model.class_names)} and no 'person': "
                "give a model that finds persons."
            )
        self._model = model
        self._person = model.class_names.index("person")
        self.input_size = model.input_size

    def find(self, images: Sequence[Image], request: Request) -> tuple[list[Found], float]:
        """Return the persons of each picture."""
        asked = replace(
            request,
            class_ids=frozenset({self._person}),
            options=type(request.options)(),
        )
        predictions = self._model.predictor.predict(images, asked)
        found = [Found(p.boxes, p.scores, np.zeros(len(p), np.int64)) for p in predictions]
        return found, sum(p.timings.get("run", 0.0) for p in predictions)

    def close(self) -> None:
        """Leave the model open: it belongs to the caller."""


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
    array = np.asarray(boxes, np.float32)
    if array.size == 0:
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
        raise InputError(
            f"options.boxes holds an array of shape {array.shape}: give finite (N, 4) "
            "x1 y1 x2 y2 in pixels for each picture."
        )
    return Found(array, np.zeros(len(array), np.float32), np.zeros(len(array), np.int64))


def whole_picture(image: Image) -> Found:
    """Return the whole picture as one box with score 0: nobody found it."""
    box = np.array([[0, 0, image.shape[1], image.shape[0]]], np.float32)
    return Found(box, np.zeros(1, np.float32), np.zeros(1, np.int64))


def _to_pictures(read: CropKeypoints, matrices: Sequence[NDArray[np.float64]]) -> CropKeypoints:
    back = [invert_affine(matrix) for matrix in matrices]
    points = [transform_points(p, m) for p, m in zip(read.points, back, strict=True)]
    linear = np.stack(back)[:, :, :2]
    covariances = np.einsum("nij,nkjl,nml->nkim", linear, read.covariances, linear)
    return CropKeypoints(np.stack(points), read.scores, covariances.astype(np.float32))


def inside(found: Found, image: Image) -> Found:
    """Return the boxes cut to the picture, without those that have nothing in it."""
    boxes = clip_boxes(found.boxes, (image.shape[1], image.shape[0])).astype(np.float32)
    keep = area(boxes) > 0
    return Found(boxes[keep], found.scores[keep], found.class_ids[keep])
