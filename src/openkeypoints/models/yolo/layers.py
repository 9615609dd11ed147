"""Reads the YAML inside a checkpoint: from rows to operations, outputs and tensors."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openkeypoints.errors import WeightsError
from openkeypoints.models.yolo.blocks import (
    BLOCKS,
    INNER_REPEATS,
    MOST,
    MOST_REPEATS,
    SCALED,
    Row,
)
from openkeypoints.models.yolo.head import (
    TASKS,
    HeadShape,
    Outputs,
    read_keypoints,
    training_tensors,
    write_head,
)
from openkeypoints.models.yolo.ops import Conv, Map, Ops, Shape, Step
from openkeypoints.models.yolo.spec import Head

PICTURE = "picture"
"""Name of the map that the first row reads."""

_MOST_ROWS = 500
_LARGE = frozenset("mlx")
_FIRST = ("Conv", "DWConv")
_CHANNELS = (1, 3)


@dataclass(frozen=True, slots=True)
class Network:
    """A network as its YAML describes it.

    Attributes:
        ops: everything that runs, both heads of YOLO26 included.
        head: what the head writes.
        outputs: head -> role -> its maps.
        strides: pixels of the input per cell, level by level.
        channels: of the pictures.
        training: tensors of the head that only training reads.
    """

    ops: Ops
    head: HeadShape
    outputs: Outputs
    strides: tuple[int, ...]
    channels: int
    training: Mapping[str, Shape]

    def convolutions(self) -> list[Conv]:
        """Return everything that has tensors of its own, in order."""
        return [op for op in self.ops.sequence if isinstance(op, Conv)]

    def needed_for(self, head: Head) -> list[Conv | Step]:
        """Return what runs for one head, in order."""
        wanted = [x.name for levels in self.outputs[head].values() for x in levels]
        return self.ops.needed_for(wanted)


def needed_tensors(yaml: Mapping[str, Any]) -> dict[str, Shape]:
    """Return name and shape of every tensor of a network whose file is not fused.

    The parts that only training reads are among them, apart from ``proto.semseg`` of YOLO26, which
    is ignored in whatever shape it has.

    Args:
        yaml: as a checkpoint carries it.

    Raises:
        WeightsError: it describes a network that is not supported.
    """
    network = read_network(yaml)
    tensors: dict[str, Shape] = {}
    for conv in network.convolutions():
        tensors.update(conv.tensors())
    return tensors | dict(network.training)


def read_network(yaml: Mapping[str, Any]) -> Network:
    """Return the network that a checkpoint's YAML describes.

    Raises:
        WeightsError: it names a block that is not supported, or makes no sense; the message has the
            block, or the row.
    """
    return _Reader(yaml).read()


@dataclass(frozen=True, slots=True)
class _Scale:
    """What the size letter of a network changes."""

    depth: float
    width: float
    most: float
    large: bool

    def channels(self, wanted: int) -> int:
        return math.ceil(min(wanted, self.most) * self.width / 8) * 8

    def repeats(self, wanted: int) -> int:
        return max(round(wanted * self.depth), 1) if wanted > 1 else wanted


class _Reader:
    """Goes through the rows, and knows what came out of those before."""

    def __init__(self, yaml: Mapping[str, Any]) -> None:
        self._yaml = yaml
        self._scale = _read_scale(yaml)
        self._ops = Ops(_read_activation(yaml))
        self._channels = _whole("channels", yaml.get("channels", yaml.get("ch", 3)))
        if self._channels not in _CHANNELS:
            raise WeightsError(
                f"The network reads pictures of {self._channels} channels: "
                "supported are 3 (RGB) and 1 (grey)."
            )
        self._maps: list[Map] = []
        self._strides: list[int] = []
        # The class branch has another shape in networks that hold this block.
        self._depthwise = False

    def read(self) -> Network:
        rows = [*_rows(self._yaml, "backbone"), *_rows(self._yaml, "head")]
        if len(rows) > _MOST_ROWS:
            raise WeightsError(f"The network has {len(rows)} rows: at most {_MOST_ROWS} are read.")
        for row in rows[:-1]:
            self._append(*_fields(len(self._maps), row))
        if not rows:
            raise WeightsError("The checkpoint's YAML describes no network: it has no rows.")
        return self._finish(*_fields(len(self._maps), rows[-1]))

    def _append(self, sources: list[int], repeats: int, kind: str, args: list[Any]) -> None:
        if kind not in BLOCKS:
            raise _unsupported(len(self._maps), kind)
        if not self._maps and kind not in _FIRST:
            raise self._wrong(kind, f"a network begins with {' or '.join(_FIRST)}")
        self._depthwise |= kind == "C3k2"
        inputs, strides = self._inputs(kind, sources)
        if len(set(strides)) != 1:
            raise self._wrong(kind, "it joins maps of different sizes")
        row = self._row(kind, inputs, repeats, args)
        self._maps.append(BLOCKS[kind](self._ops, row))
        self._strides.append(self._stride(row, strides[0]))

    def _row(self, kind: str, inputs: tuple[Map, ...], repeats: int, args: list[Any]) -> Row:
        repeats = self._scale.repeats(repeats)
        row = Row(kind, f"model.{len(self._maps)}", inputs, repeats, tuple(args))
        if not 1 <= repeats <= (MOST_REPEATS if kind in INNER_REPEATS else 1):
            raise row.wrong(f"it stands there {repeats} times")
        if kind not in SCALED:
            return row
        args = [self._scale.channels(row.channels), *args[1:]]
        if kind == "C3k2" and self._scale.large:
            args = [args[0], True, *args[2:]]
        return Row(kind, row.path, inputs, repeats, tuple(args))

    def _stride(self, row: Row, before: int) -> int:
        if row.kind in ("Conv", "DWConv"):
            return before * row.number(2, 1)
        if row.kind != "nn.Upsample":
            return before
        if before % row.number(1):
            raise row.wrong("it enlarges beyond the size of the picture")
        return before // row.number(1)

    def _finish(self, sources: list[int], _: int, kind: str, args: list[Any]) -> Network:
        if kind not in TASKS:
            raise _unsupported(len(self._maps), kind)
        levels, strides = self._inputs(kind, sources)
        shape = self._head_shape(kind, args)
        return Network(
            ops=self._ops,
            head=shape,
            outputs=write_head(self._ops, shape, levels),
            strides=strides,
            channels=self._channels,
            training=training_tensors(shape, levels),
        )

    def _head_shape(self, kind: str, args: list[Any]) -> HeadShape:
        known = [self._yaml.get(a, a) if isinstance(a, str) else a for a in args]
        row = Row(kind, f"model.{len(self._maps)}", (), 1, tuple(known))
        masks, points = kind.startswith("Segment"), kind.startswith("Pose")
        row.at_most(3 if masks else 2 if points else 1)
        return HeadShape(
            kind=kind,
            path=row.path,
            classes=row.number(0),
            bins=_whole("reg_max", self._yaml.get("reg_max", 16)),
            keypoints=read_keypoints(known[1] if len(known) > 1 else None) if points else None,
            coefficients=row.number(1, 32) if masks else 0,
            prototypes=self._scale.channels(row.number(2, 256)) if masks else 0,
            depthwise=self._depthwise,
            twice=bool(self._yaml.get("end2end", False)),
        )

    def _inputs(self, kind: str, sources: list[int]) -> tuple[tuple[Map, ...], tuple[int, ...]]:
        count = len(self._maps)
        places = [count + s if s < 0 else s for s in sources]
        if not places or any(not (0 if count else -1) <= p < count for p in places):
            raise self._wrong(kind, f"it reads from {reprlib.repr(sources)}")
        if not count:
            return (Map(PICTURE, self._channels),), (1,)
        maps, strides = zip(*((self._maps[p], self._strides[p]) for p in places), strict=True)
        return maps, strides

    def _wrong(self, kind: str, why: str) -> WeightsError:
        return Row(kind, f"model.{len(self._maps)}", (), 1, ()).wrong(why)


def _read_scale(yaml: Mapping[str, Any]) -> _Scale:
    scales = yaml.get("scales")
    if not scales:  # files of December 2022
        depth, width = yaml.get("depth_multiple", 1.0), yaml.get("width_multiple", 1.0)
        return _Scale(_number(depth), _number(width), math.inf, False)
    letter = yaml.get("scale") or next(iter(scales), "")
    known = isinstance(scales, Mapping) and isinstance(letter, str)
    row = scales.get(letter) if known else None
    if not isinstance(row, list | tuple) or len(row) != 3:
        raise WeightsError(
            f"The checkpoint's YAML has no usable scale {reprlib.repr(letter)}: "
            "it has to be [depth, width, max_channels]."
        )
    depth, width, most = (_number(value) for value in row)
    return _Scale(depth, width, most, letter in _LARGE)


def _read_activation(yaml: Mapping[str, Any]) -> str:
    value = yaml.get("activation")
    if value is None:
        return "SiLU"
    found = re.fullmatch(r"(?:torch\.)?(?:nn\.)?(\w+)(?:\((?:inplace=True)?\))?", str(value))
    if found is None:
        raise WeightsError(
            f"The activation {reprlib.repr(value)} of the checkpoint's YAML is not supported."
        )
    return found[1]


def _rows(yaml: Mapping[str, Any], part: str) -> list[Any]:
    rows = yaml.get(part)
    if not isinstance(rows, list | tuple):
        raise WeightsError(f"The checkpoint's YAML describes no network: it has no {part!r}.")
    return list(rows)


def _fields(index: int, row: Any) -> tuple[list[int], int, str, list[Any]]:
    match row:
        case [source, int(repeats), str(kind), list() | tuple() as args]:
            sources = list(source) if isinstance(source, list | tuple) else [source]
            if all(isinstance(s, int) for s in sources):
                return sources, repeats, kind, list(args)
    raise WeightsError(
        f"Row {index} of the checkpoint's YAML is {reprlib.repr(row)}: "
        "a row has to be [from, repeats, block, arguments]."
    )


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        raise WeightsError(
            f"{name} of the checkpoint's YAML is {reprlib.repr(value)}: it has to be a count."
        )
    return value


def _number(value: Any) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not 0 < value <= MOST:
        raise WeightsError(
            f"A scale of the checkpoint's YAML is {reprlib.repr(value)}: it has to be a factor."
        )
    return float(value)


def _unsupported(index: int, kind: str) -> WeightsError:
    return WeightsError(
        f"The network has the block {reprlib.repr(kind)} (row {index}), which is not supported: "
        f"YOLOv8, 11 and 26 for detection, segmentation and keypoints are, made of "
        f"{', '.join(BLOCKS)} and ending in {', '.join(TASKS)}."
    )
