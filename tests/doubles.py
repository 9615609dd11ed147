"""Doubles of the halves of a top-down model: one says fixed boxes, one really looks for dots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openkeypoints.models.base import Description, Model
from openkeypoints.models.request import Request
from openkeypoints.models.topdown import CropKeypoints, Found, TopDown, View
from openkeypoints.results import Skeleton
from openkeypoints.settings import Settings
from tests.drawn import CHANNELS, NAMES, find_dot

SKELETON = Skeleton("dots", NAMES, edges=((0, 1), (1, 2)), flip=(1, 0, 2))


class FixedFinder:
    """Finds what it is told, above the threshold, and remembers the requests."""

    honours = frozenset({"input_size"})
    input_size = (64, 64)

    def __init__(self, boxes: Any, scores: Any = (), class_ids: Any = ()) -> None:
        self.boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        count = len(self.boxes)
        self.scores = np.asarray(scores or [0.9] * count, np.float32)
        self.class_ids = np.asarray(class_ids or [0] * count, np.int64)
        self.requests: list[Request] = []
        self.closed = False

    def find(self, images: Sequence[Any], request: Request) -> tuple[list[Found], float]:
        self.requests.append(request)
        request = request.settled(0.3, 0.6)
        rows = np.argsort(-self.scores, kind="stable")
        rows = rows[self.scores[rows] >= request.confidence]
        found = Found(self.boxes[rows], self.scores[rows], self.class_ids[rows])
        return [found for _ in images], 0.0

    def close(self) -> None:
        self.closed = True


class DotReader:
    """Reads the middles of red, blue and green dots in a crop; one that is missing scores 0."""

    size = (128, 96)
    fill = 0.8
    count = 3
    runtime, device, precision = "double", "cpu", "f32"

    def __init__(self) -> None:
        self.crops = 0
        self.closed = False

    def read(self, crops: Any, *, flip_test: bool) -> CropKeypoints:
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


def model(finder: FixedFinder, reader: DotReader | None = None, shown: View | None = None) -> Model:
    """Return a top-down model of the two doubles, with a default confidence of 0.3."""
    shown = shown or view()
    description = Description(
        id="double",
        task="keypoint-detection",
        class_names=shown.class_names,
        skeletons=shown.skeletons,
        input_size=finder.input_size,
        confidence=0.3,
        iou_threshold=0.6,
        licence="Apache-2.0",
        card={"note": "a double"},
    )
    return Model(description, TopDown("double", shown, finder, reader or DotReader()), Settings())
