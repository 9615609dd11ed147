from __future__ import annotations

import numpy as np
import pytest

from openkeypoints.metrics import ap

NO_CROWD = np.zeros(1, bool)
LABEL = np.array([[0.0, 0.0, 100.0, 100.0]])


def test_perfect_detections_have_precision_one() -> None:
    assert ap.average_precision(np.array([0.2, 0.9]), np.array([1, 1]), 2) == 1.0


def test_precision_is_the_best_at_a_recall_or_beyond() -> None:
    # Right, wrong, right of 2: precision 1 up to recall 0.5 (51 of 101), then 2/3.
    value = ap.average_precision(np.array([0.9, 0.8, 0.7]), np.array([1, 0, 1]), 2)
    assert value == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_recalls_that_are_never_reached_count_as_zero() -> None:
    assert ap.average_precision(np.array([0.9]), np.array([1]), 4) == pytest.approx(26 / 101)


@pytest.mark.parametrize(("count", "positives"), [(0, 3), (2, 0)])
def test_precision_of_nothing_is_zero(count: int, positives: int) -> None:
    assert ap.average_precision(np.ones(count), np.ones(count), positives) == 0.0


def test_oks_precision_averages_ten_thresholds() -> None:
    value = ap.oks_average_precision(np.array([0.5]), np.array([0.72]))
    assert value == pytest.approx(0.5)


def test_a_label_is_found_once() -> None:
    found = LABEL.repeat(2, axis=0)
    verdict = ap.match_boxes(found, LABEL, NO_CROWD, min_side=48)
    np.testing.assert_array_equal(verdict, [1, 0])


def test_a_detection_takes_the_free_label_that_it_overlaps_most() -> None:
    truth = np.array([[0.0, 0.0, 100.0, 100.0], [10.0, 0.0, 100.0, 100.0]])
    found = np.array([[9.0, 0.0, 100.0, 100.0], [12.0, 0.0, 100.0, 100.0]])
    verdict = ap.match_boxes(found, truth, np.zeros(2, bool), min_side=48)
    np.testing.assert_array_equal(verdict, [1, 1])


def test_detections_inside_a_crowd_do_not_count() -> None:
    found = np.array([[0.0, 0.0, 50.0, 50.0], [50.0, 50.0, 50.0, 50.0], [80.0, 0.0, 60.0, 60.0]])
    verdict = ap.match_boxes(found, LABEL, np.ones(1, bool), min_side=48)
    np.testing.assert_array_equal(verdict, [np.nan, np.nan, 0])


def test_detections_on_small_people_do_not_count() -> None:
    small = np.array([[0.0, 0.0, 40.0, 100.0]])
    found = np.array([[0.0, 0.0, 50.0, 100.0]])
    verdict = ap.match_boxes(found, small, NO_CROWD, min_side=48)
    np.testing.assert_array_equal(verdict, [np.nan])


def test_small_detections_count_only_where_they_hit() -> None:
    found = np.array([[0.0, 0.0, 47.0, 100.0], [300.0, 0.0, 47.0, 100.0]])
    truth = np.array([[0.0, 0.0, 60.0, 100.0]])
    verdict = ap.match_boxes(found, truth, NO_CROWD, min_side=48)
    np.testing.assert_array_equal(verdict, [1, np.nan])


def test_an_overlap_of_exactly_one_half_is_no_match() -> None:
    # So it is in the reference scorer, whose figures these must equal.
    verdict = ap.match_boxes(np.array([[0.0, 0.0, 100.0, 50.0]]), LABEL, NO_CROWD, min_side=48)
    np.testing.assert_array_equal(verdict, [0])


def test_boxes_without_extent_overlap_nothing() -> None:
    point = np.zeros((1, 4))
    np.testing.assert_array_equal(ap.overlaps(point, point, NO_CROWD), [[0]])


def test_detections_in_a_picture_without_labels_are_false_alarms() -> None:
    verdict = ap.match_boxes(LABEL, np.zeros((0, 4)), np.zeros(0, bool), min_side=48)
    np.testing.assert_array_equal(verdict, [0])
