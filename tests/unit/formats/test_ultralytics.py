from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from openkeypoints.errors import FormatError, InputError
from openkeypoints.formats import ultralytics
from openkeypoints.results import Prediction, Skeleton
from tests.unit.predictions import TUBE, boxes_only, masked, people, two_values

SERVICE = {"alive_s": 12.5, "call_s": 0.25, "versions": {"openkeypoints": "1.2.3"}}
FOLDERS = (
    "yolov8n_pose_tubes", "yolo11n_pose_tubes", "yolo26n_pose_tubes", "yolo26n_detect_random",
    "yolo11_seg_narrow_random", "yolov8n_pose_official_layout",
)  # fmt: skip


def with_mask(mask: np.ndarray, image_size: tuple[int, int], **details: Any) -> Prediction:
    return replace(
        boxes_only(1), image_size=image_size, masks=mask[None].astype(bool), details=details
    )


# ------------------------------------------------------------------------------- rows


def test_keys_stand_in_the_order_of_the_original() -> None:
    row = ultralytics.dump(people(1, full=True))[0]
    assert list(row) == [
        "name", "class", "confidence", "box", "track_id", "segments", "keypoints",
    ]  # fmt: skip
    assert list(row["box"]) == ["x1", "y1", "x2", "y2"]
    assert list(row["keypoints"]) == ["x", "y", "visible"]


def test_rows_of_a_detector_have_a_box_and_no_more() -> None:
    assert list(ultralytics.dump(boxes_only(1))[0]) == ["name", "class", "confidence", "box"]


def test_no_instances_give_an_empty_list() -> None:
    assert people(2, full=True)[[]].tojson() == "[]"


def test_keypoints_with_two_values_have_no_visible() -> None:
    assert list(ultralytics.dump(two_values(1))[0]["keypoints"]) == ["x", "y"]


def test_each_row_lists_the_keypoints_of_its_class() -> None:
    person, tube = (row["keypoints"] for row in ultralytics.dump(people(2)))
    assert [len(values) for values in person.values()] == [17, 17, 17]
    assert [len(values) for values in tube.values()] == [2, 2, 2]


def test_a_threshold_hides_no_keypoint() -> None:
    prediction = people(1)
    hidden = replace(prediction, keypoint_confidence=0.99)
    assert ultralytics.dump(hidden) == ultralytics.dump(prediction)


def test_a_keypoint_without_a_place_is_zero() -> None:
    prediction = people(1)
    keypoints, scores = prediction.keypoints.copy(), prediction.keypoint_scores.copy()
    keypoints[0, 3], scores[0, 3] = np.nan, 0
    rows = ultralytics.dump(replace(prediction, keypoints=keypoints, keypoint_scores=scores))
    assert [values[3] for values in rows[0]["keypoints"].values()] == [0.0, 0.0, 0.0]
    assert np.isnan(ultralytics.load(rows).keypoints[0, 3]).all()


def test_coordinates_are_divided_before_they_are_rounded() -> None:
    prediction = replace(people(1), boxes=np.array([[10, 20, 64.06, 48.03]], np.float32))
    row = ultralytics.dump(prediction, normalize=True, decimals=2)[0]
    assert row["box"] == {"x1": 0.02, "y1": 0.04, "x2": 0.1, "y2": 0.1}
    assert row["keypoints"]["visible"][0] == round(float(prediction.keypoint_scores[0, 0]), 2)


@pytest.mark.parametrize("decimals", [2, 10, 14])
def test_numbers_are_rounded_as_python_rounds_them(decimals: int) -> None:
    # 5/1000 to 155/1000 lie beside the middle between two decimals, not on it.
    boxes = np.array([[5, 15, 25, 65], [85, 155, 165, 175]], np.float32)
    prediction = replace(people(2), boxes=boxes, image_size=(1000, 1000))
    for row, corners in zip(
        ultralytics.dump(prediction, normalize=True, decimals=decimals), boxes.tolist(), strict=True
    ):
        assert list(row["box"].values()) == [round(corner / 1000, decimals) for corner in corners]
    for row, points in zip(
        ultralytics.dump(prediction, decimals=decimals), prediction.keypoints.tolist(), strict=True
    ):
        shown = row["keypoints"]["x"]
        assert shown == [round(x, decimals) for x, _ in points[: len(shown)]]


def test_numbers_without_decimals_are_still_floats() -> None:
    text = people(1).tojson(decimals=0)
    assert '"confidence":1.0' in text
    assert all(isinstance(v, float) for v in json.loads(text)[0]["keypoints"]["x"])


def test_the_text_is_compact_and_takes_the_arguments_of_the_rows() -> None:
    text = people(2, full=True).tojson(normalize=True, decimals=3)
    assert " " not in text
    assert json.loads(text) == ultralytics.dump(people(2, full=True), normalize=True, decimals=3)


def test_a_row_without_a_track_has_no_track_id() -> None:
    rows = ultralytics.dump(replace(people(2), track_ids=np.array([4, -1])))
    assert rows[0]["track_id"] == 4
    assert "track_id" not in rows[1]


# ------------------------------------------------------------------------------- segments


def test_an_outline_is_the_edge_of_the_mask_in_pixels_of_the_picture() -> None:
    mask = np.zeros((64, 64))
    mask[20:30, 10:20] = 1
    segments = ultralytics.dump(with_mask(mask, (640, 480)))[0]["segments"]
    # The picture lies in rows 8 to 56, at a tenth of its size.
    assert set(zip(segments["x"], segments["y"], strict=True)) == {
        (100, 120), (100, 210), (190, 210), (190, 120),
    }  # fmt: skip


def test_an_outline_in_the_padding_is_clipped_to_the_picture() -> None:
    segments = ultralytics.dump(with_mask(np.ones((64, 64)), (640, 480)))[0]["segments"]
    assert (min(segments["y"]), max(segments["y"])) == (0, 480)


def test_a_stretched_mask_is_stretched_back() -> None:
    mask = np.zeros((64, 64))
    mask[16, 32] = 1
    segments = ultralytics.dump(with_mask(mask, (640, 512), letterbox="stretch"))[0]["segments"]
    assert segments == {"x": [320.0], "y": [128.0]}


def test_an_empty_mask_has_an_outline_without_points() -> None:
    rows = ultralytics.dump(with_mask(np.zeros((64, 64)), (640, 480)))
    assert rows[0]["segments"] == {"x": [], "y": []}


def test_pieces_are_joined_at_their_nearest_points() -> None:
    mask = np.zeros((48, 64))
    mask[10:13, 10:13] = 1
    mask[10:13, 20:23] = 1
    segments = ultralytics.dump(with_mask(mask, (64, 48)))[0]["segments"]
    points = list(zip(segments["x"], segments["y"], strict=True))
    left, right = points[:5], points[5:]
    if left[0][0] > right[0][0]:
        left, right = right, left
    assert left[0] == left[-1]  # each is closed where the other is nearest
    assert right[0] == right[-1]
    assert (left[0][0], right[0][0]) == (12, 20)
    assert left[0][1] == right[0][1]


def test_nearest_points_are_found_in_parts(monkeypatch) -> None:
    rng = np.random.default_rng(3)
    one, other = (rng.integers(0, 50, (n, 2)).astype(np.float32) for n in (40, 30))
    whole = ultralytics._nearest(one, other)
    monkeypatch.setattr(ultralytics, "_PAIRS", 64)
    assert ultralytics._nearest(one, other) == whole
    distances = np.square(one[:, None] - other[None]).sum(axis=-1)
    assert distances[whole] == distances.min()


# ------------------------------------------------------------------------------- the service


def test_the_answer_of_the_service_has_its_keys_and_no_others() -> None:
    prediction = replace(
        people(2, full=True), timings={"decode": 1, "prepare": 2, "run": 4, "finish": 8}
    )
    answer = ultralytics.service_answer([prediction], **SERVICE)
    rows = [{k: v for k, v in r.items() if k != "track_id"} for r in ultralytics.dump(prediction)]
    assert answer == {
        "images": [
            {
                "shape": [480, 640],
                "speed": {"preprocess": 3.0, "inference": 4.0, "postprocess": 8.0},
                "results": rows,
            }
        ],
        "metadata": {
            "imageCount": 1,
            "functionTimeAlive": 12.5,
            "functionTimeCall": 0.25,
            "version": {"openkeypoints": "1.2.3"},
            "model": "person",
            "task": "pose",
            "classNames": ["person", "tube"],
        },
    }


@pytest.mark.parametrize(
    ("prediction", "task"), [(people(1), "pose"), (boxes_only(1), "detect"), (masked(1), "segment")]
)
def test_the_service_names_the_task(prediction: Prediction, task: str) -> None:
    assert ultralytics.service_answer([prediction], **SERVICE)["metadata"]["task"] == task


def test_an_answer_of_the_service_loads_with_its_size_and_names() -> None:
    answer = ultralytics.service_answer([people(1), boxes_only(3)], **SERVICE)
    with pytest.raises(FormatError, match="name it with image"):
        ultralytics.load(answer)
    with pytest.raises(FormatError, match="no picture 2"):
        ultralytics.load(answer, image=2)
    loaded = ultralytics.load(answer, image=0)
    assert loaded.image_size == (640, 480)
    assert loaded.class_names == ("person", "tube")


# ------------------------------------------------------------------------------- reading


def test_normalized_rows_load_with_the_size_of_the_picture() -> None:
    prediction = people(2)
    rows = ultralytics.dump(prediction, normalize=True, decimals=9)
    loaded = ultralytics.load(rows, image_size=(640, 480), normalized=True)
    np.testing.assert_allclose(loaded.boxes, prediction.boxes, atol=1e-4)
    np.testing.assert_allclose(loaded.keypoints, prediction.keypoints, atol=1e-4)
    with pytest.raises(InputError, match="give image_size"):
        ultralytics.load(rows, normalized=True)


def test_bare_rows_are_in_a_picture_that_holds_them() -> None:
    boxes = np.array([[10, 20, 64.5, 48]], np.float32)
    rows = ultralytics.dump(replace(boxes_only(1), boxes=boxes))
    assert ultralytics.load(rows).image_size == (65, 48)
    assert ultralytics.load(rows, image_size=(100, 90)).image_size == (100, 90)


def test_keypoints_get_numbers_for_names_or_a_given_skeleton() -> None:
    rows = ultralytics.dump(people(2))
    assert ultralytics.load(rows).skeletons[1].keypoints == ("keypoint_0", "keypoint_1")
    assert ultralytics.load(rows, skeletons={1: TUBE}).skeletons[1] is TUBE


def test_keypoints_without_scores_stay_so() -> None:
    loaded = ultralytics.load(ultralytics.dump(two_values(2)))
    assert loaded.details["keypoint_values"] == 2
    assert ultralytics.dump(loaded) == ultralytics.dump(two_values(2))


def test_a_skeleton_that_is_too_short_is_refused() -> None:
    rows = ultralytics.dump(people(1))
    with pytest.raises(FormatError, match="row 0 has 17 keypoints"):
        ultralytics.load(rows, skeletons={0: TUBE})


def test_rows_load_sorted_by_score() -> None:
    rows = ultralytics.dump(people(3))[::-1]
    assert ultralytics.load(rows).scores.tolist() == people(3).scores.tolist()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("class", 10**9, r"\[0\].class is 1000000000"),
        ("box", {"x1": 1}, r"\[0\].box.y1 is missing"),
        ("keypoints", {"x": [1], "y": []}, r"\[0\].keypoints.y is \[\]; it must be a list of 1"),
        ("keypoints", {"x": [1], "y": [1], "visible": []}, r"visible is \[\]; it must be a list"),
    ],
)
def test_a_wrong_field_is_named(key: str, value: object, message: str) -> None:
    rows = ultralytics.dump(people(1))
    rows[0][key] = value
    with pytest.raises(FormatError, match=message):
        ultralytics.load(rows)


# ------------------------------------------------------------------------------- recordings


def recorded(result: dict[str, Any]) -> Prediction:
    """Return the prediction behind one entry of a results.json."""
    height, width = result["orig_shape"]
    names = tuple(result.get("names", {"0": "person"}).values())
    count, points = len(result["conf"]), result.get("keypoints")
    keypoints = np.zeros((count, 0, 3), np.float32)
    if points:
        keypoints = np.array(points, np.float32)
    slots = tuple(str(i) for i in range(keypoints.shape[1]))
    return Prediction(
        image_size=(width, height),
        model_id="recorded",
        class_names=names,
        skeletons={} if points is None else dict.fromkeys(range(len(names)), Skeleton("s", slots)),
        boxes=np.array(result["boxes_xyxy"], np.float32).reshape(-1, 4),
        scores=np.array(result["conf"], np.float32),
        class_ids=np.array(result["cls"], np.int64),
        keypoints=np.ascontiguousarray(keypoints[..., :2]),
        keypoint_scores=np.ascontiguousarray(keypoints[..., 2]),
        masks=recorded_masks(result),
    )


def recorded_masks(result: dict[str, Any]) -> np.ndarray | None:
    if "masks_rle" not in result:
        return None
    masks = np.zeros((len(result["masks_rle"]), *result["mask_shape"]), np.bool_)
    for mask, runs in zip(masks, result["masks_rle"], strict=True):
        values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        mask.flat[: len(values)] = values
    return masks


@pytest.mark.oracle
@pytest.mark.parametrize("normalize", [False, True], ids=["pixels", "normalized"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_rows_equal_the_recorded_ones_to_the_last_digit(folder, normalize, shared) -> None:
    text = (shared / "oracles" / folder / "results.json").read_text("utf-8")
    key = "to_json_normalized" if normalize else "to_json"
    for result in json.loads(text)["results"]:
        if key in result:
            rows = json.loads(recorded(result).tojson(normalize=normalize))
            assert json.dumps(rows) == json.dumps(result[key])  # the order of the keys too


@pytest.mark.oracle
def test_recorded_masks_have_the_recorded_number_of_points(shared) -> None:
    path = shared / "oracles" / "yolo11_seg_narrow_random" / "results.json"
    for result in json.loads(path.read_text("utf-8"))["results"]:
        rows = ultralytics.dump(recorded(result))
        assert [len(row["segments"]["x"]) for row in rows] == result["segments_points"]
