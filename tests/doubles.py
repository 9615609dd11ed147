"""Doubles of the halves of a top-down model: one says fixed boxes, one really looks for dots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openkeypoints.models.base import Description, Model
from openkeypoints.models.crops import CropGeometry, CropKeypoints, no_keypoints
from openkeypoints.models.request import Request
from openkeypoints.models.topdown import TopDown, View
from openkeypoints.results import Boxes, Skeleton
from openkeypoints.settings import Settings
from tests.drawn import CHANNELS, NAMES, find_dot

SKELETON = Skeleton("dots", NAMES, edges=((0, 1), (1, 2)), flip=(1, 0, 2))


class FixedDetector:
    """Finds what it is told, above the threshold, and remembers the requests."""

    id, licence = "fixed", "Apache-2.0"
    honours = frozenset({"input_size"})
    input_size = (64, 64)
    confidence, iou_threshold = 0.3, 0.6

    def __init__(
        self,
        boxes: Any,
        scores: Any = (),
        class_ids: Any = (),
        class_names: tuple[str, ...] = ("person",),
    ) -> None:
        self.class_names = class_names
        self.boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        count = len(self.boxes)
        self.scores = np.asarray(scores or [0.9] * count, np.float32)
        self.class_ids = np.asarray(class_ids or [0] * count, np.int64)
        self.requests: list[Request] = []
        self.closed = False

    def detect(self, images: Sequence[Any], request: Request) -> list[Boxes]:
        self.requests.append(request)
        settled = request.settled(self.confidence, self.iou_threshold)
        rows = np.argsort(-self.scores, kind="stable")
        rows = rows[self.scores[rows] >= settled.confidence]
        wanted = settled.class_ids
        if wanted is not None:
            rows = rows[np.isin(self.class_ids[rows], sorted(wanted))]
        found = Boxes(self.boxes[rows], self.scores[rows], self.class_ids[rows])
        return [found for _ in images]

    def close(self) -> None:
        self.closed = True


class DotReader:
    """Reads the middles of red, blue and green dots in a crop; one that is missing scores 0."""

    crop = CropGeometry((128, 96), 1.25, "edge", 114)
    per_run = 16
    empty = no_keypoints(3, covariances=True)
    honours = frozenset[str]()
    runtime, device, precision = "double", "cpu", "f32"

    def __init__(self) -> None:
        self.crops = 0
        self.closed = False

    def read(self, crops: Any, *, flip_test: bool = False) -> CropKeypoints:
        assert 1 <= len(crops) <= self.per_run
        self.crops += len(crops)
        points = np.zeros((len(crops), 3, 2), np.float32)
        scores = np.zeros((len(crops), 3), np.float32)
        for i, crop in enumerate(crops):
            for k, channel in enumerate(CHANNELS):
                if (found := find_dot(crop, channel)) is not None:
                    points[i, k], scores[i, k] = found, 0.6 + 0.1 * k
        covariances = np.tile(np.diag([4.0, 9.0]), (len(crops), 3, 1, 1)).astype(np.float32)
        return CropKeypoints(points, scores, covariances)

    def close(self) -> None:
        self.closed = True


def view(
    class_names: tuple[str, ...] = ("person",), skeletons: Mapping[int, Skeleton] | None = None
) -> View:
    chosen = dict.fromkeys(range(len(class_names)), SKELETON) if skeletons is None else skeletons
    maps = {i: tuple(range(len(chosen[i]))) if i in chosen else () for i in range(len(class_names))}
    return View(class_names, chosen, maps)


def model(
    detector: Any, reader: DotReader | None = None, shown: View | None = None, **more: Any
) -> Model:
    """Return a top-down model of the two doubles, with a default confidence of 0.3."""
    shown = shown or view()
    description = Description(
        id="double",
        task="keypoint-detection",
        class_names=shown.class_names,
        skeletons=shown.skeletons,
        input_size=(64, 64),
        confidence=0.3,
        iou_threshold=0.6,
        licence="Apache-2.0",
        card={"note": "a double"},
    )
    predictor = TopDown("double", shown, detector, reader or DotReader(), **more)
    return Model(description, predictor, Settings())
