"""Random changes of pictures: functions of their seed that leave points where they are."""

from __future__ import annotations

import numpy as np
import pytest

from openkeypoints.geometry import transform_points
from openkeypoints.images import warp
from openkeypoints.train import augment
from tests.drawn import dots, find_dot

POINTS = np.array([[40.3, 62.7], [90.1, 35.4]])
PICTURE = dots((128, 128), POINTS)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("angle", [0, 30, -120])
def test_the_window_moves_picture_and_points_alike(angle, mirror):
    matrix = augment.rotation_scale(np.array([60.0, 55.0]), 110, 96, angle, mirror)
    image = warp(PICTURE, matrix, (96, 96))
    moved = transform_points(POINTS, matrix)
    for point, channel in zip(moved, (0, 2), strict=True):
        assert np.abs(find_dot(image, channel) - point).max() < 0.3


def test_the_middle_of_the_window_stays_and_its_side_is_scaled():
    matrix = augment.rotation_scale(np.array([60.0, 55.0]), 50, 100, 0, False)
    assert transform_points(np.array([[60.0, 55.0], [85, 55]]), matrix).tolist() == [
        [50, 50],
        [100, 50],
    ]


def test_a_positive_angle_turns_clockwise_on_the_screen():
    matrix = augment.rotation_scale(np.zeros(2), 2, 2, 90, False)
    assert np.allclose(transform_points(np.array([[0.0, -1.0]]), matrix), [[2, 1]])


@pytest.mark.parametrize("change", [augment.distort_colors, augment.degrade, augment.cut_out])
def test_a_change_is_a_function_of_its_seed_and_leaves_the_source(change):
    before = PICTURE.copy()
    for seed in range(8):
        first, again = (change(PICTURE, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(first, again)
        assert (first.shape, first.dtype) == (PICTURE.shape, np.uint8)
    assert np.array_equal(PICTURE, before)


@pytest.mark.parametrize("seed", range(12))
def test_degrading_moves_nothing(seed):
    changed = augment.degrade(PICTURE, np.random.default_rng(seed))
    assert np.abs(find_dot(changed, 0) - POINTS[0]).max() < 1.0


def test_some_pictures_become_grey():
    greys = [
        np.ptp(augment.distort_colors(PICTURE, np.random.default_rng(s)), axis=-1).max() == 0
        for s in range(200)
    ]
    assert 0.08 < np.mean(greys) < 0.23


def test_blurring_keeps_the_brightness():
    flat = np.full((32, 32, 3), 101, np.uint8)
    assert (augment._blurred(flat, 1.5) == 101).all()


def test_cut_out_covers_a_part():
    changed = augment.cut_out(PICTURE, np.random.default_rng(0))
    assert 0.005 < (changed != PICTURE).any(-1).mean() < 0.25


def test_hidden_patches_come_as_often_as_asked():
    flat = np.full((64, 64, 3), 90, np.uint8)

    def patched(hide):
        rngs = map(np.random.default_rng, range(20))
        pictures = [augment.photometric(flat, rng, hide=hide) for rng in rngs]
        return np.mean([np.ptp(p.astype(int)) > 100 for p in pictures])

    assert patched(0) < 0.2
    assert patched(1) > 0.6
