from __future__ import annotations

import json

import pytest

from openkeypoints.models.yolo.exports import read_export


def test_a_model_that_is_exported_already_says_so(okp, tiny_okp):
    done = okp("export", tiny_okp)
    assert done.exit_code == 4
    assert "already holds its networks as ONNX graphs" in done.stderr


def test_an_unknown_model_names_the_closest(okp):
    done = okp("export", "persn")
    assert done.exit_code == 3
    assert "person" in done.stderr


@pytest.mark.parametrize("choice", [("--precision", "bf16"), ("--format", "tflite")])
def test_choices_that_do_not_exist_are_wrong_usage(okp, choice):
    assert okp("export", "person", *choice).exit_code == 2


@pytest.mark.oracle
def test_a_checkpoint_becomes_a_file_that_describes_itself(okp, shared, tmp_path):
    source = shared / "oracles/yolov8n_pose_tubes/model.pt"
    done = okp("export", source, "--out", tmp_path / "tubes.onnx", "--json")
    assert done.exit_code == 0
    facts = json.loads(done.stdout)
    assert facts["difference"]["pixels"] < 0.05
    assert "px and" in done.stderr
    spec, _ = read_export(tmp_path / "tubes.onnx", {})
    assert spec.class_names == ("glue_tube",)
    assert spec.licence.startswith("AGPL-3.0")


@pytest.mark.oracle
def test_an_input_is_never_written_over(okp, shared, tmp_path):
    model = tmp_path / "tubes.onnx"
    model.symlink_to(shared / "oracles/yolov8n_pose_tubes/model.pt")
    done = okp("export", shared / "oracles/yolov8n_pose_tubes/model.pt", "--out", model)
    assert done.exit_code == 4
    assert "is the model itself" in done.stderr
