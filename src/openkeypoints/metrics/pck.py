"""Share of correct keypoints: within a part of the torso, or of the box's long side.

All functions mark what is not counted with NaN, so that a share is the mean over the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def distances(predicted: Array, labelled: Array, visible: NDArray[np.bool_]) -> Array:
    """Return how far each prediction lies from its label.

    Args:
        predicted: (P, K, 2) pixels, NaN where there is none.
        labelled: (P, K, 2) pixels.
        visible: (P, K), which joints are labelled.

    Returns:
        (P, K) pixels: infinite where the prediction is missing, NaN where the label is.
    """
    apart = np.linalg.norm(predicted - labelled, axis=-1)
    apart = np.where(np.isnan(apart), np.inf, apart)
    return np.where(visible, apart, np.nan)


def torso_lengths(labelled: Array, visible: NDArray[np.bool_], names: Sequence[str]) -> Array:
    """Return the distances (P,) from right hip to left shoulder, NaN for people lacking either.

    Args:
        labelled: (P, K, 2) pixels.
        visible: (P, K), which joints are labelled.
        names: K names of the joints.
    """
    if "right_hip" not in names or "left_shoulder" not in names:
        return np.full(len(labelled), np.nan)
    hip, shoulder = names.index("right_hip"), names.index("left_shoulder")
    length = np.linalg.norm(labelled[:, hip] - labelled[:, shoulder], axis=-1)
    return np.where(visible[:, hip] & visible[:, shoulder], length, np.nan)


def long_sides(boxes_xywh: Array, *, min_side: float) -> Array:
    """Return the long sides (P,) of boxes, NaN where a side is shorter than ``min_side`` pixels."""
    sides = boxes_xywh[:, 2:]
    return np.where(sides.min(axis=1) >= min_side, sides.max(axis=1), np.nan)


def hits(apart: Array, lengths: Array, fraction: float) -> Array:
    """Mark which joints lie within a fraction of their person's reference length.

    Args:
        apart: (P, K) pixels from ``distances``.
        lengths: (P,) pixels from ``torso_lengths`` or ``long_sides``.
        fraction: a joint exactly on the limit is a hit.

    Returns:
        (P, K): 1 for a hit, 0 for a miss, NaN where the joint or its person is not counted.
    """
    limits = np.broadcast_to(fraction * lengths[:, None], apart.shape)
    counted = ~np.isnan(apart) & ~np.isnan(limits)
    return np.where(counted, (apart <= limits).astype(np.float64), np.nan)


def share(marks: Array) -> float | None:
    """Return the mean of the marks that are counted, None where none is."""
    counted = marks[~np.isnan(marks)]
    return float(counted.mean()) if len(counted) else None


def share_by_joint(marks: Array, names: Sequence[str]) -> dict[str, float]:
    """Return each joint's share by name, without the joints of which nothing is counted."""
    shares = ((name, share(column)) for name, column in zip(names, marks.T, strict=True))
    return {name: value for name, value in shares if value is not None}
