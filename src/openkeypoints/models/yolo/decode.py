"""A network's numbers to instances in input pixels: only what can be a candidate is decoded."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from openkeypoints.geometry import nms, xyxy_from_cxcywh
from openkeypoints.models.request import SettledRequest
from openkeypoints.models.yolo.spec import OutputSpec

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

ROW = 6
"""Numbers of a row before those of keypoints and masks: a box, score and class."""

MAX_CANDIDATES = 30_000
"""Boxes that enter suppression, the best ones; more would take seconds and find nothing more."""
BEST_ANCHORS = 300
"""Anchors, and then pairs of anchor and class, that the head without suppression gives."""


class Instances(NamedTuple):
    """N instances of one picture, best first, in pixels of the network's input.

    ``boxes`` (N, 4) x1 y1 x2 y2, ``scores`` (N,) 0..1, ``class_ids`` (N,), ``keypoints`` (N, K, D)
    of x, y and, where D is 3, a score of 0..1, ``coefficients`` (N, M).
    """

    boxes: Floats
    scores: Floats
    class_ids: Ints
    keypoints: Floats
    coefficients: Floats

    def part(self, rows: NDArray[Any]) -> Instances:
        """Return the chosen rows (a mask or indexes)."""
        return Instances(*(values[rows] for values in self))


class Picks(NamedTuple):
    """Anchors that may hold an instance, with the class and score of each."""

    anchors: Ints
    scores: Floats
    class_ids: Ints

    def part(self, rows: NDArray[Any]) -> Picks:
        """Return the chosen rows (a mask or indexes)."""
        return Picks(*(values[rows] for values in self))


def find(
    outputs: Mapping[str, NDArray[Any]],
    spec: OutputSpec,
    input_size: tuple[int, int],
    request: SettledRequest,
) -> Instances:
    """Read the instances of one picture out of a network's outputs.

    A network may answer anything: candidates whose score, box or mask are no finite numbers are
    passed over, as if they were below the threshold.

    Args:
        outputs: role -> array of one picture, without the axis of the batch.
        spec: what the numbers mean.
        input_size: (width, height) of the network's input, in pixels.
        request: thresholds, classes and limits.
    """
    values = {role: np.asarray(array, np.float32) for role, array in outputs.items()}
    with np.errstate(invalid="ignore", over="ignore"):
        if spec.layout == "rows":
            return _from_rows(values["table"], spec, request)
        return _from_anchors(values, spec, input_size, request)


def _from_anchors(
    values: Mapping[str, Floats],
    spec: OutputSpec,
    input_size: tuple[int, int],
    request: SettledRequest,
) -> Instances:
    reader: _Reader = (
        _Columns(values["table"], spec)
        if spec.layout == "columns"
        else _Maps(values, spec, input_size)
    )
    if spec.head == "one2one":
        picks = best_pairs(
            reader.scores, logits=reader.logits, agnostic=request.options.class_agnostic
        )
        picks = picks.part(picks.scores > request.confidence)
    else:
        picks = above(reader.scores, request.confidence, logits=reader.logits)
    picks = picks.part(_wanted(picks.class_ids, request))
    boxes, picks = (
        _limited(reader, picks, request)
        if spec.head == "one2one"
        else _suppressed(reader, picks, request)
    )
    return Instances(
        boxes,
        picks.scores,
        picks.class_ids,
        reader.keypoints(picks.anchors),
        reader.coefficients(picks.anchors),
    )


# --- which anchors -----------------------------------------------------------------------------


def above(scores: Floats, threshold: float, *, logits: bool) -> Picks:
    """Return the anchors whose best class scores more than a threshold, in their order.

    Args:
        scores: (C, A) scores, or their logits.
        threshold: 0..1; a score exactly on it is not enough.
        logits: whether ``scores`` are logits.
    """
    best = scores.max(axis=0)
    if not logits:
        anchors = _finite(np.flatnonzero(best > threshold), best)
        return _best_class(scores[:, anchors], anchors)
    # The sigmoid of every anchor would cost more than all the rest: a coarse choice by logits,
    # which lets a little too much through, comes first.
    anchors = _finite(np.flatnonzero(best > _logit(threshold) - 0.01), best)
    picks = _best_class(sigmoid(scores[:, anchors]), anchors)
    return picks.part(picks.scores > threshold)


def lowest_logit(threshold: float) -> Floats:
    """Return (1,) a logit below those of all candidates, however a runtime rounds: for its graph.

    Args:
        threshold: of scores, 0..1.
    """
    logit = min(max(_logit(threshold), -80.0), 80.0)
    return np.array([logit - 0.02 - 0.02 * abs(logit)], np.float32)


def best_pairs(scores: Floats, *, logits: bool, agnostic: bool) -> Picks:
    """Return the best pairs of anchor and class, best first: the choice without suppression.

    An anchor may appear with several classes.

    Args:
        scores: (C, A) scores, or their logits.
        logits: whether ``scores`` are logits.
        agnostic: let every anchor appear once, with its best class.
    """
    best = scores.max(axis=0)
    anchors = _finite(_top(np.where(np.isfinite(best), best, -np.inf), BEST_ANCHORS), best)
    chosen = scores[:, anchors]
    if logits:
        chosen = sigmoid(chosen)
    if agnostic:
        picks = _best_class(chosen, anchors)
        return picks.part(np.argsort(-picks.scores, kind="stable"))
    pairs = np.ascontiguousarray(chosen.T).ravel()
    strongest = _top(pairs, len(anchors))
    rows, class_ids = np.divmod(strongest, len(chosen))
    return Picks(anchors[rows], pairs[strongest], class_ids)


def _finite(anchors: Ints, best: Floats) -> Ints:
    """Return the anchors whose best score is a finite number."""
    return anchors[np.isfinite(best[anchors])]


def _best_class(scores: Floats, anchors: Ints) -> Picks:
    class_ids = scores.argmax(axis=0)
    return Picks(anchors, scores[class_ids, np.arange(len(anchors))], class_ids)


def _top(values: Floats, count: int) -> Ints:
    """Return the indexes of the highest values, highest first; equal ones keep their order."""
    return np.argsort(-values, kind="stable")[:count]


def _wanted(class_ids: Ints, request: SettledRequest) -> NDArray[np.bool_]:
    if request.class_ids is None:
        return np.ones(len(class_ids), np.bool_)
    return np.isin(class_ids, sorted(request.class_ids))


def _limited(reader: _Reader, picks: Picks, request: SettledRequest) -> tuple[Floats, Picks]:
    boxes, picks = _boxes(reader, picks)
    rows = np.arange(min(len(picks.anchors), request.max_detections))
    return boxes[rows], picks.part(rows)


def _suppressed(reader: _Reader, picks: Picks, request: SettledRequest) -> tuple[Floats, Picks]:
    limit = min(request.options.max_candidates or MAX_CANDIDATES, MAX_CANDIDATES)
    if len(picks.anchors) > limit:
        picks = picks.part(_top(picks.scores, limit))
    boxes, picks = _boxes(reader, picks)
    keep = nms(
        boxes,
        picks.scores,
        iou_threshold=request.iou_threshold,
        class_ids=picks.class_ids,
        class_agnostic=request.options.class_agnostic,
        max_detections=request.max_detections,
    )
    return boxes[keep], picks.part(keep)


def _boxes(reader: _Reader, picks: Picks) -> tuple[Floats, Picks]:
    """Return the boxes of anchors whose box and mask are numbers, and these anchors.

    Before suppression, where one that is dropped later would have dropped others.
    """
    boxes = reader.boxes(picks.anchors)
    numbers = np.concatenate([boxes, reader.coefficients(picks.anchors)], axis=1)
    whole = np.asarray(np.isfinite(numbers).all(axis=1))
    return (boxes, picks) if whole.all() else (boxes[whole], picks.part(whole))


# --- what the anchors say ----------------------------------------------------------------------


class _Reader(Protocol):
    """Outputs with one column per anchor: ``scores`` (C, A), the rest on demand."""

    scores: Floats
    logits: bool

    def boxes(self, anchors: Ints, /) -> Floats: ...
    def keypoints(self, anchors: Ints, /) -> Floats: ...
    def coefficients(self, anchors: Ints, /) -> Floats: ...


class _Columns:
    """A decoded table (4 + C + K·D or M, A)."""

    logits = False

    def __init__(self, table: Floats, spec: OutputSpec) -> None:
        self._table, self._spec = table, spec
        self._rest = 4 + spec.classes
        self.scores = table[4 : self._rest]

    def boxes(self, anchors: Ints) -> Floats:
        return np.asarray(xyxy_from_cxcywh(self._table[:4, anchors].T))

    def keypoints(self, anchors: Ints) -> Floats:
        return _grouped(self._table[self._rest :, anchors].T, self._spec)

    def coefficients(self, anchors: Ints) -> Floats:
        end = self._rest + self._spec.coefficients
        return np.ascontiguousarray(self._table[self._rest : end, anchors].T)


class _Maps:
    """Raw outputs of the head: one array per branch, over the anchors of all levels."""

    logits = True

    def __init__(
        self, maps: Mapping[str, Floats], spec: OutputSpec, input_size: tuple[int, int]
    ) -> None:
        self._maps, self._spec = maps, spec
        self.scores = maps["scores"]
        self._centres, self._strides = anchor_grid(input_size, spec.strides)

    def boxes(self, anchors: Ints) -> Floats:
        sides = self._maps["boxes"][:, anchors]
        if self._spec.bins > 1:
            sides = expected_distances(sides.reshape(4, self._spec.bins, len(anchors)))
        centres, strides = self._centres[anchors], self._strides[anchors]
        corners = np.concatenate([centres - sides[:2].T, centres + sides[2:].T], axis=1)
        return np.asarray(corners * strides[:, None])

    def keypoints(self, anchors: Ints) -> Floats:
        if self._spec.keypoints is None:
            return np.zeros((len(anchors), 0, 2), np.float32)
        points = _grouped(self._maps["keypoints"][:, anchors].T, self._spec)
        centres, strides = self._centres[anchors, None], self._strides[anchors, None, None]
        if self._spec.centred:
            points[..., :2] = (points[..., :2] + centres) * strides
        else:
            points[..., :2] = (points[..., :2] * 2 + (centres - np.float32(0.5))) * strides
        points[..., 2:] = sigmoid(points[..., 2:])
        return points

    def coefficients(self, anchors: Ints) -> Floats:
        if not self._spec.coefficients:
            return np.zeros((len(anchors), 0), np.float32)
        return np.ascontiguousarray(self._maps["coefficients"][:, anchors].T)


def _from_rows(table: Floats, spec: OutputSpec, request: SettledRequest) -> Instances:
    """Read a decoded table (n, 6 + K·D or M) of boxes that were chosen in the graph."""
    scores, classes = table[:, 4], table[:, 5]
    known = np.isfinite(table[:, : ROW + spec.coefficients]).all(axis=1)
    known &= (classes > -1) & (classes < spec.classes)
    rows = np.flatnonzero((scores > request.confidence) & known)
    rows = rows[_wanted(classes[rows].astype(np.int64), request)]
    rows = rows[np.argsort(-scores[rows], kind="stable")][: request.max_detections]
    chosen = table[rows]
    return Instances(
        chosen[:, :4],
        chosen[:, 4],
        chosen[:, 5].astype(np.int64),
        _grouped(chosen[:, ROW:], spec),
        chosen[:, ROW : ROW + spec.coefficients],
    )


def _grouped(values: Floats, spec: OutputSpec) -> Floats:
    """Return (n, K·D) numbers, and whatever follows them, as new (n, K, D) ones."""
    count, size = spec.keypoints or (0, 2)
    return values[:, : count * size].reshape(len(values), count, size).copy()


@functools.lru_cache(maxsize=32)
def anchor_grid(input_size: tuple[int, int], strides: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Return the centres (A, 2) of all cells, in cells of their level, and the strides (A,).

    Args:
        input_size: (width, height), multiples of every stride.
        strides: pixels per cell of each level; levels follow each other, each row by row.
    """
    centres, sizes = [], []
    for stride in strides:
        width, height = input_size[0] // stride, input_size[1] // stride
        y, x = np.mgrid[:height, :width].astype(np.float32)
        centres.append(np.stack([x.ravel(), y.ravel()], axis=1) + np.float32(0.5))
        sizes.append(np.full(width * height, stride, np.float32))
    grid = np.concatenate(centres), np.concatenate(sizes)
    for array in grid:
        array.flags.writeable = False  # shared by all callers
    return grid


def expected_distances(logits: Floats) -> Floats:
    """Return the mean distances (4, n), in cells, of (4, bins, n) logits over whole distances."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    bins = np.arange(logits.shape[1], dtype=np.float32)
    return np.asarray(np.einsum("sbn,b->sn", weights, bins))


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + exp(-x))."""
    with np.errstate(over="ignore"):  # far below zero it is 0, as it should be
        return np.asarray(1 / (1 + np.exp(-logits)))


def _logit(share: float) -> float:
    if share <= 0:
        return -math.inf
    return math.inf if share >= 1 else math.log(share / (1 - share))
