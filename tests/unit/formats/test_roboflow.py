from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from openkeypoints.errors import FormatError
from openkeypoints.formats import roboflow
from openkeypoints.results import Prediction
from tests.unit.predictions import masked, people


def test_rows_have_the_recorded_fields_in_the_recorded_order() -> None:
    row = roboflow.dump(people(1))["predictions"][0]
    assert list(row) == [
        "x", "y", "width", "height", "confidence", "class", "class_id", "detection_id",
        "keypoints",
    ]  # fmt: skip
    assert list(row["keypoints"][0]) == ["x", "y", "confidence", "class_id", "class", "class_name"]


def test_x_and_y_are_the_centre_of_the_box() -> None:
    prediction = replace(people(1), boxes=np.array([[10, 20, 40, 100]], np.float32))
    row = roboflow.dump(prediction)["predictions"][0]
    assert [row[name] for name in ("x", "y", "width", "height")] == [25, 60, 30, 80]


def test_every_keypoint_of_the_class_of_a_row_is_listed_in_its_slot() -> None:
    prediction = people(2)
    person, tube = roboflow.dump(prediction)["predictions"]
    assert [p["class_id"] for p in person["keypoints"]] == list(range(17))
    assert [p["class_name"] for p in tube["keypoints"]] == ["neck", "base"]
    assert person["keypoints"][16]["x"] == prediction.keypoints[0, 16, 0]


def test_keypoints_below_the_asked_confidence_are_left_out() -> None:
    prediction = replace(people(1), keypoint_confidence=0.5)
    rows = roboflow.dump(prediction)["predictions"][0]["keypoints"]
    kept = np.flatnonzero(prediction.keypoint_scores[0] >= 0.5).tolist()
    assert [p["class_id"] for p in rows] == kept
    assert 0 < len(rows) < 17


def test_attribute_names_replace_the_alias() -> None:
    row = roboflow.dump(people(1), by_alias=False)["predictions"][0]
    assert row["class_name"] == "person"
    assert "class" not in row
    assert "class" not in row["keypoints"][0]


def test_empty_fields_are_there_when_asked_for() -> None:
    answer = roboflow.dump(people(1), exclude_none=False)
    assert answer["inference_id"] is None
    assert answer["predictions"][0]["tracker_id"] is None


def test_track_ids_are_tracker_ids_but_not_below_zero() -> None:
    prediction = replace(people(2), track_ids=np.array([4, -1]))
    rows = roboflow.dump(prediction)["predictions"]
    assert rows[0]["tracker_id"] == 4
    assert "tracker_id" not in rows[1]


def test_rows_of_a_model_without_keypoints_have_no_such_field() -> None:
    prediction = replace(people(2), skeletons={})
    assert all("keypoints" not in row for row in roboflow.dump(prediction)["predictions"])


def test_a_class_without_keypoints_beside_one_with_them_has_an_empty_list() -> None:
    prediction = people(2)
    prediction = replace(prediction, skeletons={0: prediction.skeletons[0]})
    assert roboflow.dump(prediction)["predictions"][1]["keypoints"] == []


def test_detection_ids_differ_between_rows_and_agree_between_calls() -> None:
    prediction = people(4)
    first, again = (roboflow.dump(prediction)["predictions"] for _ in range(2))
    assert len({row["detection_id"] for row in first}) == 4
    assert [r["detection_id"] for r in first] == [r["detection_id"] for r in again]
    assert roboflow.view(prediction).predictions[2].detection_id == first[2]["detection_id"]


def test_detection_ids_of_another_run_are_new() -> None:
    one = roboflow.dump(people(1))["predictions"][0]["detection_id"]
    other = roboflow.dump(replace(people(1), timings={"run": 12.6}))["predictions"][0]
    assert other["detection_id"] != one


def test_equal_rows_have_different_detection_ids() -> None:
    twice = people(1)
    twice = Prediction(
        twice.image_size, "m", twice.class_names, twice.skeletons,
        *(np.repeat(a, 2, axis=0) for a in (
            twice.boxes, twice.scores, twice.class_ids, twice.keypoints, twice.keypoint_scores)),
    )  # fmt: skip
    assert len({row["detection_id"] for row in roboflow.dump(twice)["predictions"]}) == 2


def test_the_view_has_the_values_of_the_dict() -> None:
    prediction = people(2, full=True)
    row, point = (v := roboflow.view(prediction).predictions[1]), v.keypoints[1]
    written = roboflow.dump(prediction, by_alias=False, exclude_none=False)["predictions"][1]
    for name in written:
        assert name in ("keypoints", "points") or getattr(row, name) == written[name]
    assert {name: getattr(point, name) for name in written["keypoints"][1]} == (
        written["keypoints"][1]
    )


def test_points_that_were_left_out_load_without_a_place() -> None:
    data = roboflow.dump(people(1))
    del data["predictions"][0]["keypoints"][3]
    loaded = roboflow.load(data)
    assert np.isnan(loaded.keypoints[0, 3]).all()
    assert loaded.keypoint_scores[0, 3] == 0
    np.testing.assert_array_equal(loaded.keypoints[0, 4:], people(1).keypoints[0, 4:])


def test_rows_load_sorted_by_score() -> None:
    data = roboflow.dump(people(3))
    data["predictions"].reverse()
    assert roboflow.load(data).scores.tolist() == people(3).scores.tolist()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("predictions", 0, "x"), "12", r"predictions\[0\].x is '12'; it must be a number"),
        (("predictions", 0, "class_id"), 10**9, r"predictions\[0\].class_id is 1000000000"),
        (("predictions", 0, "confidence"), 1.5, r"confidence is 1.5; it must be .* 0 to 1"),
        (("predictions",), {}, "predictions is {}; it must be a list"),
        (("image", "width"), None, "image.width is None"),
    ],
)
def test_a_wrong_field_is_named(path: tuple, value: object, message: str) -> None:
    data = json.loads(people(1).json())
    target = data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(FormatError, match=message):
        roboflow.load(data)


def test_a_missing_field_is_named() -> None:
    data = roboflow.dump(people(1))
    del data["predictions"][0]["keypoints"][2]["y"]
    with pytest.raises(FormatError, match=r"predictions\[0\].keypoints\[2\].y is missing"):
        roboflow.load(data)


@pytest.mark.oracle
@pytest.mark.parametrize("case", ["confidence_40", "confidence_95", "v1_minimal"])
def test_recorded_answers_load_and_are_written_alike(case: str, shared) -> None:
    folder = shared / "contracts" / "roboflow_exchanges" / "recordings" / "real_server"
    body = json.loads((folder / f"{case}.json").read_text("utf-8"))["body"]
    written = roboflow.dump(roboflow.load(body))
    assert written["image"] == body["image"]
    assert len(written["predictions"]) == len(body["predictions"])
    for ours, theirs in zip(written["predictions"], body["predictions"], strict=True):
        assert list(ours) == list(theirs)
        for name in set(theirs) - {"detection_id", "keypoints"}:
            assert ours[name] == theirs[name], name
        for point in ours["keypoints"]:
            del point["class_name"]
        assert ours["keypoints"] == theirs["keypoints"]


def test_rows_of_a_segmentation_model_have_the_largest_contour_as_points() -> None:
    rows = roboflow.dump(masked())["predictions"]
    assert list(rows[0])[-1] == "points"
    # Of the square alone, not of the lone pixel or the hole; the picture is ten times the mask.
    assert sorted((point["x"], point["y"]) for point in rows[1]["points"]) == [
        (300, 120), (300, 210), (390, 120), (390, 210),
    ]  # fmt: skip


def test_an_empty_mask_has_no_points() -> None:
    prediction = masked(1)
    prediction.masks[0] = False
    assert roboflow.dump(prediction)["predictions"][0]["points"] == []


def test_the_view_has_the_points_of_the_dict() -> None:
    point = roboflow.view(masked()).predictions[0].points[0]
    assert {"x": point.x, "y": point.y} == roboflow.dump(masked())["predictions"][0]["points"][0]
