"""The heads: what reads the maps of all levels and writes boxes, scores, keypoints and masks."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from openkeypoints.errors import WeightsError
from openkeypoints.models.base import Task
from openkeypoints.models.yolo.ops import Map, Ops, Shape
from openkeypoints.models.yolo.spec import Head

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "Detect": "object-detection",
        "Segment": "instance-segmentation",
        "Segment26": "instance-segmentation",
        "Pose": "keypoint-detection",
        "Pose26": "keypoint-detection",
    }
)
"""Kind of the head -> what the network finds."""

PREFIXES: Mapping[Head, str] = MappingProxyType({"one2many": "", "one2one": "one2one_"})
"""Head -> what the names of its branches begin with."""

FLOW_COUPLINGS, FLOW_WIDTH = 6, 64


@dataclass(frozen=True, slots=True)
class HeadShape:
    """What the head of a network is to write.

    Attributes:
        kind: name of the block.
        path: beginning of the names of its tensors.
        classes: how many.
        bins: distances per side of a box; 1 = the distance itself.
        keypoints: (K, D), None without keypoints.
        coefficients: of a mask, 0 without masks.
        prototypes: channels between the levels and the prototypes of masks.
        depthwise: the class branch works on each channel alone (11, 26), not on all (v8).
        twice: there is a second set of branches that needs no suppression.
    """

    kind: str
    path: str
    classes: int
    bins: int = 16
    keypoints: tuple[int, int] | None = None
    coefficients: int = 0
    prototypes: int = 0
    depthwise: bool = False
    twice: bool = False

    @property
    def task(self) -> Task:
        """What it finds."""
        return TASKS[self.kind]

    @property
    def heads(self) -> tuple[Head, ...]:
        """The sets of branches, the default one first."""
        return ("one2many", "one2one") if self.twice else ("one2many",)


Levels = tuple[Map, ...]
Outputs = dict[Head, dict[str, Levels]]
"""Head -> role of the output -> its map at each level (one map of prototypes)."""


def write_head(ops: Ops, head: HeadShape, levels: Sequence[Map]) -> Outputs:
    """Append every branch of a head.

    Args:
        ops: appended to.
        head: what to write.
        levels: the maps that it reads, the finest first.
    """
    prototypes = _prototypes(ops, head, levels) if head.coefficients else None
    outputs: Outputs = {}
    for name in head.heads:
        begin = f"{head.path}.{PREFIXES[name]}"
        roles = {
            "boxes": _boxes(ops, head, levels, f"{begin}cv2"),
            "scores": _scores(ops, head, levels, f"{begin}cv3"),
        }
        if head.keypoints is not None:
            roles["keypoints"] = _keypoints(ops, head, levels, f"{begin}cv4")
        if prototypes is not None:
            roles["coefficients"] = _branch(
                ops,
                levels,
                f"{begin}cv4",
                (max(levels[0].channels // 4, head.coefficients), head.coefficients),
            )
            roles["prototypes"] = (prototypes,)
        outputs[name] = roles
    return outputs


def training_tensors(head: HeadShape, levels: Sequence[Map]) -> dict[str, Shape]:
    """Return the tensors of a head that nothing reads when a picture is looked at."""
    tensors: dict[str, Shape] = {}
    if head.bins > 1:
        tensors[f"{head.path}.dfl.conv.weight"] = (1, head.bins, 1, 1)
    if head.kind != "Pose26" or head.keypoints is None:
        return tensors
    width = _pose26_width(head, levels)
    for name in head.heads:
        for i in range(len(levels)):
            path = f"{head.path}.{PREFIXES[name]}cv4_sigma.{i}"
            tensors[f"{path}.weight"] = (2 * head.keypoints[0], width, 1, 1)
            tensors[f"{path}.bias"] = (2 * head.keypoints[0],)
    return tensors | _flow(f"{head.path}.flow_model")


def unread(name: str, head: HeadShape) -> bool:
    """Return whether a tensor is of a part of the head that is only there for training.

    Such a part may be missing, whole or in part, and its shapes do not matter.
    """
    parts = ("dfl.", "flow_model.", "cv4_sigma.", "one2one_cv4_sigma.", "proto.semseg.")
    return name.startswith(tuple(f"{head.path}.{part}" for part in parts))


def _boxes(ops: Ops, head: HeadShape, levels: Sequence[Map], path: str) -> Levels:
    width = max(16, levels[0].channels // 4, 4 * head.bins)
    return _branch(ops, levels, path, (width, 4 * head.bins))


def _scores(ops: Ops, head: HeadShape, levels: Sequence[Map], path: str) -> Levels:
    width = max(levels[0].channels, min(head.classes, 100))
    if not head.depthwise:
        return _branch(ops, levels, path, (width, head.classes))
    maps = []
    for i, level in enumerate(levels):
        x = level
        for part in range(2):
            x = ops.depthwise(x, f"{path}.{i}.{part}.0", x.channels)
            x = ops.conv(x, f"{path}.{i}.{part}.1", width)
        maps.append(ops.project(x, f"{path}.{i}.2", head.classes))
    return tuple(maps)


def _keypoints(ops: Ops, head: HeadShape, levels: Sequence[Map], path: str) -> Levels:
    assert head.keypoints is not None  # noqa: S101  # asked by the caller
    values = head.keypoints[0] * head.keypoints[1]
    if head.kind == "Pose":
        return _branch(ops, levels, path, (max(levels[0].channels // 4, values), values))
    width = _pose26_width(head, levels)
    maps = []
    for i, level in enumerate(levels):
        x = _two(ops, level, f"{path}.{i}", width)
        maps.append(ops.project(x, f"{path}_kpts.{i}", values))
    return tuple(maps)


def _pose26_width(head: HeadShape, levels: Sequence[Map]) -> int:
    count, values = head.keypoints or (0, 0)
    return max(levels[0].channels // 4, count * (values + 2))


def _branch(ops: Ops, levels: Sequence[Map], path: str, widths: tuple[int, int]) -> Levels:
    hidden, last = widths
    return tuple(
        ops.project(_two(ops, x, f"{path}.{i}", hidden), f"{path}.{i}.2", last)
        for i, x in enumerate(levels)
    )


def _two(ops: Ops, x: Map, path: str, width: int) -> Map:
    return ops.conv(ops.conv(x, f"{path}.0", width, 3), f"{path}.1", width, 3)


def _prototypes(ops: Ops, head: HeadShape, levels: Sequence[Map]) -> Map:
    path, x = f"{head.path}.proto", levels[0]
    if head.kind == "Segment26":
        for i, level in enumerate(levels[1:]):
            y = ops.conv(level, f"{path}.feat_refine.{i}", x.channels)
            x = ops.step("add", (x, ops.step("enlarge", (y,), 2 << i)))
        x = ops.conv(x, f"{path}.feat_fuse", head.prototypes, 3)
    x = ops.conv(x, f"{path}.cv1", head.prototypes, 3)
    x = ops.double(x, f"{path}.upsample", head.prototypes)
    x = ops.conv(x, f"{path}.cv2", head.prototypes, 3)
    return ops.conv(x, f"{path}.cv3", head.coefficients)


def _flow(path: str) -> dict[str, Shape]:
    tensors: dict[str, Shape] = {
        f"{path}.loc": (2,),
        f"{path}.cov": (2, 2),
        f"{path}.mask": (FLOW_COUPLINGS, 2),
    }
    sizes = ((FLOW_WIDTH, 2), (FLOW_WIDTH, FLOW_WIDTH), (2, FLOW_WIDTH))
    for net in "st":
        for i in range(FLOW_COUPLINGS):
            for layer, shape in zip((0, 2, 4), sizes, strict=True):
                tensors[f"{path}.{net}.{i}.{layer}.weight"] = shape
                tensors[f"{path}.{net}.{i}.{layer}.bias"] = shape[:1]
    return tensors


def read_keypoints(value: Any) -> tuple[int, int]:
    """Return (K, D) as a YAML has it.

    Raises:
        WeightsError: it is no such pair.
    """
    pair = tuple(value) if isinstance(value, list | tuple) else ()
    whole = all(isinstance(v, int) and not isinstance(v, bool) for v in pair)
    if len(pair) != 2 or not whole or not 1 <= pair[0] <= 1000 or pair[1] not in (2, 3):
        raise WeightsError(
            f"kpt_shape is {reprlib.repr(value)}: it has to be [keypoints, 2] or [keypoints, 3]."
        )
    return pair
