"""``okp train``: what it refuses, where it finds its data, and one short run."""

from __future__ import annotations

import json

import pytest

from openkeypoints import get_model
from openkeypoints.cli.annotations import LAYOUTS, annotation_file
from openkeypoints.errors import NotFoundError
from tests.unit.cli.labelled import write_set

CONFIG = """
init: none
pose: {steps: 2, batch: 2, warmup: 1, evaluate_every: 2}
detector: {steps: 2, batch: 2, warmup: 1, evaluate_every: 2}
"""


@pytest.mark.parametrize("name", ["yolov8n-pose", "YOLO", "sapiens2-1b-pose"])
def test_networks_that_are_only_run_name_those_that_are_trained(okp, name):
    done = okp("train", "--model", name, "--data", "x.json")
    assert done.exit_code == 4
    assert "run here and not trained" in done.stderr
    assert "pico and rfdetr" in done.stderr


def test_an_unknown_family_names_those_that_are_trained(okp):
    done = okp("train", "--model", "resnet", "--data", "x.json")
    assert (done.exit_code, "pico and rfdetr" in done.stderr) == (4, True)


def test_training_on_nothing_is_wrong_usage(okp):
    assert okp("train").exit_code == 2


def test_a_missing_annotation_file_is_not_found(okp):
    assert okp("train", "--data", "nothing.json").exit_code == 3


def test_a_folder_that_holds_a_run_is_not_replaced(okp, tmp_path):
    data = write_set(tmp_path / "data", "train", ["head", "tail"])
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "best.okp").write_text("hours of work")
    done = okp("train", "--data", data)
    assert (done.exit_code, "--resume" in done.stderr) == (4, True)
    assert (tmp_path / "runs" / "best.okp").read_text() == "hours of work"


@pytest.mark.parametrize("layout", LAYOUTS["train"])
def test_the_usual_layouts_of_a_folder_are_known(tmp_path, layout):
    (tmp_path / layout).parent.mkdir(exist_ok=True)
    (tmp_path / layout).write_text("{}")
    assert annotation_file(tmp_path, "train") == tmp_path / layout


def test_a_folder_without_annotations_says_what_was_looked_for(tmp_path):
    with pytest.raises(NotFoundError, match=r"train\.json"):
        annotation_file(tmp_path, "train")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's exporter and tensorboard
def test_a_short_run_gives_a_model_of_the_keypoints_of_the_data(okp, tmp_path):
    for split in ("train", "val"):
        write_set(tmp_path / "data", split, ["head", "tail"])
    (tmp_path / "short.yaml").write_text(CONFIG)
    done = okp("train", "--data", "data", "--config", "short.yaml", "--out", "mine", "--json")
    path = json.loads(done.stdout)["model"]
    assert get_model(tmp_path / path).skeletons[0].keypoints == ("head", "tail")
