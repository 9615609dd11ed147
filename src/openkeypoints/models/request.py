"""What a caller asks of a model, from the surface or the command down to the predictor."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import InputError
from openkeypoints.results import Boxes

MAX_DETECTIONS = 300
"""Instances of a picture that are kept where nobody says."""


@dataclass(frozen=True, slots=True)
class InferOptions:
    """What one family knows and another does not. ``None`` and False leave a choice to the model.

    An option that the model cannot honour is an ``InputError``.

    Attributes:
        input_size: (width, height) of the network input.
        letterbox: ``rect`` pads to the stride, ``square`` to the whole input size.
        end2end: use the head that needs no suppression.
        class_agnostic: suppress overlapping boxes of different classes too.
        max_candidates: boxes that enter suppression.
        retina_masks: masks at the size of the picture.
        boxes: per picture one (N, 4) array of x1 y1 x2 y2 px, or one ``Boxes`` whose scores and
            classes are kept, in place of a detector's.
        box_threshold: lowest score of a detector's box, in place of ``confidence``.
        max_persons: instances of which a top-down model finds the keypoints.
        oks_nms: keypoint similarity above which the weaker of two instances is dropped.
        flip_test: average with the mirrored picture.
        whole_image: take the whole picture for one instance where nothing is found; its score is
            the mean of its keypoints' scores.
    """

    input_size: tuple[int, int] | None = None
    letterbox: Literal["rect", "square"] | None = None
    end2end: bool | None = None
    class_agnostic: bool = False
    max_candidates: int | None = None
    retina_masks: bool = False
    boxes: Sequence[NDArray[np.floating[Any]] | Boxes] | None = None
    box_threshold: float | None = None
    max_persons: int | None = None
    oks_nms: float | None = None
    flip_test: bool = False
    whole_image: bool = False

    def __post_init__(self) -> None:
        if self.letterbox not in (None, "rect", "square"):
            raise InputError(f"letterbox is {self.letterbox!r}: give 'rect' or 'square'.")
        if self.input_size is not None:
            try:
                width, height = self.input_size
            except (TypeError, ValueError):
                raise InputError(
                    f"input_size is {self.input_size!r}: give (width, height) in pixels."
                ) from None
            size = (positive("input_size", width), positive("input_size", height))
            object.__setattr__(self, "input_size", size)
        for name in ("max_candidates", "max_persons"):
            if (count := getattr(self, name)) is not None:
                object.__setattr__(self, name, positive(name, count))
        for name in ("box_threshold", "oks_nms"):
            if (part := getattr(self, name)) is not None:
                object.__setattr__(self, name, share(name, part))

    def chosen(self) -> frozenset[str]:
        """Return the names of the options that differ from their defaults."""
        if self is DEFAULT_OPTIONS:
            return _NOTHING
        # By identity: 0 and 0.0 are choices, and an array has no truth value.
        return frozenset(f.name for f in fields(self) if getattr(self, f.name) is not f.default)

    def only(self, names: Collection[str]) -> InferOptions:
        """Return the options of these names; the others have their defaults."""
        if not (others := self.chosen() - set(names)):
            return self
        return replace(self, **{name: getattr(DEFAULT_OPTIONS, name) for name in others})


DEFAULT_OPTIONS = InferOptions()
"""Nothing is chosen."""
_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Request:
    """One call's thresholds, classes and options.

    Surfaces, commands and jobs fill it; ``Model.request`` checks it before it reaches a predictor.

    Attributes:
        confidence: lowest instance score, 0..1 or per cent; None where nobody gave one: then the
            default of whatever finds the instances holds.
        iou_threshold: overlap above which the weaker of two boxes is dropped; None likewise.
        keypoint_confidence: kept in the prediction for formats and drawing; changes no array.
        max_detections: the best-scored instances are kept.
        class_filter: names or ids of the classes to return, None = all; ids alone once checked.
        options: what only some families know; ``boxes`` has one entry per picture.
    """

    confidence: float | None = None
    iou_threshold: float | None = None
    keypoint_confidence: float = 0.0
    max_detections: int = MAX_DETECTIONS
    class_filter: tuple[str | int, ...] | None = None
    options: InferOptions = DEFAULT_OPTIONS

    @property
    def class_ids(self) -> frozenset[int] | None:
        """The classes to return, None = all; of a request that was checked."""
        return None if self.class_filter is None else frozenset(map(int, self.class_filter))

    def for_pictures(self, rows: Sequence[int]) -> Request:
        """Return the request with the boxes of some of its pictures alone."""
        boxes = self.options.boxes
        if boxes is None:
            return self
        return replace(self, options=replace(self.options, boxes=[boxes[i] for i in rows]))

    def settled(self, confidence: float, iou_threshold: float) -> SettledRequest:
        """Return the request with the defaults of a model where nobody gave a threshold."""
        return SettledRequest(
            confidence if self.confidence is None else self.confidence,
            iou_threshold if self.iou_threshold is None else self.iou_threshold,
            self.keypoint_confidence,
            self.max_detections,
            self.class_filter,
            self.options,
        )


DEFAULT_REQUEST = Request()
"""Nothing is asked for in particular."""


@dataclass(frozen=True, slots=True)
class SettledRequest(Request):
    """A request whose thresholds are known: what finds the instances has filled in its own."""

    confidence: float = 0.0
    iou_threshold: float = 1.0


def share(name: str, value: object) -> float:
    """Return a share given as 0..1 or as per cent, 0.4 or 40.

    Raises:
        InputError: it is neither; the message names it.
    """
    if type(value) is float and 0 <= value <= 1:  # as nearly all are
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise InputError(f"{name} is {value!r}: give a number from 0 to 1, or per cent up to 100.")
    number = float(value)
    number = number / 100 if number > 1 else number
    if not 0 <= number <= 1:
        raise InputError(f"{name} is {value!r}: give a number from 0 to 1, or per cent up to 100.")
    return number


def positive(name: str, value: object) -> int:
    """Return a whole number of at least 1.

    Raises:
        InputError: it is not; the message names it.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} is {value!r}: give a whole number of at least 1.")
    return int(value)
