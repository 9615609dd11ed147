"""Lines, dots and ellipses at sub-pixel places that may lie anywhere, also far outside."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from openkeypoints.images import contours
from openkeypoints.results import Image

Color = tuple[int, int, int]
Point = tuple[float, float]

_BITS = 4  # OpenCV's fixed-point coordinates: sixteenths of a pixel
_ELLIPSE = np.linspace(0.0, 2 * np.pi, 48, endpoint=False)


def line(canvas: Image, a: Point, b: Point, color: Color, thickness: int) -> None:
    """Draw a smooth line; of one that leaves the picture, the part inside."""
    height, width = canvas.shape[:2]
    inside = _clip(a, b, (-thickness, -thickness, width + thickness, height + thickness))
    if inside is not None:
        start, end = (_fixed(p) for p in inside)
        cv2.line(canvas, start, end, color, thickness, cv2.LINE_AA, _BITS)


def dot(canvas: Image, center: Point, radius: float, color: Color) -> None:
    """Draw a smooth filled circle; nothing where it lies outside the picture."""
    height, width = canvas.shape[:2]
    x, y = center
    if -radius <= x <= width + radius and -radius <= y <= height + radius:
        size = round(radius * (1 << _BITS))
        cv2.circle(canvas, _fixed(center), size, color, -1, cv2.LINE_AA, _BITS)


def ellipse_polygon(
    center: Point, covariance: NDArray[np.float32], reach: float
) -> NDArray[np.int32] | None:
    """Return the one-sigma ellipse of a covariance as a polygon for OpenCV.

    Args:
        center: (x, y) pixels.
        covariance: (2, 2), px².
        reach: longest half axis that is drawn, pixels.

    Returns:
        (M, 2) fixed-point pixels, None for what is no covariance or lies out of reach.
    """
    if not np.isfinite(covariance).all() or max(abs(center[0]), abs(center[1])) > 2 * reach:
        return None
    exact = covariance.astype(np.float64)  # the sum may be too large for a float32
    symmetric = (exact + exact.T) / 2
    values, vectors = np.linalg.eigh(symmetric)
    axes = np.minimum(np.sqrt(np.maximum(values, 0.0)), reach)
    circle = np.stack([np.cos(_ELLIPSE), np.sin(_ELLIPSE)], axis=-1)
    around = (circle * axes) @ vectors.T + np.asarray(center) - 0.5
    return np.asarray(np.round(around * (1 << _BITS)), np.int32)


def fill(canvas: Image, polygon: NDArray[np.int32], color: Color) -> None:
    """Fill a polygon of `ellipse_polygon`."""
    cv2.fillPoly(canvas, [polygon], color, cv2.LINE_AA, _BITS)


def outline(canvas: Image, polygon: NDArray[np.int32], color: Color, thickness: int) -> None:
    """Draw the outline of a polygon of `ellipse_polygon`."""
    cv2.polylines(canvas, [polygon], True, color, thickness, cv2.LINE_AA, _BITS)


def tint(canvas: Image, mask: NDArray[np.bool_], color: Color, opacity: float) -> None:
    """Colour the pixels of a mask of the canvas's size, (H, W), with a line around each piece."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    part, chosen = canvas[box], mask[box]
    levels = np.arange(256)[:, None, None] * (1 - opacity) + np.asarray(color) * opacity
    tinted = cv2.LUT(part, np.round(levels).astype(np.uint8))
    cv2.copyTo(tinted, np.ascontiguousarray(chosen).view(np.uint8), part)
    for edge in contours(chosen):
        cv2.polylines(part, [edge.astype(np.int32)], True, color, 1)


def mix(canvas: Image, overlay: Image, opacity: float) -> None:
    """Lay a picture of the same size over the canvas."""
    cv2.addWeighted(overlay, opacity, canvas, 1 - opacity, 0, dst=canvas)


def _fixed(point: Point) -> tuple[int, int]:
    # Pixel 0 has its centre at 0.5 for us, and at 0 for OpenCV.
    return round((point[0] - 0.5) * (1 << _BITS)), round((point[1] - 0.5) * (1 << _BITS))


def _clip(
    a: Point, b: Point, bounds: tuple[float, float, float, float]
) -> tuple[Point, Point] | None:
    """Return the part of a segment inside a rectangle (Liang and Barsky's way)."""
    # Counting from the nearer end keeps its digits where the other is astronomically far.
    a, b = sorted((a, b), key=lambda p: max(abs(p[0]), abs(p[1])))
    low, high = 0.0, 1.0
    for i in range(2):
        step = b[i] - a[i]
        near, far = bounds[i] - a[i], bounds[i + 2] - a[i]
        if step == 0:
            if near > 0 or far < 0:
                return None
            continue
        enter, leave = sorted((near / step, far / step))
        low, high = max(low, enter), min(high, leave)
    if low > high:
        return None
    dx, dy = b[0] - a[0], b[1] - a[1]
    ends = ((a[0] + part * dx, a[1] + part * dy) for part in (low, high))
    first, last = (
        (min(max(x, bounds[0]), bounds[2]), min(max(y, bounds[1]), bounds[3])) for x, y in ends
    )
    return first, last
