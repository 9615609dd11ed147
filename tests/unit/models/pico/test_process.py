"""Maps to keypoints and cells to boxes, on maps whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from openkeypoints.models.pico.process import (
    STRIDE,
    Candidates,
    decode_centers,
    decode_maps,
    weighed_by_size,
)

GRID = np.mgrid[:24, :24] * STRIDE + STRIDE / 2


def log_gaussian(x, y, *, sx=8.0, sy=8.0, rho=0.0):
    """Return logits (24, 24) whose softmax is a Gaussian about (x, y) px."""
    u, v = (GRID[1] - x) / sx, (GRID[0] - y) / sy
    return -(u**2 - 2 * rho * u * v + v**2) / (2 * (1 - rho**2))


def test_the_point_of_a_gaussian_is_its_middle_to_half_a_pixel():
    rng = np.random.default_rng(0)
    at = rng.uniform(24, 168, (200, 2))
    maps = np.array([[log_gaussian(*p)] for p in at], np.float32)
    assert np.abs(decode_maps(maps).points[:, 0] - at).max() < 0.5


@pytest.mark.parametrize("corner", [(4, 4), (188, 4), (4, 188), (188, 188)])
def test_a_point_in_the_outermost_cell_stays_in_it(corner):
    maps = np.array([[log_gaussian(*corner, sx=4, sy=4)]], np.float32)
    assert np.abs(decode_maps(maps).points[0, 0] - corner).max() < 2


def test_a_second_weaker_peak_does_not_move_the_point():
    maps = np.logaddexp(log_gaussian(40, 40), log_gaussian(140, 150) - 1)[None, None]
    assert np.abs(decode_maps(maps.astype(np.float32)).points[0, 0] - 40).max() < 0.5


@pytest.mark.parametrize(("sx", "sy", "rho"), [(8, 8, 0), (16, 9, 0), (12, 12, 0.6)])
def test_the_covariance_is_that_of_the_gaussian(sx, sy, rho):
    maps = log_gaussian(93, 101, sx=sx, sy=sy, rho=rho)[None, None].astype(np.float32)
    expected = [[sx**2, rho * sx * sy], [rho * sx * sy, sy**2]]
    assert np.allclose(decode_maps(maps).covariances[0, 0], expected, rtol=0.01, atol=0.3)


def test_a_point_is_never_surer_than_a_cell_is_wide():
    maps = np.full((1, 1, 24, 24), -100, np.float32)
    maps[0, 0, 5, 7] = 100
    decoded = decode_maps(maps)
    assert np.allclose(decoded.covariances[0, 0], np.eye(2) * STRIDE**2 / 12)
    assert decoded.points[0, 0].tolist() == [7.5 * STRIDE, 5.5 * STRIDE]


def test_the_mass_is_high_for_a_sharp_map_and_low_for_a_flat_one():
    sharp, flat = log_gaussian(100, 100, sx=3, sy=3), np.zeros((24, 24))
    mass = decode_maps(np.array([[sharp, flat]], np.float32)).mass[0]
    assert mass[0] > 0.95
    assert mass[1] == pytest.approx(4 / 576, rel=1e-4)


def test_logits_of_any_height_are_safe():
    maps = (log_gaussian(100, 60)[None, None] + 5e4).astype(np.float32)
    assert np.isfinite(decode_maps(maps).covariances).all()


def test_no_crop_gives_no_point():
    decoded = decode_maps(np.zeros((0, 3, 8, 6), np.float32))
    shapes = [a.shape for a in decoded]
    assert shapes == [(0, 3, 2), (0, 3), (0, 3, 2, 2)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 1)])
def test_maps_of_a_few_cells_are_maps_too(shape):
    assert np.isfinite(decode_maps(np.zeros((1, 2, *shape), np.float32)).points).all()


def cells(classes=1, h=6, w=8):
    return np.full((classes, h, w), -8.0, np.float32), np.zeros((4, h, w), np.float32)


def test_a_box_reaches_from_its_cell_as_far_as_the_logarithms_say():
    centers, distances = cells()
    centers[0, 2, 5] = 3
    distances[:, 2, 5] = np.log([1, 2, 0.5, 3])
    found = decode_centers(centers, distances, threshold=0.5)
    x, y = 5.5 * STRIDE, 2.5 * STRIDE
    assert np.allclose(found.boxes, [[x - 8, y - 16, x + 4, y + 24]], atol=1e-4)
    assert found.scores == pytest.approx(1 / (1 + np.exp(-3)))
    assert found.boxes.dtype == found.scores.dtype == np.float32


def test_only_the_best_of_neighbouring_cells_gives_a_box():
    centers, distances = cells()
    centers[0, 2, 4:7] = [1, 2, 1.5]
    assert len(decode_centers(centers, distances, threshold=0.5).boxes) == 1


def test_a_class_does_not_silence_another_one():
    centers, distances = cells(classes=2)
    centers[0, 2, 4], centers[1, 2, 5] = 1, 2
    found = decode_centers(centers, distances, threshold=0.5)
    assert found.class_ids.tolist() == [1, 0]
    assert found.class_ids.dtype == np.int64


def test_unwanted_classes_take_no_place_among_the_candidates():
    centers, distances = cells(classes=2)
    centers[0, ::2, ::2], centers[1, 3, 3] = 2, 1
    found = decode_centers(centers, distances, threshold=0.5, class_ids={1}, max_candidates=1)
    assert found.class_ids.tolist() == [1]
    assert len(decode_centers(centers, distances, threshold=0.5, class_ids=()).boxes) == 0


def test_the_best_candidates_are_kept_best_first():
    centers, distances = cells()
    centers[0, 0, 0], centers[0, 3, 3], centers[0, 5, 7] = 1, 3, 2
    found = decode_centers(centers, distances, threshold=0.5, max_candidates=2)
    assert np.allclose(found.scores, 1 / (1 + np.exp([-3.0, -2.0])))


@pytest.mark.parametrize(("threshold", "count"), [(0.0, 48), (0.5, 1), (1.0, 0)])
def test_thresholds_at_the_ends_of_their_range_mean_all_and_nothing(threshold, count):
    centers, distances = cells()
    centers[:] = -200  # every cell is as high as its neighbours
    centers[0, 2, 2] = 0
    found = decode_centers(centers, distances, threshold=threshold)
    assert len(found.boxes) == (count if threshold else 48 - 8)


def candidates_of_two_sizes():
    boxes = np.array([[10, 10, 20, 20], [30, 0, 130, 100]], np.float32)
    return Candidates(boxes, np.array([0.9, 0.6], np.float32), np.array([0, 1]))


PICTURE = np.array([30, 0, 130, 100], np.float32)


def test_of_two_instances_the_larger_may_come_first():
    found = weighed_by_size(candidates_of_two_sizes(), PICTURE, 0.5, 0.0)
    assert found.class_ids.tolist() == [1, 0]
    # The first box lies in the padding, the second one fills the picture.
    assert found.scores.tolist() == pytest.approx([0.6, 0.0])


def test_without_an_exponent_the_scores_stay():
    found = weighed_by_size(candidates_of_two_sizes(), PICTURE, 0.0, 0.0)
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])


def test_the_threshold_counts_for_the_weighed_score():
    found = weighed_by_size(candidates_of_two_sizes(), PICTURE, 0.5, 0.3)
    assert found.boxes.tolist() == [PICTURE.tolist()]
