"""Predictions as supervision's own types, with what its own constructors leave out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import MissingExtraError
from openkeypoints.geometry import mask_letterbox
from openkeypoints.images import resize_mask
from openkeypoints.results import Prediction

if TYPE_CHECKING:
    import supervision as sv


def to_supervision(prediction: Prediction) -> sv.KeyPoints | sv.Detections:
    """Return supervision's `KeyPoints` for a prediction, or `Detections` where no class has any.

    In `KeyPoints` every keypoint is in its slot. ``visible`` is False below
    ``prediction.keypoint_confidence`` and for keypoints without a place, which lie at (0, 0) as
    supervision expects. ``data`` has ``class_name``, ``xyxy``, ``skeleton`` (one `Skeleton` or None
    a row), and ``covariance`` and ``tracker_id`` where the prediction has them. In `Detections`
    masks have the size of the picture, and ``data`` has ``class_name``.

    Raises:
        MissingExtraError: supervision is not installed.
    """
    try:
        import supervision as sv  # noqa: PLC0415  (the only home of an optional library)
    except ImportError as error:
        raise MissingExtraError("to_supervision", "viz") from error

    class_names = np.array([prediction.class_names[i] for i in prediction.class_ids], str)
    if not prediction.skeletons:
        return sv.Detections(
            xyxy=prediction.boxes.copy(),
            mask=_masks(prediction),
            confidence=prediction.scores.copy(),
            class_id=prediction.class_ids.copy(),
            tracker_id=None if prediction.track_ids is None else prediction.track_ids.copy(),
            data={"class_name": class_names},
        )
    placed: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(prediction.keypoints), axis=-1)
    rows = range(len(prediction))
    skeletons = np.empty(len(prediction), dtype=object)
    skeletons[:] = [prediction.skeleton(i) for i in rows]
    data: dict[str, Any] = {
        "class_name": class_names,
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


def _masks(prediction: Prediction) -> NDArray[np.bool_] | None:
    if prediction.masks is None:
        return None
    width, height = prediction.image_size
    masks = np.zeros((len(prediction), height, width), np.bool_)
    if len(prediction):
        window = mask_letterbox(prediction).window
        for i, mask in enumerate(prediction.masks):
            masks[i] = resize_mask(mask[window], prediction.image_size)
    return masks


def supervision_edges(prediction: Prediction) -> dict[int, list[tuple[int, int]]]:
    """Return class id -> skeleton edges counted from 1, for ``sv.EdgeAnnotator(edges=...)``.

    Without it the annotator picks edges by the number of keypoints alone.
    """
    return {
        class_id: [(a + 1, b + 1) for a, b in skeleton.edges]
        for class_id, skeleton in prediction.skeletons.items()
    }
