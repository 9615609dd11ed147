"""Metadata that are wrong, and cards that say what is right."""

from __future__ import annotations

import numpy as np
import pytest

from openkeypoints.errors import InputError, WeightsError
from openkeypoints.models.yolo.exports import read_export
from tests.yolo_graphs import POSE, columns, graph_bytes, rows, write_onnx, write_openvino

CARD = {"class_names": ["tube"], "keypoints": ["head", "tail"]}
FREE = {"sides": ("n", 3, "h", "w"), "output": ("n", 11, "a")}
WRONG = {
    "kpt_shape of the base model": {"kpt_shape": "[17, 3]"},
    "kpt_shape that fits otherwise": {"kpt_shape": "[3, 2]"},
    "kpt_shape with other values": {"kpt_shape": "[2, 2]"},
    "kpt_shape with too many values": {"kpt_shape": "[2, 5]"},
    "kpt_shape that is none": {"kpt_shape": "nonsense"},
    "names of COCO": {"names": repr({i: f"c{i}" for i in range(80)})},
    "names with a gap": {"names": "{1: 'tube'}"},
    "names that are none": {"names": "nonsense"},
    "no names at all": {"names": "{}"},
    "both of the base model": {"names": repr(["a"] * 80), "kpt_shape": "[17, 3]"},
    "another task that is run": {"task": "detect"},
    "another task that is not run": {"task": "obb"},
    "a task that is none": {"task": "[1, 2]"},
    "names of too many keypoints": {"kpt_names": "{0: ['a', 'b', 'c']}"},
    "names of keypoints of no class": {"kpt_names": "{'x': ['a'], 7: ['b'], 0: 3}"},
    "an imgsz of another size": {"imgsz": "[640, 480]"},
    "an imgsz that is none": {"imgsz": "nonsense"},
    "a layout that is not there": {"end2end": "True"},
}


@pytest.fixture
def put(tmp_path):
    return lambda table, **choices: write_onnx(tmp_path / "model.onnx", table, **choices)


def spec_of(path, **card):
    return read_export(path, card)[0]


def assert_right(spec):
    (output,) = spec.outputs.values()
    assert (spec.task, spec.class_names) == ("keypoint-detection", ("tube",))
    assert spec.skeletons[0].keypoints == ("head", "tail")
    assert (output.layout, output.classes, output.keypoints) == ("columns", 1, (2, 3))


@pytest.mark.parametrize("metadata", WRONG.values(), ids=WRONG)
def test_a_card_corrects_what_is_wrong(put, metadata):
    assert_right(spec_of(put(columns(11), metadata=POSE | metadata), **CARD))


@pytest.mark.parametrize("missing", POSE)
def test_a_card_says_what_is_missing(put, missing):
    metadata = {key: text for key, text in POSE.items() if key != missing}
    assert_right(spec_of(put(columns(11), metadata=metadata), **CARD))


@pytest.mark.parametrize("stride", ["0", "[]", "nonsense", "[8, 16, 4096]"])
def test_a_stride_that_is_wrong_is_corrected(put, stride):
    path = put(columns(11), metadata=POSE | {"stride": stride}, **FREE)
    with pytest.raises(WeightsError, match=r"metadata of model\.onnx are wrong.* A card can say"):
        spec_of(path)
    spec = spec_of(path, **CARD, stride=64)
    assert_right(spec)
    assert spec.input.stride == 64


def test_a_card_corrects_the_metadata_of_an_openvino_folder(tmp_path):
    text = "task: pose\nstride: 32\nnames: {0: a, 2: b}\nkpt_shape: [17, 3]\nimgsz: [64, 64]\n"
    folder = write_openvino(tmp_path / "x", graph_bytes(columns(11)), text)
    assert_right(spec_of(folder, **CARD))


def test_a_task_alone_makes_the_keypoints_of_a_file_count(put):
    path = put(columns(11), metadata=POSE | {"task": "detect"})
    assert spec_of(path, task="pose").skeletons[0].keypoints == ("keypoint_0", "keypoint_1")


def test_a_task_without_keypoints_makes_them_count_no_more(put):
    spec = spec_of(put(columns(6), metadata=POSE), task="detect", class_names=["a", "b"])
    assert (spec.task, spec.skeletons) == ("object-detection", {})


def test_a_task_that_the_network_is_not_for_is_an_input_error(put):
    path = put(columns(11), metadata=POSE)
    with pytest.raises(InputError, match="card has task 'segment', but the network is for"):
        spec_of(path, class_names=[*"abcdefg"], task="segment")


def test_a_layout_that_the_file_says_wrongly_is_corrected(put):
    table = np.zeros((1, 11, 12), np.float32)
    path = put(table, metadata=POSE | {"end2end": "True"})
    assert_right(spec_of(path, **CARD, layout="columns"))


def test_a_packaged_skeleton_corrects_the_number_of_keypoints(put):
    path = put(columns(56), metadata=POSE | {"names": "['a', 'b']"})
    spec = spec_of(path, class_names=["person"], skeleton={"person": "coco17"})
    assert spec.skeletons[0].name == "coco17"


def test_names_of_the_file_hold_for_classes_that_the_card_leaves_out(put):
    metadata = POSE | {
        "names": "{0: 'tube', 1: 'cap'}", "kpt_shape": "[17, 3]",
        "kpt_names": "{0: ['x'], 1: ['middle']}",
    }  # fmt: skip
    spec = spec_of(put(columns(12), metadata=metadata), keypoints={"tube": ["head", "tail"]})
    assert [s.keypoints for s in spec.skeletons.values()] == [("head", "tail"), ("middle",)]


def test_a_card_may_name_some_of_the_keypoints_that_the_file_has(put):
    metadata = POSE | {"kpt_shape": "[17, 3]", "names": "{0: 'a', 1: 'b'}"}
    spec = spec_of(put(columns(56), metadata=metadata), **CARD)
    (output,) = spec.outputs.values()
    assert output.keypoints == (17, 3)
    assert spec.skeletons[0].keypoints == ("head", "tail")


def test_classes_of_rows_are_those_of_the_card(put):
    path = put(rows(12), metadata=POSE | {"names": repr(["a"] * 80), "end2end": "True"})
    assert spec_of(path, **CARD).class_names == ("tube",)


def test_what_neither_says_is_asked_for(put):
    with pytest.raises(WeightsError, match="say class_names and keypoints in a card"):
        spec_of(put(columns(56), metadata={"stride": "32"}))


def test_what_fits_nothing_is_to_be_said_by_a_card(put):
    metadata = POSE | {"kpt_shape": "[17, 3]"}
    with pytest.raises(WeightsError, match=r"does not fit 1 classes with 17.*say what is right"):
        spec_of(put(columns(11), metadata=metadata))


@pytest.mark.parametrize("stride", [0, -8, 1.5, "x", 4096])
def test_a_stride_that_cannot_be_is_an_input_error(put, stride):
    with pytest.raises(InputError, match="stride"):
        spec_of(put(columns(11), metadata=POSE), stride=stride)


def test_a_task_that_is_none_of_ours_is_an_input_error(put):
    with pytest.raises(InputError, match="give pose or detect or segment"):
        spec_of(put(columns(11), metadata=POSE), task="obb")
