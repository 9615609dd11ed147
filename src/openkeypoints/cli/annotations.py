"""Finds the annotation file that a person means by a path."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from openkeypoints.errors import NotFoundError

# Where annotations lie in a folder, by what people and exporters call them.
LAYOUTS = {
    "train": ("train.json", "annotations/train.json", "train/_annotations.coco.json"),
    "val": ("val.json", "annotations/val.json", "valid/_annotations.coco.json", "valid.json"),
}


def annotation_file(path: Path, split: Literal["train", "val"]) -> Path:
    """Return the annotation file that a path means: itself, or the one in the folder.

    Args:
        path: a file, or a folder in one of the usual layouts.
        split: which file of a folder.

    Raises:
        NotFoundError: the folder holds none, or the path does not exist.
    """
    if path.is_dir():
        for name in LAYOUTS[split]:
            if (path / name).is_file():
                return path / name
        raise NotFoundError(
            f"The folder '{path}' holds no {split} annotations: looked for "
            f"{', '.join(LAYOUTS[split])}."
        )
    if not path.is_file():
        raise NotFoundError(f"'{path}' does not exist: name an annotation file or its folder.")
    return path
