"""What every model is to its callers, and what a family writes to become one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import InputError
from openkeypoints.images import ImageSource, read_image
from openkeypoints.results import Image, Prediction, Skeleton
from openkeypoints.settings import Settings
from openkeypoints.weights.refs import WeightRef

Task = Literal["keypoint-detection", "object-detection", "instance-segmentation"]


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
        boxes: one (N, 4) array of x1 y1 x2 y2 px per picture, in place of a detector's.
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
    boxes: Sequence[NDArray[np.floating[Any]]] | None = None
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


DEFAULT_OPTIONS = InferOptions()
"""Nothing is chosen."""
_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Request:
    """One call's thresholds, checked: what a predictor gets beside the pictures."""

    confidence: float
    iou_threshold: float
    keypoint_confidence: float = 0.0
    max_detections: int = 300
    class_ids: frozenset[int] | None = None
    options: InferOptions = DEFAULT_OPTIONS


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

    def infer(  # noqa: PLR0913  # arch: signature of the specification
        self,
        images: ImageSource | Sequence[ImageSource],
        *,
        confidence: float | None = None,
        iou_threshold: float | None = None,
        keypoint_confidence: float = 0.0,
        max_detections: int = 300,
        class_filter: Iterable[str | int] | None = None,
        color: Literal["bgr", "rgb"] = "bgr",
        options: InferOptions | None = None,
    ) -> list[Prediction]:
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

        Returns:
            One prediction per picture, in pixels of the picture as it is seen upright.

        Raises:
            InputError: a value is wrong, a picture cannot be read, or an option is not known here.
        """
        request = self.request(
            confidence=confidence,
            iou_threshold=iou_threshold,
            keypoint_confidence=keypoint_confidence,
            max_detections=max_detections,
            class_filter=class_filter,
            options=DEFAULT_OPTIONS if options is None else options,
        )
        sources = list(images) if isinstance(images, list | tuple) else [cast(ImageSource, images)]
        boxes = request.options.boxes
        if boxes is not None and len(boxes) != len(sources):
            raise InputError(
                f"options.boxes has {len(boxes)} arrays for {len(sources)} pictures: "
                "give one (N, 4) array per picture."
            )
        began = time.perf_counter()
        pictures = [read_image(s, color=color, settings=self._settings) for s in sources]
        decode_ms = (time.perf_counter() - began) * 1e3 / max(1, len(sources))
        return self.run(pictures, request, [decode_ms] * len(sources))

    def request(
        self,
        *,
        confidence: float | None,
        iou_threshold: float | None,
        keypoint_confidence: float,
        max_detections: int,
        class_filter: Iterable[str | int] | None,
        options: InferOptions,
    ) -> Request:
        """Return the arguments of :meth:`infer`, checked, with the model's own defaults.

        Raises:
            InputError: a value is wrong, or an option is not known here.
        """
        if unknown := options.chosen() - self.predictor.honours:
            raise InputError(
                f"The model {self.id!r} has no option {', '.join(sorted(unknown))}; "
                f"it knows {', '.join(sorted(self.predictor.honours)) or 'none'}."
            )
        default = self.description
        return Request(
            confidence=_or_default("confidence", confidence, default.confidence),
            iou_threshold=_or_default("iou_threshold", iou_threshold, default.iou_threshold),
            keypoint_confidence=share("keypoint_confidence", keypoint_confidence),
            max_detections=positive("max_detections", max_detections),
            class_ids=self._class_ids(class_filter),
            options=options,
        )

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
        found = self.predictor.predict(pictures, request)
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

    def _class_ids(self, class_filter: Iterable[str | int] | None) -> frozenset[int] | None:
        if class_filter is None:
            return None
        if isinstance(class_filter, str | int | np.integer):
            class_filter = [class_filter]
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
        return frozenset(ids)


def _or_default(name: str, value: float | None, default: float) -> float:
    return default if value is None else share(name, value)


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


@dataclass(frozen=True, slots=True)
class Loading:
    """How a model is to be loaded: what ``get_model`` was asked for beside the model itself.

    ``owns_detector``: nobody else holds the detector, so closing the model closes it.
    ``licence``: what is known of the weights' licence before the file is read.
    """

    settings: Settings
    runtime: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    card: Mapping[str, Any] = field(default_factory=dict)
    detector: Model | None = None
    owns_detector: bool = False
    keypoints: Sequence[str] | None = None
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the catalogue: a named model of a family.

    Attributes:
        id: name; ``aliases`` are other names for it.
        family: name of its family.
        task: what it finds.
        skeleton: name of its skeleton, None without keypoints.
        source: where the weights come from, for people to read.
        licence: of the weights.
        file: the file in the package, None where it has to be fetched.
        size_bytes: of the file, None where unknown.
        sha256: of the file, None where unknown.
        claims: figures that its authors state, None where we cannot verify one.
        refs: where the weights can be fetched, the first choice first.
    """

    id: str
    family: str
    task: Task
    skeleton: str | None
    source: str
    licence: str
    aliases: tuple[str, ...] = ()
    file: Path | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    claims: Mapping[str, float | None] = field(default_factory=dict)
    refs: tuple[WeightRef, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportGraph:
    """What a family gives to be written as an artefact that every runtime opens.

    Attributes:
        onnx: the network as an ONNX graph: uint8 pictures (N, H, W, 3) in, any size.
        metadata: plain JSON values from which the family's ``load`` makes the same model again:
            family, version, task, class names, skeletons, preprocessing, outputs, thresholds,
            licence.
    """

    onnx: bytes
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """A family of models: its catalogue rows and how a file becomes a model.

    Attributes:
        name: of the family, as in ``model.json``.
        variants: its rows.
        load: opens a file under an id (None: the file's own first one).
        recognises: tells cheaply whether a file or folder is of this family.
        reads: endings of its files, for messages.
        export: makes the graph of ``okp export`` from the same arguments and a precision, ``f32``
            or ``fp16`` (the weights are stored as 16-bit floats). None where the family has no
            use for it.
    """

    name: str
    variants: tuple[Variant, ...]
    load: Callable[[Path, str | None, Loading], Model]
    recognises: Callable[[Path], bool]
    reads: tuple[str, ...]
    export: Callable[[Path, str | None, Loading, str], ExportGraph] | None = None
