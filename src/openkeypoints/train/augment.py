"""Random changes of training pictures: place, colour, blur, compression, hidden patches.

Every function draws from the generator it is given, so a sample is a function of its seed alone
and a resumed run sees the same pictures as an unbroken one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openkeypoints.images import encode_image, read_image, resize
from openkeypoints.results import Image
from openkeypoints.settings import Settings

LUMA = np.array([0.299, 0.587, 0.114])
"""Parts of red, green and blue in the brightness (ITU-R BT.601)."""
FILL = 114
"""Grey level outside the picture, the same as in inference."""


def rotation_scale(
    center: NDArray[np.floating], side: float, size: int, angle_deg: float, mirror: bool
) -> NDArray[np.float64]:
    """Return the (2, 3) matrix from source pixels to a square window of ``size`` pixels.

    Args:
        center: (2,) middle of the window in source pixels.
        side: side of the window in source pixels.
        size: side of the output in pixels.
        angle_deg: rotation of the content, clockwise.
        mirror: exchange left and right.
    """
    zoom, angle = size / side, np.deg2rad(angle_deg)
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    linear = np.array([[cos, -sin], [sin, cos]])
    if mirror:
        linear[0] *= -1
    return np.column_stack([linear, size / 2 - linear @ center])


def distort_colors(image: Image, rng: np.random.Generator) -> Image:
    """Change brightness, contrast and the gain of each channel; 15 % become grey."""
    gain = rng.uniform(0.7, 1.3) * rng.uniform(0.85, 1.15, 3)
    offset = rng.uniform(-30, 30) + 128 * (1 - rng.uniform(0.8, 1.25))
    levels = np.arange(256)[:, None] * gain + offset
    table = levels.clip(0, 255).astype(np.uint8)
    out: Image = np.stack([table[image[..., c], c] for c in range(3)], -1)
    if rng.random() < 0.15:
        gray = (out @ LUMA).astype(np.uint8)
        out = np.repeat(gray[..., None], 3, -1)
    return out


def degrade(image: Image, rng: np.random.Generator) -> Image:
    """Blur the picture, lower its resolution, compress it, or add noise."""
    kind = rng.integers(4)
    if kind == 0:
        return _blurred(image, rng.uniform(0.6, 2.0))
    if kind == 1:
        height, width = image.shape[:2]
        factor = rng.uniform(0.35, 0.8)
        return resize(
            resize(image, (round(width * factor), round(height * factor))), (width, height)
        )
    if kind == 2:
        data = encode_image(image, "jpeg", quality=int(rng.integers(20, 70)))
        return read_image(data, settings=Settings())
    noise = rng.normal(0, rng.uniform(3, 15), image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def _blurred(image: Image, sigma: float) -> Image:
    """Return a picture blurred by a Gaussian of ``sigma`` pixels, one axis after the other."""
    reach = round(2.5 * sigma)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    out = image.astype(np.float32)
    for axis in (0, 1):
        length = out.shape[axis]
        edges = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
        wide = np.pad(out, edges, mode="edge")
        parts = (wide.take(range(i, i + length), axis) for i in range(2 * reach + 1))
        out = np.sum([w * part for w, part in zip(kernel, parts, strict=True)], axis=0)
    return np.rint(out).astype(np.uint8)


def cut_out(image: Image, rng: np.random.Generator) -> Image:
    """Cover one or two rectangles with noise or a flat colour."""
    out, side = image.copy(), image.shape[0]
    for _ in range(rng.integers(1, 3)):
        h, w = rng.integers(side // 12, side // 3, 2)
        y, x = rng.integers(0, side - h), rng.integers(0, side - w)
        flat = rng.integers(0, 256, 3)
        out[y : y + h, x : x + w] = flat if rng.random() < 0.5 else rng.integers(0, 256, (h, w, 3))
    return out


def photometric(image: Image, rng: np.random.Generator, *, hide: float = 0.2) -> Image:
    """Apply colour changes always, blur or compression in 15 % and hidden patches in ``hide``."""
    out = distort_colors(image, rng)
    if rng.random() < 0.15:
        out = degrade(out, rng)
    if rng.random() < hide:
        out = cut_out(out, rng)
    return out
