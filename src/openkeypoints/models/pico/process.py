"""Arrays around the two networks: maps to keypoints, cells to boxes. numpy only."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openkeypoints.geometry import area, intersection_matrix

Floats = NDArray[np.float32]

STRIDE = 8
"""Pixels of the input per cell of the output maps."""


REACH = 2
"""Cells around the peak that the point is averaged over. With one alone, targets as wide as ours
(about a cell) pull every point towards the middle of its cell, by up to 1.7 pixels."""


class Decoded(NamedTuple):
    """Keypoints of N crops.

    ``points`` (N, K, 2) and ``covariances`` (N, K, 2, 2) in input pixels, ``mass`` (N, K) the part
    of the map that lies in its four strongest cells.
    """

    points: Floats
    mass: Floats
    covariances: Floats


def decode_maps(maps: Floats) -> Decoded:
    """Read keypoints from maps of logits.

    The point is the expectation over the 5x5 cells around the peak; the covariance is the second
    central moment of the whole map, with no variance below that of a uniform cell.

    Args:
        maps: (N, K, h, w) logits over cells of 8 pixels.
    """
    n, k, h, w = maps.shape
    flat = maps.reshape(n * k, h * w).astype(np.float32)
    with np.errstate(invalid="ignore"):  # a map with infinities becomes one of NaN
        prob = np.exp(flat - flat.max(1, keepdims=True, initial=-np.inf))
        prob /= prob.sum(1, keepdims=True)
    top = np.partition(prob, -4, axis=1)[:, -4:].sum(1) if h * w >= 4 else prob.sum(1)
    peak = prob.argmax(1) if len(prob) else np.zeros(0, np.int64)
    prob = prob.reshape(n * k, h, w)
    points = _local_expectation(prob, peak // w, peak % w)
    return Decoded(
        points.reshape(n, k, 2),
        top.reshape(n, k).clip(0.0, 1.0),
        _second_moments(prob).reshape(n, k, 2, 2),
    )


def _local_expectation(prob: Floats, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> Floats:
    m, h, w = prob.shape
    dy, dx = np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1]
    y, x = rows[:, None, None] + dy, cols[:, None, None] + dx
    inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
    near = prob[np.arange(m)[:, None, None], y.clip(0, h - 1), x.clip(0, w - 1)] * inside
    near /= near.sum((1, 2), keepdims=True)
    center = np.stack([(near * (x + 0.5)).sum((1, 2)), (near * (y + 0.5)).sum((1, 2))], -1)
    return (center * STRIDE).astype(np.float32)


def _second_moments(prob: Floats) -> Floats:
    _, h, w = prob.shape
    x, y = (np.arange(w) + 0.5) * STRIDE, (np.arange(h) + 0.5) * STRIDE
    px, py = prob.sum(1), prob.sum(2)
    mx, my = px @ x, py @ y
    xx, yy = px @ x**2 - mx**2, py @ y**2 - my**2
    xy = np.einsum("mhw,h,w->m", prob, y, x, optimize=True) - mx * my
    # A point is never known better than a cell is wide. Raising the diagonal alone keeps the
    # matrix positive definite.
    floor = STRIDE**2 / 12
    xx, yy = np.maximum(xx, floor), np.maximum(yy, floor)
    out = np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2)
    return out.astype(np.float32)


class Candidates(NamedTuple):
    """Boxes of one picture in input pixels: (N, 4) x1 y1 x2 y2, (N,) scores, (N,) class ids."""

    boxes: Floats
    scores: Floats
    class_ids: NDArray[np.int64]


def decode_centers(
    centers: Floats,
    distances: Floats,
    *,
    threshold: float,
    class_ids: Collection[int] | None = None,
    max_candidates: int = 300,
) -> Candidates:
    """Read boxes from the cells whose centre score is a local maximum above the threshold.

    Args:
        centers: (C, h, w) logits.
        distances: (4, h, w) logarithms of left, top, right, bottom in units of 8 pixels.
        threshold: lowest score, 0..1.
        class_ids: the classes that are wanted, None = all.
        max_candidates: the best-scored ones are kept.

    Returns:
        Candidates sorted by score, before suppression.
    """
    wanted = np.arange(len(centers)) if class_ids is None else np.array(sorted(class_ids), np.int64)
    centers = centers[wanted].astype(np.float64)
    # A network may answer anything: a cell whose numbers are not finite is none.
    finite = np.isfinite(centers) & np.isfinite(distances).all(axis=0)
    centers[~finite] = -np.inf
    edge = np.pad(centers, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    h, w = centers.shape[1:]
    around = np.max([edge[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=0)
    scores = 1 / (1 + np.exp(-centers.clip(-60, 60)))
    maps, rows, cols = np.nonzero(finite & (centers >= around) & (scores >= threshold))
    scores = scores[maps, rows, cols]
    order = np.argsort(-scores, kind="stable")[:max_candidates]
    maps, rows, cols = maps[order], rows[order], cols[order]
    left, top, right, bottom = np.exp(distances[:, rows, cols].clip(-8, 8)) * STRIDE
    x, y = (cols + 0.5) * STRIDE, (rows + 0.5) * STRIDE
    boxes = np.stack([x - left, y - top, x + right, y + bottom], -1)
    return Candidates(boxes.astype(np.float32), scores[order].astype(np.float32), wanted[maps])


def weighed_by_size(
    candidates: Candidates, picture: Floats, exponent: float, threshold: float
) -> Candidates:
    """Return candidates whose scores count their size, those above a threshold, best first.

    A score is multiplied by the part of the picture that the box covers, to the power of
    ``exponent``: of two instances that look as sure the larger one is more often the right one.

    Args:
        candidates: in input pixels.
        picture: (4,) the box of the picture in the input, without padding.
        exponent: 0 leaves the scores as they are.
        threshold: lowest new score, 0..1.
    """
    covered = intersection_matrix(candidates.boxes, picture[None])[:, 0] / area(picture)
    scores = (candidates.scores * covered**exponent).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    rows = order[scores[order] >= threshold]
    return Candidates(candidates.boxes[rows], scores[rows], candidates.class_ids[rows])
