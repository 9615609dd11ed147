from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from openkeypoints.models.request import InferOptions, SettledRequest
from openkeypoints.models.yolo import decode
from openkeypoints.models.yolo.spec import OutputSpec

SIZE = (64, 32)  # 8 x 4 + 4 x 2 + 2 x 1 cells
ANCHORS = 42
SECOND_LEVEL = 32  # its first cell covers 0..16, 0..16


def spec(layout: Any, **changes: Any) -> OutputSpec:
    return replace(OutputSpec(layout, {}, "one2many", 2), **changes)


def ask(confidence: float = 0.25, iou_threshold: float = 0.7, **rest: Any) -> SettledRequest:
    return SettledRequest(confidence, iou_threshold, **rest)


def table(*columns: list[float]) -> NDArray[np.float32]:
    return np.array(columns, np.float32).T


def maps(bins: int, keypoints: int = 0) -> dict[str, NDArray[np.float32]]:
    found = {
        "boxes": np.zeros((4 * bins, ANCHORS), np.float32),
        "scores": np.full((2, ANCHORS), -9.0, np.float32),
    }
    if keypoints:
        found["keypoints"] = np.zeros((keypoints, ANCHORS), np.float32)
    return found


# --- columns ---------------------------------------------------------------------------------


def test_columns_become_corners_with_the_best_class() -> None:
    found = decode.find({"table": table([10, 20, 4, 6, 0.1, 0.9])}, spec("columns"), SIZE, ask())
    np.testing.assert_array_equal(found.boxes, [[8, 17, 12, 23]])
    assert found.class_ids.tolist() == [1]
    np.testing.assert_allclose(found.scores, [0.9])


def test_a_score_on_the_threshold_is_not_enough() -> None:
    rows = table([10, 10, 4, 4, 0.25, 0], [30, 10, 4, 4, 0.2501, 0])
    found = decode.find({"table": rows}, spec("columns"), SIZE, ask(0.25))
    np.testing.assert_array_equal(found.boxes[:, 0], [28])


def test_only_the_wanted_classes_are_returned() -> None:
    rows = table([10, 10, 4, 4, 0.5, 0.1], [30, 10, 4, 4, 0.1, 0.4])
    found = decode.find({"table": rows}, spec("columns"), SIZE, ask(class_filter=(1,)))
    assert found.class_ids.tolist() == [1]


def test_only_the_best_candidates_enter_suppression() -> None:
    rows = table([10, 10, 4, 4, 0.4, 0], [30, 10, 4, 4, 0.6, 0], [50, 10, 4, 4, 0.5, 0])
    found = decode.find(
        {"table": rows}, spec("columns"), SIZE, ask(options=InferOptions(max_candidates=2))
    )
    np.testing.assert_allclose(found.scores, [0.6, 0.5])


@pytest.mark.parametrize(("agnostic", "count"), [(False, 2), (True, 1)])
def test_classes_suppress_each_other_only_when_agnostic(agnostic: bool, count: int) -> None:
    rows = table([10, 10, 4, 4, 0.4, 0], [10, 10, 4, 4, 0, 0.6])
    options = InferOptions(class_agnostic=agnostic)
    found = decode.find({"table": rows}, spec("columns"), SIZE, ask(options=options))
    assert len(found.scores) == count


def test_keypoints_and_coefficients_ride_along() -> None:
    pose = table([10, 10, 4, 4, 0.4, 0, 1, 2, 0.5, 3, 4, 0.6])
    found = decode.find({"table": pose}, spec("columns", keypoints=(2, 3)), SIZE, ask())
    np.testing.assert_allclose(found.keypoints, [[[1, 2, 0.5], [3, 4, 0.6]]])
    masks = table([10, 10, 4, 4, 0.4, 0, 7, 8, 9])
    found = decode.find({"table": masks}, spec("columns", coefficients=3), SIZE, ask())
    np.testing.assert_allclose(found.coefficients, [[7, 8, 9]])
    assert found.keypoints.shape == (1, 0, 2)


def test_nothing_found_keeps_every_shape() -> None:
    found = decode.find(
        maps(16, 6) | {"coefficients": np.zeros((3, ANCHORS), np.float32)},
        spec("maps", keypoints=(2, 3), coefficients=3),
        SIZE,
        ask(),
    )
    assert [values.shape for values in found] == [(0, 4), (0,), (0,), (0, 2, 3), (0, 3)]


# --- maps ------------------------------------------------------------------------------------


def test_distances_are_the_mean_over_their_bins() -> None:
    outputs = maps(16)
    outputs["scores"][0, SECOND_LEVEL + 1] = 5  # its centre is (24, 8)
    sides = outputs["boxes"].reshape(4, 16, ANCHORS)[..., SECOND_LEVEL + 1]
    sides[0, 1] = sides[1, [0, 1]] = sides[2, [2, 4]] = sides[3, 0] = 50
    found = decode.find(outputs, spec("maps"), SIZE, ask())
    np.testing.assert_allclose(found.boxes, [[24 - 16, 8 - 8, 24 + 48, 8]], atol=1e-4)


def test_with_one_bin_the_distances_are_plain_and_may_be_negative() -> None:
    outputs = maps(1)
    outputs["scores"][1, 9] = 5  # second cell of the second row, centre (12, 12)
    outputs["boxes"][:, 9] = [0.5, 1, -0.25, 2]
    found = decode.find(outputs, spec("maps", bins=1), SIZE, ask())
    np.testing.assert_allclose(found.boxes, [[8, 4, 10, 28]])


@pytest.mark.parametrize(
    ("centred", "point"), [(False, (16 + 16 * 0.6, 0 - 16 * 0.2)), (True, (24 + 4.8, 8 - 1.6))]
)
def test_keypoints_count_from_the_corner_or_from_the_centre(
    centred: bool, point: tuple[float, float]
) -> None:
    outputs = maps(16, 3)
    outputs["scores"][0, SECOND_LEVEL + 1] = 5
    outputs["keypoints"][:, SECOND_LEVEL + 1] = [0.3, -0.1, 0]
    rule = spec("maps", keypoints=(1, 3), centred=centred)
    found = decode.find(outputs, rule, SIZE, ask())
    np.testing.assert_allclose(found.keypoints, [[[*point, 0.5]]], atol=1e-5)


def test_keypoints_of_two_values_have_no_score() -> None:
    outputs = maps(16, 4)
    outputs["scores"][0, 0] = 5
    found = decode.find(outputs, spec("maps", keypoints=(2, 2)), SIZE, ask())
    np.testing.assert_allclose(found.keypoints, [[[0, 0], [0, 0]]])


@pytest.mark.parametrize("threshold", [0.0, 0.001, 0.25, 0.9, 1.0])
def test_logits_give_the_candidates_of_their_scores(threshold: float) -> None:
    logits = np.random.default_rng(1).normal(0, 4, (3, 2000)).astype(np.float32)
    from_logits = decode.above(logits, threshold, logits=True)
    from_scores = decode.above(decode.sigmoid(logits), threshold, logits=False)
    for first, second in zip(from_logits, from_scores, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_logit_whose_score_is_the_threshold_is_not_enough() -> None:
    logits = np.array([[0.0, 1e-6, -200.0]], np.float32)
    assert decode.above(logits, 0.5, logits=True).anchors.tolist() == [1]
    assert decode.above(logits, 0.0, logits=True).anchors.tolist() == [0, 1]


# --- without suppression ---------------------------------------------------------------------


def test_the_best_pairs_are_chosen_among_the_best_anchors() -> None:
    scores = np.random.default_rng(2).uniform(size=(4, 900)).astype(np.float32)
    anchors = np.argsort(-scores.max(0), kind="stable")[:300]
    pairs = sorted(
        ((float(scores[c, a]), int(a), c) for a in anchors for c in range(4)), reverse=True
    )[:300]
    found = decode.best_pairs(scores, logits=False, agnostic=False)
    assert [*zip(found.scores, found.anchors, found.class_ids, strict=True)] == pairs
    assert len(set(found.anchors.tolist())) < 300


def test_agnostic_pairs_name_every_anchor_once() -> None:
    scores = np.array([[0.9, 0.2, 0.3], [0.8, 0.1, 0.4]], np.float32)
    found = decode.best_pairs(scores, logits=False, agnostic=True)
    assert found.anchors.tolist() == [0, 2, 1]
    assert found.class_ids.tolist() == [0, 1, 0]


def test_without_suppression_overlapping_boxes_stay_up_to_the_limit() -> None:
    outputs = maps(1)
    outputs["scores"][0, :5] = [1, 3, 2, -3, 0.5]
    rule = spec("maps", bins=1, head="one2one")
    found = decode.find(outputs, rule, SIZE, ask(iou_threshold=0.0, max_detections=3))
    np.testing.assert_allclose(found.scores, decode.sigmoid(np.array([3.0, 2, 1])), rtol=1e-6)


# --- rows ------------------------------------------------------------------------------------


def test_rows_are_filtered_sorted_and_cut() -> None:
    rows = np.array(
        [
            [1, 2, 3, 4, 0.5, 0, 7, 8],
            [1, 2, 3, 4, 0.25, 0, 7, 8],
            [5, 6, 7, 8, 0.75, 0, 9, 10],
            [1, 2, 3, 4, 0.9, 1, 7, 8],
            [1, 2, 3, 4, 0.3, 0, 7, 8],
            [0] * 8,
        ],
        np.float32,
    )
    rule = spec("rows", head="embedded-nms", keypoints=(1, 2))
    request = ask(0.25, class_filter=(0,), max_detections=2)
    found = decode.find({"table": rows}, rule, SIZE, request)
    np.testing.assert_array_equal(found.boxes, [[5, 6, 7, 8], [1, 2, 3, 4]])
    np.testing.assert_array_equal(found.keypoints, [[[9, 10]], [[7, 8]]])


def test_rows_that_overlap_are_not_suppressed_again() -> None:
    rows = np.array([[1, 2, 3, 4, 0.9, 0], [1, 2, 3, 4, 0.8, 0]], np.float32)
    found = decode.find({"table": rows}, spec("rows", head="one2one"), SIZE, ask())
    assert len(found.scores) == 2


def test_half_precision_outputs_are_read_as_floats() -> None:
    rows = np.array([[1, 2, 3, 4, 0.9, 0]], np.float16)
    found = decode.find({"table": rows}, spec("rows", head="one2one"), SIZE, ask())
    assert {found.boxes.dtype, found.scores.dtype, found.keypoints.dtype} == {np.dtype(np.float32)}


# --- recorded cases --------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("index", range(7))
def test_columns_give_the_recorded_rows(shared: Path, index: int) -> None:
    folder = shared / "oracles/yolo_unit"
    recorded = np.load(folder / "nms.npz")
    case = json.loads((folder / "nms.json").read_text())["cases"][index]
    shape = tuple(case["kpt_shape"])
    rule = spec("columns", classes=case["nc"], keypoints=shape if shape[0] else None)
    request = ask(
        case["conf_thres"],
        case["iou_thres"],
        max_detections=case.get("max_det", 300),
        class_filter=tuple(case["classes"]) if "classes" in case else None,
        options=InferOptions(class_agnostic=case.get("agnostic", False)),
    )
    found = decode.find({"table": recorded[f"pred{index}"][0]}, rule, (320, 320), request)
    np.testing.assert_allclose(as_rows(found), recorded[f"out{index}"], rtol=0, atol=1e-4)


@pytest.mark.oracle
def test_rows_without_suppression_give_the_recorded_ones(shared: Path) -> None:
    folder = shared / "oracles/yolo_unit"
    recorded = np.load(folder / "nms.npz")
    case = json.loads((folder / "nms.json").read_text())["e2e"]
    request = ask(
        case["conf_thres"], max_detections=case["max_det"], class_filter=tuple(case["classes"])
    )
    rule = spec("rows", head="one2one", classes=3, keypoints=(2, 3))
    found = decode.find({"table": recorded["e2e_in"][0]}, rule, (320, 320), request)
    np.testing.assert_array_equal(as_rows(found), recorded["e2e_out"])


POSE = {"classes": 1, "keypoints": (2, 3)}
RECORDED: dict[str, tuple[str, dict[str, Any]]] = {
    "yolov8n_pose_tubes": ("raw", POSE),
    "yolo11n_pose_tubes": ("raw", POSE),
    "yolo26n_pose_tubes": ("raw.one2many", {**POSE, "bins": 1, "centred": True}),
    "yolo26n_detect_random": ("raw.one2many", {"classes": 4, "bins": 1}),
}


def recorded_maps(recorded: Any, prefix: str) -> dict[str, NDArray[np.float32]]:
    keys = {"boxes": "boxes", "scores": "scores", "keypoints": "kpts"}
    names = {role: f"{prefix}.{key}" for role, key in keys.items()}
    return {role: recorded[name][0] for role, name in names.items() if name in recorded}


@pytest.mark.oracle
@pytest.mark.parametrize("folder", RECORDED)
def test_maps_decode_to_the_recorded_columns(shared: Path, folder: str) -> None:
    recorded = np.load(shared / "oracles" / folder / "raw.npz")
    prefix, rule = RECORDED[folder]
    # Every anchor comes back: nothing overlaps by more than all.
    request = ask(0.0, 1.0, max_detections=2000, options=InferOptions(class_agnostic=True))
    size = (320, 192)
    found = decode.find(recorded_maps(recorded, prefix), spec("maps", **rule), size, request)
    plain = {name: value for name, value in rule.items() if name in POSE}
    columns = {"table": recorded["decoded"][0]}
    expected = decode.find(columns, spec("columns", **plain), size, request)
    assert len(found.scores) == 1260
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-6)
    assert_same_sets(found, expected)


@pytest.mark.oracle
@pytest.mark.parametrize("folder", ["yolo26n_pose_tubes", "yolo26n_detect_random"])
def test_maps_without_suppression_give_the_recorded_best(shared: Path, folder: str) -> None:
    recorded = np.load(shared / "oracles" / folder / "raw.npz")
    rule = spec("maps", **RECORDED[folder][1], head="one2one")
    found = decode.find(recorded_maps(recorded, "raw.one2one"), rule, (320, 192), ask(0.0))
    expected = recorded["decoded_one2one_top300"][0]
    np.testing.assert_allclose(as_rows(found), expected, rtol=0, atol=1e-4)


def as_rows(found: decode.Instances) -> NDArray[np.float32]:
    flat = found.keypoints.reshape(len(found.scores), np.prod(found.keypoints.shape[1:]))
    columns = [found.boxes, found.scores[:, None], found.class_ids[:, None], flat]
    return np.concatenate(columns, axis=1)


def assert_same_sets(found: decode.Instances, expected: decode.Instances) -> None:
    """Scores may change places by rounding: each row has to have a partner."""
    first, second = as_rows(found), as_rows(expected)
    gaps = np.abs(first[:, None] - second[None]).max(axis=2).min(axis=1)
    assert gaps.max() < 1e-3


@pytest.mark.parametrize("threshold", [0.0, 1e-6, 0.25, 0.5, 0.99, 1.0])
def test_the_logit_for_a_graph_lies_below_every_candidate(threshold: float) -> None:
    lowest = decode.lowest_logit(threshold)
    assert lowest.dtype == np.float32
    assert np.isfinite(lowest).all()
    if 0 < threshold < 1:
        logit = np.log(threshold / (1 - threshold))
        assert logit - 0.5 < lowest[0] < logit - 0.01
