"""The operations that a YOLO network is made of, before anybody writes them as a graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import gcd
from typing import Literal

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Map:
    """A feature map between two operations: its name and how many channels it has."""

    name: str
    channels: int


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution, with what belongs to it.

    Attributes:
        path: beginning of the names of its tensors in the checkpoint.
        source: name of the map that it reads; the map that it writes is called like its path.
        shape: of its weights: (out, in / groups, k, k), transposed (in, out, k, k).
        stride: in both directions.
        groups: of channels.
        kind: ``unit`` has a normalisation (or a bias, once fused) and an activation; ``plain`` and
            ``transposed`` have a bias.
        activation: of a unit, by the name of its class; ``Identity`` = none.
    """

    path: str
    source: str
    shape: tuple[int, int, int, int]
    stride: int = 1
    groups: int = 1
    kind: Literal["unit", "plain", "transposed"] = "unit"
    activation: str = "Identity"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The map that it reads."""
        return (self.source,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The map that it writes."""
        return (self.path,)

    @property
    def channels(self) -> int:
        """How many channels come out."""
        return self.shape[1 if self.kind == "transposed" else 0]

    def tensors(self) -> dict[str, Shape]:
        """Return the names and shapes of its tensors in a file that is not fused."""
        if self.kind != "unit":
            return {f"{self.path}.weight": self.shape, f"{self.path}.bias": (self.channels,)}
        norm: dict[str, Shape] = {f"{self.path}.bn.{n}": (self.channels,) for n in NORM}
        counter: dict[str, Shape] = {f"{self.path}.bn.num_batches_tracked": ()}
        return {f"{self.path}.conv.weight": self.shape} | norm | counter

    def fused_tensors(self) -> dict[str, Shape]:
        """Return the names and shapes of its tensors once the normalisation is folded in."""
        if self.kind != "unit":
            return self.tensors()
        return {
            f"{self.path}.conv.weight": self.shape,
            f"{self.path}.conv.bias": (self.channels,),
        }


NORM = ("weight", "bias", "running_mean", "running_var")
"""The tensors of a normalisation that its numbers depend on."""


@dataclass(frozen=True, slots=True)
class Step:
    """An operation without tensors.

    ``sizes``: ``split`` the channels of its parts, ``pool`` its kernel, ``enlarge`` the factor,
    ``attend`` the number of heads and the channels of a key and of a value.
    """

    kind: Literal["add", "concat", "split", "pool", "enlarge", "attend"]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sizes: Shape = ()


@dataclass(slots=True)
class Ops:
    """Operations in the order in which they run; each method appends one and returns its maps."""

    activation: str = "SiLU"
    sequence: list[Conv | Step] = field(default_factory=list)

    def conv(self, x: Map, path: str, channels: int, kernel: int = 1, *, stride: int = 1) -> Map:
        """Append a convolution with normalisation and the network's activation."""
        shape = (channels, x.channels, kernel, kernel)
        return self._append(Conv(path, x.name, shape, stride, activation=self.activation))

    def linear(self, x: Map, path: str, channels: int) -> Map:
        """Append a 1x1 convolution with normalisation and no activation."""
        return self._append(Conv(path, x.name, (channels, x.channels, 1, 1)))

    def depthwise(
        self, x: Map, path: str, channels: int, kernel: int = 3, *, stride: int = 1
    ) -> Map:
        """Append a convolution with as many groups as both sides allow, and the activation."""
        groups = gcd(x.channels, channels)
        shape = (channels, x.channels // groups, kernel, kernel)
        return self._append(Conv(path, x.name, shape, stride, groups, activation=self.activation))

    def place(self, x: Map, path: str) -> Map:
        """Append a 3x3 convolution of each channel alone, normalised, without activation."""
        return self._append(Conv(path, x.name, (x.channels, 1, 3, 3), groups=x.channels))

    def project(self, x: Map, path: str, channels: int) -> Map:
        """Append a 1x1 convolution with a bias and nothing else."""
        return self._append(Conv(path, x.name, (channels, x.channels, 1, 1), kind="plain"))

    def double(self, x: Map, path: str, channels: int) -> Map:
        """Append a transposed convolution that doubles width and height."""
        shape = (x.channels, channels, 2, 2)
        return self._append(Conv(path, x.name, shape, 2, kind="transposed"))

    def step(
        self,
        kind: Literal["add", "concat", "pool", "enlarge"],
        maps: Iterable[Map],
        *sizes: int,
    ) -> Map:
        """Append an operation with one result."""
        inputs = tuple(maps)
        channels = sum(x.channels for x in inputs) if kind == "concat" else inputs[0].channels
        output = Map(f"{kind}.{len(self.sequence)}", channels)
        names = tuple(x.name for x in inputs)
        self.sequence.append(Step(kind, names, (output.name,), sizes))
        return output

    def halves(self, x: Map) -> tuple[Map, Map]:
        """Append a split of the channels into halves."""
        name, part = f"split.{len(self.sequence)}", x.channels // 2
        outputs = (Map(f"{name}.0", part), Map(f"{name}.1", part))
        names = tuple(output.name for output in outputs)
        self.sequence.append(Step("split", (x.name,), names, (part, part)))
        return outputs

    def attend(self, qkv: Map, x: Map, heads: int, key: int) -> tuple[Map, Map]:
        """Append the attention of every place to every place.

        Args:
            qkv: queries, keys and values of each head, one head after the other.
            x: the map that they were made of; has the shape of the results.
            heads: how many.
            key: channels of the query and of the key of one head.

        Returns:
            What each place attends to, and the values.
        """
        name = f"attend.{len(self.sequence)}"
        outputs = (Map(f"{name}.0", x.channels), Map(f"{name}.values", x.channels))
        names = tuple(output.name for output in outputs)
        sizes = (heads, key, x.channels // heads)
        self.sequence.append(Step("attend", (qkv.name, x.name), names, sizes))
        return outputs

    def needed_for(self, wanted: Iterable[str]) -> list[Conv | Step]:
        """Return, in order, the operations that some maps depend on.

        Args:
            wanted: names of the maps.
        """
        names = set(wanted)
        kept: list[Conv | Step] = []
        for op in reversed(self.sequence):
            if names.intersection(op.outputs):
                names.update(op.inputs)
                kept.append(op)
        return kept[::-1]

    def _append(self, conv: Conv) -> Map:
        self.sequence.append(conv)
        return Map(conv.path, conv.channels)
