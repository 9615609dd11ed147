"""The JSON routes: single pictures and batches, fields, keys."""

from __future__ import annotations

import base64

import pytest

from tests.synthetic import as_base64, encoded, gradient, shows_people, synthetic_server

ROUTE = "/infer/keypoints_detection"
PICTURE = {"type": "base64", "value": as_base64(encoded(gradient()))}
BASE = {"model_id": "my-pose/3", "image": PICTURE}
OWN_KEY = "okp_own_key_0123456789"


def test_every_route_answers_what_the_model_finds(roboflow):
    for task in ("keypoints_detection", "object_detection", "instance_segmentation"):
        answer = roboflow.post(f"/infer/{task}", json=BASE).json()
        assert [len(p["keypoints"]) for p in answer["predictions"]] == [17, 17]


def test_list_is_answered_with_a_list_in_its_order(roboflow):
    small = {"type": "BASE64", "value": as_base64(encoded(gradient(64, 48)))}
    answer = roboflow.post(ROUTE, json={**BASE, "image": [PICTURE, small], "id": "mine"}).json()
    assert [a["image"]["width"] for a in answer] == [320, 64]
    assert {a["inference_id"] for a in answer} == {"mine"}
    assert len({a["time"] for a in answer}) == 1
    (alone,) = roboflow.post(ROUTE, json={**BASE, "image": [small]}).json()
    assert alone["image"] == {"width": 64, "height": 48}


def test_every_answer_has_an_id_of_its_own(roboflow):
    ids = {roboflow.post(ROUTE, json=BASE).json()["inference_id"] for _ in range(2)}
    assert len(ids) == 2


def test_pictures_of_a_batch_show_both_people(roboflow):
    body = {**BASE, "image": [PICTURE, PICTURE], "visualize_predictions": True}
    answer = roboflow.post(ROUTE, json=body).json()
    pictures = [base64.b64decode(a["visualization"], validate=True) for a in answer]
    assert [shows_people(gradient(), picture) for picture in pictures] == [True, True]


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("confidence", 40, 2),
        ("confidence", 0.1, 3),
        ("confidence", 1.0, 0),
        ("confidence", "default", 2),
        ("class_filter", ["dog"], 0),
        ("class_filter", ["dog", "person"], 2),
        ("max_detections", 1, 1),
        ("max_detections", 0, 0),
        ("class_agnostic_nms", True, 2),
        ("max_candidates", 3000, 2),
        ("tradeoff_factor", 0.5, 2),
        ("source_info", None, 2),
    ],
)
def test_field_does_what_it_says(roboflow, field, value, found):
    answer = roboflow.post(ROUTE, json={**BASE, field: value}).json()
    assert len(answer["predictions"]) == found


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"model_id": None}, ["body", "model_id"]),
        ({"model_id": 7}, ["body", "model_id"]),
        ({"image": "text"}, ["body", "image"]),
        ({"image": {"value": "x"}}, ["body", "image", "type"]),
        ({"image": {"type": "base64"}}, ["body", "image", "value"]),
        ({"image": {"type": 1, "value": "x"}}, ["body", "image", "type"]),
        ({"image": [PICTURE, {"type": "url", "value": None}]}, ["body", "image", 1, "value"]),
        ({"confidence": None}, ["body", "confidence"]),
        ({"class_filter": "dog"}, ["body", "class_filter"]),
    ],
)
def test_wrong_field_is_named(roboflow, change, where):
    answer = roboflow.post(ROUTE, json={**BASE, **change})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == where


@pytest.mark.parametrize("body", ["", "{not json", "[1,2]", "7", '{"a": NaN}', "[" * 5000])
def test_body_that_is_no_object_is_422(roboflow, body):
    answer = roboflow.post(ROUTE, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body"]


@pytest.mark.parametrize("kind", ["file", "numpy", "pil", "numpy_object", "multipart", "foo"])
def test_types_that_could_reach_into_the_server_are_not_read(roboflow, kind):
    picture = {"type": kind, "value": "/etc/hostname"}
    answer = roboflow.post(ROUTE, json={**BASE, "image": picture})
    assert (answer.status_code, answer.json().keys()) == (400, {"message"})


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"image": []}, 400),
        ({"image": [PICTURE] * 17}, 400),
        ({"image": [PICTURE, {"type": "base64", "value": "AAAA"}]}, 400),
        ({"model_id": "a/b/c"}, 400),
        ({"model_id": "no-such/1"}, 404),
        ({"model_id": ""}, 404),
    ],
)
def test_what_cannot_be_done_has_a_message(roboflow, change, status):
    answer = roboflow.post(ROUTE, json={**BASE, **change})
    assert (answer.status_code, answer.json().keys()) == (status, {"message"})


def test_bad_picture_of_a_batch_is_named(roboflow):
    body = {**BASE, "image": [PICTURE, {"type": "base64", "value": "AAAA"}]}
    assert "images[1]" in roboflow.post(ROUTE, json=body).json()["message"]


def test_key_counts_in_the_body_the_query_and_the_headers(synthetic_package, tmp_path) -> None:
    with synthetic_server(synthetic_package, tmp_path, api_key=OWN_KEY) as server:
        send = server.client.post
        right = [
            send(ROUTE, json={**BASE, "api_key": OWN_KEY}),
            send(ROUTE, json={**BASE, "api_key": None}, params={"api_key": OWN_KEY}),
            send(ROUTE, json=BASE, headers={"authorization": f"Bearer {OWN_KEY}"}),
        ]
        wrong = [
            send(ROUTE, json={**BASE, "api_key": "rf_other"}),
            send(ROUTE, json=BASE, params={"api_key": "None"}),
            send(ROUTE, json={**BASE, "api_key": OWN_KEY}, params={"api_key": "rf_other"}),
            send("/my-pose/3", content=b"x", headers={"content-type": "text/plain"}),
            server.client.get("/model/registry", params={"api_key": "rf_other"}),
            send("/"),
        ]
    assert [answer.status_code for answer in right] == [200, 200, 200]
    assert [answer.status_code for answer in wrong] == [401] * 6
    assert all(answer.json().keys() == {"status", "message"} for answer in wrong)
    assert all(answer.json()["status"] == 401 for answer in wrong)
    assert all("rf_other" not in answer.text for answer in wrong)
