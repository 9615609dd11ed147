"""Class names and skeletons from what YOLO files, packages and cards say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openkeypoints.results import Skeleton
from openkeypoints.skeletons import load_skeleton, skeleton_from_names

MAX_CLASSES = 100_000
COCO_PERSON = ("person", 17)
"""The class and number of keypoints that every published pose network has: COCO's."""
Edges = Sequence[tuple[int, int]]


def class_names_from(value: Any) -> tuple[str, ...]:
    """Return class names by id from a list, or from a mapping of ids 0, 1, 2, ... to names.

    Raises:
        ValueError: it is neither, or an id is missing; the message is a clause.
    """
    if isinstance(value, Mapping):
        by_id = {int(i): str(name) for i, name in value.items()}
        if sorted(by_id) != list(range(len(by_id))):
            raise ValueError("class ids must be 0, 1, 2, ... without a gap")
        value = [by_id[i] for i in range(len(by_id))]
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_CLASSES:
        raise ValueError("class names must be a list of names, or a mapping of ids to names")
    return tuple(str(name) for name in value)


def skeletons_for(
    class_names: Sequence[str],
    count: int,
    names: Mapping[int, Sequence[str]] | None = None,
    edges: Mapping[int, Edges] | None = None,
) -> dict[int, Skeleton]:
    """Return class id -> skeleton for a network with keypoints.

    Names that the file has are taken as far as they fit. Without them a person with 17 keypoints
    is COCO's, and any other keypoint is called by its number.

    Args:
        class_names: of the network.
        count: K, the keypoints of every instance; a class may use fewer.
        names: class id -> names of its keypoints.
        edges: class id -> pairs of indexes; those that join no keypoints are dropped.
    """
    found = {}
    for class_id, class_name in enumerate(class_names):
        own = tuple(str(name) for name in (names or {}).get(class_id, ()))
        if not 0 < len(own) <= count:
            if (class_name.lower(), count) == COCO_PERSON:
                found[class_id] = load_skeleton("coco17")
                continue
            own = tuple(f"keypoint_{i}" for i in range(count))
        pairs = [
            (a, b)
            for a, b in (edges or {}).get(class_id, ())
            if 0 <= a < len(own) and 0 <= b < len(own) and a != b
        ]
        found[class_id] = skeleton_from_names(class_name, own, pairs)
    return found
