"""The look-ups of the ``roboflow`` package, in the order in which it makes them."""

from __future__ import annotations

import pytest

from tests.synthetic import KEY, encoded, gradient, synthetic_server

WORKSPACE = "/openkeypoints"
PROJECT = {
    *("id", "name", "type", "annotation", "classes", "colors", "created", "updated"),
    *("images", "public", "splits", "unannotated"),
}
VERSION = {"id", "created", "images", "augmentation", "preprocessing", "splits", "model"}


def test_post_without_a_body_tells_the_workspace(synthetic):
    answer = synthetic.client.post("/", params={"api_key": KEY})
    assert (answer.status_code, answer.json()["workspace"]) == (200, "openkeypoints")


def test_post_with_a_body_is_no_look_up(synthetic):
    answer = synthetic.client.post("/", files={"file": ("a.jpg", encoded(gradient()))})
    assert "workspace" not in answer.json()


def test_workspace_lists_the_models_as_projects(roboflow):
    answer = roboflow.get(WORKSPACE).json()["workspace"]
    assert (answer["name"], answer["url"]) == ("openkeypoints", "openkeypoints")
    rows = {row["name"]: row for row in answer["projects"]}
    assert {"my-pose", "yolov8x-pose-640", "coco-pose-detection"} <= rows.keys()
    assert all(row.keys() >= PROJECT for row in rows.values())
    assert rows["my-pose"]["id"] == "openkeypoints/my-pose"


def test_project_lists_its_versions_with_skeletons(roboflow):
    answer = roboflow.get(f"{WORKSPACE}/my-pose").json()
    assert answer["project"].keys() >= PROJECT
    assert answer["project"]["classes"].keys() == {"person"}
    (version,) = answer["versions"]
    assert version.keys() >= VERSION
    assert version["id"] == "openkeypoints/my-pose/3"
    assert version["model"]["id"] == "my-pose/3"
    (skeleton,) = version["skeletons"]
    assert (skeleton["class"], skeleton["class_id"]) == ("person", 0)
    assert len(skeleton["keypoints"]) == 17
    assert skeleton["edges"] == [[5, 6], [5, 7]]


@pytest.mark.parametrize(
    ("project", "versions"), [("coco-pose-detection", ["5"]), ("yolov8x-pose-640", ["1"])]
)
def test_aliases_and_ids_of_one_segment_are_projects_too(roboflow, project, versions):
    rows = roboflow.get(f"{WORKSPACE}/{project}").json()["versions"]
    assert [row["id"].rpartition("/")[2] for row in rows] == versions


def test_version_and_its_training_lead_to_the_model(roboflow):
    path = f"{WORKSPACE}/my-pose/3"
    assert len(roboflow.get(path).json()["skeletons"]) == 1
    (training,) = roboflow.get(f"{path}/v2/trainings").json()["trainings"]
    assert (training["status"], training["modelIds"]) == ("finished", ["my-pose/3"])
    answer = roboflow.get(f"{path}/v2/trainings/get", params={"trainingId": training["id"]}).json()
    assert [model["modelId"] for model in answer["models"]] == ["my-pose/3"]
    other = roboflow.get(f"{path}/v2/trainings/get", params={"trainingId": "other"})
    assert other.status_code == 404


@pytest.mark.parametrize("path", ["/nothing", "/my-pose/4", "/nothing/1/v2/trainings"])
def test_what_is_not_served_is_404(roboflow, path):
    assert roboflow.get(WORKSPACE + path).status_code == 404


def test_workspace_of_another_name_is_a_model_that_is_not_there(roboflow):
    assert roboflow.get("/other-workspace/my-pose").status_code == 404


def test_operator_names_the_workspace(synthetic_package, tmp_path) -> None:
    with synthetic_server(synthetic_package, tmp_path, workspace="my-ws") as server:
        assert server.client.post("/").json()["workspace"] == "my-ws"
        assert server.client.get("/my-ws/my-pose").status_code == 200
        assert server.client.get("/openkeypoints/my-pose").status_code == 404


def test_picture_below_the_workspace_is_an_inference(roboflow):
    answer = roboflow.get(f"{WORKSPACE}/my-pose", params={"image": "https://example.com/a.jpg"})
    assert answer.status_code == 404  # no model is called openkeypoints/my-pose
