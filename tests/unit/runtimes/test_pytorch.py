from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from openkeypoints.errors import InputError
from openkeypoints.runtimes import Artifact, open_session
from tests.unit.runtimes.graphs import Nameless, Naming, Tiny, graph, model_bytes, picture


def open_torch(module, **choices):
    artifact = Artifact(graph(), "tiny", module)
    return open_session(artifact, runtime="torch", device="cpu", precision="f32", **choices)


def test_a_module_may_return_a_mapping():
    image = {"image": picture(1, 8, 8)}
    expected = open_torch(Tiny).run(image)
    found = open_torch(Naming).run(image)
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(found["maps"], expected["maps"])


def test_a_module_whose_outputs_have_no_names_is_refused():
    with pytest.raises(InputError, match="returns 2 tensors and its attribute 'outputs' names 0"):
        open_torch(Nameless).run({"image": picture(1, 8, 8)})


def test_a_module_may_state_the_shapes_of_its_inputs():
    class Square(Tiny):
        inputs = {"image": (None, 32, 32, 3)}  # noqa: RUF012

    opened = open_torch(Square)
    with pytest.raises(InputError, match=r"it must be \(any, 32, 32, 3\)"):
        opened.run({"image": picture(1, 16, 32)})


class Scaled(torch.nn.Module):
    """Planes times the sum of two whole numbers of each picture."""

    inputs = {"planes": (None, 3, None, None), "sizes": (None, 2)}  # noqa: RUF012
    dtypes = {"planes": np.float32, "sizes": "int64"}  # noqa: RUF012
    outputs = ("scaled",)

    def forward(self, planes, sizes):
        return (planes * sizes.sum(1).float()[:, None, None, None],)


def scaled_graph():
    nodes = [
        helper.make_node("ReduceSum", ["sizes", "axis"], ["sums"], keepdims=1),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["floats", "ends"], ["factors"]),
        helper.make_node("Mul", ["planes", "factors"], ["scaled"]),
    ]
    planes = ["n", 3, "h", "w"]
    inputs = [
        helper.make_tensor_value_info("planes", TensorProto.FLOAT, planes),
        helper.make_tensor_value_info("sizes", TensorProto.INT64, ["n", 2]),
    ]
    constants = {"axis": [1], "ends": [2, 3]}
    return model_bytes(
        nodes, inputs, [helper.make_tensor_value_info("scaled", TensorProto.FLOAT, planes)],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )  # fmt: skip


FEEDS = {
    "planes": np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype(np.float32),
    "sizes": np.array([[1, 2], [-5, 300]]),
}


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime", "openvino"])
def test_every_runtime_takes_the_types_that_a_network_declares(runtime):
    artifact = Artifact(scaled_graph(), "scaled", Scaled)
    found = open_session(artifact, runtime=runtime, device="cpu", precision="f32").run(FEEDS)
    expected = FEEDS["planes"] * FEEDS["sizes"].sum(1)[:, None, None, None].astype(np.float32)
    np.testing.assert_array_equal(found["scaled"], expected)


@pytest.mark.parametrize(
    ("name", "dtype", "wanted"),
    [("planes", np.uint8, "float32"), ("planes", np.float64, "float32"),
     ("sizes", np.int32, "int64")],
)  # fmt: skip
def test_an_input_of_another_type_than_declared_is_an_input_error(name, dtype, wanted):
    opened = open_torch(Scaled)
    with pytest.raises(InputError, match=f"'{name}' is .*; it must be an array of {wanted}"):
        opened.run(FEEDS | {name: FEEDS[name].astype(dtype)})


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime", "openvino"])
@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "int16", "int32", "uint8", "bool"])
def test_every_type_of_numbers_can_be_an_input(runtime, dtype):
    class Floats(torch.nn.Module):
        inputs = {"x": (None,)}  # noqa: RUF012
        dtypes = {"x": dtype}  # noqa: RUF012
        outputs = ("y",)

        def forward(self, x):
            return x.float()

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    made = model_bytes(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)],
        [helper.make_tensor_value_info("x", kind, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [],
    )
    values = np.array([0, 1, 100]).astype(dtype)
    opened = open_session(Artifact(made, "cast", Floats), runtime=runtime, precision="f32")
    np.testing.assert_array_equal(opened.run({"x": values})["y"], values.astype(np.float32))


def test_inputs_without_a_declared_type_are_pictures():
    class Half(Scaled):
        dtypes = {"sizes": np.int64}  # noqa: RUF012

    with pytest.raises(InputError, match="it must be an array of uint8"):
        open_torch(Half).run(FEEDS)


def test_the_module_runs_in_evaluation_mode_without_gradients():
    seen = {}

    class Watching(Tiny):
        def forward(self, image):
            seen.update(training=self.training, gradients=torch.is_grad_enabled())
            return super().forward(image)

    open_torch(Watching).run({"image": picture(1, 8, 8)})
    assert seen == {"training": False, "gradients": False}


def test_a_network_in_training_can_learn_on_after_a_session_used_it():
    network = Tiny()
    open_torch(lambda: network).run({"image": picture(1, 8, 8)})
    network.train()
    maps, _ = network(torch.from_numpy(picture(1, 8, 8)))
    maps.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_number_of_threads_is_set_for_the_process():
    before = torch.get_num_threads()
    try:
        open_torch(Tiny, threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_no_number_of_threads_leaves_the_process_alone():
    before = torch.get_num_threads()
    open_torch(Tiny)
    assert torch.get_num_threads() == before
