"""Top-down models: a detector finds boxes, a crop network finds the keypoints in each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import InputError
from openkeypoints.models.base import Model
from openkeypoints.models.crops import CropKeypoints, CropReader, read_keypoints
from openkeypoints.models.request import InferOptions, Request
from openkeypoints.results import Boxes, Image, Prediction, Skeleton

OWN_OPTIONS = frozenset({"boxes", "box_threshold", "max_persons", "whole_image"})
"""What every top-down model honours; its halves add theirs."""
DETECTOR_OPTIONS = frozenset(
    {"class_agnostic", "end2end", "input_size", "letterbox", "max_candidates"}
)
"""What concerns boxes, of the options that a model of one stage may honour."""


class Detector(Protocol):
    """Finds boxes: the first half of a top-down model. Thread-safe.

    Attributes:
        id: of the model that it is, or is part of, for messages.
        class_names: name of each class id.
        input_size: (width, height) of its input, for people to read.
        confidence: its default threshold of scores.
        iou_threshold: its default threshold of box suppression.
        licence: of its weights.
        honours: names of the ``InferOptions`` that it knows.
    """

    id: str
    class_names: tuple[str, ...]
    input_size: tuple[int, int]
    confidence: float
    iou_threshold: float
    licence: str
    honours: frozenset[str]

    def detect(self, images: Sequence[Image], request: Request, /) -> list[Boxes]:
        """Return the boxes of each RGB uint8 (H, W, 3) picture, best first."""
        ...

    def close(self) -> None:
        """Free what the runtime holds."""
        ...


class ModelDetector:
    """A model of one stage as a detector: its boxes are taken, whatever else it finds."""

    def __init__(self, model: Model) -> None:
        """Take the model over: closing the detector closes it."""
        about = model.description
        self.id, self.class_names, self.input_size = model.id, about.class_names, about.input_size
        self.confidence, self.iou_threshold = about.confidence, about.iou_threshold
        self.licence = about.licence
        self.honours = model.predictor.honours & DETECTOR_OPTIONS
        self._model = model

    def detect(self, images: Sequence[Image], request: Request) -> list[Boxes]:
        """Return the boxes of each picture."""
        found = self._model.predictor.predict(images, request)
        # Cut to the picture, a box may have no area left.
        full = [(p.boxes[:, 2:] > p.boxes[:, :2]).all(1) for p in found]
        return [
            Boxes(p.boxes[rows], p.scores[rows], p.class_ids[rows])
            for p, rows in zip(found, full, strict=True)
        ]

    def close(self) -> None:
        """Close the model."""
        self._model.close()


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
    """Joins a detector and a crop reader into a predictor; their classes meet by name.

    Adds ``box_index`` (N,) to the extras where the caller gave the boxes: the row of each
    instance's box. There no threshold or filter is applied, and the score of a box without one is
    the mean keypoint score. Extras of the reader are handed on, (N, K, ...).
    """

    def __init__(
        self,
        model_id: str,
        view: View,
        detector: Detector | None,
        reader: CropReader,
        *,
        owns_detector: bool = True,
    ) -> None:
        """Join the halves.

        Args:
            model_id: the name that predictions carry.
            view: what of the reader's keypoints is shown.
            detector: None where the caller has to give the boxes.
            reader: the crop network.
            owns_detector: nobody else holds the detector, so it is closed too.

        Raises:
            InputError: the detector finds no class that the view has.
        """
        self.model_id, self.view, self.detector, self.reader = model_id, view, detector, reader
        self._owns_detector = owns_detector
        self._own_ids = _meeting(detector, view)
        self.honours = OWN_OPTIONS | reader.honours | (detector.honours if detector else set())
        self.runtime, self.device = reader.runtime, reader.device
        self.precision = reader.precision
        self._slots = max(len(maps) for maps in view.maps.values())

    def predict(self, images: Sequence[Image], request: Request) -> list[Prediction]:
        """Find instances, then the keypoints of each; the detector's time counts as ``run``.

        Raises:
            InputError: there is no detector and the request gives no boxes.
        """
        began = time.perf_counter()
        found = self._boxes(images, request)
        detect_ms = (time.perf_counter() - began) * 1e3
        crops = [(i, box) for i, rows in enumerate(found) for box in rows.boxes]
        keypoints, read_ms = read_keypoints(
            self.reader, images, crops, flip_test=request.options.flip_test
        )
        run_ms = (detect_ms + read_ms) / max(1, len(images))
        prepare_ms = (time.perf_counter() - began) * 1e3 / max(1, len(images)) - run_ms
        results, start = [], 0
        for image, rows in zip(images, found, strict=True):
            finish = time.perf_counter()
            mine = keypoints.part(slice(start, start := start + len(rows)))
            prediction = self._assemble(image, rows, mine, request)
            finish_ms = (time.perf_counter() - finish) * 1e3
            timings = {"prepare": prepare_ms, "run": run_ms, "finish": finish_ms}
            results.append(replace(prediction, timings=timings))
        return results

    def close(self) -> None:
        """Close both halves; a detector that somebody else holds stays open."""
        if self.detector is not None and self._owns_detector:
            self.detector.close()
        self.reader.close()

    def _boxes(self, images: Sequence[Image], request: Request) -> list[Boxes]:
        options = request.options
        if options.boxes is not None:
            return [self._given(boxes) for boxes in options.boxes]
        if self.detector is not None:
            found = self.detector.detect(images, self._of_detector(request))
        elif options.whole_image:
            found = [Boxes(np.zeros((0, 4), np.float32)) for _ in images]
        else:
            raise InputError(
                f"The model {self.model_id!r} reads the keypoints of given boxes and has no "
                "detector: name one (detector=...), or give options.boxes or whole_image."
            )
        limit = min(options.max_persons or request.max_detections, request.max_detections)
        found = [replace(f, class_ids=self._own_ids[f.class_ids]) for f in found]
        found = [f[f.class_ids >= 0][:limit] for f in found]
        if options.whole_image and (request.class_ids is None or 0 in request.class_ids):
            found = [
                boxes if len(boxes) else whole_picture(image)
                for boxes, image in zip(found, images, strict=True)
            ]
        return found

    def _of_detector(self, request: Request) -> Request:
        """Return what the detector is asked: its own threshold, classes and options."""
        options, wanted = request.options, request.class_ids
        threshold = request.confidence if options.box_threshold is None else options.box_threshold
        return replace(
            request,
            confidence=threshold,
            class_filter=tuple(
                i
                for i, own in enumerate(self._own_ids.tolist())
                if own >= 0 and (wanted is None or own in wanted)
            ),
            options=options.only(() if self.detector is None else self.detector.honours),
        )

    def _given(self, boxes: object) -> Boxes:
        """Check boxes that the caller gave."""
        try:
            found = boxes if isinstance(boxes, Boxes) else Boxes(np.asarray(boxes, np.float32))
        except (InputError, TypeError, ValueError) as error:
            raise InputError(f"options.boxes: {error}") from error
        unknown = (found.class_ids < 0) | (found.class_ids >= len(self.view.class_names))
        if unknown.any():
            raise InputError(
                f"options.boxes has the class {found.class_ids[unknown][0]}; the model's are 0 to "
                f"{len(self.view.class_names) - 1}."
            )
        return found

    def _assemble(
        self, image: Image, found: Boxes, read: CropKeypoints, request: Request
    ) -> Prediction:
        scores = self._shown(found, read.scores, 0.0)
        lengths = np.array([len(self.view.maps[int(c)]) for c in found.class_ids], np.float32)
        mean = scores.sum(1) / np.maximum(lengths, 1)
        instance = np.where(np.isnan(found.scores), mean, found.scores).astype(np.float32)
        order = np.argsort(-instance, kind="stable")
        extras = {name: self._shown(found, rows)[order] for name, rows in read.extras.items()}
        if request.options.boxes is not None:
            extras["box_index"] = np.arange(len(found), dtype=np.int64)[order]
        covariances = read.covariances
        if covariances is not None:
            covariances = self._shown(found, covariances)[order]
        return Prediction(
            image_size=(image.shape[1], image.shape[0]),
            model_id=self.model_id,
            class_names=self.view.class_names,
            skeletons=self.view.skeletons,
            boxes=found.boxes[order],
            scores=instance[order],
            class_ids=found.class_ids[order],
            keypoints=self._shown(found, read.points)[order],
            keypoint_scores=scores[order],
            covariances=covariances,
            extras=extras,
            keypoint_confidence=request.keypoint_confidence,
            details=self._details(request.options),
        )

    def _shown(self, found: Boxes, values: NDArray[Any], missing: float = np.nan) -> NDArray[Any]:
        """Return what a reader says of its keypoints (N, K', ...) in the slots of the classes."""
        n = len(found)
        shown = np.full((n, self._slots, *values.shape[2:]), missing, values.dtype)
        for class_id, maps in self.view.maps.items():
            rows, take = np.nonzero(found.class_ids == class_id)[0], list(maps)
            shown[rows, : len(take)] = values[rows][:, take]
        return shown

    def _details(self, options: InferOptions) -> dict[str, Any]:
        details: dict[str, Any] = {"head": "top-down", "crop_size": self.reader.crop.size}
        if options.boxes is None and self.detector is not None:
            details["input_size"] = options.input_size or self.detector.input_size
            if "letterbox" in self.detector.honours:
                details["letterbox"] = options.letterbox or "rect"
        return details


def _meeting(detector: Detector | None, view: View) -> NDArray[np.int64]:
    """Return the view's id for each class of a detector, by name; -1 where the view has none."""
    if detector is None:
        return np.zeros(0, np.int64)
    own = {name: i for i, name in enumerate(view.class_names)}
    ids = np.array([own.get(name, -1) for name in detector.class_names], np.int64)
    if (ids < 0).all():
        raise InputError(
            f"The detector {detector.id!r} finds {_some(detector.class_names)}, the keypoint model "
            f"reads {_some(view.class_names)}: give a detector that finds the same, or class_names "
            "in a card."
        )
    return ids


def _some(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def detector_of(model: Model) -> Detector:
    """Return what finds the boxes of a loaded model: its detector alone where it has two halves.

    Raises:
        InputError: it is a crop network without a detector.
    """
    if not isinstance(model.predictor, TopDown):
        return ModelDetector(model)
    if model.predictor.detector is None:
        raise InputError(f"{model.id!r} reads the keypoints of given boxes and finds none itself.")
    return model.predictor.detector


def whole_picture(image: Image) -> Boxes:
    """Return the whole picture as one box of the first class, whose score is not known."""
    return Boxes(np.array([[0, 0, image.shape[1], image.shape[0]]], np.float32))
