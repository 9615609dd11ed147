from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from openkeypoints.errors import InputError, NotFoundError, WeightsError
from openkeypoints.models.facts import read_facts
from openkeypoints.models.request import SettledRequest
from openkeypoints.models.yolo.exports import claims, read_export
from openkeypoints.models.yolo.predictor import YoloPredictor
from openkeypoints.runtimes import open_session
from tests.yolo_graphs import (
    POSE,
    SIZE,
    columns,
    graph_bytes,
    rows,
    write_onnx,
    write_openvino,
)

POSE_YAML = "task: pose\nstride: 32\nnames: {0: tube}\nkpt_shape: [2, 3]\nimgsz: [64, 64]\n"
SQUARE = np.full((SIZE, SIZE, 3), 90, np.uint8)


@pytest.fixture
def put(tmp_path):
    """Return a function that writes an export and returns its path."""
    return lambda table, **choices: write_onnx(tmp_path / "model.onnx", table, **choices)


def without(*keys, **changes):
    return {key: text for key, text in (POSE | changes).items() if key not in keys}


def spec_of(path, **card):
    return read_export(path, card)[0]


def only_output(spec):
    (output,) = spec.outputs.values()
    return output


def answer(path, pictures=1, *, runtime="auto", **card):
    spec, artifact = read_export(path, card)
    predictor = YoloPredictor(
        spec, lambda _: open_session(artifact, runtime=runtime, precision="f32"), "drawn"
    )
    return predictor.predict([SQUARE] * pictures, SettledRequest(0.25, 0.7))


# The vendor's metadata


def test_metadata_give_the_whole_specification(put):
    spec = spec_of(put(columns(11), metadata=POSE))
    assert spec.task == "keypoint-detection"
    assert spec.class_names == ("tube",)
    assert spec.skeletons[0].keypoints == ("keypoint_0", "keypoint_1")
    assert (spec.confidence, spec.iou_threshold, spec.licence) == (0.25, 0.7, "a licence")
    assert (spec.input.name, spec.input.size, spec.input.static) == ("images", (64, 64), True)
    output = only_output(spec)
    assert (output.layout, output.head, output.classes, output.keypoints) == (
        "columns", "one2many", 1, (2, 3),
    )  # fmt: skip
    assert output.names == {"table": "output0"}


def test_names_of_keypoints_are_taken_over(put):
    names = {"kpt_names": "{0: ['head', 'tail']}"}
    assert spec_of(put(columns(11), metadata=POSE | names)).skeletons[0].keypoints == (
        "head",
        "tail",
    )


def test_a_person_with_17_keypoints_has_the_skeleton_of_coco(put):
    metadata = POSE | {"names": "{0: 'person'}", "kpt_shape": "[17, 3]"}
    assert spec_of(put(columns(56), metadata=metadata)).skeletons[0].name == "coco17"


def test_every_class_has_its_own_names_of_keypoints(put):
    metadata = POSE | {
        "names": "{0: 'tube', 1: 'cap'}", "kpt_names": "{0: ['head', 'tail'], 1: ['middle']}",
    }  # fmt: skip
    skeletons = spec_of(put(columns(12), metadata=metadata)).skeletons
    assert [s.keypoints for s in skeletons.values()] == [("head", "tail"), ("middle",)]


def test_keypoints_may_have_two_values(put):
    spec = spec_of(put(columns(9), metadata=POSE | {"kpt_shape": "[2, 2]"}))
    assert only_output(spec).keypoints == (2, 2)


def test_a_dynamic_graph_takes_any_size_and_number(put):
    path = put(
        columns(11),
        sides=("batch", 3, "height", "width"),
        output=("batch", 11, "anchors"),
        metadata=POSE,
    )
    entry = spec_of(path).input
    assert (entry.static, entry.batch, entry.size) == (False, None, (640, 640))


def test_sides_of_a_static_graph_are_width_and_height(put):
    path = put(columns(11), sides=(1, 3, 64, 96), metadata=POSE)
    assert spec_of(path).input.size == (96, 64)


def test_a_fixed_number_of_pictures_is_filled_up(put):
    path = put(columns(11), sides=(2, 3, SIZE, SIZE), output=(2, 11, 84), metadata=POSE)
    assert spec_of(path).input.batch == 2
    assert [len(found) for found in answer(path, pictures=3)] == [2, 2, 2]


def test_floats_of_16_bits_are_given_where_the_graph_wants_them(put):
    path = put(columns(11), kind=TensorProto.FLOAT16, metadata=POSE)
    assert spec_of(path).input.half
    (found,) = answer(path, runtime="onnxruntime")
    np.testing.assert_allclose(found.boxes[0], [15, 20, 25, 40], atol=0.02)


def test_rows_of_an_embedded_suppression_are_read_as_such(put):
    metadata = POSE | {"args": "{'nms': True}"}
    output = only_output(spec_of(put(rows(12), metadata=metadata)))
    assert (output.layout, output.head) == ("rows", "embedded-nms")


def test_rows_of_a_head_without_suppression_are_read_as_such(put):
    output = only_output(spec_of(put(rows(12), metadata=POSE | {"end2end": "True"})))
    assert (output.layout, output.head) == ("rows", "one2one")


@pytest.mark.parametrize("table", [columns(11), rows(12)])
def test_older_metadata_leave_the_layout_to_the_shape(put, table):
    old = without("args", "end2end", "channels", "head", "batch")
    (found,) = answer(put(table, metadata=old))
    assert len(found) == 2
    np.testing.assert_allclose(found.boxes[0], [15, 20, 25, 40], atol=1e-3)


def test_a_shape_that_fits_both_layouts_is_decided_by_the_metadata(put):
    # 12 rows of 11 columns, and 11 numbers of 12 anchors: only the file can tell.
    table = np.zeros((1, 11, 12), np.float32)
    assert only_output(spec_of(put(table, metadata=POSE))).layout == "columns"
    said = POSE | {"end2end": "True"}
    assert only_output(spec_of(put(table, metadata=said))).layout == "rows"


def test_without_a_task_the_shape_of_the_keypoints_says_it(put):
    assert spec_of(put(columns(11), metadata=without("task"))).task == "keypoint-detection"


def test_a_detector_has_no_skeletons(put):
    metadata = without("kpt_shape", task="detect", names="{0: 'a', 1: 'b'}")
    spec = spec_of(put(columns(6), metadata=metadata))
    assert (spec.task, spec.skeletons, only_output(spec).classes) == ("object-detection", {}, 2)


@pytest.mark.parametrize("table", [columns(4 + 1 + 32), rows(6 + 32)])
def test_prototypes_make_it_a_segmentation(put, table):
    metadata = without("kpt_shape", "end2end", task="segment")
    prototypes = np.ones((1, 32, 16, 16), np.float32)
    spec = spec_of(put(table, metadata=metadata, prototypes=prototypes))
    assert spec.task == "instance-segmentation"
    output = only_output(spec)
    assert output.coefficients == 32
    assert output.names == {"table": "output0", "prototypes": "output1"}


def test_an_int8_export_runs_as_one(put):
    path = put(columns(11), metadata=POSE)
    model = onnx.load(path)
    step, start = (numpy_helper.from_array(np.array(1, t), t) for t in ("float32", "int8"))
    model.graph.initializer.extend([step, start])
    model.graph.node.append(helper.make_node("DequantizeLinear", ["int8", "float32"], ["unused"]))
    onnx.save(model, path)
    _, artifact = read_export(path, {})
    assert open_session(artifact, runtime="onnxruntime").precision == "int8"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (POSE | {"task": "obb"}, "network for 'obb'; those for pose, detect, segment"),
        (POSE | {"names": "{0: 'a', 2: 'b'}"}, "without a gap"),
        (POSE | {"names": "nonsense"}, "must be a list of names"),
        (POSE | {"kpt_shape": "[2, 5]"}, "kpt_shape is"),
        (POSE | {"stride": "[]"}, "metadata of model.onnx are wrong"),
        (POSE | {"names": "{0: 'a', 1: 'b'}"}, "does not fit 2 classes with 2 keypoints"),
        (POSE | {"openkeypoints": "{}"}, "of the family None"),
    ],
)
def test_metadata_that_cannot_be_are_refused(put, metadata, message):
    with pytest.raises(WeightsError, match=message):
        spec_of(put(columns(11), metadata=metadata))


@pytest.mark.parametrize("sides", [(1, 1, 64, 64), (1, 64, 64, 3), (1, 3, 64)])
def test_a_graph_that_takes_no_colour_pictures_is_refused(put, sides):
    with pytest.raises(WeightsError, match=r"takes images float32 .*one float32 or float16"):
        spec_of(put(columns(11), sides=sides, metadata=POSE))


def test_a_graph_of_another_kind_is_refused(put):
    table = columns(11)[None]
    with pytest.raises(WeightsError, match="is no YOLO graph"):
        spec_of(put(table, metadata=POSE))


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match="No model file"):
        spec_of(tmp_path / "gone.onnx")


# OpenVINO


@pytest.mark.parametrize("place", ["", "model.xml"])
def test_an_openvino_export_answers_like_the_onnx_one(tmp_path, place):
    folder = write_openvino(tmp_path / "x_openvino_model", graph_bytes(columns(11)), POSE_YAML)
    (found,) = answer(folder / place)
    assert (len(found), found.class_names) == (2, ("tube",))
    np.testing.assert_allclose(found.boxes[0], [15, 20, 25, 40], atol=1e-3)


def test_an_openvino_export_says_whether_it_takes_any_size(tmp_path):
    graph = graph_bytes(columns(11), sides=("n", 3, "h", "w"), output=("n", 11, "a"))
    folder = write_openvino(tmp_path / "x_openvino_model", graph, POSE_YAML)
    entry = spec_of(folder).input
    assert (entry.name, entry.static, entry.batch) == ("x.1", False, None)


def test_an_openvino_graph_without_metadata_needs_a_card(tmp_path):
    folder = write_openvino(tmp_path / "bare", graph_bytes(columns(11)), None)
    with pytest.raises(WeightsError, match="say class_names and keypoints in a card"):
        spec_of(folder)
    assert spec_of(folder, class_names=["tube"], keypoints=["a", "b"]).skeletons[0].keypoints == (
        "a",
        "b",
    )


# Bare graphs


def test_a_bare_pose_graph_runs_with_a_card(put):
    card = {"class_names": ["tube"], "keypoints": ["head", "tail"], "confidence": 40}
    path = put(columns(11))
    spec = spec_of(path, **card)
    assert (spec.task, spec.confidence) == ("keypoint-detection", 0.4)
    (found,) = answer(path, **card)
    assert len(found) == 2
    assert found.skeletons[0].keypoints == ("head", "tail")


def test_a_packaged_skeleton_names_the_keypoints_of_a_bare_graph(put):
    spec = spec_of(put(columns(56)), class_names=["person"], skeleton="coco17")
    assert spec.skeletons[0].name == "coco17"
    assert only_output(spec).keypoints == (17, 3)


def test_numbers_of_values_follow_from_the_card(put):
    card = {"class_names": ["tube"], "keypoints": ["a", "b"]}
    assert only_output(spec_of(put(columns(9)), **card)).keypoints == (2, 2)
    assert only_output(spec_of(put(columns(11)), **card)).keypoints == (2, 3)


def test_class_names_alone_are_enough_where_only_one_number_of_keypoints_fits(put):
    spec = spec_of(put(columns(56)), class_names=["person"])
    assert only_output(spec).keypoints == (17, 3)


def test_bare_rows_are_read_as_such(put):
    card = {"class_names": ["a", "b"], "keypoints": ["x", "y"]}
    output = only_output(spec_of(put(rows(12)), **card))
    assert (output.layout, output.head, output.classes) == ("rows", "one2one", 2)


def test_a_bare_graph_of_one_class_and_nothing_else_needs_no_card(put):
    spec = spec_of(put(columns(5)))
    assert (spec.task, spec.class_names) == ("object-detection", ("class_0",))


def test_bare_masks_need_no_card(put):
    spec = spec_of(put(columns(4 + 3 + 32), prototypes=np.ones((1, 32, 16, 16), np.float32)))
    assert spec.class_names == ("class_0", "class_1", "class_2")


@pytest.mark.parametrize(
    ("table", "card", "missing"),
    [
        (columns(56), {}, "class_names and keypoints"),
        (columns(11), {"class_names": ["a"]}, "keypoints"),
        (columns(56), {"skeleton": "coco17"}, "class_names"),
        (rows(12), {}, "class_names and keypoints"),
        (rows(57), {"keypoints": 17}, "class_names"),
    ],
)
def test_a_bare_graph_that_can_mean_several_things_names_what_is_missing(put, table, card, missing):
    with pytest.raises(WeightsError, match=f"can mean several things: say {missing}"):
        spec_of(put(table), **card)


def test_an_ambiguous_layout_is_said_by_the_card(put):
    table = np.zeros((1, 11, 12), np.float32)
    card = {"class_names": ["a"], "keypoints": ["x", "y"]}
    with pytest.raises(WeightsError, match="say layout in a card"):
        spec_of(put(table), **card)
    assert only_output(spec_of(put(table), **card, layout="rows")).layout == "rows"


def test_a_card_that_does_not_fit_the_output_is_refused(put):
    with pytest.raises(WeightsError, match="does not fit 1 classes with 4 keypoints"):
        spec_of(put(columns(11)), class_names=["a"], keypoints=[*"wxyz"])


def test_the_card_sizes_a_dynamic_graph(put):
    path = put(columns(5), sides=("n", 3, "h", "w"), output=("n", 5, "a"))
    assert spec_of(path, class_names=["a"], input_size=[320, 256]).input.size == (320, 256)


def test_a_card_overrides_metadata(put):
    path = put(columns(11), metadata=POSE)
    spec = spec_of(path, class_names=["glue"], iou_threshold=0.5, licence="mine")
    assert (spec.class_names, spec.iou_threshold, spec.licence) == (("glue",), 0.5, "mine")


def test_a_card_with_an_unknown_key_is_an_input_error(put):
    with pytest.raises(InputError, match="card has 'colour', which a yolo model does not take"):
        spec_of(put(columns(11), metadata=POSE), colour="rgb")


# What is claimed


def test_an_export_is_claimed_by_its_metadata_in_each_of_its_forms(tmp_path, put):
    folder = write_openvino(tmp_path / "x", graph_bytes(columns(11)), POSE_YAML)
    for path in (put(columns(11), metadata=POSE), folder, folder / "model.xml"):
        assert claims(read_facts(path)).sure


def test_a_bare_graph_that_fits_is_claimed_less_surely(put):
    assert not claims(read_facts(put(columns(11)))).sure


def test_a_graph_of_another_input_is_not_claimed(put):
    grey = put(columns(11), sides=(1, 1, 64, 64))
    assert claims(read_facts(grey)) is None


def test_an_empty_folder_is_not_claimed(tmp_path):
    assert claims(read_facts(tmp_path)) is None
