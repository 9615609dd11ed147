"""What every model is to its callers, and what a family writes to become one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Protocol, Self, cast, overload

import numpy as np

from openkeypoints.errors import InputError, OpenKeypointsError, numbered
from openkeypoints.geometry import area, oks_nms
from openkeypoints.images import ImageSource, read_image, source_name
from openkeypoints.models.request import (
    DEFAULT_OPTIONS,
    MAX_DETECTIONS,
    InferOptions,
    Request,
    positive,
    share,
)
from openkeypoints.results import Boxes, Image, Prediction, Skeleton
from openkeypoints.settings import Settings

Task = Literal["keypoint-detection", "object-detection", "instance-segmentation"]


class Predictor(Protocol):
    """The part of a model that a family writes: pictures in, predictions out. Thread-safe."""

    honours: frozenset[str]
    """Names of the ``InferOptions`` that it knows."""
    runtime: str
    device: str
    precision: str

    def predict(self, images: Sequence[Image], request: Request) -> list[Prediction]:
        """Return one prediction per RGB uint8 (H, W, 3) picture."""
        ...

    def close(self) -> None:
        """Free what the runtime holds."""
        ...


@dataclass(frozen=True, slots=True)
class Description:
    """What a model says of itself.

    Attributes:
        id: the name it was asked for.
        task: what it finds.
        class_names: name of each class id.
        skeletons: class id -> skeleton.
        input_size: (width, height) of the network's input, for people to read.
        confidence: default threshold of instance scores.
        iou_threshold: default threshold of box suppression.
        licence: of the weights.
        card: facts about origin, training and accuracy.
    """

    id: str
    task: Task
    class_names: tuple[str, ...]
    skeletons: Mapping[int, Skeleton]
    input_size: tuple[int, int]
    confidence: float
    iou_threshold: float
    licence: str
    card: Mapping[str, Any]


class Model:
    """A loaded model. One model may be called from many threads; it is also a context manager."""

    def __init__(self, description: Description, predictor: Predictor, settings: Settings) -> None:
        self.description = description
        self.predictor = predictor
        self._settings = settings

    @property
    def id(self) -> str:
        """The name that it was asked for."""
        return self.description.id

    @property
    def task(self) -> Task:
        """What it finds: ``keypoint-detection``, ``object-detection``, ..."""
        return self.description.task

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class id."""
        return self.description.class_names

    @property
    def skeletons(self) -> Mapping[int, Skeleton]:
        """Class id -> skeleton."""
        return self.description.skeletons

    @property
    def input_size(self) -> tuple[int, int]:
        """(width, height) of the network's input in pixels."""
        return self.description.input_size

    @property
    def runtime(self) -> str:
        """``openvino``, ``onnxruntime`` or ``torch``."""
        return self.predictor.runtime

    @property
    def device(self) -> str:
        """What runs it: ``cpu``, ``cuda:0``, ..."""
        return self.predictor.device

    @property
    def precision(self) -> str:
        """``f32``, ``bf16`` or ``int8``."""
        return self.predictor.precision

    @property
    def licence(self) -> str:
        """Licence of the weights."""
        return self.description.licence

    @property
    def card(self) -> Mapping[str, Any]:
        """Facts about origin, training and accuracy."""
        return MappingProxyType(dict(self.description.card))

    @overload
    def infer(
        self,
        images: ImageSource | Sequence[ImageSource],
        *,
        confidence: float | None = None,
        iou_threshold: float | None = None,
        keypoint_confidence: float = 0.0,
        max_detections: int = MAX_DETECTIONS,
        class_filter: Iterable[str | int] | None = None,
        color: Literal["bgr", "rgb"] = "bgr",
        options: InferOptions | None = None,
        on_error: Literal["raise"] = "raise",
    ) -> list[Prediction]: ...

    @overload
    def infer(
        self,
        images: ImageSource | Sequence[ImageSource],
        *,
        confidence: float | None = None,
        iou_threshold: float | None = None,
        keypoint_confidence: float = 0.0,
        max_detections: int = MAX_DETECTIONS,
        class_filter: Iterable[str | int] | None = None,
        color: Literal["bgr", "rgb"] = "bgr",
        options: InferOptions | None = None,
        on_error: Literal["skip"],
    ) -> list[Prediction | OpenKeypointsError]: ...

    def infer(  # noqa: PLR0913  # arch: signature of the specification
        self,
        images: ImageSource | Sequence[ImageSource],
        *,
        confidence: float | None = None,
        iou_threshold: float | None = None,
        keypoint_confidence: float = 0.0,
        max_detections: int = MAX_DETECTIONS,
        class_filter: Iterable[str | int] | None = None,
        color: Literal["bgr", "rgb"] = "bgr",
        options: InferOptions | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> list[Prediction] | list[Prediction | OpenKeypointsError]:
        """Find keypoints in one picture or a list of pictures.

        Args:
            images: one or a list of: path, URL, bytes, base64 text or data URI, file object, PIL
                image, uint8 array (H, W), (H, W, 1) or (H, W, 3), or Roboflow's ``{"type": ...,
                "value": ...}`` around one of these.
            confidence: lowest instance score; 0.4 and 40 both mean 40 %. Default: the model's.
            iou_threshold: overlap above which the weaker of two boxes is dropped.
            keypoint_confidence: kept in the prediction for formats and drawing; changes no array.
            max_detections: the best-scored instances are kept.
            class_filter: names or ids of the classes to return.
            color: order of the channels of arrays, ``bgr`` as in OpenCV or ``rgb``.
            options: what only some families know.
            on_error: ``raise`` ends the call at the first picture that cannot be read; ``skip``
                puts its error in its place and answers the others.

        Returns:
            One prediction per picture, in pixels of the picture as it is seen upright.

        Raises:
            InputError: a value is wrong, a picture cannot be read (the message has its place in
                the list), or an option is not known here.
        """
        if on_error not in ("raise", "skip"):
            raise InputError(f"on_error is {on_error!r}: give 'raise' or 'skip'.")
        request = self.request(
            Request(
                confidence,
                iou_threshold,
                keypoint_confidence,
                max_detections,
                _listed(class_filter),
                DEFAULT_OPTIONS if options is None else options,
            )
        )
        sources = list(images) if isinstance(images, list | tuple) else [cast(ImageSource, images)]
        check_boxes(request, len(sources))
        pictures: dict[int, Image] = {}
        spent: list[float] = []
        answers: dict[int, Prediction | OpenKeypointsError] = {}
        for index, source in enumerate(sources):
            began = time.perf_counter()
            try:
                pictures[index] = read_image(source, color=color, settings=self._settings)
            except OpenKeypointsError as error:
                answers[index] = numbered(error, index, len(sources))
                if on_error == "raise":
                    raise
            else:
                spent.append((time.perf_counter() - began) * 1e3)
        found = self.run(list(pictures.values()), request.for_pictures([*pictures]), spent)
        for index, prediction in zip(pictures, found, strict=True):
            name = source_name(sources[index])
            answers[index] = prediction if name is None else replace(prediction, source=name)
        return [answers[index] for index in range(len(sources))]

    def request(self, asked: Request) -> Request:
        """Return a request, checked against this model: shares as 0..1, classes as ids.

        Raises:
            InputError: a value is wrong, or an option is not known here.
        """
        honours = self.honours
        if unknown := asked.options.chosen() - honours:
            raise InputError(
                f"The model {self.id!r} has no option {', '.join(sorted(unknown))}; "
                f"it knows {', '.join(sorted(honours)) or 'none'}."
            )
        return Request(
            _share_or_none("confidence", asked.confidence),
            _share_or_none("iou_threshold", asked.iou_threshold),
            share("keypoint_confidence", asked.keypoint_confidence),
            positive("max_detections", asked.max_detections),
            self._ids_of(asked.class_filter),
            asked.options,
        )

    @property
    def honours(self) -> frozenset[str]:
        """Names of the ``InferOptions`` that it knows."""
        own = self.predictor.honours
        return own | {"oks_nms"} if self.skeletons else own

    def run(
        self, pictures: Sequence[Image], request: Request, decode_ms: Sequence[float]
    ) -> list[Prediction]:
        """Find keypoints in pictures that were decoded before.

        Args:
            pictures: RGB uint8 (H, W, 3), upright.
            request: of :meth:`request`; its ``options.boxes`` has an array for each picture.
            decode_ms: milliseconds that each of them took to decode, for the timings.

        Returns:
            One prediction per picture.
        """
        if not pictures:
            return []
        found = self.predictor.predict(pictures, request)
        if (threshold := request.options.oks_nms) is not None and request.options.boxes is None:
            found = [without_duplicates(prediction, threshold) for prediction in found]
        return [
            p.with_timings({"decode": spent, **p.timings})
            for p, spent in zip(found, decode_ms, strict=True)
        ]

    __call__ = infer

    def warmup(self) -> None:
        """Run once on an empty picture, so that the first real one is as fast as the others."""
        width, height = self.input_size
        # Nothing is found there: the second half of a top-down model runs on the whole of it.
        whole = "whole_image" in self.predictor.honours
        options = InferOptions(whole_image=whole)
        self.infer(np.full((height, width, 3), 114, np.uint8), options=options)

    def close(self) -> None:
        """Free what the runtime holds; the model cannot be used afterwards."""
        self.predictor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"<Model {self.id!r}: {self.task}, {len(self.class_names)} classes, "
            f"{self.runtime} on {self.device} in {self.precision}>"
        )

    def _ids_of(self, class_filter: tuple[str | int, ...] | None) -> tuple[int, ...] | None:
        if class_filter is None:
            return None
        numbers = {name: i for i, name in enumerate(self.class_names)}
        ids = set()
        for entry in class_filter:
            number = numbers.get(entry, -1) if isinstance(entry, str) else entry
            whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
            if whole and 0 <= number < len(numbers):
                ids.add(int(number))
            else:
                raise InputError(
                    f"class_filter names {entry!r}, which {self.id!r} does not know; "
                    f"its classes are {', '.join(self.class_names)}."
                )
        return tuple(sorted(ids))


def check_boxes(request: Request, count: int) -> None:
    """Raise unless given boxes are a list with an entry for each of the pictures.

    Raises:
        InputError: they are not.
    """
    boxes = request.options.boxes
    if boxes is None:
        return
    if isinstance(boxes, Boxes) or not hasattr(boxes, "__len__"):
        raise InputError(
            f"options.boxes is a {type(boxes).__name__}: give a list with one (N, 4) array, or one "
            "Boxes, per picture."
        )
    if len(boxes) != count:
        raise InputError(
            f"options.boxes has {len(boxes)} arrays for {count} pictures: give one (N, 4) array "
            "per picture."
        )


def without_duplicates(prediction: Prediction, threshold: float) -> Prediction:
    """Return a prediction without instances whose keypoints are those of a better one.

    Args:
        prediction: rows sorted by score.
        threshold: object keypoint similarity above which the weaker of two instances of a class
            is dropped.
    """
    keep = np.ones(len(prediction), np.bool_)
    for class_id, skeleton in prediction.skeletons.items():
        mine = np.nonzero(prediction.class_ids == class_id)[0]
        best = oks_nms(
            prediction.keypoints[mine, : len(skeleton)],
            prediction.scores[mine],
            areas=area(prediction.boxes[mine]),
            sigmas=np.array(skeleton.sigmas),
            threshold=threshold,
        )
        keep[np.setdiff1d(mine, mine[best])] = False
    return prediction if keep.all() else prediction[keep]


def _share_or_none(name: str, value: float | None) -> float | None:
    return None if value is None else share(name, value)


def _listed(class_filter: Iterable[str | int] | None) -> tuple[str | int, ...] | None:
    if class_filter is None:
        return None
    return (class_filter,) if isinstance(class_filter, str | int | np.integer) else (*class_filter,)
