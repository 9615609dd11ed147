from __future__ import annotations

import json
from dataclasses import replace

import pytest

from openkeypoints.errors import WeightsError
from openkeypoints.models.yolo.exports import read_export
from openkeypoints.models.yolo.record import spec_from_json, spec_to_json
from openkeypoints.models.yolo.spec import InputSpec, OutputSpec, YoloSpec
from openkeypoints.skeletons import load_skeleton
from tests.yolo_graphs import columns, write_onnx

OUTPUT = OutputSpec(
    "maps", {"boxes": "boxes", "scores": "scores", "keypoints": "keypoints"}, "one2one", 1,
    keypoints=(17, 3), strides=(8, 16, 32, 64), bins=1, centred=True,
)  # fmt: skip
SPEC = YoloSpec(
    task="keypoint-detection",
    class_names=("person",),
    skeletons={0: load_skeleton("coco17")},
    input=InputSpec("images", (1280, 1280), stride=64, pictures=True),
    outputs={"one2one": OUTPUT},
    confidence=0.3,
    licence="mine",
    card={"origin": "drawn"},
)


def stored():
    return json.loads(json.dumps(spec_to_json(SPEC)))


def test_a_specification_comes_back_from_its_record():
    assert spec_from_json(stored(), "x") == SPEC


def test_an_own_export_is_read_by_its_record_alone(tmp_path):
    record = json.dumps(stored() | {"source_sha256": "ab", "precision": "fp16"})
    path = write_onnx(tmp_path / "own.onnx", columns(5), metadata={"openkeypoints": record})
    spec, _ = read_export(path, {})
    assert replace(spec, card=SPEC.card) == SPEC
    assert spec.card["source_sha256"] == "ab"


def test_values_that_json_does_not_know_become_text():
    made = spec_to_json(replace(SPEC, card={"folder": load_skeleton, "shape": (1, 2)}))
    assert json.loads(json.dumps(made))["card"]["shape"] == [1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "pico"}, "of the family 'pico', not 'yolo'"),
        ({"version": 99}, "install a newer openkeypoints"),
        ({"task": "nonsense"}, "'nonsense' is none of"),
        ({"class_names": ["a", "b"]}, "2 names for 1 classes"),
        ({"outputs": {}}, "no output"),
        ({"preprocessing": {}}, "incomplete or wrong"),
        ({"skeletons": {"3": {}}}, "incomplete or wrong"),
        ({"thresholds": None}, "incomplete or wrong"),
    ],
)
def test_a_record_that_cannot_be_is_refused(change, message):
    with pytest.raises(WeightsError, match=message):
        spec_from_json(stored() | change, "x")


def test_what_is_no_record_is_refused():
    with pytest.raises(WeightsError, match="of the family None"):
        spec_from_json("text", "x")
