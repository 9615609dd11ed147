"""What a YOLO network takes and gives, whatever file it comes from: the records of the family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from openkeypoints.models.base import Task
from openkeypoints.models.graphs.inputs import Color, PictureInput
from openkeypoints.results import Skeleton

Head = Literal["one2many", "one2one", "embedded-nms"]
"""Which head made the numbers: one box per object after suppression, or without any, or a
suppression that is part of the graph."""
Fit = Literal["letterbox", "stretch"]
TASKS: Mapping[str, Task] = {
    "pose": "keypoint-detection",
    "detect": "object-detection",
    "segment": "instance-segmentation",
}
"""The vendor's names of the tasks that are run here, and ours."""
MAX_STRIDE = 256


@dataclass(frozen=True, slots=True)
class InputSpec:
    """How a picture becomes the network's input.

    Attributes:
        name: of the graph's input.
        threshold: name of a second input (1,): a logit, and only around cells that score more is
            anything but scores computed; empty where the graph has none.
        size: (width, height): the target of the letterbox, or the only size of a static graph.
        static: the graph takes this size and no other.
        batch: the only number of pictures that the graph takes, None = any.
        stride: largest stride in pixels; inputs are multiples of it.
        pictures: True where the graph takes uint8 pictures (N, H, W, 3) RGB and scales them
            itself; False where it takes (N, 3, H, W) floats.
        half: those floats are 16-bit.
        fit: keep the proportions and pad, or stretch each axis.
        bgr: colours are wanted in the order blue, green, red.
        fill: grey level of the padding.
        scale: floats are pixels divided by this,
        mean: less this,
        std: and divided by this, per channel in the order of the network.
    """

    name: str
    size: tuple[int, int]
    static: bool = False
    batch: int | None = None
    stride: int = 32
    pictures: bool = False
    half: bool = False
    fit: Fit = "letterbox"
    bgr: bool = False
    fill: int = 114
    scale: float = 255.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    threshold: str = ""

    @property
    def entry(self) -> PictureInput:
        """The same as every graph's input is described: pixels to numbers."""
        color: Color = "bgr" if self.bgr else "rgb"
        if self.pictures:
            return PictureInput(self.name, "nhwc", "uint8", self.batch, color=color)
        return PictureInput(
            self.name,
            dtype="float16" if self.half else "float32",
            batch=self.batch,
            color=color,
            scale=self.scale,
            mean=self.mean,
            std=self.std,
        )


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What the numbers that come out mean. A = anchors of all levels, C classes, K keypoints.

    Attributes:
        layout: ``maps``: raw head outputs ``boxes`` (N, 4R, A), ``scores`` (N, C, A) logits,
            ``keypoints`` (N, K·D, A), ``coefficients`` (N, M, A);
            ``columns``: (N, 4 + C + K·D or M, A), decoded, centre boxes, input pixels;
            ``rows``: (N, n, 6 + K·D or M), decoded, corner boxes, score, class.
        names: role -> name of the graph's output. Roles: the four of ``maps``, or ``table`` for the
            two others, and ``prototypes`` (N, M, h, w) with masks.
        head: which head it is; ``one2one`` and ``embedded-nms`` need no suppression.
        classes: C.
        keypoints: (K, D) with D = 2 or 3, None without keypoints.
        coefficients: M mask coefficients, 0 without masks.
        strides: of the levels, in the order of the anchors (``maps`` only).
        bins: R, distances per side; 1 = the distance itself (``maps`` only).
        centred: keypoints are offsets from the anchor's centre (YOLO26), not doubled offsets from
            its corner (v8, 11) (``maps`` only).
    """

    layout: Literal["maps", "columns", "rows"]
    names: Mapping[str, str]
    head: Head
    classes: int
    keypoints: tuple[int, int] | None = None
    coefficients: int = 0
    strides: tuple[int, ...] = (8, 16, 32)
    bins: int = 16
    centred: bool = False


@dataclass(frozen=True, slots=True)
class YoloSpec:
    """A YOLO model apart from its graph.

    Attributes:
        task: what it finds.
        class_names: name of each class id.
        skeletons: class id -> skeleton, empty without keypoints.
        input: how pictures enter.
        outputs: what comes out, per head that can be run; the first is the default.
        rows: class id -> which of the network's keypoints its skeleton has, None = all, in order.
        confidence: default threshold of instance scores.
        iou_threshold: default threshold of box suppression.
        licence: of the weights.
        card: facts about origin and training.
    """

    task: Task
    class_names: tuple[str, ...]
    skeletons: Mapping[int, Skeleton]
    input: InputSpec
    outputs: Mapping[Head, OutputSpec]
    rows: Mapping[int, tuple[int, ...]] | None = None
    confidence: float = 0.25
    iou_threshold: float = 0.7
    licence: str = "unknown"
    card: Mapping[str, Any] = field(default_factory=dict)
