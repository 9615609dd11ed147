from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from openkeypoints.errors import NotFoundError, WeightsError
from openkeypoints.weights import artifact
from openkeypoints.weights.artifact import (
    Port,
    check_complete,
    onnx_metadata,
    openvino_metadata,
    write_metadata,
)
from tests.unit.runtimes.graphs import int8_graph
from tests.yolo_graphs import POSE, columns, graph_bytes, write_onnx, write_openvino


@pytest.fixture
def pose(tmp_path):
    return write_onnx(tmp_path / "pose.onnx", columns(11), metadata=POSE)


def with_entry(tmp_path, key, text):
    return write_onnx(tmp_path / "entry.onnx", columns(11), metadata={key: text})


# ONNX


def test_entries_that_are_literals_are_parsed_and_others_stay_text(pose):
    metadata = onnx_metadata(pose).metadata
    assert metadata["names"] == {0: "tube"}
    assert metadata["kpt_shape"] == [2, 3]
    assert metadata["stride"] == 32
    assert metadata["end2end"] is False
    assert metadata["args"] == {"nms": None, "dynamic": False}
    assert metadata["license"] == "a licence"


def test_inputs_and_outputs_are_named_with_shape_and_type(pose):
    facts = onnx_metadata(pose)
    assert facts.inputs == (Port("images", (1, 3, 64, 64), "float32"),)
    assert facts.outputs == (Port("output0", (1, 11, 84), "float32"),)


def test_free_sides_are_none(tmp_path):
    path = write_onnx(
        tmp_path / "free.onnx", columns(11), sides=("n", 3, "h", "w"), output=("n", 11, "a")
    )
    facts = onnx_metadata(path)
    assert facts.inputs[0].shape == (None, 3, None, None)
    assert facts.outputs[0].shape == (None, 11, None)


def test_weights_that_old_files_list_among_the_inputs_are_no_inputs(tmp_path):
    model = onnx.load_from_string(graph_bytes(columns(11)))
    model.graph.input.append(helper.make_tensor_value_info("zero", TensorProto.INT64, [1]))
    path = tmp_path / "old.onnx"
    onnx.save(model, path)
    assert [port.name for port in onnx_metadata(path).inputs] == ["images"]


def test_eight_bit_layers_are_seen(tmp_path, pose):
    path = tmp_path / "int8.onnx"
    path.write_bytes(int8_graph())
    assert onnx_metadata(path).int8
    assert not onnx_metadata(pose).int8


def test_weights_stay_on_the_disk(tmp_path, monkeypatch):
    model = onnx.load_from_string(graph_bytes(columns(11), metadata=POSE))
    weights = numpy_helper.from_array(np.ones(200_000, np.float32), "large")
    model.graph.initializer.append(weights)
    path = tmp_path / "large.onnx"
    path.write_bytes(model.SerializeToString())
    monkeypatch.setattr(artifact, "MAX_GRAPH_BYTES", 50_000)
    assert onnx_metadata(path).metadata["names"] == {0: "tube"}


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "[" * 500 + "]" * 500,
        "[" + "-" * 300_000 + "1]",
        "{0: open('/etc/passwd').read()}",
        "(lambda: 1)()",
        "[1, 2",
        "[" + "1," * 800_000 + "1]",
    ],
)
def test_what_is_no_plain_literal_stays_text(tmp_path, text):
    assert onnx_metadata(with_entry(tmp_path, "names", text)).metadata["names"] == text


def test_our_own_record_is_read_as_json(tmp_path):
    record = {"a": None, "b": [True, 1.5]}
    path = with_entry(tmp_path, "openkeypoints", json.dumps(record))
    assert onnx_metadata(path).metadata["openkeypoints"] == record


@pytest.mark.parametrize("kept", [0, 1, 30, 200, 2000])
def test_a_file_cut_short_is_no_whole_file(pose, kept):
    pose.write_bytes(pose.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"pose\.onnx (is no whole ONNX file|has 0 bytes)"):
        onnx_metadata(pose)


@pytest.mark.parametrize("data", [b"PK\x03\x04" + b"\0" * 60, b"\xff" * 400, b"no graph at all"])
def test_other_bytes_are_no_onnx_file(tmp_path, data):
    path = tmp_path / "other.onnx"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="is no whole ONNX file"):
        onnx_metadata(path)


def test_a_file_beyond_the_limit_of_the_format_is_refused(pose, monkeypatch):
    monkeypatch.setattr(artifact, "MAX_ONNX_BYTES", 100)
    with pytest.raises(WeightsError, match="an ONNX file has 1 to 100"):
        onnx_metadata(pose)


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match=r"gone\.onnx"):
        onnx_metadata(tmp_path / "gone.onnx")


# Weights in other files


def far_tensor(*locations, data_location=TensorProto.EXTERNAL):
    tensor = TensorProto(
        name="far", data_type=TensorProto.FLOAT, dims=[1], data_location=data_location
    )
    for location in locations:
        tensor.external_data.add(key="location", value=location)
    return tensor


def constant(tensor):
    node = helper.make_node("Constant", [], ["far"])
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(tensor)
    return node


def as_initializer(model, tensor):
    model.graph.initializer.append(tensor)


def as_a_node(model, tensor):
    model.graph.node.append(constant(tensor))


def as_values_of_a_sparse_one(model, tensor):
    model.graph.sparse_initializer.add(dims=[1]).values.CopyFrom(tensor)


def in_a_list_of_an_attribute(model, tensor):
    node = model.graph.node.add(op_type="Custom", domain="any")
    node.attribute.add(name="values", type=onnx.AttributeProto.TENSORS).tensors.append(tensor)


def in_a_subgraph(model, tensor):
    node = model.graph.node.add(op_type="If")
    branch = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g
    branch.node.append(constant(tensor))


def in_a_function(model, tensor):
    model.functions.add(name="f", domain="any").node.append(constant(tensor))


PLACES = [
    as_initializer, as_a_node, as_values_of_a_sparse_one, in_a_list_of_an_attribute, in_a_subgraph,
    in_a_function,
]  # fmt: skip


@pytest.fixture
def far(tmp_path):
    """Return a function that writes a graph with weights elsewhere and returns its path."""
    (tmp_path / "secret").write_bytes(b"\0" * 4)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "beside").write_bytes(b"\0" * 4)

    def written(*locations, put=as_initializer, **choices):
        model = onnx.load_from_string(graph_bytes(columns(11)))
        put(model, far_tensor(*locations, **choices))
        path = folder / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return written


@pytest.mark.parametrize("put", PLACES)
def test_weights_beside_the_graph_are_fine(far, put):
    assert onnx_metadata(far("beside", put=put)).outputs[0].name == "output0"


def test_weights_in_a_folder_beside_the_graph_are_fine(far):
    path = far("sub/weights")
    (path.parent / "sub").mkdir()
    (path.parent / "sub" / "weights").write_bytes(b"\0" * 4)
    assert onnx_metadata(path).outputs[0].name == "output0"


@pytest.mark.parametrize("put", PLACES)
@pytest.mark.parametrize(
    "locations",
    [
        ["../secret"],
        ["beside", "../secret"],
        ["../secret", "beside"],
        ["beside", "beside", "/etc/passwd"],
        ["beside", ""],
        [],
    ],
)
def test_every_place_of_every_tensor_is_looked_at(far, put, locations):
    with pytest.raises(WeightsError, match="outside its own folder"):
        onnx_metadata(far(*locations, put=put))


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd", "sub/../../secret", "sub/../beside", "", ".", "..", "..\\secret",
        "C:\\secret", "\\\\server\\share\\secret", "be\0side", "*/_ORT_MEM_ADDR_/*",
    ],
)  # fmt: skip
def test_weights_outside_the_folder_are_refused(far, location):
    with pytest.raises(WeightsError, match="outside its own folder"):
        onnx_metadata(far(location))


def test_a_place_outside_is_refused_even_where_the_weights_are_said_to_be_inside(far):
    path = far("../secret", data_location=TensorProto.DEFAULT)
    with pytest.raises(WeightsError, match="outside its own folder"):
        onnx_metadata(path)


def test_a_link_that_leads_outside_the_folder_is_refused(far):
    path = far("inside")
    (path.parent / "inside").symlink_to(path.parent.parent / "secret")
    with pytest.raises(WeightsError, match="outside its own folder"):
        onnx_metadata(path)


def test_a_folder_that_is_a_link_outside_is_refused(far):
    path = far("sub/secret")
    (path.parent / "sub").symlink_to(path.parent.parent)
    with pytest.raises(WeightsError, match="outside its own folder"):
        onnx_metadata(path)


def test_links_to_a_graph_and_its_weights_in_one_folder_are_fine(far, tmp_path):
    # As the hub's software keeps what it fetched.
    far("model.data").rename(tmp_path / "model" / "1")
    (tmp_path / "model" / "beside").rename(tmp_path / "model" / "2")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "model.onnx").symlink_to("../model/1")
    (snapshot / "model.data").symlink_to("../model/2")
    assert onnx_metadata(snapshot / "model.onnx").outputs[0].name == "output0"


def test_missing_weights_are_named(far):
    with pytest.raises(WeightsError, match=r"'model\.data', which is missing"):
        onnx_metadata(far("model.data"))


@pytest.mark.parametrize("put", PLACES)
def test_a_graph_in_memory_has_no_weights_elsewhere(far, put):
    with pytest.raises(WeightsError, match=r"tiny\.okp:pose wants weights from another file"):
        check_complete(far("beside", put=put).read_bytes(), "tiny.okp:pose")


def test_a_graph_in_memory_with_all_its_weights_is_complete():
    check_complete(graph_bytes(columns(11), metadata={"location": "Oslo"}), "whole")


# OpenVINO


@pytest.fixture
def folder(tmp_path):
    text = "names:\n  0: tube\nkpt_shape: [2, 3]\nargs: {nms: null}\n"
    return write_openvino(tmp_path / "pose_openvino_model", graph_bytes(columns(11)), text)


def test_an_openvino_folder_and_its_xml_say_the_same(folder):
    facts = openvino_metadata(folder)
    assert facts == openvino_metadata(folder / "model.xml")
    assert facts.metadata == {"names": {0: "tube"}, "kpt_shape": [2, 3], "args": {"nms": None}}
    assert (facts.int8, facts.suppresses) == (False, False)


def test_a_folder_without_metadata_says_nothing(folder):
    (folder / "metadata.yaml").unlink()
    assert openvino_metadata(folder).metadata == {}


@pytest.mark.parametrize(
    "text",
    [
        "names: !!python/object/apply:os.system ['true']",
        "a: &a [1]\nb: [*a, *a]",
        "[" * 3000,
        "- a list",
        "names: {0: tube",
    ],
)
def test_metadata_that_are_no_plain_mapping_are_refused(folder, text):
    (folder / "metadata.yaml").write_text(text)
    with pytest.raises(WeightsError, match=r"metadata\.yaml"):
        openvino_metadata(folder)


def test_missing_weights_of_openvino_are_named(folder):
    (folder / "model.bin").unlink()
    with pytest.raises(WeightsError, match=r"put model\.bin beside it"):
        openvino_metadata(folder)


def test_a_folder_with_two_graphs_is_no_export(folder):
    shutil.copy(folder / "model.xml", folder / "other.xml")
    with pytest.raises(WeightsError, match=r"one \.xml beside its \.bin"):
        openvino_metadata(folder)


def test_written_metadata_come_back(folder):
    record = {"openkeypoints": {"sigmas": [1e-05, 0.5], "licence": "Größe: ja", "none": None}}
    write_metadata(folder, record)
    assert openvino_metadata(folder).metadata == record
