"""Our own routes: the list of models, their description, and predictions without loss."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from openkeypoints.formats import FORMATS, dump, load
from openkeypoints.server.pictures import REFUSED

PREDICT = "/v1/models/detect/predict"
POSE = "/v1/models/my-pose/3/predict"
PNG = {"content-type": "image/png"}
WEBM = b"\x1aE\xdf\xa3" + bytes(200)


# ------------------------------------------------------------------------------- models


def test_the_list_has_what_is_served_and_what_it_is(ask):
    answer = ask.get("/v1/models").json()
    rows = {row["id"]: row for row in answer["models"]}
    assert list(rows) == ["my-pose/3", "detect", "segment", "person"]
    assert answer["default"] == "my-pose/3"
    assert rows["segment"] == {
        "id": "segment",
        "served": True,
        "loaded": True,
        "task": "instance-segmentation",
        "licence": "Apache-2.0",
    }


def test_a_server_that_loads_what_clients_name_lists_that_too(serve):
    with serve() as server:
        rows = server.client.get("/v1/models").json()["models"]
    later = {row["id"]: row for row in rows if not row["served"]}
    assert rows[0]["id"] == "person"
    assert later["yolov8n-pose-640"]["task"] == "keypoint-detection"
    assert not any(row["loaded"] for row in later.values())


def test_a_description_has_the_skeletons_by_class(ask):
    answer = ask.get("/v1/models/person").json()
    skeleton = answer["skeletons"][0]
    assert (skeleton["class"], skeleton["class_id"]) == ("person", 0)
    assert skeleton["keypoints"][0].keys() == {"id", "name", "color"}
    assert [point["id"] for point in skeleton["keypoints"]] == list(range(17))
    assert all(0 <= end < 17 for edge in skeleton["edges"] for end in edge)


@pytest.mark.parametrize("name", ["my-pose/3", "person", "person/1", "detect"])
def test_a_model_is_described_under_its_names(ask, name):
    answer = ask.get(f"/v1/models/{name}").json()
    assert answer["id"] == name.removesuffix("/1")
    assert answer["loaded"] is True


def test_a_model_is_loaded_by_asking_for_it(ask, yolo_server):
    yolo_server.client.post("/model/remove", json={"model_id": "detect"})
    assert ask.get("/v1/models/detect").json()["loaded"] is True


@pytest.mark.parametrize("name", ["nobody", "../../etc", "a/b/c", "%2e%2e"])
def test_an_unknown_model_is_404(ask, name):
    assert ask.client.get(f"/v1/models/{name.replace('/', '%2f')}").status_code == 404


# ------------------------------------------------------------------------------- predictions


def plain(answer: dict) -> dict:
    """Leave out what no two runs have in common."""
    for row in answer.get("predictions", ()):
        row.pop("detection_id")
    return {name: value for name, value in answer.items() if name != "timings"}


@pytest.mark.parametrize("model_id", ["my-pose/3", "detect", "segment", "person"])
def test_a_prediction_is_the_library_s(ask, infer, picture, model_id):
    answer = ask.post(f"/v1/models/{model_id}/predict?confidence=34", content=picture, headers=PNG)
    found = infer(model_id, picture, confidence=0.34)
    assert len(found) > 0
    assert plain(answer.json()) == plain(dump(found, "openkeypoints"))


def test_covariances_travel(ask, infer, picture):
    answer = ask.post("/v1/models/person/predict?confidence=0.34", content=picture, headers=PNG)
    got = load(answer.json(), "openkeypoints").covariances
    want = infer("person", picture, confidence=0.34).covariances
    assert np.isfinite(want).any()
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "send",
    [
        lambda p: {"content": p},
        lambda p: {"content": p, "headers": {"content-type": "application/x-www-form-urlencoded"}},
        lambda p: {"content": base64.b64encode(p)},
        lambda p: {"files": {"image": p}},
        lambda p: {"files": {"file": ("a.png", p, "image/png")}},
        lambda p: {"json": {"image": base64.b64encode(p).decode()}},
        lambda p: {"json": {"image": "data:image/png;base64," + base64.b64encode(p).decode()}},
    ],
    ids=["raw", "curl", "base64", "form", "file", "json", "data-uri"],
)
def test_a_picture_may_come_in_any_of_these_ways(ask, infer, picture, send):
    answer = ask.post(PREDICT, **send(picture))
    assert plain(answer.json()) == plain(dump(infer("detect", picture), "openkeypoints"))


def test_arguments_mean_what_they_mean_in_the_library(ask, infer, picture):
    query = {"confidence": 0.3, "iou_threshold": 20, "max_detections": 2, "classes": "thing0"}
    answer = ask.post(PREDICT, content=picture, params=query).json()
    found = infer(
        "detect", picture, confidence=0.3, iou_threshold=0.2, max_detections=2,
        class_filter=["thing0"],
    )  # fmt: skip
    assert plain(answer) == plain(dump(found, "openkeypoints"))


@pytest.mark.parametrize("classes", ["1", "thing1", "thing1,thing1", " 1 ,"])
def test_classes_are_names_or_ids(ask, picture, classes):
    answer = ask.post(PREDICT, content=picture, params={"classes": classes}).json()
    assert {row["class_id"] for row in answer["instances"]} == {1}


def test_several_classes_may_be_named(ask, picture):
    by_comma = ask.post(PREDICT, content=picture, params={"classes": "0,thing1"}).json()
    by_name = ask.post(PREDICT, content=picture, params={"classes": ["0", "thing1"]}).json()
    assert plain(by_comma) == plain(by_name)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_of_the_library_can_be_asked_for(ask, infer, picture, name):
    query = {"format": name, "keypoint_confidence": 0.4}
    answer = ask.post(POSE, content=picture, params=query).json()
    found = dump(infer("my-pose/3", picture, keypoint_confidence=0.4), name)
    if isinstance(found, dict):
        answer, found = plain(answer), plain(found)
    assert answer == found


# ------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"confidence": "101"}, "confidence is '101': give a number from 0 to 100."),
        ({"iou_threshold": "x"}, "iou_threshold is 'x': give a number from 0 to 100."),
        ({"max_detections": "301"}, "max_detections is '301': give a whole number from 1 to 300."),
        ({"format": "robofow"}, "format is 'robofow': give roboflow."),
        ({"format": "?"}, "openkeypoints"),
        ({"classes": "nobody"}, "nobody"),
        ({"classes": "9" * 5000}, "class_filter"),
    ],
)
def test_a_wrong_argument_is_400_and_named(ask, picture, query, said):
    answer = ask.post(PREDICT, content=picture, params=query)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"files": {"picture": b"x"}},
        {"files": [("image", b"x"), ("image", b"x")]},
        {"json": {}},
        {"json": []},
        {"json": {"image": 7}},
        {"json": {"image": ""}},
        {"content": b"{", "headers": {"content-type": "application/json"}},
        {"json": {"image": "/etc/passwd"}},
        {"content": b"hello"},
    ],
)
def test_no_picture_is_400(ask, options):
    assert ask.post(PREDICT, **options).status_code == 400


def test_an_address_is_refused_with_the_one_text(ask):
    answer = ask.post(PREDICT, json={"image": "https://example.com/a.png"})
    assert (answer.status_code, answer.json()) == (400, {"error": REFUSED})


def test_a_video_is_415_with_the_command_to_use(ask):
    answer = ask.post(PREDICT, content=WEBM)
    assert answer.status_code == 415
    assert "`okp predict`" in answer.json()["error"]


def test_callers_without_a_key_get_401(small_server, picture):
    with small_server(api_key="okp_tests_" + "k" * 40) as (ask, _):
        assert ask.get("/v1/models").status_code == 401
        assert ask.get("/v1/models/detect").status_code == 401
        assert ask.post(PREDICT, content=picture).status_code == 401
