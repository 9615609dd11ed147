"""The routes of loaded models, in the order in which the SDK asks them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from openkeypoints.models import ModelSpec
from openkeypoints.server.config import NamedModel
from tests.live_server import LiveServer
from tests.synthetic import synthetic_server
from tests.unit.server.surfaces.test_roboflow_json import BASE, OWN_KEY, ROUTE


@pytest.fixture
def server(synthetic_package, tmp_path) -> Iterator[LiveServer]:
    """Return a server of its own: these tests take models away."""
    with synthetic_server(synthetic_package, tmp_path) as running:
        yield running


def listed(server: LiveServer) -> dict[str, dict]:
    models = server.client.get("/model/registry").json()["models"]
    assert len({model["model_id"] for model in models}) == len(models)
    return {model["model_id"]: model for model in models}


def test_info_has_what_the_sdk_needs(roboflow):
    assert roboflow.get("/info").json().keys() == {"name", "version", "uuid"}


def test_loaded_model_is_listed_under_every_name_that_was_asked_for(server):
    assert list(listed(server)) == ["yolov8x-pose-640", "yolov8x-pose-640/1", "my-pose/3"]
    server.client.post(ROUTE, json={**BASE, "model_id": "coco-pose-detection/5"})
    entry = listed(server)["coco-pose-detection/5"]
    assert (entry["task_type"], entry["input_width"]) == ("keypoint-detection", 640)
    assert entry["request_aliases"] == ["yolov8x-pose-640", "yolov8x-pose-640/1"]


def test_add_answers_with_the_name_that_was_added(server):
    answer = server.client.post("/model/add", json={"model_id": "coco-pose-detection/5"})
    assert answer.status_code == 200
    assert "coco-pose-detection/5" in {m["model_id"] for m in answer.json()["models"]}


def test_removed_model_is_not_listed_and_comes_back_when_it_is_asked_for(server):
    answer = server.client.post("/model/remove", json={"model_id": "coco-pose-detection/5"})
    assert {m["model_id"] for m in answer.json()["models"]} == {"my-pose/3"}
    again = server.client.post(ROUTE, json={**BASE, "model_id": "yolov8x-pose-640"})
    assert len(again.json()["predictions"]) == 2
    assert again.headers["x-model-cold-start"] == "true"
    assert again.headers["x-model-cold-start-count"] == "1"
    assert float(again.headers["x-model-load-time"]) > 0
    assert "yolov8x-pose-640" in again.headers["x-model-load-details"]


def test_removing_what_is_not_loaded_is_fine(server):
    answer = server.client.post("/model/remove", json={"model_id": "not-loaded/1"})
    assert (answer.status_code, len(answer.json()["models"])) == (200, 3)


def test_clear_needs_no_body_and_start_loads_again(server):
    assert server.client.post("/model/clear").json()["models"] == []
    answer = server.client.get("/start/my-pose/3")
    assert (answer.status_code, answer.json()["status"]) == (200, 200)
    assert list(listed(server)) == ["my-pose/3"]


@pytest.mark.parametrize("path", ["/model/add", "/model/remove"])
def test_model_id_is_needed(roboflow, path):
    answer = roboflow.post(path, json={})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "model_id"]


def test_model_that_was_not_named_at_the_start_is_404_whatever_the_key(roboflow):
    for key in (None, "badkey", "forbidden", "broke"):
        body = {"model_id": "coco-pose-detection/1", "api_key": key}
        assert roboflow.post("/model/add", json=body).status_code == 404
        assert roboflow.post(ROUTE, json={**BASE, **body}).status_code == 404


def test_callers_that_may_only_infer_add_what_is_served_and_manage_nothing(
    synthetic_package, tmp_path
) -> None:
    options = {"api_key": OWN_KEY, "allow_anonymous": True}
    with synthetic_server(synthetic_package, tmp_path, **options) as server:
        send = server.client.post
        added = send("/model/add", json={"model_id": "my-pose/3", "api_key": None})
        other = send("/model/add", json={"model_id": "coco-pose-detection/1"})
        removed = send("/model/remove", json={"model_id": "my-pose/3"})
        cleared = send("/model/clear")
        with_key = send("/model/clear", headers={"x-api-key": OWN_KEY})
    assert [a.status_code for a in (added, other, removed, cleared)] == [200, 404, 403, 403]
    assert removed.json().keys() == {"message"}
    assert with_key.status_code == 200


def test_key_of_an_administrator_adds_what_was_not_named(synthetic_package, tmp_path) -> None:
    models = (NamedModel("only", ModelSpec(str(synthetic_package))),)
    options = {"api_key": OWN_KEY, "models": models}
    with synthetic_server(synthetic_package, tmp_path, **options) as server:
        body = {"model_id": "my-pose/3", "api_key": OWN_KEY}
        answer = server.client.post("/model/add", json=body)
    assert "my-pose/3" in {m["model_id"] for m in answer.json()["models"]}
