"""Small ONNX graphs that stand for exports of YOLO networks: they answer a table of constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIZE = 64
ANCHORS = 84
"""Of an input of 64x64 with strides 8, 16 and 32."""
PERSON = "{0: 'person'}"
POSE: dict[str, str] = {
    "task": "pose", "stride": "32", "imgsz": "[64, 64]", "names": "{0: 'tube'}", "batch": "1",
    "kpt_shape": "[2, 3]", "license": "a licence", "end2end": "False", "channels": "3",
    "args": "{'nms': None, 'dynamic': False}",
}  # fmt: skip
"""Metadata as the vendor writes them: one class with two keypoints."""

Sides = Sequence[int | str]


def columns(width: int, *, instances: int = 2, classes: int = 1) -> NDArray[np.float32]:
    """Return (1, width, A): instances of falling score, all of class 0, in the first columns."""
    table = np.zeros((1, width, ANCHORS), np.float32)
    for i in range(instances):
        table[0, :4, i] = (20 + 15 * i, 30, 10, 20)
        table[0, 4, i] = 0.9 - 0.2 * i
        table[0, 4 + classes :, i] = np.arange(width - 4 - classes) % 3 * 0.3 + 10 + i
    return table


def rows(width: int, *, instances: int = 2, count: int = 300) -> NDArray[np.float32]:
    """Return (1, count, width): corner boxes, score, class and what follows."""
    table = np.zeros((1, count, width), np.float32)
    for i in range(instances):
        table[0, i, :6] = (15 + 15 * i, 20, 25 + 15 * i, 40, 0.9 - 0.2 * i, 0)
        table[0, i, 6:] = 10 + i
    return table


def graph_bytes(
    table: NDArray[np.float32],
    *,
    sides: Sides = (1, 3, SIZE, SIZE),
    output: Sides | None = None,
    kind: int = TensorProto.FLOAT,
    metadata: Mapping[str, str] | None = None,
    prototypes: NDArray[np.float32] | None = None,
) -> bytes:
    """Return a graph that answers the table for every picture.

    Args:
        table: (1, C, A) or (1, n, C).
        sides: of the input; names for free ones.
        output: sides of the output as the graph says them, None = the table's.
        kind: of the input and the output, in ONNX's numbers; uint8 inputs have float outputs.
        metadata: entries of the file.
        prototypes: (1, M, h, w), a second output.
    """
    answer = TensorProto.FLOAT if kind == TensorProto.UINT8 else kind
    dtype = np.float16 if answer == TensorProto.FLOAT16 else np.float32
    answers = {"output0": table} | ({} if prototypes is None else {"output1": prototypes})
    constants = {"zero": np.array([0], np.int64)}
    nodes = [
        helper.make_node("Shape", ["images"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"], axis=0),
    ]
    for name, array in answers.items():
        constants |= {
            f"{name}.table": array.astype(dtype),
            f"{name}.tail": np.array(array.shape[1:], np.int64),
        }
        nodes += [
            helper.make_node("Concat", ["batch", f"{name}.tail"], [f"{name}.shape"], axis=0),
            helper.make_node("Expand", [f"{name}.table", f"{name}.shape"], [name]),
        ]
    outputs = [helper.make_tensor_value_info("output0", answer, output or table.shape)]
    if prototypes is not None:
        outputs.append(helper.make_tensor_value_info("output1", answer, prototypes.shape))
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "drawn",
            [helper.make_tensor_value_info("images", kind, sides)],
            outputs,
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def write_onnx(path: Path, table: NDArray[np.float32], **choices: Any) -> Path:
    """Write :func:`graph_bytes` into a file."""
    path.write_bytes(graph_bytes(table, **choices))
    return path


def write_openvino(folder: Path, graph: bytes, metadata: str | None) -> Path:
    """Write an OpenVINO export folder as the vendor's are: a trace name, outputs without names."""
    folder.mkdir()
    model = ov.Core().read_model(graph)
    for port in model.inputs:
        port.get_tensor().set_names({"x.1"})
    for port in model.outputs:
        port.get_tensor().set_names(set())
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    if metadata is not None:
        (folder / "metadata.yaml").write_text(metadata, encoding="utf-8")
    return folder
