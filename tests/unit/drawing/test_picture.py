from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openkeypoints.drawing import DrawStyle, draw
from openkeypoints.errors import InputError
from openkeypoints.results import Prediction
from openkeypoints.skeletons import load_skeleton
from tests.unit.predictions import masked, people

GREY = np.full((480, 640, 3), 90, np.uint8)
ONLY_SKELETON = DrawStyle(boxes=False, scores=False)


def one_edge(**changes: object) -> Prediction:
    """Return one person of whom the left hip (100, 200) and knee (300, 200) are known."""
    keypoints = np.full((1, 17, 2), np.nan, np.float32)
    scores = np.zeros((1, 17), np.float32)
    keypoints[0, [11, 13]] = [[100, 200], [300, 200]]
    scores[0, [11, 13]] = [0.9, 0.4]
    prediction = Prediction(
        (640, 480), "m", ("person",), {0: load_skeleton("coco17")},
        np.array([[50, 60, 350, 400]], np.float32), np.ones(1, np.float32),
        np.zeros(1, np.int64), keypoints, scores,
    )  # fmt: skip
    return replace(prediction, **changes)


def changed(picture: np.ndarray, x: int, y: int) -> bool:
    return bool((picture[y, x] != 90).any())


def test_the_picture_is_not_changed_and_the_drawing_is() -> None:
    picture = GREY.copy()
    drawn = draw(picture, people(3))
    assert (picture == GREY).all()
    assert (drawn != GREY).any()
    assert (drawn.shape, drawn.dtype) == (GREY.shape, np.uint8)


def test_no_instances_give_the_same_picture() -> None:
    drawn = draw(GREY, people(2)[[]])
    assert (drawn == GREY).all()
    assert drawn is not GREY


def test_edges_keypoints_and_boxes_lie_where_they_should() -> None:
    drawn = draw(GREY, one_edge(), style=DrawStyle(scores=False))
    assert changed(drawn, 200, 200)
    assert changed(drawn, 100, 200)
    assert changed(drawn, 200, 60)
    assert not changed(drawn, 200, 300)


def test_keypoints_below_the_threshold_are_hidden_with_their_edges() -> None:
    drawn = draw(GREY, one_edge(), keypoint_confidence=0.5, style=ONLY_SKELETON)
    assert changed(drawn, 100, 200)
    assert not changed(drawn, 300, 200)
    assert not changed(drawn, 200, 200)


def test_the_threshold_is_that_of_the_prediction_by_default() -> None:
    drawn = draw(GREY, one_edge(keypoint_confidence=0.5), style=ONLY_SKELETON)
    assert not changed(drawn, 300, 200)


def test_both_colour_orders_show_the_same_colours() -> None:
    bgr = draw(GREY, one_edge(), color="bgr", style=ONLY_SKELETON)
    rgb = draw(GREY, one_edge(), color="rgb", style=ONLY_SKELETON)
    assert (bgr[..., ::-1] == rgb).all()
    assert rgb[200, 200].tolist() == [0x56, 0xB4, 0xE9]  # the left side


@pytest.mark.parametrize(
    "picture",
    [GREY[..., 0], GREY[..., :1], np.asfortranarray(GREY), GREY[:, ::-1], GREY[::-1]],
    ids=["grey", "one channel", "columns first", "mirrored", "upside down"],
)
def test_every_layout_of_a_picture_is_drawn_alike(picture: np.ndarray) -> None:
    assert (draw(picture, people(3)) == draw(GREY, people(3))).all()


def test_a_read_only_picture_is_drawn() -> None:
    picture = GREY.copy()
    picture.flags.writeable = False
    assert draw(picture, people(1)).flags.writeable


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38, -3e38, 1e9, -1e6, 40_000.0])
@pytest.mark.parametrize("where", ["keypoints", "covariances", "boxes"])
def test_extreme_numbers_do_no_harm(where: str, value: float) -> None:
    prediction = people(3, full=True)
    array = getattr(prediction, where).copy()
    array[0, ..., 0] = value
    if where == "boxes" and not np.isfinite(value):
        array[0, 0] = -3.4e38
    everything = DrawStyle(names=True, uncertainty=True)
    assert draw(GREY, replace(prediction, **{where: array}), style=everything).shape == GREY.shape


def test_an_edge_that_leaves_the_picture_is_drawn_up_to_its_rim() -> None:
    keypoints = one_edge().keypoints.copy()
    keypoints[0, 13] = [1e30, 200]
    drawn = draw(GREY, one_edge(keypoints=keypoints), style=ONLY_SKELETON)
    assert changed(drawn, 639, 200)


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (3000, 20)])
def test_pictures_of_odd_sizes_are_drawn(size: tuple[int, int]) -> None:
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    style = DrawStyle(names=True, uncertainty=True)
    prediction = replace(people(4, full=True), image_size=size)
    assert draw(picture, prediction, style=style).shape == picture.shape


def test_uncertainty_fills_the_ellipse_of_the_covariance() -> None:
    covariances = np.zeros((1, 17, 2, 2), np.float32)
    covariances[0, 11] = [[900, 0], [0, 25]]  # 30 px along x, 5 px along y
    style = DrawStyle(boxes=False, scores=False, skeleton=False, uncertainty=True)
    drawn = draw(GREY, one_edge(covariances=covariances), style=style)
    assert changed(drawn, 75, 200)
    assert not changed(drawn, 65, 200)
    assert not changed(drawn, 100, 210)


def test_names_and_labels_are_written_when_asked_for() -> None:
    bare = draw(GREY, one_edge(), style=ONLY_SKELETON)
    for style in (replace(ONLY_SKELETON, names=True), replace(ONLY_SKELETON, scores=True)):
        assert (draw(GREY, one_edge(), style=style) != bare).any()


def test_a_track_keeps_its_colour_when_the_order_changes() -> None:
    def box_color(track_ids: list[int], y: int) -> list[int]:
        boxes = np.array([[50, 60, 350, 160], [50, 260, 350, 460]], np.float32)
        prediction = replace(
            people(2), boxes=boxes, track_ids=np.array(track_ids), keypoint_confidence=2.0
        )
        return draw(GREY, prediction, style=ONLY_BOXES)[y, 345].tolist()

    assert box_color([3, 8], 60) == box_color([8, 3], 260)


ONLY_BOXES = DrawStyle(skeleton=False, scores=False)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (GREY.astype(np.float32), "float32"),
        (GREY[:100], "640x100"),
        (np.zeros((480, 640, 4), np.uint8), "shape"),
        ("people.jpg", "str"),
    ],
)
def test_what_is_no_picture_of_the_prediction_is_refused(picture, message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw(picture, people(1))


def test_an_unknown_colour_order_is_refused() -> None:
    with pytest.raises(InputError, match="'bgr' or 'rgb'"):
        draw(GREY, people(1), color="hsv")  # type: ignore[arg-type]


ONLY_MASKS = DrawStyle(boxes=False, scores=False)


def test_masks_are_tinted_where_they_lie_in_the_picture() -> None:
    drawn = draw(GREY, masked(1), style=ONLY_MASKS)
    assert changed(drawn, 120, 130)
    assert not changed(drawn, 150, 170)  # the hole
    assert not changed(drawn, 250, 170)
    assert not changed(drawn, 120, 100)


def test_a_tint_lets_the_picture_through() -> None:
    bright = draw(np.full_like(GREY, 200), masked(1), style=ONLY_MASKS)
    assert (bright[130, 120] > draw(GREY, masked(1), style=ONLY_MASKS)[130, 120]).all()


def test_masks_are_left_out_when_asked() -> None:
    style = replace(ONLY_MASKS, masks=False)
    assert (draw(GREY, masked(1), style=style) == GREY).all()


def test_masks_of_the_size_of_the_picture_are_drawn_as_they_are() -> None:
    masks = np.zeros((1, 480, 640), bool)
    masks[0, 100:200, 300:400] = True
    drawn = draw(GREY, replace(masked(1), masks=masks), style=ONLY_MASKS)
    assert ((drawn != GREY).any(axis=-1) == masks[0]).all()


def test_instances_of_a_class_share_a_colour_where_there_are_no_keypoints() -> None:
    prediction = replace(masked(2), class_ids=np.zeros(2, np.int64))
    same = draw(GREY, prediction, style=ONLY_MASKS)
    assert (same[130, 120] == same[130, 320]).all()
    other = draw(GREY, masked(2), style=ONLY_MASKS)
    assert (other[130, 120] != other[130, 320]).any()
