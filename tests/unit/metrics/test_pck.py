from __future__ import annotations

import numpy as np

from openkeypoints.metrics import pck

NAMES = ("right_hip", "left_shoulder", "nose")
LABELLED = np.array([[[0.0, 30.0], [40.0, 0.0], [9.0, 9.0]]])


def test_a_missing_prediction_is_infinitely_far_and_a_missing_label_not_counted() -> None:
    predicted = np.array([[[3.0, 34.0], [np.nan, np.nan], [0.0, 0.0]]])
    apart = pck.distances(predicted, LABELLED, np.array([[True, True, False]]))
    np.testing.assert_array_equal(apart, [[5.0, np.inf, np.nan]])


def test_torso_runs_from_right_hip_to_left_shoulder() -> None:
    np.testing.assert_allclose(pck.torso_lengths(LABELLED, np.ones((1, 3), bool), NAMES), [50.0])


def test_people_without_hip_or_shoulder_have_no_torso() -> None:
    visible = np.array([[False, True, True], [True, False, True]])
    lengths = pck.torso_lengths(LABELLED.repeat(2, axis=0), visible, NAMES)
    assert np.isnan(lengths).all()


def test_skeletons_without_hips_have_no_torso() -> None:
    lengths = pck.torso_lengths(LABELLED, np.ones((1, 3), bool), ("head", "tail", "nose"))
    assert np.isnan(lengths).all()


def test_boxes_with_a_short_side_are_not_counted() -> None:
    boxes = np.array([[0.0, 0.0, 48.0, 100.0], [0.0, 0.0, 47.0, 100.0]])
    np.testing.assert_array_equal(pck.long_sides(boxes, min_side=48), [100.0, np.nan])


def test_a_joint_exactly_on_the_limit_is_a_hit() -> None:
    apart = np.array([[10.0, 10.1, np.inf, np.nan], [1.0, 1.0, 1.0, 1.0]])
    marks = pck.hits(apart, np.array([50.0, np.nan]), 0.2)
    np.testing.assert_array_equal(marks, [[1, 0, 0, np.nan], [np.nan] * 4])


def test_the_share_is_over_joints_and_not_over_people() -> None:
    assert pck.share(np.array([[1.0, 0.0, 0.0], [1.0, np.nan, np.nan]])) == 0.5


def test_the_share_of_nothing_is_none() -> None:
    assert pck.share(np.full((2, 3), np.nan)) is None


def test_shares_by_joint_leave_out_joints_that_nobody_has() -> None:
    marks = np.array([[1.0, np.nan, 0.0], [0.0, np.nan, 0.0]])
    assert pck.share_by_joint(marks, NAMES) == {"right_hip": 0.5, "nose": 0.0}
