"""Predictions that the tests of results, formats and drawing share."""

from __future__ import annotations

from typing import Any

import numpy as np

from openkeypoints.results import Prediction, Skeleton
from openkeypoints.skeletons import load_skeleton

TUBE = Skeleton(
    "tube",
    ("neck", "base"),
    edges=((0, 1),),
    sigmas=(0.1, 0.2),
    colors=("#112233", "#445566"),
    groups={"ends": (0, 1)},
)


def people(count: int = 3, *, full: bool = False) -> Prediction:
    """Return persons (COCO-17) and, every other row, tubes (2 keypoints), in a 640x480 picture.

    With ``full`` every optional field is filled.
    """
    rng = np.random.default_rng(7)
    class_ids = np.arange(count, dtype=np.int64) % 2
    corner = rng.uniform(0, 300, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 150, (count, 2))], axis=1)
    keypoints = rng.uniform(-20, 500, (count, 17, 2)).astype(np.float32)
    scores = rng.uniform(0.01, 1, (count, 17)).astype(np.float32)
    keypoints[class_ids == 1, 2:] = np.nan
    scores[class_ids == 1, 2:] = 0
    half = rng.normal(size=(count, 17, 2, 2))
    covariances = (half @ half.transpose(0, 1, 3, 2)).astype(np.float32)
    optional: dict[str, Any] = {
        "covariances": covariances,
        "track_ids": np.arange(count, dtype=np.int64) + 5,
        "masks": rng.uniform(size=(count, 6, 9)) > 0.5,
        "extras": {
            "plain_scores": rng.uniform(size=count).astype(np.float32),
            "original_order": np.arange(count),
        },
    }
    return Prediction(
        image_size=(640, 480),
        model_id="person",
        class_names=("person", "tube"),
        skeletons={0: load_skeleton("coco17"), 1: TUBE},
        boxes=boxes.astype(np.float32),
        scores=np.linspace(0.9, 0.3, count, dtype=np.float32),
        class_ids=class_ids,
        keypoints=keypoints,
        keypoint_scores=scores,
        timings={"run": 12.5},
        details={"letterbox": "rect", "input_size": (640, 480)},
        **(optional if full else {}),
    )
