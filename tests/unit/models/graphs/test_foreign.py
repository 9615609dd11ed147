from __future__ import annotations

import pytest

from openkeypoints.errors import NotFoundError, WeightsError
from openkeypoints.models.graphs import Port, is_graph, open_graph
from tests.unit.runtimes.graphs import int8_graph
from tests.yolo_graphs import POSE, columns, graph_bytes, write_onnx, write_openvino


def test_an_onnx_file_says_its_ports_and_metadata(tmp_path):
    graph = open_graph(write_onnx(tmp_path / "pose.onnx", columns(11), metadata=POSE))
    assert graph.inputs == (Port("images", (1, 3, 64, 64), "float32"),)
    assert graph.outputs == (Port("output0", (1, 11, 84), "float32"),)
    assert graph.metadata["names"] == {0: "tube"}
    assert (graph.name, graph.suppresses, graph.artifact.int8) == ("pose.onnx", False, False)


@pytest.mark.parametrize("place", ["", "model.xml"])
def test_an_openvino_export_says_the_same_by_folder_and_by_file(tmp_path, place):
    bytes_ = graph_bytes(columns(11), sides=("n", 3, "h", "w"), output=("n", 11, "a"))
    folder = write_openvino(tmp_path / "free", bytes_, "task: pose")
    graph = open_graph(folder / place)
    assert graph.inputs == (Port("x.1", (None, 3, None, None), "float32"),)
    assert [port.name for port in graph.outputs] == ["output0"]
    assert graph.metadata == {"task": "pose"}
    assert graph.artifact.openvino == folder / "model.xml"


def test_the_artefact_knows_its_8_bit_layers(tmp_path):
    path = tmp_path / "int8.onnx"
    path.write_bytes(int8_graph())
    assert open_graph(path).artifact.int8


def test_graphs_are_told_by_their_names(tmp_path):
    folder = write_openvino(tmp_path / "x", graph_bytes(columns(11)), None)
    assert is_graph(folder)
    assert is_graph(folder / "model.xml")
    assert is_graph(tmp_path / "other.onnx")
    assert not is_graph(tmp_path)
    assert not is_graph(tmp_path / "model.pt")


def test_what_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match="No model file"):
        open_graph(tmp_path / "gone.onnx")
    with pytest.raises(WeightsError, match="is no OpenVINO export"):
        open_graph(tmp_path)
