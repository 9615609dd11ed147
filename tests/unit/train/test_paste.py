"""Cutting instances out along their skeleton."""

from __future__ import annotations

import numpy as np
import pytest

from openkeypoints.images import encode_image
from openkeypoints.skeletons import load_skeleton
from openkeypoints.train.coco import read_dataset
from openkeypoints.train.paste import (
    LIMB,
    Cutout,
    Donors,
    Turn,
    blend,
    covered_parts,
    covered_points,
    extent,
    loops_of,
    soft_mask,
)
from openkeypoints.train.sources import PictureCache, Source
from tests.drawn import category, write_coco

SQUARE = np.array([[20, 20], [80, 20], [80, 80], [20, 80]], np.float32)


def test_a_capsule_covers_its_edge_and_its_width():
    points = np.array([[20, 50], [80, 50]], np.float32)
    mask = soft_mask(points, [(0, 1)], [], 100)
    assert mask[50, 20:80].min() == 1
    width = (mask[:, 50] > 0.5).sum()
    assert width == pytest.approx(2 * LIMB * 60, abs=1.5)
    assert mask[:, 0:8].max() == 0


def test_the_rim_is_soft():
    mask = soft_mask(np.array([[20, 50], [180, 50]], np.float32), [(0, 1)], [], 200)
    assert ((mask > 0.1) & (mask < 0.9)).sum() > 100


def test_a_loop_is_filled():
    edges = [(0, 1), (1, 2), (2, 3), (3, 0)]
    assert soft_mask(SQUARE, edges, [], 100)[50, 50] == 0
    assert soft_mask(SQUARE, edges, [(0, 1, 2, 3)], 100)[50, 50] == 1


def test_short_edges_are_thick():
    points = np.array([[20, 80], [80, 80], [20, 30], [26, 30]], np.float32)
    mask = soft_mask(points, [(0, 1), (2, 3)], [], 100)
    assert (mask[:, 23] > 0.5)[:60].sum() > (mask[:, 50] > 0.5)[60:].sum()


@pytest.mark.parametrize("offset", [(-500, 0), (0, 500)])
def test_an_instance_outside_the_window_has_an_empty_mask(offset):
    mask = soft_mask(SQUARE + np.array(offset, np.float32), [(0, 1), (1, 2)], [(0, 1, 2)], 100)
    assert mask.max() == 0
    assert extent(mask) is None


def test_points_on_one_place_or_one_line_make_no_trouble():
    points = np.array([[50, 50], [50, 50], [50, 70]], np.float32)
    mask = soft_mask(points, [(0, 1), (1, 2)], [(0, 1, 2)], 100)
    assert mask[60, 50] == 1
    assert soft_mask(points[:2], [(0, 1)], [(0, 1)], 100).max() <= 1


def test_a_person_has_a_torso_and_a_head_to_fill():
    skeleton = load_skeleton("coco17")
    loops = [{skeleton.keypoints[i] for i in loop} for loop in loops_of(skeleton.edges)]
    assert {"left_shoulder", "right_shoulder", "left_hip", "right_hip"} in loops
    assert any({"nose", "left_eye", "right_eye"} <= loop for loop in loops)


def test_a_chain_has_no_loop():
    assert loops_of([(0, 1), (1, 2), (4, 5)]) == []


def test_a_loop_lists_its_nodes_in_order():
    edges = [(0, 1), (1, 2), (2, 3), (3, 0)]
    (loop,) = loops_of(edges)
    sides = {frozenset(pair) for pair in zip(loop, (*loop[1:], loop[0]), strict=True)}
    assert sides == {frozenset(edge) for edge in edges}


def test_blending_takes_the_mask_for_the_new_picture():
    mask = np.zeros((2, 2), np.float32)
    mask[0, 0], mask[0, 1] = 1, 0.5
    old, new = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 200, np.uint8)
    assert blend(old, Cutout(new, mask))[..., 0].tolist() == [[200, 100], [0, 0]]


def test_covered_points_are_those_behind_the_mask():
    mask = np.zeros((10, 10), np.float32)
    mask[:, :5] = 1
    points = np.array([[2.5, 5.0], [7.5, 5.0], [-3.0, 5.0], [2.0, 12.0]])
    assert covered_points(points, mask).tolist() == [True, False, False, False]


def test_covered_parts_are_shares_of_boxes():
    mask = np.zeros((10, 10), np.float32)
    mask[:, :5] = 1
    boxes = np.array([[0, 0, 10, 10], [6, 0, 9, 4], [0, 0, 4, 4]], np.float32)
    assert covered_parts(boxes, mask).tolist() == [0.5, 0, 1]


def donors(tmp_path, *, skeleton, weights=(2, 2, 2), side=80):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (120, 120, 3), np.uint8)
    (tmp_path / "1.png").write_bytes(encode_image(image, "png"))
    values = [20, 20, weights[0], 90, 20, weights[1], 90, 90, weights[2]]
    path = write_coco(
        tmp_path / "train.json",
        images=[{"id": 1, "file_name": "1.png", "width": 120, "height": 120}],
        annotations=[
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [15, 15, side, side],
                "keypoints": values,
            }
        ],
        categories=[category(["a", "b", "c"], skeleton=skeleton)],
    )
    dataset = read_dataset(path)
    return Donors([Source(dataset, 1.0)], PictureCache(1 << 24)), image


def test_a_cutout_shows_the_donors_own_pixels(tmp_path):
    found, image = donors(tmp_path, skeleton=[[1, 2], [2, 3]])
    donor = found.draw(np.random.default_rng(0))
    middle = np.array([60.0, 60.0])
    cutout = found.place(donor, part=80 / 120, middle=middle, size=120, turn=Turn(0, False))
    # The middle of the box, (55, 55), comes to lie in the middle of the window.
    inside = cutout.mask == 1
    assert inside.sum() > 500
    assert np.array_equal(cutout.image[5:, 5:][inside[5:, 5:]], image[:-5, :-5][inside[5:, 5:]])


def test_without_edges_there_is_nobody_to_cut_out(tmp_path):
    assert len(donors(tmp_path, skeleton=[])[0]) == 0


def test_an_instance_with_a_missing_limb_is_not_cut_out(tmp_path):
    assert len(donors(tmp_path, skeleton=[[1, 2], [2, 3]], weights=(2, 2, 0))[0]) == 0


def test_a_small_instance_is_not_cut_out(tmp_path):
    assert len(donors(tmp_path, skeleton=[[1, 2], [2, 3]], side=40)[0]) == 0


def test_the_extent_is_the_box_of_the_mask():
    mask = np.zeros((20, 30), np.float32)
    mask[4:9, 10:25] = 1
    box = extent(mask)
    assert box is not None
    assert box.tolist() == [10, 4, 25, 9]
