from __future__ import annotations

import numpy as np

from openkeypoints.metrics import oks

NAMES = ("nose", "left_wrist", "tail")
LABELLED = np.array([[[10.0, 10.0], [20.0, 20.0], [30.0, 30.0]]])
ALL = np.ones((1, 3), bool)


def test_coco_sigmas_are_found_by_name() -> None:
    np.testing.assert_array_equal(oks.coco_sigmas(NAMES), [0.026, 0.062, np.nan])


def test_joints_without_a_sigma_do_not_change_the_similarity() -> None:
    predicted = LABELLED + np.array([[0, 0], [0, 0], [500, 0]])
    value = oks.person_oks(
        predicted,
        LABELLED,
        visible=ALL,
        areas=np.array([400.0]),
        sigmas=oks.coco_sigmas(NAMES),
    )
    np.testing.assert_array_equal(value, [1.0])


def test_people_without_an_area_or_a_known_joint_are_not_counted() -> None:
    value = oks.person_oks(
        LABELLED.repeat(2, axis=0),
        LABELLED.repeat(2, axis=0),
        visible=np.array([[True, True, True], [False, False, True]]),
        areas=np.array([np.nan, 400.0]),
        sigmas=oks.coco_sigmas(NAMES),
    )
    assert np.isnan(value).all()


def test_a_person_without_a_prediction_has_similarity_zero() -> None:
    value = oks.person_oks(
        np.full((1, 3, 2), np.nan),
        LABELLED,
        visible=ALL,
        areas=np.array([400.0]),
        sigmas=oks.coco_sigmas(NAMES),
    )
    np.testing.assert_array_equal(value, [0.0])
