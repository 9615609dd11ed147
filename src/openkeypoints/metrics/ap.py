"""Average precision, interpolated at 101 recalls as COCO does, and which boxes count for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints import geometry

Array = NDArray[np.float64]

RECALLS = np.linspace(0.0, 1.0, 101)
OKS_THRESHOLDS = np.arange(0.5, 0.951, 0.05)
BOX_IOU = 0.5


def average_precision(scores: Array, hits: NDArray[Any], positives: int) -> float:
    """Return the mean, over 101 recalls, of the best precision at that recall or beyond.

    Args:
        scores: (N,); equal scores keep their order.
        hits: (N,) true where the detection is right.
        positives: how many there were to find; 0 gives 0.
    """
    if not len(scores) or not positives:
        return 0.0
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(hits[order].astype(np.float64))
    precision = right / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(right / positives, RECALLS)
    return float(np.append(best, 0.0)[at].mean())


def oks_average_precision(scores: Array, similarities: Array) -> float:
    """Return the mean AP over OKS 0.50:0.05:0.95 of predictions bound to their person.

    It is COCO's keypoint AP where the box was given and each picture has one person.

    Args:
        scores: (P,), 0 for people without a prediction.
        similarities: (P,) OKS of each person's prediction.
    """
    people = len(scores)
    return float(
        np.mean([average_precision(scores, similarities >= t, people) for t in OKS_THRESHOLDS])
    )


def ignored_boxes(boxes: Array, crowd: NDArray[np.bool_], *, min_side: float) -> NDArray[np.bool_]:
    """Return which of (M, 4) boxes need not be found: crowds and boxes too small."""
    return crowd | ~_large(boxes, min_side)


def match_boxes(
    found: Array,
    truth: Array,
    crowd: NDArray[np.bool_],
    *,
    min_side: float,
    iou_threshold: float = BOX_IOU,
) -> Array:
    """Judge one picture's detections, best first, against its labelled boxes.

    Each takes the free label that it overlaps most, if by ``iou_threshold``. A detection on an
    ignored label, or a small one on nothing, does not count.

    Args:
        found: (N, 4) boxes, sorted by score; like all boxes here left, top, width, height.
        truth: (M, 4) boxes.
        crowd: (M,) labels of several people at once; overlap there is the detection's part inside.
        min_side: pixels; boxes with a shorter side are small.
        iou_threshold: smallest overlap of a match.

    Returns:
        (N,): 1 for a hit, 0 for a false alarm, NaN where it does not count.
    """
    ignored = ignored_boxes(truth, crowd, min_side=min_side)
    overlap = overlaps(found, truth, crowd)
    enough = np.where(overlap >= iou_threshold, overlap, 0.0)
    excused = enough[:, ignored].any(axis=1) | ~_large(found, min_side)
    verdict = np.where(excused, np.nan, 0.0)
    free = np.flatnonzero(~ignored)
    for row, shares in enumerate(enough):
        if len(free) and shares[free].max() > 0:
            taken = free[shares[free].argmax()]
            free = free[free != taken]
            verdict[row] = 1.0
    return verdict


def overlaps(found: Array, truth: Array, crowd: NDArray[np.bool_]) -> Array:
    """Return the IoU (N, M) of boxes, for crowds the part of the detection that lies inside."""
    corners, truth_corners = geometry.xyxy_from_xywh(found), geometry.xyxy_from_xywh(truth)
    shared = geometry.intersection_matrix(corners, truth_corners)
    own = found[:, 2:].prod(axis=1)[:, None]
    whole = np.where(crowd, own, own + truth[:, 2:].prod(axis=1) - shared)
    # The tiny term is part of the figures' definition: it defines boxes without any extent.
    return np.asarray(shared / (whole + 1e-9))


def _large(boxes: Array, min_side: float) -> NDArray[np.bool_]:
    return np.asarray(boxes[:, 2:].min(axis=1) >= min_side)
