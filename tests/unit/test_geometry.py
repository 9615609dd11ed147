from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openkeypoints import geometry
from openkeypoints.errors import InputError
from openkeypoints.geometry import letterbox, letterbox_of, mask_letterbox
from tests.unit.predictions import masked


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    low = rng.uniform(0, 60, (count, 2))
    return np.concatenate([low, low + rng.uniform(1, 40, (count, 2))], axis=1)


# --- box layouts -----------------------------------------------------------------------------


def test_box_layouts_lead_back_to_the_same_corners() -> None:
    boxes = random_boxes(np.random.default_rng(0), 20)
    centred = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
    np.testing.assert_allclose(geometry.xyxy_from_xywh(geometry.xywh_from_xyxy(boxes)), boxes)
    np.testing.assert_allclose(geometry.xyxy_from_cxcywh(centred), boxes)


def test_box_layouts_keep_float32() -> None:
    box = np.ones((1, 4), np.float32)
    turned = (geometry.xyxy_from_xywh, geometry.xywh_from_xyxy, geometry.xyxy_from_cxcywh)
    assert {turn(box).dtype for turn in turned} == {np.dtype(np.float32)}
    assert geometry.clip_boxes(box, (9, 9)).dtype == np.float32


def test_clipping_moves_corners_to_the_edge_of_the_picture() -> None:
    boxes = np.array([[-5.0, 2.0, 200.0, 90.0]])
    np.testing.assert_array_equal(geometry.clip_boxes(boxes, (100, 50)), [[0, 2, 100, 50]])


def test_a_box_turned_inside_out_has_no_area() -> None:
    boxes = np.array([[0.0, 0.0, 3.0, 4.0], [5.0, 0.0, 3.0, 4.0], [5.0, 4.0, 3.0, 0.0]])
    np.testing.assert_array_equal(geometry.area(boxes), [12, 0, 0])


# --- letterbox -------------------------------------------------------------------------------


def test_rect_letterbox_pads_only_to_the_stride() -> None:
    plan = geometry.letterbox((1280, 720), (640, 640), stride=32, rect=True)
    assert plan.resized_size == (640, 360)
    assert plan.input_size == (640, 384)
    assert (plan.top, plan.bottom) == (12, 12)


def test_square_letterbox_fills_the_whole_target() -> None:
    plan = geometry.letterbox((1280, 720), (640, 640), stride=32, rect=False)
    assert plan.input_size == (640, 640)


def test_odd_padding_puts_the_extra_pixel_right_and_bottom() -> None:
    plan = geometry.letterbox((59, 64), (64, 64), stride=32, rect=True)
    assert (plan.left, plan.right) == (2, 3)


def test_resized_sides_are_rounded_with_halves_to_even() -> None:
    widths = [
        geometry.letterbox((width, 128), (64, 64), stride=32, rect=True).resized_size[0]
        for width in (53, 54, 55)
    ]
    assert widths == [26, 27, 28]


def test_a_sliver_keeps_one_pixel() -> None:
    plan = geometry.letterbox((3000, 1), (320, 320), stride=32, rect=True)
    assert plan.resized_size == (320, 1)


def test_corners_of_the_resized_picture_come_back_as_the_pictures_corners() -> None:
    rng = np.random.default_rng(1)
    for width, height in rng.integers(1, 2000, (50, 2)).tolist():
        plan = geometry.letterbox((width, height), (640, 384), stride=32, rect=bool(width % 2))
        inner = np.array([plan.left, plan.top, *plan.resized_size], np.float64)
        inner[2:] += inner[:2]
        back = plan.boxes_to_original(inner, clip=False)
        np.testing.assert_allclose(back, [0, 0, width, height], atol=1e-9)


def test_points_stay_outside_the_picture_unless_clipping_is_asked_for() -> None:
    plan = geometry.letterbox((100, 50), (200, 200), stride=32, rect=False)
    points = np.array([[-2.0, 0.0], [100.0, 100.0]])
    np.testing.assert_allclose(plan.to_original(points), [[-1, -25], [50, 25]])
    np.testing.assert_allclose(plan.to_original(points, clip=True), [[0, 0], [50, 25]])


@pytest.mark.parametrize("rect", [False, True])
@pytest.mark.parametrize("size", [(640, 480), (333, 1000), (1281, 717), (64, 64)])
def test_the_letterbox_is_known_from_the_two_sizes(size: tuple[int, int], rect: bool) -> None:
    planned = letterbox(size, (320, 320), stride=32, rect=rect)
    assert letterbox_of(size, planned.input_size) == planned


def test_a_stretched_picture_fills_the_input() -> None:
    stretched = letterbox_of((640, 480), (320, 320), stretch=True)
    assert stretched.window == (slice(0, 320), slice(0, 320))
    points = stretched.to_original(np.array([[320.0, 160.0]]))
    np.testing.assert_allclose(points, [[640, 240]])


def test_the_window_of_a_letterbox_holds_the_picture() -> None:
    assert letterbox_of((640, 480), (320, 320)).window == (slice(40, 280), slice(0, 320))


def test_masks_of_the_size_of_the_picture_need_no_way_back() -> None:
    prediction = replace(masked(1), masks=np.zeros((1, 480, 640), np.bool_))
    points = np.array([[3.0, 479.0]], np.float32)
    np.testing.assert_array_equal(mask_letterbox(prediction).to_original(points), points)


def test_letterbox_refuses_a_picture_without_pixels() -> None:
    with pytest.raises(InputError, match="at least 1"):
        geometry.letterbox((0, 10), (64, 64), stride=32, rect=True)


# --- affine maps -----------------------------------------------------------------------------


def test_square_crop_shows_the_long_side_over_fill_around_the_centre() -> None:
    matrix = geometry.crop_matrix((100, 200, 140, 280), (192, 192), fill=0.8)
    window = np.array([[120 - 50, 240 - 50], [120 + 50, 240 + 50]], np.float64)
    np.testing.assert_allclose(
        geometry.transform_points(window, matrix), [[0, 0], [192, 192]], atol=1e-9
    )


def test_upright_crop_holds_the_box_without_stretching() -> None:
    matrix = geometry.crop_matrix((0, 0, 100, 20), (96, 128), fill=1.0)
    mapped = geometry.transform_boxes(np.array([0.0, 0.0, 100.0, 20.0]), matrix)
    np.testing.assert_allclose(mapped, [0, 64 - 9.6, 96, 64 + 9.6])


def test_positive_rotation_turns_the_content_clockwise() -> None:
    matrix = geometry.crop_matrix((0, 0, 10, 10), (10, 10), fill=1.0, rotation_deg=90)
    top_middle = np.array([5.0, 0.0])
    right_middle = [10.0, 5.0]
    np.testing.assert_allclose(geometry.transform_points(top_middle, matrix), right_middle)


def test_a_crop_of_a_point_has_an_inverse() -> None:
    matrix = geometry.crop_matrix((7, 7, 7, 7), (64, 64), fill=0.5)
    np.testing.assert_allclose(
        geometry.transform_points(np.array([32.0, 32.0]), geometry.invert_affine(matrix)), [7, 7]
    )


def test_inverse_brings_points_back() -> None:
    rng = np.random.default_rng(2)
    points = rng.uniform(-100, 100, (5, 7, 2))
    matrix = geometry.crop_matrix((3, 5, 77, 50), (192, 256), fill=0.9, rotation_deg=33)
    there = geometry.transform_points(points, matrix)
    back = geometry.transform_points(there, geometry.invert_affine(matrix))
    np.testing.assert_allclose(back, points, atol=1e-9)


def test_a_flattening_map_has_no_inverse() -> None:
    with pytest.raises(InputError, match="no inverse"):
        geometry.invert_affine(np.zeros((2, 3)))


def test_mapped_points_keep_type_and_nan() -> None:
    points = np.array([[np.nan, np.nan], [2.0, 3.0]], np.float32)
    mapped = geometry.transform_points(points, np.array([[1.0, 0.0, 5.0], [0.0, 1.0, 0.0]]))
    assert mapped.dtype == np.float32
    np.testing.assert_array_equal(mapped, [[np.nan, np.nan], [7, 3]])


def test_rotated_boxes_become_their_upright_extent() -> None:
    quarter_turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
    mapped = geometry.transform_boxes(np.array([[1.0, 2.0, 5.0, 3.0]]), quarter_turn)
    np.testing.assert_array_equal(mapped, [[-3, 1, -2, 5]])


# --- overlap ---------------------------------------------------------------------------------


def test_iou_of_known_boxes() -> None:
    first = np.array([[0.0, 0.0, 10.0, 10.0]])
    second = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4]], np.float64)
    np.testing.assert_allclose(geometry.iou_matrix(first, second), [[1, 1 / 3, 0, 0.04]])


def test_iou_of_boxes_without_area_is_zero() -> None:
    point = np.array([[3.0, 3.0, 3.0, 3.0]])
    np.testing.assert_array_equal(geometry.iou_matrix(point, point), [[0]])


def test_kept_boxes_are_the_greedy_choice() -> None:
    rng = np.random.default_rng(3)
    boxes, scores = random_boxes(rng, 60), rng.uniform(size=60)
    iou = geometry.iou_matrix(boxes, boxes)
    expected: list[int] = []
    for row in np.argsort(-scores):
        if all(iou[row, other] <= 0.3 for other in expected):
            expected.append(int(row))
    kept = geometry.nms(boxes, scores, iou_threshold=0.3)
    assert kept.tolist() == expected
    assert len(expected) < 60


def test_a_box_exactly_on_the_threshold_stays() -> None:
    boxes = np.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0]])
    assert geometry.nms(boxes, np.array([0.9, 0.8]), iou_threshold=0.5).tolist() == [0, 1]


def test_equal_scores_keep_their_order() -> None:
    boxes = np.array([[0.0, 0.0, 1.0, 1.0], [5.0, 5.0, 6.0, 6.0], [9.0, 9.0, 10.0, 10.0]])
    assert geometry.nms(boxes, np.full(3, 0.5), iou_threshold=0.5).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("agnostic", "kept"), [(False, [1, 0]), (True, [1])])
def test_classes_leave_each_other_alone_unless_agnostic(agnostic: bool, kept: list[int]) -> None:
    boxes = np.array([[0.0, 0.0, 9.0, 9.0]] * 2)
    chosen = geometry.nms(
        boxes,
        np.array([0.3, 0.7]),
        iou_threshold=0.5,
        class_ids=np.array([0, 1]),
        class_agnostic=agnostic,
    )
    assert chosen.tolist() == kept


def test_nms_stops_at_the_most_detections() -> None:
    boxes = np.arange(10.0)[:, None] * 100 + [0, 0, 9, 9]
    kept = geometry.nms(boxes, np.linspace(0, 1, 10), iou_threshold=0.5, max_detections=3)
    assert kept.tolist() == [9, 8, 7]


def test_nms_of_nothing_keeps_nothing() -> None:
    kept = geometry.nms(np.zeros((0, 4)), np.zeros(0), iou_threshold=0.5)
    assert kept.shape == (0,)
    assert kept.dtype == np.int64


# --- object keypoint similarity --------------------------------------------------------------


def test_oks_follows_the_formula() -> None:
    labelled = np.array([[[10.0, 10.0], [20.0, 20.0]]])
    predicted = labelled + np.array([3.0, 4.0])
    sigmas = np.array([0.05, 0.1])
    value = geometry.oks_matrix(
        predicted, labelled, areas=np.array([900.0]), sigmas=sigmas, visible=np.ones((1, 2), bool)
    )
    expected = np.mean([np.exp(-25 / (2 * 900 * 0.01)), np.exp(-25 / (2 * 900 * 0.04))])
    np.testing.assert_allclose(value, [[expected]])


def test_a_missing_keypoint_counts_as_infinitely_far() -> None:
    labelled = np.array([[[10.0, 10.0], [20.0, 20.0]]])
    predicted = np.array([[[10.0, 10.0], [np.nan, np.nan]]])
    value = geometry.oks(
        predicted,
        labelled,
        areas=np.array([100.0]),
        sigmas=np.array([0.05, 0.05]),
        visible=np.ones((1, 2), bool),
    )
    np.testing.assert_allclose(value, [0.5])


def test_unlabelled_keypoints_do_not_count() -> None:
    labelled = np.array([[[10.0, 10.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    visible = np.array([[True, False], [False, False]])
    value = geometry.oks_matrix(
        np.full((1, 2, 2), 10.0),
        labelled,
        areas=np.array([100.0, 100.0]),
        sigmas=np.array([0.05, 0.05]),
        visible=visible,
    )
    np.testing.assert_allclose(value, [[1.0, 0.0]])


def test_a_person_without_area_is_matched_only_on_the_spot() -> None:
    labelled = np.array([[[10.0, 10.0]]])
    predicted = np.array([[[10.0, 10.0]], [[10.5, 10.0]]])
    value = geometry.oks_matrix(
        predicted,
        labelled,
        areas=np.zeros(1),
        sigmas=np.array([0.05]),
        visible=np.ones((1, 1), bool),
    )
    np.testing.assert_array_equal(value, [[1.0], [0.0]])


def test_oks_nms_drops_the_worse_of_two_equal_poses() -> None:
    rng = np.random.default_rng(4)
    pose = rng.uniform(0, 100, (5, 2))
    keypoints = np.stack([pose, pose + 0.1, pose + 60])
    kept = geometry.oks_nms(
        keypoints,
        np.array([0.5, 0.9, 0.7]),
        areas=np.full(3, 5000.0),
        sigmas=np.full(5, 0.05),
        threshold=0.9,
    )
    assert kept.tolist() == [1, 2]


def test_oks_nms_passes_over_keypoints_that_the_better_pose_lacks() -> None:
    keypoints = np.array([[[10.0, 10.0], [np.nan, np.nan]], [[10.0, 10.0], [50.0, 50.0]]])
    kept = geometry.oks_nms(
        keypoints,
        np.array([0.9, 0.5]),
        areas=np.full(2, 100.0),
        sigmas=np.full(2, 0.05),
        threshold=0.9,
    )
    assert kept.tolist() == [0]


# --- recorded cases --------------------------------------------------------------------------


@pytest.mark.oracle
def test_letterbox_equals_the_recorded_cases(shared: Path) -> None:
    cases = json.loads((shared / "oracles/yolo_unit/letterbox_rescale.json").read_text())
    assert len(cases) == 120
    for case in cases:
        plan = geometry.letterbox(
            tuple(case["orig_hw"][::-1]),
            tuple(case["target_hw"][::-1]),
            stride=case["stride"],
            rect=case["auto"],
        )
        assert [*plan.resized_size] == case["resized_wh"]
        assert [*plan.input_size] == case["out_hw"][::-1]
        sides = [plan.top, plan.bottom, plan.left, plan.right]
        assert sides == [case[side] for side in ("top", "bottom", "left", "right")]
        back = plan.boxes_to_original(np.array(case["boxes_in"], np.float32))
        np.testing.assert_allclose(back, case["boxes_out"], atol=1e-3, rtol=0)
        points = np.array(case["kpts_in"], np.float32)[..., :2]
        expected = np.array(case["kpts_out"])[..., :2]
        np.testing.assert_allclose(plan.to_original(points, clip=True), expected, atol=1e-3, rtol=0)


@pytest.mark.oracle
def test_letterbox_frames_the_recorded_pixels(shared: Path) -> None:
    recorded = np.load(shared / "oracles/yolo_unit/letterbox_pixels.npz")
    for index in range(5):
        height, width, rect, stride = recorded[f"args{index}"].tolist()
        before, after = recorded[f"in{index}"], recorded[f"out{index}"]
        plan = geometry.letterbox(
            before.shape[1::-1], (width, height), stride=stride, rect=bool(rect)
        )
        assert plan.input_size == after.shape[1::-1]
        frame = np.ones(after.shape[:2], bool)
        inner_width, inner_height = plan.resized_size
        frame[plan.top : plan.top + inner_height, plan.left : plan.left + inner_width] = False
        assert (after[frame] == 114).all()


@pytest.mark.oracle
def test_nms_equals_the_recorded_choices(shared: Path) -> None:
    folder = shared / "oracles/yolo_unit"
    recorded = np.load(folder / "nms.npz")
    for index, case in enumerate(json.loads((folder / "nms.json").read_text())["cases"]):
        raw = recorded[f"pred{index}"][0].T
        classes = raw[:, 4 : 4 + case["nc"]]
        best, class_ids = classes.max(axis=1), classes.argmax(axis=1)
        wanted = np.isin(class_ids, case.get("classes", range(case["nc"])))
        rows = np.flatnonzero((best > case["conf_thres"]) & wanted)
        kept = geometry.nms(
            geometry.xyxy_from_cxcywh(raw[rows, :4]),
            best[rows],
            iou_threshold=case["iou_thres"],
            class_ids=class_ids[rows],
            class_agnostic=case.get("agnostic", False),
            max_detections=case.get("max_det", 300),
        )
        np.testing.assert_array_equal(rows[kept], recorded[f"keep{index}"])
