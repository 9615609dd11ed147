"""How pictures enter a foreign graph: the facts of its input, and pictures in that form."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from openkeypoints.weights.artifact import Port

Tensor = Literal["nchw", "nhwc"]
Color = Literal["rgb", "bgr"]
Cast = Literal["floor", "nearest"]

CHANNELS = 3
_LEVELS = 256
_AXES = 4
_NO_MEAN, _NO_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class PictureInput:
    """An input of colour pictures. A pixel enters as (pixel / scale - mean) / std.

    Attributes:
        name: of the graph's input.
        tensor: order of the axes: pictures, channels, height, width, or channels last.
        dtype: numpy's name of the type.
        batch: the only number of pictures that the graph takes, None = any.
        size: (width, height) that the graph takes, each None where it takes any.
        color: order of the channels.
        scale: pixels of 0 to 255 are divided by this,
        mean: less this,
        std: and divided by this, per channel in the order of ``color``.
        cast: how numbers become whole where the type is an integer: cut, or rounded (halves up).
    """

    name: str
    tensor: Tensor = "nchw"
    dtype: str = "float32"
    batch: int | None = None
    size: tuple[int | None, int | None] = (None, None)
    color: Color = "rgb"
    scale: float = 1.0
    mean: tuple[float, float, float] = _NO_MEAN
    std: tuple[float, float, float] = _NO_STD
    cast: Cast = "floor"


def picture_input(port: Port) -> PictureInput | None:
    """Return what a graph says of an input of colour pictures, None where it is none.

    Colours, mean and std are in no graph: they stay as they are by default.
    """
    kind = _kind(port.dtype)
    shape = (None,) * _AXES if port.shape is None else port.shape
    if kind is None or len(shape) != _AXES:
        return None
    batch, second, third, last = shape
    if second == CHANNELS or (second is None and last != CHANNELS):
        return PictureInput(port.name, "nchw", port.dtype, batch, (last, third))
    if last == CHANNELS:
        return PictureInput(port.name, "nhwc", port.dtype, batch, (third, second))
    return None


def as_input(pictures: NDArray[np.uint8], entry: PictureInput) -> NDArray[Any]:
    """Return pictures in the form in which a graph takes them.

    Args:
        pictures: (N, H, W, 3) RGB, already of the size that the graph takes.
        entry: how they enter.

    Returns:
        (N, 3, H, W) or (N, H, W, 3) of the input's type; the pictures themselves where nothing
        is to be done.
    """
    ordered = pictures if entry.color == "rgb" else pictures[..., ::-1]
    if _as_they_are(entry):
        axes = ordered if entry.tensor == "nhwc" else ordered.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(axes)
    values = _values(entry)
    count, height, width, _ = pictures.shape
    made = np.empty((count, CHANNELS, height, width), values.dtype)
    if entry.tensor == "nhwc":
        made = np.empty((count, height, width, CHANNELS), values.dtype).transpose(0, 3, 1, 2)
    for channel in range(CHANNELS):
        made[:, channel] = values[channel][ordered[..., channel]]
    return made if entry.tensor == "nchw" else made.transpose(0, 2, 3, 1)


def _as_they_are(entry: PictureInput) -> bool:
    plain = (entry.scale, entry.mean, entry.std) == (1.0, _NO_MEAN, _NO_STD)
    return plain and entry.dtype == "uint8"


@functools.lru_cache(maxsize=32)
def _values(entry: PictureInput) -> NDArray[Any]:
    """Return (3, 256): what each level of a channel becomes. There are only so many."""
    levels = np.arange(_LEVELS, dtype=np.float32) / np.float32(entry.scale)
    mean = np.array(entry.mean, np.float32)[:, None]
    table = (levels - mean) / np.array(entry.std, np.float32)[:, None]
    dtype = np.dtype(entry.dtype)
    if dtype.kind == "f":
        return np.asarray(table.astype(dtype))
    whole = np.floor(table if entry.cast == "floor" else table + np.float32(0.5))
    limits = np.iinfo(dtype)
    return np.asarray(whole.astype(np.float64).clip(limits.min, limits.max).astype(dtype))


def _kind(dtype: str) -> str | None:
    """Return numpy's kind of a type of numbers, None for every other."""
    try:
        kind = np.dtype(dtype).kind
    except TypeError:
        return None
    return kind if kind in "fiu" else None
