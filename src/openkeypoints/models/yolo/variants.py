"""Catalogue rows of the YOLO family: the vendor's published files of three generations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from openkeypoints.models.base import Task
from openkeypoints.models.family import Variant
from openkeypoints.weights.refs import WeightRef

LICENCE = "AGPL-3.0"
SIZES = "nsmlx"


class _Generation(NamedTuple):
    """One generation: how its files are called, and how people write it otherwise."""

    stem: str
    spelling: str | None
    release: str


_GENERATIONS = (
    _Generation("yolov8", None, "v8.3.0"),
    _Generation("yolo11", "yolov11", "v8.3.0"),
    _Generation("yolo26", "yolov26", "v8.4.0"),
)
_TASKS: dict[str, Task] = {
    "-pose": "keypoint-detection",
    "": "object-detection",
    "-seg": "instance-segmentation",
}

_ROBOFLOW = {
    "yolov8": dict(zip(SIZES, range(1, 6), strict=True)),
    "yolo26": dict(zip(SIZES, range(12, 17), strict=True)),
}
"""Version numbers of Roboflow's project ``coco-pose-detection``; it names no YOLO11."""
_ROBOFLOW_LARGE = "coco-pose-detection/6"

_MASK_AP = "COCO val2017 mask AP50-95"
_POSE_AP = "COCO val2017 keypoint AP50-95"
_BOX_AP = "COCO val2017 box AP50-95"
_CLAIMS = {
    "yolo26-pose": (57.2, 63.0, 68.8, 70.4, 71.6),
    "yolo26-seg": (33.9, 40.0, 44.1, 45.5, 47.0),
}
"""Figures of the vendor's documentation (tasks/pose and tasks/segment, read in November 2026)."""


def _rows() -> Iterator[Variant]:
    for generation in _GENERATIONS:
        for suffix, task in _TASKS.items():
            for size in SIZES:
                yield _row(generation, suffix, task, size)
    yield _large()


def _row(generation: _Generation, suffix: str, task: Task, size: str) -> Variant:
    name = f"{generation.stem}{size}{suffix}"
    refs = [WeightRef("release", generation.release, f"{name}.pt")]
    aliases = [name, f"{name}.pt"]
    if generation.spelling is not None:
        other = f"{generation.spelling}{size}{suffix}"
        aliases += [f"{other}-640", other, f"{other}.pt"]
    if suffix == "-pose" and generation.stem in _ROBOFLOW:
        version = f"coco-pose-detection/{_ROBOFLOW[generation.stem][size]}"
        aliases.append(version)
        refs.append(WeightRef("roboflow", version))
    metric = {"-pose": _POSE_AP, "-seg": _MASK_AP, "": _BOX_AP}[suffix]
    claims = _CLAIMS.get(f"{generation.stem}{suffix}")
    return Variant(
        id=f"{name}-640",
        family="yolo",
        task=task,
        skeleton="coco17" if suffix == "-pose" else None,
        source="the vendor's release files",
        licence=LICENCE,
        aliases=tuple(aliases),
        claims={metric: claims[SIZES.index(size)] if claims else None},
        refs=tuple(refs),
    )


def _large() -> Variant:
    """Return the one model with a fourth level, made for 1280 px."""
    return Variant(
        id="yolov8x-pose-1280",
        family="yolo",
        task="keypoint-detection",
        skeleton="coco17",
        source="the vendor's release files",
        licence=LICENCE,
        aliases=("yolov8x-pose-p6", "yolov8x-pose-p6.pt", _ROBOFLOW_LARGE),
        claims={_POSE_AP: None},
        refs=(
            WeightRef("release", "v8.1.0", "yolov8x-pose-p6.pt"),
            WeightRef("roboflow", _ROBOFLOW_LARGE),
        ),
    )


VARIANTS = tuple(_rows())
