"""Training crops and windows: what is labelled lies where the picture shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openkeypoints.images import encode_image
from openkeypoints.train import detector_samples, keypoint_samples
from openkeypoints.train.coco import read_dataset
from openkeypoints.train.detector_samples import WindowPolicy, WindowSampler
from openkeypoints.train.keypoint_samples import CropPolicy, KeypointSampler, part_box
from openkeypoints.train.sources import PictureCache, Source
from tests.drawn import NAMES, category, dots, find_dot, write_coco, write_sticks

FLIP = (1, 0, 2)
POINTS = np.array([[50.5, 80.2], [110.4, 60.9], [76.0, 112.7]])
CHANNELS = (0, 2, 1)


@pytest.fixture(autouse=True)
def plain_colors(monkeypatch):
    """Leave the colours alone, so that the dots can be found again."""
    for module in (detector_samples, keypoint_samples):
        monkeypatch.setattr(module, "photometric", lambda image, rng, hide: image)


@pytest.fixture(scope="module")
def dotted(tmp_path_factory):
    """One picture with a red left end, a blue right end and a green middle."""
    folder = tmp_path_factory.mktemp("dots")
    (folder / "1.png").write_bytes(encode_image(dots((160, 160), POINTS, radius=5), "png"))
    keypoints = [v for p in POINTS for v in (*p.tolist(), 2)]
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [40, 50, 80, 72]}
    path = write_coco(
        folder / "train.json",
        images=[{"id": 1, "file_name": "1.png", "width": 160, "height": 160}],
        annotations=[{**annotation, "keypoints": keypoints}],
        categories=[category(NAMES, skeleton=[[1, 2], [2, 3]])],
    )
    return read_dataset(path)


@pytest.fixture(scope="module")
def sticks(tmp_path_factory):
    return read_dataset(write_sticks(tmp_path_factory.mktemp("sticks"), 10))


def crops(dataset, *, seed=0, flip=FLIP, **policy):
    source = Source(dataset, 1.0)
    return KeypointSampler(
        [source], flip, CropPolicy(size=128, **policy), PictureCache(1 << 24), seed=seed
    )


def windows(dataset, *, seed=0, **policy):
    source = Source(dataset, 1.0)
    return WindowSampler(
        [source], WindowPolicy(size=128, **policy), PictureCache(1 << 24), seed=seed
    )


def test_every_labelled_point_of_a_crop_lies_on_its_dot_or_on_its_partners(dotted):
    batch = crops(dotted, any_rotation=0.5).batch(0, 40)
    mirrored, looked = 0, 0
    for image, points, weights in zip(
        batch["images"], batch["points"], batch["weights"], strict=True
    ):
        found = [find_dot(image, channel) for channel in CHANNELS]
        inside = (points > 8).all(1) & (points < 120).all(1)
        if not inside.all():
            continue
        # In a mirror image the red end, left before, is what is called right.
        straight = np.abs(points - np.array(found)).max()
        crossed = np.abs(points[list(FLIP)] - np.array(found)).max()
        assert min(straight, crossed) < 0.5
        assert weights.tolist() == [1, 1, 1]
        mirrored += crossed < straight
        looked += 1
    assert looked > 25
    assert 0.2 < mirrored / looked < 0.8


def test_without_partners_a_mirrored_crop_keeps_the_names(dotted):
    batch = crops(dotted, flip=(0, 1, 2)).batch(0, 20)
    for image, points in zip(batch["images"], batch["points"], strict=True):
        if (points > 8).all() and (points < 120).all():
            assert np.abs(find_dot(image, 0) - points[0]).max() < 0.5


def test_points_outside_the_crop_are_not_labelled(dotted):
    batch = crops(dotted, scale=(2.0, 3.0), shift=0.3).batch(0, 40)
    outside = ((batch["points"] < 0) | (batch["points"] >= 128)).any(-1)
    assert outside.any()
    assert (batch["weights"][outside] == 0).all()
    assert (batch["weights"][~outside] == 1).all()


def test_the_box_fills_the_crop_as_in_inference(dotted):
    batch = crops(dotted, scale=(1, 1.0001), shift=0, rotation=0, any_rotation=0).batch(0, 8)
    apart = np.linalg.norm(batch["points"][:, 0] - batch["points"][:, 1], axis=-1)
    expected = np.linalg.norm(POINTS[0] - POINTS[1]) / 80 * 0.95 * 128
    assert np.allclose(apart, expected, rtol=1e-3)


def test_a_batch_is_a_function_of_seed_and_step(dotted):
    one, same, other = crops(dotted), crops(dotted), crops(dotted, seed=1)
    one.batch(0, 3)
    a, b = one.batch(7, 3), same.batch(7, 3)
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert not np.array_equal(a["points"], other.batch(7, 3)["points"])
    assert not np.array_equal(a["points"], one.batch(8, 3)["points"])


def test_the_types_are_those_of_training(dotted):
    batch = crops(dotted).batch(0, 2)
    kinds = {k: (v.shape, v.dtype.name) for k, v in batch.items()}
    assert kinds == {
        "images": ((2, 128, 128, 3), "uint8"),
        "points": ((2, 3, 2), "float32"),
        "weights": ((2, 3), "float32"),
    }


def test_instances_that_teach_no_keypoint_are_left_out(dotted):
    (picture,) = dotted.pictures
    crowd = replace(picture, ignore=np.array([True]))
    bare = replace(picture, weights=np.zeros((1, 3), np.float32))
    assert not crops(replace(dotted, pictures=(crowd, bare))).items


def test_a_part_of_an_instance_holds_some_of_its_points_and_not_all():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (17, 2)).astype(np.float32)
    shares = []
    for _ in range(50):
        box = part_box(points, rng)
        inside = ((points >= box[:2]) & (points <= box[2:])).all(1)
        assert inside.sum() >= 3
        shares.append(inside.mean())
    assert np.mean(shares) < 0.9


def many_points(dotted):
    """Return the picture with its three dots named as eight keypoints."""
    (picture,) = dotted.pictures
    places = picture.keypoints[0][[0, 1, 2, 0, 1, 2, 0, 1]][None]
    eight = replace(picture, keypoints=places, weights=np.ones((1, 8), np.float32))
    return replace(dotted, pictures=(eight,), keypoint_names=tuple("abcdefgh"), categories=())


def test_half_bodies_hide_and_unlabel_what_lies_outside(dotted):
    sampler = crops(many_points(dotted), flip=range(8), half=1.0, rotation=0, any_rotation=0)
    batch = sampler.batch(0, 60)
    hidden = 0
    for image, points, weights in zip(
        batch["images"], batch["points"], batch["weights"], strict=True
    ):
        for slot, channel in enumerate(CHANNELS):
            x, y = np.floor(points[slot]).astype(int)
            if weights[slot]:
                assert image[y, x].argmax() == channel
                assert np.ptp(image[y, x].astype(int)) > 100
            inside = (points[slot] > 0).all() and (points[slot] < 128).all()
            hidden += bool(inside and not weights[slot])
    assert hidden > 0


# ---------------------------------------------------------------- windows


def ends(window):
    return [find_dot(window.image, channel) for channel in (0, 2)]


@pytest.mark.parametrize("zoom", [0.0, 1.0])
def test_boxes_of_a_window_hold_both_ends_of_their_stick(sticks, zoom):
    seen = 0
    for window in windows(sticks, mosaic=0, zoom=zoom).batch(0, 40):
        found = [f for f in ends(window) if f is not None]
        if len(window.boxes) == 0:
            assert not found
            continue
        (box,) = window.boxes
        for point in found:
            assert (point > box[:2] - 4).all()
            assert (point < box[2:] + 4).all()
        seen += 1
    assert seen > 20


def test_a_mosaic_has_the_instances_of_its_tiles_each_in_its_quarter(sticks):
    for window in windows(sticks, mosaic=1).batch(0, 10):
        assert window.image.shape == (128, 128, 3)
        for box in window.boxes:
            quarter = (box[:2] + box[2:]) / 2 // 64 * 64
            assert (box[:2] >= quarter - 1e-3).all()
            assert (box[2:] <= quarter + 64 + 1e-3).all()
            tile = window.image[
                int(box[1]) : int(np.ceil(box[3])), int(box[0]) : int(np.ceil(box[2]))
            ]
            assert np.ptp(tile.astype(int), axis=-1).max() > 60  # a coloured end is in it


def test_small_and_mostly_hidden_instances_are_ignored(sticks):
    batch = windows(sticks, min_side=1000).batch(0, 10)
    assert all(w.ignore.all() for w in batch)
    batch = windows(sticks, min_visible=1.1).batch(0, 10)
    assert all(w.ignore.all() for w in batch)


def test_windows_are_a_function_of_seed_and_step(sticks):
    a, b = (windows(sticks).batch(3, 4) for _ in range(2))
    assert all(
        np.array_equal(x.image, y.image) and np.array_equal(x.boxes, y.boxes)
        for x, y in zip(a, b, strict=True)
    )


def test_a_mosaic_with_one_incomplete_tile_is_incomplete(sticks):
    batch = windows(replace(sticks, complete=False)).batch(0, 4)
    assert not any(w.complete for w in batch)


# ---------------------------------------------------------------- pasting


def test_policies_paste_nothing_by_default_and_then_draw_as_before(dotted):
    assert CropPolicy().paste == WindowPolicy().paste == 0
    assert len(crops(dotted)._donors) == 0


def test_pasted_instances_of_a_window_have_boxes_about_what_is_seen(dotted):
    for window in windows(dotted, paste=1.0, mosaic=0).batch(0, 20):
        assert 1 <= len(window.boxes) <= 5
        assert window.boxes.dtype == np.float32
        assert len(window.boxes) == len(window.class_ids) == len(window.ignore)
        assert (window.boxes >= 0).all()
        assert (window.boxes <= 128).all()


def test_a_neighbour_pasted_into_a_crop_unlabels_what_it_hides(dotted):
    pasted = crops(dotted, paste=1.0, rotation=0, any_rotation=0, shift=0).batch(0, 40)
    hidden = 0
    for image, points, weights in zip(
        pasted["images"], pasted["points"], pasted["weights"], strict=True
    ):
        assert weights.sum() >= 1.5  # the instance that is asked for can still be told
        for slot in range(3):
            x, y = np.floor(points[slot]).astype(int)
            if weights[slot]:
                # What is labelled is still seen: a pure colour, of its own or its partner's dot.
                assert np.ptp(image[y, x].astype(int)) > 100
            else:
                hidden += 1
    assert hidden > 0
