"""Masks of instances out of prototypes, cut to their boxes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from openkeypoints.geometry import Letterbox, letterbox_of
from openkeypoints.images import resize_map

Floats = NDArray[np.float32]


def input_masks(
    prototypes: Floats, coefficients: Floats, boxes: Floats, size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return masks (N, height, width) at the size of the network's input, padding included.

    Args:
        prototypes: (M, h, w), over the whole input.
        coefficients: (N, M).
        boxes: (N, 4) x1 y1 x2 y2 in input pixels; a mask is empty outside of its box.
        size: (width, height) of the network's input.
    """
    return _draw(_mix(coefficients, prototypes), boxes, size)


def picture_masks(
    prototypes: Floats, coefficients: Floats, boxes: Floats, fitted: Letterbox
) -> NDArray[np.bool_]:
    """Return masks (N, height, width) at the size of the picture.

    Args:
        prototypes: (M, h, w), over the whole input.
        coefficients: (N, M).
        boxes: (N, 4) x1 y1 x2 y2 in pixels of the picture.
        fitted: how the picture became the input.
    """
    width, height = (2 * side for side in prototypes.shape[:0:-1])
    maps = _mix(coefficients, prototypes)
    # By way of the double size the outlines are rounder; the recorded masks are made so.
    doubled = [resize_map(values, (width, height)) for values in maps]
    if fitted.resized_size != fitted.input_size:
        window = letterbox_of(fitted.image_size, (width, height)).window
        doubled = [values[window] for values in doubled]
    return _draw(doubled, boxes, fitted.image_size)


def _mix(coefficients: Floats, prototypes: Floats) -> Floats:
    flat = prototypes.reshape(len(prototypes), -1).astype(np.float32, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):  # what is no number is in no mask
        maps: Floats = coefficients @ flat
    return maps.reshape(len(coefficients), *prototypes.shape[1:])


def _draw(maps: Iterable[Floats], boxes: Floats, size: tuple[int, int]) -> NDArray[np.bool_]:
    width, height = size
    masks = np.zeros((len(boxes), height, width), np.bool_)
    for mask, values, box in zip(masks, maps, boxes, strict=True):
        columns, rows = _span(box[0], box[2], width), _span(box[1], box[3], height)
        mask[rows, columns] = resize_map(values, size)[rows, columns] > 0
    return masks


def _span(low: float, high: float, limit: int) -> slice:
    """Return the pixels i with low <= i < high, of those that exist."""
    first, end = (min(max(math.ceil(edge), 0), limit) for edge in (low, high))
    return slice(first, max(first, end))
