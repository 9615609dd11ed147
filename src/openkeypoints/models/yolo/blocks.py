"""The blocks between the picture and the head: what each kind of row of the YAML stands for."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from openkeypoints.errors import WeightsError
from openkeypoints.models.yolo.ops import Map, Ops

MOST = 1 << 16
"""Largest size that a row may ask for: a file must not be able to ask for endless work."""
MOST_REPEATS = 100


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the YAML, scaled to the size of the network.

    Attributes:
        kind: name of the block.
        path: beginning of the names of its tensors.
        inputs: the maps that it reads.
        repeats: how often the inner block stands there.
        args: its arguments as written, the first one (channels) scaled.
    """

    kind: str
    path: str
    inputs: tuple[Map, ...]
    repeats: int
    args: tuple[Any, ...]

    @property
    def x(self) -> Map:
        """The only map that it reads."""
        if len(self.inputs) != 1:
            raise self.wrong("it reads several maps")
        return self.inputs[0]

    @property
    def channels(self) -> int:
        """How many channels come out of it."""
        return self.number(0)

    def number(self, place: int, default: int | None = None) -> int:
        """Return an argument that is a whole number of at least 1."""
        value = self.args[place] if place < len(self.args) else default
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
            raise self.wrong(f"argument {place} is {reprlib.repr(value)}")
        return value

    def flag(self, place: int, default: bool) -> bool:
        """Return an argument that is true or false."""
        value = self.args[place] if place < len(self.args) else default
        if not isinstance(value, bool):
            raise self.wrong(f"argument {place} is {reprlib.repr(value)}")
        return value

    def share(self, place: int, default: float) -> float:
        """Return an argument that is a part of the channels."""
        value = self.args[place] if place < len(self.args) else default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 4:
            raise self.wrong(f"argument {place} is {reprlib.repr(value)}")
        return float(value)

    def at_most(self, count: int) -> None:
        """Refuse arguments beyond those that we know."""
        if len(self.args) > count:
            raise self.wrong(f"it has {len(self.args)} arguments, we know {count}")

    def wrong(self, why: str) -> WeightsError:
        """Return the error that names the row."""
        args = reprlib.repr(list(self.args))
        return WeightsError(
            f"The network's row {self.path} ({self.kind} with {args}) cannot be read here: {why}."
        )


def bottleneck(ops: Ops, x: Map, path: str, *, share: float = 1.0, shortcut: bool = True) -> Map:
    """Append two 3x3 convolutions with ``share`` times the channels between them."""
    hidden = ops.conv(x, f"{path}.cv1", int(x.channels * share), 3)
    y = ops.conv(hidden, f"{path}.cv2", x.channels, 3)
    return ops.step("add", (x, y)) if shortcut else y


def c3k(ops: Ops, x: Map, path: str) -> Map:
    """Append two bottlenecks on half of the channels, beside a path around them."""
    y = ops.conv(x, f"{path}.cv1", x.channels // 2)
    for i in range(2):
        y = bottleneck(ops, y, f"{path}.m.{i}")
    around = ops.conv(x, f"{path}.cv2", x.channels // 2)
    return ops.conv(ops.step("concat", (y, around)), f"{path}.cv3", x.channels)


def attention(ops: Ops, x: Map, path: str) -> Map:
    """Append attention over all places, and two 1x1 convolutions, each added to its input."""
    heads = max(x.channels // 64, 1)
    key = x.channels // heads // 2
    qkv = ops.linear(x, f"{path}.attn.qkv", x.channels + 2 * key * heads)
    seen, values = ops.attend(qkv, x, heads, key)
    seen = ops.step("add", (seen, ops.place(values, f"{path}.attn.pe")))
    x = ops.step("add", (x, ops.linear(seen, f"{path}.attn.proj", x.channels)))
    hidden = ops.conv(x, f"{path}.ffn.0", 2 * x.channels)
    return ops.step("add", (x, ops.linear(hidden, f"{path}.ffn.1", x.channels)))


Link = Callable[[Ops, Map, str], Map]


def _chain(ops: Ops, row: Row, half: int, link: Link) -> Map:
    # The second half passes through the links, and what comes out of each of them is kept. Both
    # halves are joined again: keeping the map before the split takes OpenVINO a tenth longer.
    first, last = ops.halves(ops.conv(row.x, f"{row.path}.cv1", 2 * half))
    kept = [first, last]
    for i in range(row.repeats):
        last = link(ops, last, f"{row.path}.m.{i}")
        kept.append(last)
    return ops.conv(ops.step("concat", kept), f"{row.path}.cv2", row.channels)


def _c2f(ops: Ops, row: Row) -> Map:
    row.at_most(2)
    shortcut = row.flag(1, False)

    def link(ops: Ops, x: Map, path: str) -> Map:
        return bottleneck(ops, x, path, shortcut=shortcut)

    return _chain(ops, row, row.channels // 2, link)


def _c3k2(ops: Ops, row: Row) -> Map:
    row.at_most(4)
    half = int(row.channels * row.share(2, 0.5))

    def narrow(ops: Ops, x: Map, path: str) -> Map:
        return bottleneck(ops, x, path, share=0.5)

    def attending(ops: Ops, x: Map, path: str) -> Map:
        return attention(ops, narrow(ops, x, f"{path}.0"), f"{path}.1")

    return _chain(
        ops, row, half, attending if row.flag(3, False) else c3k if row.flag(1, False) else narrow
    )


def _c2(ops: Ops, row: Row) -> Map:
    row.at_most(2)
    a, b = ops.halves(ops.conv(row.x, f"{row.path}.cv1", 2 * (row.channels // 2)))
    for i in range(row.repeats):
        a = bottleneck(ops, a, f"{row.path}.m.{i}", shortcut=row.flag(1, False))
    return ops.conv(ops.step("concat", (a, b)), f"{row.path}.cv2", row.channels)


def _c2psa(ops: Ops, row: Row) -> Map:
    row.at_most(1)
    if row.x.channels != row.channels:
        raise row.wrong(f"it reads {row.x.channels} channels and writes {row.channels}")
    a, b = ops.halves(ops.conv(row.x, f"{row.path}.cv1", 2 * (row.channels // 2)))
    for i in range(row.repeats):
        b = attention(ops, b, f"{row.path}.m.{i}")
    return ops.conv(ops.step("concat", (a, b)), f"{row.path}.cv2", row.channels)


def _sppf(ops: Ops, row: Row) -> Map:
    row.at_most(4)
    hidden, path = row.x.channels // 2, f"{row.path}.cv1"
    # A trap: the longer row of YOLO26 means a first convolution without activation, and nothing
    # in the tensors shows it.
    pooled = [
        ops.linear(row.x, path, hidden) if len(row.args) == 4 else ops.conv(row.x, path, hidden)
    ]
    for _ in range(row.number(2, 3)):
        pooled.append(ops.step("pool", pooled[-1:], row.number(1, 5)))
    y = ops.conv(ops.step("concat", pooled), f"{row.path}.cv2", row.channels)
    added = row.flag(3, False) and row.x.channels == row.channels
    return ops.step("add", (row.x, y)) if added else y


def _conv(ops: Ops, row: Row) -> Map:
    row.at_most(3)
    return ops.conv(row.x, row.path, row.channels, row.number(1, 1), stride=row.number(2, 1))


def _depthwise(ops: Ops, row: Row) -> Map:
    row.at_most(3)
    return ops.depthwise(row.x, row.path, row.channels, row.number(1, 1), stride=row.number(2, 1))


def _enlarge(ops: Ops, row: Row) -> Map:
    row.at_most(3)
    if row.args[:1] not in ((None,), ("None",)) or row.args[2:] not in (("nearest",), ()):
        raise row.wrong("only the nearest neighbour by a factor is known")
    return ops.step("enlarge", (row.x,), row.number(1))


def _concat(ops: Ops, row: Row) -> Map:
    if row.args not in ((1,), ()):
        raise row.wrong("only channels can be joined")
    return ops.step("concat", row.inputs)


BLOCKS: Mapping[str, Callable[[Ops, Row], Map]] = MappingProxyType(
    {
        "Conv": _conv,
        "DWConv": _depthwise,
        "C2f": _c2f,
        "C2": _c2,
        "C3k2": _c3k2,
        "C2PSA": _c2psa,
        "SPPF": _sppf,
        "nn.Upsample": _enlarge,
        "Concat": _concat,
    }
)
"""Kind of a row -> what appends it."""

SCALED = frozenset(BLOCKS) - {"nn.Upsample", "Concat"}
"""Kinds whose first argument is a number of channels that the size of the network scales."""
INNER_REPEATS = frozenset({"C2f", "C2", "C3k2", "C2PSA"})
"""Kinds that repeat a block inside themselves."""
