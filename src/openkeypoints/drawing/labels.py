"""Text on pictures: labels in a coloured field that keep out of each other's way, and names."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from openkeypoints.drawing.shapes import Color
from openkeypoints.results import Image

Rect = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels."""

_BLACK, _WHITE = (16, 16, 16), (255, 255, 255)


class Labels:
    """The labels of one picture, placed so that they do not cover each other.

    Args:
        canvas: picture that is drawn on.
    """

    def __init__(self, canvas: Image) -> None:
        self._canvas = canvas
        self._taken: list[Rect] = []

    def add(
        self, text: str, box: tuple[float, float, float, float], color: Color, size: int
    ) -> None:
        """Write a label above a box, or where there is room: below it, or within it.

        Args:
            text: one line.
            box: x1 y1 x2 y2, pixels; may reach outside the picture.
            color: of the field behind the text, in the order of the canvas.
            size: height of the letters, pixels.
        """
        mask = _text(text, size, 0)
        pad = max(2, size // 4)
        height, width = mask.shape[0] + pad, mask.shape[1] + 2 * pad
        rect = self._place(box, width, height)
        self._taken.append(rect)
        x1, y1, x2, y2 = rect
        self._canvas[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = color
        ink = _BLACK if _luminance(color) > 110 else _WHITE
        _stamp(self._canvas, mask, (x1 + pad, y1 + pad // 2), ink)

    def _place(self, box: tuple[float, float, float, float], width: int, height: int) -> Rect:
        limit_y, limit_x = self._canvas.shape[:2]
        bounds = (limit_x, limit_y, limit_x, limit_y)
        x1, y1, x2, y2 = (round(min(max(v, 0), m)) for v, m in zip(box, bounds, strict=True))
        left, right = (max(min(x, limit_x - width), 0) for x in (x1, x2 - width))
        corners = [
            *[(x, y) for y in (y1 - height, y2) for x in (left, right)],
            *[(x, y) for y in (y1, y2 - height) for x in (left, right)],
        ]
        places = [(x, y, x + width, y + height) for x, y in corners]
        inside = [r for r in places if r[1] >= 0 and r[3] <= limit_y] or places[4:5]
        free = (r for r in inside if not any(_overlap(r, other) for other in self._taken))
        return next(free, inside[0])


def write_name(canvas: Image, text: str, place: tuple[float, float], size: int) -> None:
    """Write white letters with a dark rim, their left edge in the middle at ``place``."""
    rim = max(1, size // 8)
    mask = _text(text, size, rim)
    corner = (round(place[0]), round(place[1] - mask.shape[0] / 2))
    _stamp(canvas, mask, corner, _BLACK)
    _stamp(canvas, _text(text, size, 0), (corner[0] + rim, corner[1] + rim), _WHITE)


@lru_cache(maxsize=1024)
def _text(text: str, size: int, rim: int) -> NDArray[np.float32]:
    """Return how much of each pixel the letters cover, (h, w, 1) in 0..1; h depends on size."""
    font = _font(size)
    left, _, right, _ = font.getbbox(text)
    top, bottom = font.getbbox("Ájg")[1::2]
    width, height = int(right - left) + 1 + 2 * rim, int(bottom - top) + 1 + 2 * rim
    picture = Pillow.new("L", (max(width, 1), height))
    at = (rim - left, rim - top)
    ImageDraw.Draw(picture).text(at, text, fill=255, font=font, stroke_width=rim)
    return (np.asarray(picture, np.float32) / np.float32(255))[..., None]


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _stamp(canvas: Image, mask: NDArray[np.float32], corner: tuple[int, int], ink: Color) -> None:
    height, width = mask.shape[:2]
    x, y = corner
    left, top = max(-x, 0), max(-y, 0)
    right, bottom = min(width, canvas.shape[1] - x), min(height, canvas.shape[0] - y)
    if left >= right or top >= bottom:
        return
    part = mask[top:bottom, left:right]
    under = canvas[y + top : y + bottom, x + left : x + right]
    under[:] = np.round(under * (1 - part) + np.asarray(ink, np.float32) * part)


def _luminance(color: Color) -> float:
    # Both colour orders give nearly the same: only the weight of green matters here.
    return 0.2 * color[0] + 0.6 * color[1] + 0.2 * color[2]


def _overlap(a: Rect, b: Rect) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
