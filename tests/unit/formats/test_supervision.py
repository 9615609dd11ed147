from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import supervision as sv

from openkeypoints.errors import MissingExtraError
from openkeypoints.formats import dump, supervision_edges, to_supervision
from openkeypoints.results import Prediction
from tests.unit.predictions import boxes_only, masked, people


def low_scores() -> Prediction:
    prediction = people(1)
    return replace(prediction, keypoint_scores=np.zeros((1, 17), np.float32))


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize(
    "prediction", [people(1), people(4), low_scores()], ids=["one", "several", "low scores"]
)
def test_its_own_constructor_puts_every_joint_in_its_slot(
    prediction: Prediction, as_dict: bool
) -> None:
    keypoints = sv.KeyPoints.from_inference(prediction.dict() if as_dict else prediction)
    used = np.isfinite(prediction.keypoints)
    np.testing.assert_array_equal(keypoints.xy, np.where(used, prediction.keypoints, 0))
    np.testing.assert_array_equal(keypoints.keypoint_confidence, prediction.keypoint_scores)
    np.testing.assert_array_equal(keypoints.detection_confidence, prediction.scores)
    assert keypoints.class_id.tolist() == prediction.class_ids.tolist()


@pytest.mark.parametrize("as_dict", [False, True])
def test_its_own_constructor_takes_a_prediction_without_instances(as_dict: bool) -> None:
    empty = people(2)[[]]
    assert len(sv.KeyPoints.from_inference(empty.dict() if as_dict else empty)) == 0


def test_its_constructor_keeps_slots_when_low_keypoints_are_left_out() -> None:
    prediction = replace(people(1), keypoint_confidence=0.5)
    keypoints = sv.KeyPoints.from_inference(prediction)
    kept = np.flatnonzero(prediction.keypoint_scores[0] >= 0.5)
    np.testing.assert_array_equal(keypoints.xy[0, kept], prediction.keypoints[0, kept])


def test_its_detections_read_our_rows() -> None:
    detections = sv.Detections.from_inference(dump(people(2), "roboflow"))
    np.testing.assert_allclose(detections.xyxy, people(2).boxes, atol=1e-3)


def test_conversion_keeps_every_array() -> None:
    prediction = people(4, full=True)
    keypoints = to_supervision(prediction)
    used = np.isfinite(prediction.keypoints)
    np.testing.assert_array_equal(keypoints.xy, np.where(used, prediction.keypoints, 0))
    np.testing.assert_array_equal(keypoints.data["xyxy"], prediction.boxes)
    np.testing.assert_array_equal(keypoints.data["covariance"], prediction.covariances)
    assert keypoints.data["class_name"].tolist() == ["person", "tube", "person", "tube"]
    assert keypoints.data["tracker_id"].tolist() == [5, 6, 7, 8]
    assert [s.name for s in keypoints.data["skeleton"]] == ["coco17", "tube", "coco17", "tube"]


def test_visible_follows_the_threshold_and_the_class() -> None:
    prediction = replace(people(2), keypoint_confidence=0.5)
    visible = to_supervision(prediction).visible
    assert visible[0].tolist() == (prediction.keypoint_scores[0] >= 0.5).tolist()
    assert not visible[1, 2:].any()


def test_rows_can_be_chosen_afterwards() -> None:
    part = to_supervision(people(4, full=True))[[0, 2]]
    assert part.data["class_name"].tolist() == ["person", "person"]


def test_no_instances_give_no_rows() -> None:
    assert len(to_supervision(people(2, full=True)[[]])) == 0


def test_its_annotators_draw_with_our_edges() -> None:
    prediction = people(4, full=True)
    scene = np.zeros((480, 640, 3), np.uint8)
    drawn = sv.EdgeAnnotator(edges=supervision_edges(prediction)).annotate(
        scene.copy(), to_supervision(prediction)
    )
    assert drawn.any()


def test_without_supervision_the_error_has_the_command(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'openkeypoints\[viz\]'"):
        to_supervision(people(1))


def test_a_prediction_without_keypoints_becomes_detections() -> None:
    prediction = replace(boxes_only(3), track_ids=np.array([4, 5, 6]))
    detections = to_supervision(prediction)
    assert isinstance(detections, sv.Detections)
    np.testing.assert_array_equal(detections.xyxy, prediction.boxes)
    np.testing.assert_array_equal(detections.confidence, prediction.scores)
    assert detections.class_id.tolist() == [0, 1, 0]
    assert detections.tracker_id.tolist() == [4, 5, 6]
    assert detections.data["class_name"].tolist() == ["person", "tube", "person"]
    assert detections.mask is None


def test_masks_of_detections_have_the_size_of_the_picture() -> None:
    masks = to_supervision(masked()).mask
    assert masks.shape == (2, 480, 640)
    assert masks[1, 130, 305]
    assert not masks[0, 130, 305]
    assert to_supervision(masked()[[]]).mask.shape == (0, 480, 640)


def test_its_detections_read_our_contours() -> None:
    detections = sv.Detections.from_inference(masked())
    ours = to_supervision(masked()).mask[0]
    both, either = (ours & detections.mask[0]).sum(), (ours | detections.mask[0]).sum()
    assert both / either > 0.7  # the contour has neither the hole nor the lone pixel
