"""Predictions as supervision's `KeyPoints`, with what its own constructors leave out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import MissingExtraError
from openkeypoints.results import Prediction

if TYPE_CHECKING:
    import supervision as sv


def to_supervision(prediction: Prediction) -> sv.KeyPoints:
    """Return supervision's `KeyPoints` for a prediction.

    Every keypoint is in its slot. ``visible`` is False below ``prediction.keypoint_confidence``
    and for keypoints without a place, which lie at (0, 0) as supervision expects. ``data`` has
    ``class_name``, ``xyxy``, ``skeleton`` (one `Skeleton` or None a row), and ``covariance`` and
    ``tracker_id`` where the prediction has them.

    Raises:
        MissingExtraError: supervision is not installed.
    """
    try:
        import supervision as sv  # noqa: PLC0415  (the only home of an optional library)
    except ImportError as error:
        raise MissingExtraError("to_supervision", "viz") from error

    placed: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(prediction.keypoints), axis=-1)
    rows = range(len(prediction))
    skeletons = np.empty(len(prediction), dtype=object)
    skeletons[:] = [prediction.skeleton(i) for i in rows]
    data: dict[str, Any] = {
        "class_name": np.array([prediction.class_names[i] for i in prediction.class_ids], str),
        "xyxy": prediction.boxes.copy(),
        "skeleton": skeletons,
    }
    if prediction.covariances is not None:
        known = np.isfinite(prediction.covariances).all(axis=(-2, -1), keepdims=True)
        data["covariance"] = np.where(known, prediction.covariances, np.float32(0))
    if prediction.track_ids is not None:
        data["tracker_id"] = prediction.track_ids.copy()
    return sv.KeyPoints(
        xy=np.where(placed[..., None], prediction.keypoints, np.float32(0)),
        class_id=prediction.class_ids.copy(),
        keypoint_confidence=prediction.keypoint_scores.copy(),
        detection_confidence=prediction.scores.copy(),
        visible=placed & (prediction.keypoint_scores >= prediction.keypoint_confidence),
        data=data,
    )


def supervision_edges(prediction: Prediction) -> dict[int, list[tuple[int, int]]]:
    """Return class id -> skeleton edges counted from 1, for ``sv.EdgeAnnotator(edges=...)``.

    Without it the annotator picks edges by the number of keypoints alone.
    """
    return {
        class_id: [(a + 1, b + 1) for a, b in skeleton.edges]
        for class_id, skeleton in prediction.skeletons.items()
    }
