"""The packaged skeletons: one JSON file each, beside this module."""

from __future__ import annotations

import difflib
import json
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
    row: dict[str, Any] = json.loads(text)
    return Skeleton(
        name=row["name"],
        keypoints=tuple(row["keypoints"]),
        edges=tuple((a, b) for a, b in row["edges"]),
        flip=tuple(row["flip"]),
        sigmas=tuple(row["sigmas"]),
        colors=tuple(row["colors"]),
        groups={group: tuple(indexes) for group, indexes in row["groups"].items()},
    )
