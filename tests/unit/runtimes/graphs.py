"""Tiny networks for the tests of the runtimes: one convolution stack, as a graph and a module."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from openkeypoints.runtimes import Artifact

CHANNELS = 8
MAPS = 5


def weights(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    shapes = {
        "first": (CHANNELS, 3, 3, 3),
        "first_bias": (CHANNELS,),
        "second": (MAPS, CHANNELS, 3, 3),
        "second_bias": (MAPS,),
    }
    return {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def graph(tensors: dict[str, NDArray[np.float32]] | None = None) -> bytes:
    """Return uint8 (N, H, W, 3) -> ``maps`` (N, 5, H/2, W/2) and ``peak`` (N, 5)."""
    tensors = weights() if tensors is None else tensors
    tensors = {**tensors, "scale": np.array(1 / 255, np.float32)}
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "first", "first_bias"], ["c1"], strides=[2, 2], **conv),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "second", "second_bias"], ["maps"], **conv),
        helper.make_node("ReduceMax", ["maps"], ["peak"], axes=[2, 3], keepdims=0),
    ]
    return model_bytes(
        nodes,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [
            helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["n", MAPS, "oh", "ow"]),
            helper.make_tensor_value_info("peak", TensorProto.FLOAT, ["n", MAPS]),
        ],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )


def int8_graph() -> bytes:
    """Return the first convolution with its weights and input rounded to 8 bits in the graph."""
    tensors = weights()
    quantised = np.clip(np.round(tensors["first"] / 0.01), -127, 127).astype(np.int8)
    constants = {
        "one": np.array(1 / 255, np.float32),
        "zero": np.array(0, np.uint8),
        "step": np.array(0.01, np.float32),
        "zero8": np.array(0, np.int8),
        "first": quantised,
    }
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("DequantizeLinear", ["planes", "one", "zero"], ["scaled"]),
        helper.make_node("DequantizeLinear", ["first", "step", "zero8"], ["kernel"]),
        helper.make_node("Conv", ["scaled", "kernel"], ["maps"], kernel_shape=[3, 3]),
    ]
    return model_bytes(
        nodes,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["n", CHANNELS, "oh", "ow"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )


def adding_graph() -> bytes:
    """Return ``left`` + ``right``: two uint8 pictures that must have sizes of their own accord."""
    sides = ["n", "h", "w", 3]
    nodes = [
        helper.make_node("Cast", ["left"], ["a"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["right"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["a", "b"], ["sum"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.UINT8, sides) for name in ("left", "right")
    ]
    return model_bytes(
        nodes, inputs, [helper.make_tensor_value_info("sum", TensorProto.FLOAT, sides)], []
    )


def model_bytes(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: list[onnx.TensorProto],
) -> bytes:
    made = helper.make_model(
        helper.make_graph(nodes, "tiny", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(made)
    return made.SerializeToString()


class Tiny(torch.nn.Module):
    """The same network as ``graph``."""

    outputs = ("maps", "peak")

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)
        self.second = torch.nn.Conv2d(CHANNELS, MAPS, 3, padding=1)
        named = {
            "first.weight": "first",
            "first.bias": "first_bias",
            "second.weight": "second",
            "second.bias": "second_bias",
        }
        tensors = weights()
        self.load_state_dict({key: torch.from_numpy(tensors[name]) for key, name in named.items()})

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        planes = image.permute(0, 3, 1, 2).float() / 255
        maps = self.second(torch.relu(self.first(planes)))
        return maps, maps.amax(dim=(2, 3))


class Naming(Tiny):
    """The same network, returning a mapping and saying nothing about its outputs."""

    outputs = ()

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return dict(zip(("maps", "peak"), super().forward(image), strict=True))


class Nameless(Tiny):
    """The same network with outputs that have no names."""

    outputs = ()


class Adding(torch.nn.Module):
    """The same network as ``adding_graph``."""

    outputs = ("sum",)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left.float() + right.float()


def tiny() -> Artifact:
    return Artifact(graph(), "tiny", Tiny)


def adding() -> Artifact:
    return Artifact(adding_graph(), "adding", Adding)


def picture(*shape: int, seed: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
