from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from openkeypoints.models.graphs.halves import with_half_weights
from openkeypoints.models.graphs.tracer import OPSET, trace
from openkeypoints.runtimes import Artifact, open_session
from tests.unit.runtimes.graphs import Tiny, picture

FREE = {"image": {0: "n", 1: "h", 2: "w"}, "maps": {0: "n"}, "peak": {0: "n"}}


class Points(torch.nn.Module):
    """Two inputs of other types than pictures, and one tensor in place of several."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 4)

    def forward(self, points, rows):
        return self.linear(points)[rows]


class Named(Tiny):
    def forward(self, image):
        maps, peak = super().forward(image)
        return {"peak": peak, "maps": maps, "unused": maps + 1}


def run(graph, feeds, runtime="onnxruntime"):
    return open_session(Artifact(graph, "traced"), runtime=runtime, precision="f32").run(feeds)


def weights_of(graph):
    tensors = onnx.load_from_string(graph).graph.initializer
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}


def tiny(module=None, **choices):
    example = {"image": torch.from_numpy(picture(1, 8, 8))}
    return trace(module or Tiny().eval(), example, outputs=("maps", "peak"), free=FREE, **choices)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_graph_computes_what_the_module_computes_at_every_free_size(runtime):
    image = picture(3, 24, 16)
    found = run(tiny(), {"image": image}, runtime)
    maps, peak = Tiny()(torch.from_numpy(image))
    np.testing.assert_allclose(found["maps"], maps.detach().numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["peak"], peak.detach().numpy(), rtol=0, atol=1e-5)


def test_inputs_have_the_types_of_the_examples():
    examples = {"points": torch.zeros(5, 3), "rows": torch.tensor([1, 0])}
    module = Points().eval()
    graph = trace(module, examples, outputs=["chosen"], free={"points": {0: "n"}, "rows": {0: "m"}})
    points, rows = np.random.default_rng(0).normal(size=(7, 3)).astype("f4"), np.array([6, 2, 6])
    found = run(graph, {"points": points, "rows": rows})["chosen"]
    expected = module(torch.from_numpy(points), torch.from_numpy(rows)).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_outputs_of_a_mapping_are_taken_by_name():
    found = run(tiny(Named().eval()), {"image": picture(1, 8, 8)})
    assert {name: array.ndim for name, array in found.items()} == {"maps": 4, "peak": 2}


def test_sides_that_are_not_free_are_fixed():
    (entry,) = onnx.load_from_string(tiny()).graph.input
    assert [d.dim_value or d.dim_param for d in entry.type.tensor_type.shape.dim] == [
        "n", "h", "w", 3,
    ]  # fmt: skip


def test_weights_are_those_of_the_module_bit_for_bit():
    module = Tiny().eval()
    found = {array.tobytes() for array in weights_of(tiny(module)).values()}
    assert {value.numpy().tobytes() for value in module.state_dict().values()} <= found


def test_the_version_of_the_operators_is_chosen():
    assert onnx.load_from_string(tiny()).opset_import[0].version == OPSET
    assert onnx.load_from_string(tiny(opset=15)).opset_import[0].version == 15


def test_a_module_stays_in_its_mode():
    module = Tiny().eval()
    tiny(module)
    assert not module.training


def test_half_weights_are_those_of_convolutions_alone():
    arrays = weights_of(with_half_weights(tiny()))
    halves = {name for name, array in arrays.items() if array.dtype == np.float16}
    assert len(halves) == 2
    assert all(arrays[name].ndim == 4 for name in halves)
    assert any(array.dtype == np.float32 and array.ndim == 1 for array in arrays.values())


def test_a_graph_of_half_weights_is_smaller_and_computes_nearly_the_same():
    graph = tiny()
    image = {"image": picture(1, 16, 16)}
    half = run(with_half_weights(graph), image)["maps"]
    assert 0 < np.abs(half - run(graph, image)["maps"]).max() < 0.01
