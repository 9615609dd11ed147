"""What was found out about a file, as a card that gives the same model."""

from __future__ import annotations

import json

import numpy as np
import pytest

from openkeypoints.models import ModelSpec, get_model
from openkeypoints.models.opening import derived_card
from openkeypoints.settings import Settings
from tests.tiny_yolo import tiny_yolo
from tests.yolo_graphs import POSE, columns, write_onnx

PICTURE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
CARD = {"class_names": ["tube"], "keypoints": ["head", "tail"], "skeleton": [["head", "tail"]]}


@pytest.fixture(params=["okp", "pt", "segment", "onnx", "bare"])
def file(request, tiny_okp, tiny_pt, tmp_path):
    """Return a file of each kind, and the card that it needs."""
    if request.param == "segment":
        return tiny_yolo(tmp_path / "segment.pt", task="segment", nc=2), {}
    if request.param == "onnx":
        return write_onnx(tmp_path / "model.onnx", columns(11), metadata=POSE), {}
    if request.param == "bare":
        return write_onnx(tmp_path / "model.onnx", columns(11)), CARD
    return {"okp": tiny_okp, "pt": tiny_pt}[request.param], {}


def test_with_the_derived_card_a_file_is_the_same_model(file):
    path, card = file
    derived = derived_card(ModelSpec(str(path), card), Settings.from_env())
    assert json.loads(json.dumps(derived)) == derived
    with get_model(path, card=card) as plain, get_model(path, card=derived) as same:
        for name in ("class_names", "skeletons", "input_size", "confidence", "iou_threshold"):
            assert getattr(same.description, name) == getattr(plain.description, name), name
        assert same.licence == plain.licence
        (one,), (other,) = plain.infer(PICTURE), same.infer(PICTURE)
    assert np.array_equal(one.boxes, other.boxes)
    assert np.array_equal(one.keypoints, other.keypoints, equal_nan=True)


def test_a_change_of_the_derived_card_changes_the_model(tiny_pt):
    derived = dict(derived_card(ModelSpec(str(tiny_pt)), Settings.from_env()))
    with get_model(tiny_pt, card={**derived, "confidence": 0.77}) as changed:
        assert changed.description.confidence == 0.77
