"""Stores the weights of a graph in half the space."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

_CONVOLUTION = 4
"""Axes of a convolution's weights."""


def with_half_weights(graph: bytes) -> bytes:
    """Return an ONNX graph whose 32-bit convolution weights are stored as 16-bit floats.

    A cast stands behind each: the graph computes with 32 bits, as before.
    """
    model = onnx.load_from_string(graph)
    casts = []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.ndim != _CONVOLUTION:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data
