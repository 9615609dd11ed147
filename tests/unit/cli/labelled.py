"""A small labelled set: drawn pictures with boxes and keypoints known by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from openkeypoints.images import save_image


def write_set(folder: Path, split: str, keypoints: list[str], *, pictures: int = 3) -> Path:
    """Write pictures with one instance each, and the last one without; return the JSON file."""
    rng = np.random.default_rng(7)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    (folder / split).mkdir(parents=True)
    for number in range(1, pictures + 1):
        picture = rng.integers(0, 255, (120, 160, 3), np.uint8)
        picture[20:110, 30:130] //= 4
        save_image(picture, folder / split / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 160, "height": 120})
        if number == pictures:
            continue
        points = rng.uniform((35, 25), (125, 105), (len(keypoints), 2)).round(1)
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "bbox": [30, 20, 100, 90],
                "area": 9000,
                "iscrowd": 0,
                "keypoints": [v for x, y in points.tolist() for v in (x, y, 2)],
                "num_keypoints": len(keypoints),
            }
        )
    category = {"id": 1, "name": "person", "keypoints": keypoints, "skeleton": [[1, 2]]}
    data = {"images": images, "annotations": annotations, "categories": [category]}
    path = folder / f"{split}.json"
    path.write_text(json.dumps(data))
    return path
