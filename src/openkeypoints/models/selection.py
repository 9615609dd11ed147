"""The keypoints that a caller asked for, of all that a model knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from openkeypoints.errors import InputError
from openkeypoints.results import Skeleton


def part_of(
    skeletons: Mapping[int, Skeleton], keypoints: Sequence[str]
) -> tuple[dict[int, Skeleton], dict[int, tuple[int, ...]]]:
    """Return the skeletons of some keypoints, in the order of the whole ones.

    Args:
        skeletons: class id -> skeleton.
        keypoints: names of keypoints, or of groups.

    Returns:
        Class id -> skeleton, and class id -> indexes of its keypoints in the whole skeleton.

    Raises:
        InputError: a name is neither a keypoint nor a group of any class, or there is none.
    """
    if not keypoints:
        raise InputError("keypoints names none: give names of keypoints or groups, or leave it out")
    known = {name for s in skeletons.values() for name in (*s.keypoints, *s.groups)}
    if unknown := [name for name in keypoints if name not in known]:
        raise InputError(
            f"keypoints names {unknown[0]!r}, which the model does not know; "
            f"it knows {', '.join(sorted(known)) or 'none'}."
        )
    rows = {class_id: _rows(s, keypoints) for class_id, s in skeletons.items()}
    return {class_id: s.part(rows[class_id]) for class_id, s in skeletons.items()}, rows


def _rows(skeleton: Skeleton, keypoints: Iterable[str]) -> tuple[int, ...]:
    wanted = set(keypoints)
    for group in wanted & skeleton.groups.keys():
        wanted |= {skeleton.keypoints[i] for i in skeleton.groups[group]}
    return tuple(i for i, name in enumerate(skeleton.keypoints) if name in wanted)
