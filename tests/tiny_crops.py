"""Crop networks of random numbers, in the forms of the families in tests/families."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = (24, 32)
"""(width, height) of the crops."""
KEYPOINTS = 5


def tiny_heat(path: Path, *, batch: int | str = "n", seed: int = 0) -> Path:
    """Write a network that gives a map of a quarter of the crop's sides for each keypoint."""
    rng = np.random.default_rng(seed)
    width, height = SIZE
    weights = {
        "kernel": rng.normal(0, 1, (KEYPOINTS, 3, 4, 4)).astype(np.float32),
        "bias": rng.normal(0, 1, KEYPOINTS).astype(np.float32),
    }
    nodes = [helper.make_node("Conv", ["input", *weights], ["output"], strides=[4, 4])]
    maps = (batch, KEYPOINTS, height // 4, width // 4)
    return _write(path, nodes, weights, {"output": maps}, batch)


def tiny_simcc(path: Path, *, batch: int | str = "n", seed: int = 0) -> Path:
    """Write a network that gives two bins a pixel of each axis for each keypoint."""
    rng = np.random.default_rng(seed)
    width, height = SIZE
    weights = {
        "mix": rng.normal(0, 1, (KEYPOINTS, 3)).astype(np.float32),
        "wide": rng.normal(0, 1, (width, 2 * width)).astype(np.float32),
        "high": rng.normal(0, 1, (height, 2 * height)).astype(np.float32),
    }
    nodes = []
    for axis, name, spread in ((2, "x", "wide"), (3, "y", "high")):
        nodes += [
            helper.make_node("ReduceMean", ["input"], [f"{name}_rows"], axes=[axis], keepdims=0),
            helper.make_node("MatMul", ["mix", f"{name}_rows"], [f"{name}_points"]),
            helper.make_node("MatMul", [f"{name}_points", spread], [f"simcc_{name}"]),
        ]
    outputs = {
        "simcc_x": (batch, KEYPOINTS, 2 * width),
        "simcc_y": (batch, KEYPOINTS, 2 * height),
    }
    return _write(path, nodes, weights, outputs, batch)


def _write(path, nodes, weights, outputs, batch) -> Path:
    def port(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    width, height = SIZE
    graph = helper.make_graph(
        nodes,
        path.stem,
        [port("input", (batch, 3, height, width))],
        [port(name, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path
