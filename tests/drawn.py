"""Pictures drawn by the tests, in which every keypoint is a dot of its own colour."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.images import save_image

RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)
COLORS = (RED, BLUE, GREEN)
GROUND = 60
NAMES = ("left_end", "right_end", "middle")


def dots(
    size: tuple[int, int], points: Sequence[Sequence[float]], *, radius: float = 4.0
) -> NDArray[np.uint8]:
    """Return an RGB picture (width, height) with a soft dot about each point, in COLORS' order."""
    image = np.full((size[1], size[0], 3), float(GROUND))
    for point, color in zip(points, COLORS, strict=False):
        draw_dot(image, point, color, radius)
    return np.rint(image).astype(np.uint8)


def draw_dot(image: NDArray[Any], point: Sequence[float], color: Sequence[int], radius: float):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    alpha = (radius + 0.5 - np.hypot(x - point[0], y - point[1])).clip(0, 1)[..., None]
    image[:] = image * (1 - alpha) + np.array(color) * alpha


def find_dot(image: NDArray[np.uint8], channel: int) -> NDArray[np.float64] | None:
    """Return the middle (x, y) of what is purely red (0), green (1) or blue (2)."""
    values = image.astype(np.float64)
    others = np.delete(values, channel, -1).max(-1)
    weight = (values[..., channel] - others - 40).clip(0)
    if weight.sum() < 200:
        return None
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


CHANNELS = (0, 2, 1)
"""Channel of each of COLORS."""


def write_sticks(
    folder: Path, count: int, *, seed: int = 0, size: int = 96, name: str = "train"
) -> Path:
    """Write pictures of a stick with a red head and a blue tail, and their COCO file.

    Every fifth picture is empty.
    """
    rng = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        image = np.full((size, size, 3), float(GROUND)) + rng.normal(0, 4, (size, size, 3))
        if number % 5:
            middle, angle = rng.uniform(32, size - 32, 2), rng.uniform(0, 2 * np.pi)
            reach = rng.uniform(14, 22) * np.array([np.cos(angle), np.sin(angle)])
            ends = np.array([middle - reach, middle + reach])
            for part in np.linspace(0, 1, 24):
                draw_dot(image, ends[0] * (1 - part) + ends[1] * part, (200, 200, 200), 2.5)
            for end, color in zip(ends, COLORS, strict=False):
                draw_dot(image, end, color, 5.0)
            low, high = ends.min(0) - 6, ends.max(0) + 6
            annotations.append(
                {
                    "id": 100 + number,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "area": float(np.prod(high - low)),
                    "iscrowd": 0,
                    "num_keypoints": 2,
                    "keypoints": [*ends[0].tolist(), 2, *ends[1].tolist(), 2],
                }
            )
        save_image(image.clip(0, 255).astype(np.uint8), folder / name / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": size, "height": size})
    return write_coco(
        folder / f"{name}.json",
        images=images,
        annotations=annotations,
        categories=[category(["head", "tail"], name="stick", skeleton=[[1, 2]])],
    )


def category(names: Sequence[str], **fields: Any) -> dict[str, Any]:
    return {"id": 1, "name": "thing", "keypoints": list(names), **fields}


def write_coco(path: Path, **lists: Any) -> Path:
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": [], **lists}))
    return path
