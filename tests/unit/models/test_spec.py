"""What a model is opened with, kept and read again."""

from __future__ import annotations

import json
import pickle

import pytest

from openkeypoints.errors import InputError
from openkeypoints.models import ModelSpec
from openkeypoints.models.spec import names_of

FULL = ModelSpec(
    "pose.onnx",
    {"class_names": ["horse"], "confidence": 0.4},
    ModelSpec("yolo.pt", device="cuda:1"),
    ("nose", "tail"),
    "onnxruntime",
    "cuda:0",
    "f32",
)


@pytest.mark.parametrize("spec", [ModelSpec(), FULL])
def test_a_specification_survives_json_and_pickle(spec):
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_what_is_as_always_is_not_written():
    assert ModelSpec("person-19").to_dict() == {"model": "person-19"}


def test_a_name_alone_is_a_specification():
    assert ModelSpec.from_dict("person-19") == ModelSpec("person-19")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": 3}, "model 3: give a text"),
        ({"card": "card.yaml"}, "card 'card.yaml': give a mapping"),
        ({"detector": {"threads": 2}}, "'threads'; its keys are"),
        ({"keypoints": [1]}, "keypoints is"),
        (7, "no mapping: 7"),
    ],
)
def test_wrong_values_are_named(values, message):
    with pytest.raises(InputError, match=message):
        ModelSpec.from_dict(values)


def test_one_name_of_a_keypoint_is_a_list_of_one():
    assert names_of("nose") == ("nose",)
    assert names_of(None) is None
