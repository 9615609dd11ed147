"""Traces torch modules into ONNX graphs that every runtime opens."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

if TYPE_CHECKING:
    from torch import nn

OPSET = 17


def graph_from_module(module: nn.Module, size: tuple[int, int]) -> bytes:
    """Return a module as ONNX with free batch, height and width and 16-bit convolution weights.

    Args:
        module: maps uint8 pictures (N, H, W, 3) to a dict of maps (N, C, h, w).
        size: (width, height) of the picture that it is traced with.
    """
    example = torch.zeros((1, size[1], size[0], 3), dtype=torch.uint8)
    with torch.no_grad():
        names = list(module(example))
    axes = {"images": {0: "n", 1: "h", 2: "w"}}
    axes |= {name: {0: "n", 2: f"{name}_h", 3: f"{name}_w"} for name in names}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The tracing exporter is the one that writes free sides without another dependency; it
        # announces its successor at each call, which is nothing that a caller could act on.
        for beginning in ("You are using the legacy", "The feature will be removed"):
            warnings.filterwarnings("ignore", beginning, DeprecationWarning)
        torch.onnx.export(
            _Listed(module),
            (example,),
            buffer,  # type: ignore[arg-type]  # a file object is fine, its annotation says less
            input_names=["images"],
            output_names=names,
            dynamic_axes=axes,
            opset_version=OPSET,
            # Normalisations stay nodes of their own: folding them here would round differently
            # from the tensors that training continues from. Runtimes fold them when they load.
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    _store_halves(model)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


class _Listed(torch.nn.Module):
    """The exporter wants a tuple."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.module(images).values())


def _store_halves(model: onnx.ModelProto) -> None:
    """Store the weights of convolutions as float16 with a cast behind each."""
    casts = []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.ndim != 4:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
