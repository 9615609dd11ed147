"""Predictions that the tests of results, formats and drawing share."""

from __future__ import annotations

from dataclasses import replace
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


def boxes_only(count: int = 3) -> Prediction:
    """Return what an object detector finds: the boxes of `people` without keypoints."""
    return replace(
        people(count),
        skeletons={},
        keypoints=np.zeros((count, 0, 2), np.float32),
        keypoint_scores=np.zeros((count, 0), np.float32),
    )


def masked(count: int = 2) -> Prediction:
    """Return what a segmentation model finds: masks of 64x64 with the 640x480 picture in 64x48.

    Each mask is a square of 10 px with its corner at (10 + 20 i, 20) and the centre missing, and a
    single pixel at (2, 50).
    """
    masks = np.zeros((count, 64, 64), np.bool_)
    for i, mask in enumerate(masks):
        mask[20:30, 10 + 20 * i : 20 + 20 * i] = True
        mask[24:26, 14 + 20 * i : 16 + 20 * i] = False
        mask[50, 2] = True
    details = {"letterbox": "square", "input_size": (64, 64)}
    return replace(boxes_only(count), masks=masks, details=details)


def two_values(count: int = 3) -> Prediction:
    """Return what a model with x and y alone for each keypoint finds: no scores but 1."""
    full = people(count)
    placed = np.isfinite(full.keypoints).all(axis=-1)
    details = {**full.details, "keypoint_values": 2}
    return replace(full, keypoint_scores=placed.astype(np.float32), details=details)
