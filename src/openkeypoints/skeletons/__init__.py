"""Skeletons: the packaged ones, and those made from names or from a COCO category."""

from __future__ import annotations

from openkeypoints.skeletons.derive import skeleton_from_coco_category, skeleton_from_names
from openkeypoints.skeletons.packaged import (
    list_skeletons,
    load_skeleton,
    skeleton_from_json,
    skeleton_to_json,
)

__all__ = [
    "list_skeletons",
    "load_skeleton",
    "skeleton_from_coco_category",
    "skeleton_from_json",
    "skeleton_from_names",
    "skeleton_to_json",
]
