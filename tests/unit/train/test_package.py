"""Writing a pico file: small, the same bytes for the same weights, the same weights everywhere."""

from __future__ import annotations

import numpy as np
import onnx

from openkeypoints.weights.okp import open_okp
from openkeypoints.weights.tensors import tensors_from_bytes
from tests.tiny_pico import write_tiny_pico


def test_the_same_weights_give_the_same_bytes(tiny_okp, tmp_path):
    again = write_tiny_pico(tmp_path / "again.okp")
    assert again.read_bytes() == tiny_okp.read_bytes()


def test_other_weights_give_others(tiny_okp, tmp_path):
    other = write_tiny_pico(tmp_path / "other.okp", seed=1)
    assert other.read_bytes() != tiny_okp.read_bytes()


def test_a_file_has_both_parts_as_graph_and_as_tensors(tiny_okp):
    file = open_okp(tiny_okp)
    for part in ("pose", "detector"):
        weights = tensors_from_bytes(file.read(f"{part}.safetensors"), part)
        assert {v.dtype for v in weights.values() if v.ndim == 4} == {np.dtype(np.float16)}
        assert {v.dtype for v in weights.values() if v.ndim == 1} == {np.dtype(np.float32)}


def test_the_graph_holds_the_convolutions_of_the_tensors_bit_for_bit(tiny_okp):
    file = open_okp(tiny_okp)
    weights = tensors_from_bytes(file.read("pose.safetensors"), "pose")
    graph = onnx.load_from_string(file.read("pose.onnx")).graph
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    halves = sorted(a.tobytes() for a in arrays if a.dtype == np.float16)
    assert halves == sorted(v.tobytes() for v in weights.values() if v.ndim == 4)


def test_a_graph_takes_bytes_of_any_size_and_number(tiny_okp):
    graph = onnx.load_from_string(open_okp(tiny_okp).read("detector.onnx")).graph
    (entry,) = graph.input
    sides = [d.dim_value or d.dim_param for d in entry.type.tensor_type.shape.dim]
    assert entry.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert sides == ["n", "h", "w", 3]
    assert [o.name for o in graph.output] == ["centers", "distances"]


def test_a_file_names_no_folder_of_the_machine_that_made_it(tiny_okp, tmp_path):
    data = tiny_okp.read_bytes()
    assert str(tmp_path.parent).encode() not in data
    assert __file__.rpartition("/tests/")[0].encode() not in data
