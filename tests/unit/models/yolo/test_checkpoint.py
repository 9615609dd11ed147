"""What is read from a YOLO checkpoint beside its numbers, and which files are refused."""

from __future__ import annotations

import numpy as np
import pytest

from openkeypoints.errors import CheckpointKeyError, NotFoundError, WeightsError
from openkeypoints.models.facts import read_facts
from openkeypoints.models.yolo.checkpoint import (
    claims,
    heads,
    input_spec,
    output_spec,
    read_checkpoint,
)
from tests.pickled import Global, Thing, module, parameter, tensor, write_checkpoint
from tests.yolo_yamls import random_tensors, yolo_yaml

YAML = yolo_yaml("v8", "pose", nc=2, kpt_shape=[3, 3], width=0.0625, depth=0.34)
LICENCE = "AGPL-3.0 License (https://ultralytics.com/license)"


def modules(tensors, activations=None):
    """Return tensors as the nested modules that give them their names."""
    children: dict[str, dict] = {}
    own = {}
    for name, value in tensors.items():
        first, _, rest = name.partition(".")
        if rest:
            children.setdefault(first, {})[rest] = value
        else:
            own[name] = parameter(value) if value.dtype.kind == "f" else tensor(value)
    inner = {name: modules(part, activations) for name, part in children.items()}
    if "conv" in inner and "bn" in inner:
        inner["act"] = module("torch.nn.modules.activation.SiLU")
    return module("ultralytics.nn.modules.Block", parameters=own, children=inner)


def network(yaml=YAML, tensors=None, **attributes):
    """Return a network as a checkpoint holds it, its numbers as float16."""
    tensors = random_tensors(yaml) if tensors is None else tensors
    halves = {name: array.astype(np.float16) for name, array in tensors.items()}
    attributes = {"names": {0: "cat", 1: "dog"}, "yaml": yaml, **attributes}
    root = modules(halves)
    return module("ultralytics.nn.tasks.PoseModel", children=root.state["_modules"], **attributes)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a checkpoint: entries of its top -> path."""
    return lambda **top: write_checkpoint(tmp_path / "best.pt", {"license": LICENCE, **top})


def test_tensors_come_as_32_bit_floats_under_the_names_of_the_file(write):
    drawn = random_tensors(YAML)
    tensors = read_checkpoint(write(model=network())).tensors
    assert set(tensors) == set(drawn)
    for name, array in tensors.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, drawn[name].astype(np.float16).astype(np.float32))


def test_the_averaged_network_of_a_running_training_is_the_one(write):
    other = yolo_yaml("v8", "detect", nc=2, width=0.0625, depth=0.34)
    path = write(model=None, ema=network(other))
    assert read_checkpoint(path).task == "object-detection"


def test_a_network_without_anything_around_it_is_read(tmp_path):
    path = write_checkpoint(tmp_path / "bare.pt", network())
    assert read_checkpoint(path).class_names == ("cat", "dog")


@pytest.mark.parametrize("names", [{0: "cat", 1: "dog"}, ["cat", "dog"], {1: "dog", 0: "cat"}])
def test_class_names_may_be_a_list_or_a_table(write, names):
    assert read_checkpoint(write(model=network(names=names))).class_names == ("cat", "dog")


def test_classes_without_names_get_numbers(write):
    assert read_checkpoint(write(model=network(names=None))).class_names == ("class0", "class1")


def test_names_and_sigmas_of_keypoints_are_optional(write):
    plain = read_checkpoint(write(model=network()))
    assert (plain.keypoint_shape, plain.keypoint_names, plain.sigmas) == ((3, 3), None, None)
    named = read_checkpoint(
        write(model=network(kpt_names={0: ["a", "b", "c"]}, kpt_oks_sigmas=[0.1, 0.2, 0.3]))
    )
    assert named.keypoint_names == {0: ("a", "b", "c")}
    assert named.sigmas == (0.1, 0.2, 0.3)


def test_names_and_sigmas_that_do_not_fit_the_keypoints_are_left_out(write):
    odd = read_checkpoint(write(model=network(kpt_names={0: ["a"]}, kpt_oks_sigmas=[0.1, -1, 0.3])))
    assert (odd.keypoint_names, odd.sigmas) == (None, None)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [(320, (320, 320)), ([384, 640], (640, 384)), ([256], (256, 256)), (100, (128, 128)),
     (None, (640, 640)), ("large", (640, 640)), (-1, (640, 640))],
)  # fmt: skip
def test_the_input_is_as_large_as_in_training_up_to_the_stride(write, size, wanted):
    checkpoint = read_checkpoint(write(model=network(), train_args={"imgsz": size}))
    assert input_spec(checkpoint).size == wanted


def test_arguments_may_be_kept_with_the_network_as_an_object(write):
    kind = Global("ultralytics.utils", "IterableSimpleNamespace")
    args = Thing(kind, {"imgsz": 96, "epochs": 3})
    checkpoint = read_checkpoint(write(model=network(args=args)))
    assert checkpoint.input_size == (96, 96)
    assert checkpoint.facts["epochs"] == 3


def test_the_file_says_its_licence_and_where_it_comes_from(write):
    checkpoint = read_checkpoint(
        write(model=network(), date="2026-01-01", version="8.4.1", train_metrics={"map": 0.5})
    )
    assert checkpoint.licence == LICENCE
    assert checkpoint.facts == {
        "saved": "2026-01-01", "saved_by": "ultralytics 8.4.1", "metrics": {"map": 0.5},
    }  # fmt: skip


def test_the_activations_of_the_stored_objects_are_kept(write):
    assert read_checkpoint(write(model=network())).activations["model.9.cv1"] == "SiLU"


def test_the_descriptions_follow_from_the_yaml(write):
    checkpoint = read_checkpoint(write(model=network()))
    spec = output_spec(checkpoint, "one2many")
    assert (spec.classes, spec.keypoints, spec.bins, spec.centred) == (2, (3, 3), 16, False)
    assert (spec.strides, input_spec(checkpoint).stride) == ((8, 16, 32), 32)
    later = yolo_yaml("26", "pose", nc=2, kpt_shape=[3, 2], width=0.0625)
    checkpoint = read_checkpoint(write(model=network(later)))
    assert heads(checkpoint) == ("one2many", "one2one")
    spec = output_spec(checkpoint, "one2one")
    assert (spec.head, spec.keypoints, spec.bins, spec.centred) == ("one2one", (3, 2), 1, True)


def test_odd_values_beside_the_network_do_not_keep_it_from_being_read(write):
    metrics = {"huge": 10**40, "none": float("nan"), "text": "1", "good": 1}
    values = [tensor(np.zeros((2, 2), np.float32)), tensor(np.array(1.0)), 10**40, {}, [[]]]
    for value in values:
        attributes = dict.fromkeys(("names", "kpt_names", "kpt_oks_sigmas", "args"), value)
        top = dict.fromkeys(("license", "date", "version", "train_args"), value)
        checkpoint = read_checkpoint(
            write(**{**top, "model": network(**attributes), "train_metrics": metrics})
        )
        assert checkpoint.licence == "unknown"
        assert checkpoint.facts["metrics"] == {"good": 1.0}


def test_only_files_that_name_the_family_are_recognised(write, tmp_path):
    assert claims(read_facts(write(model=network())))
    assert not claims(read_facts(write_checkpoint(tmp_path / "other.pt", {"weights": [1, 2]})))
    text = tmp_path / "text.pt"
    text.write_bytes(b"ultralytics")
    assert not claims(read_facts(text))


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(NotFoundError):
        read_checkpoint(tmp_path / "none.pt")


def test_a_table_of_tensors_is_no_network(write):
    with pytest.raises(WeightsError, match=r"best\.pt: There is no network"):
        read_checkpoint(write(model={"model.0.conv.weight": tensor(np.zeros(3, np.float32))}))


def test_a_network_without_its_yaml_is_refused(write):
    with pytest.raises(WeightsError, match="without the YAML"):
        read_checkpoint(write(model=network(None, random_tensors(YAML))))


def test_a_network_with_an_unsupported_head_is_refused_by_name(write):
    yaml = yolo_yaml("v8", "detect", nc=2, width=0.0625)
    yaml["head"][-1][2] = "OBB"
    with pytest.raises(WeightsError, match="'OBB'"):
        read_checkpoint(write(model=network(yaml, tensors={"a": np.zeros(1)})))


def test_a_file_without_some_of_its_tensors_is_refused(write):
    tensors = random_tensors(YAML)
    del tensors["model.22.cv2.0.2.bias"]
    with pytest.raises(CheckpointKeyError, match=r"1 missing \(model\.22\.cv2\.0\.2\.bias\)"):
        read_checkpoint(write(model=network(tensors=tensors)))


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "task", "classes", "keypoints", "size", "held"),
    [
        ("yolov8n_pose_tubes", "keypoint-detection", 1, (2, 3), 320, 1),
        ("yolo11n_pose_tubes", "keypoint-detection", 1, (2, 3), 320, 1),
        ("yolo26n_pose_tubes", "keypoint-detection", 1, (2, 3), 320, 2),
        ("yolo26n_detect_random", "object-detection", 4, None, 320, 2),
        ("yolo11_seg_narrow_random", "instance-segmentation", 3, None, 320, 1),
        ("yolov8n_pose_official_layout", "keypoint-detection", 1, (17, 3), 640, 1),
    ],
)
def test_files_of_the_original_are_read(shared, name, task, classes, keypoints, size, held):
    path = shared / "oracles" / name / "model.pt"
    checkpoint = read_checkpoint(path)
    assert claims(read_facts(path))
    assert (checkpoint.task, len(checkpoint.class_names)) == (task, classes)
    assert checkpoint.keypoint_shape == keypoints
    assert checkpoint.input_size == (size, size)
    assert len(heads(checkpoint)) == held
    assert checkpoint.licence.startswith("AGPL-3.0")
    named = name.endswith("tubes")
    assert checkpoint.keypoint_names == ({0: ("head", "tail")} if named else None)
