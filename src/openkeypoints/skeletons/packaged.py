"""The packaged skeletons: one JSON file each, beside this module."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from openkeypoints.errors import UnknownSkeletonError
from openkeypoints.results import Skeleton

_PACKAGE = "openkeypoints.skeletons"


def list_skeletons() -> list[str]:
    """Return the names of the packaged skeletons, sorted."""
    names = (entry.name for entry in resources.files(_PACKAGE).iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


@cache
def load_skeleton(name: str) -> Skeleton:
    """Return a packaged skeleton.

    Args:
        name: for example ``coco17``; one of `list_skeletons`.

    Raises:
        UnknownSkeletonError: no skeleton has this name; the message lists the closest ones.

    Example:
        >>> load_skeleton("coco17").keypoints[:3]
        ('nose', 'left_eye', 'right_eye')
    """
    known = list_skeletons()
    if name not in known:
        closest = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5) or known
        raise UnknownSkeletonError(
            f"No skeleton is named {name!r}; the closest are {', '.join(closest)}."
        )
    text = resources.files(_PACKAGE).joinpath(f"{name}.json").read_text(encoding="utf-8")
    return skeleton_from_json(json.loads(text))


def skeleton_to_json(skeleton: Skeleton) -> dict[str, Any]:
    """Return what :func:`skeleton_from_json` reads."""
    return {
        "name": skeleton.name,
        "keypoints": list(skeleton.keypoints),
        "edges": [list(edge) for edge in skeleton.edges],
        "flip": list(skeleton.flip),
        "sigmas": list(skeleton.sigmas),
        "colors": list(skeleton.colors),
        "groups": {name: list(indexes) for name, indexes in skeleton.groups.items()},
    }


def skeleton_from_json(row: Mapping[str, Any]) -> Skeleton:
    """Return a skeleton as files store it.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: a field is missing or wrong.
    """
    return Skeleton(
        name=str(row["name"]),
        keypoints=tuple(str(name) for name in row["keypoints"]),
        edges=tuple((int(a), int(b)) for a, b in row["edges"]),
        flip=tuple(int(i) for i in row["flip"]),
        sigmas=tuple(float(sigma) for sigma in row["sigmas"]),
        colors=tuple(str(color) for color in row["colors"]),
        groups={name: tuple(indexes) for name, indexes in row["groups"].items()},
    )
