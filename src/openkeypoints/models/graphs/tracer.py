"""Traces torch modules into ONNX graphs that every runtime opens."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence

import onnx
import torch
from torch import Tensor

OPSET = 17


def trace(
    module: torch.nn.Module,
    examples: Mapping[str, Tensor],
    *,
    outputs: Sequence[str],
    free: Mapping[str, Mapping[int, str]],
    opset: int = OPSET,
) -> bytes:
    """Return a module as an ONNX graph that computes what the module computes, with its weights.

    Nothing is rounded, folded or switched: the module is traced in the mode that it is in.

    Args:
        module: takes the examples in order and returns a tensor, a tuple in the order of
            ``outputs``, or a mapping with at least these names.
        examples: name of each input -> what the module is traced with.
        outputs: names of the outputs.
        free: name of an input or output -> axis -> name of a side that may vary.
        opset: version of ONNX's operators.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The tracing exporter is the one that writes free sides without another dependency; it
        # announces its successor at each call, which is nothing that a caller could act on.
        for beginning in ("You are using the legacy", "The feature will be removed"):
            warnings.filterwarnings("ignore", beginning, DeprecationWarning)
        torch.onnx.export(
            _Listed(module, outputs),
            tuple(examples.values()),
            buffer,  # type: ignore[arg-type]  # a file object is fine, its annotation says less
            input_names=list(examples),
            output_names=list(outputs),
            dynamic_axes={name: dict(axes) for name, axes in free.items()},
            opset_version=opset,
            # Normalisations stay nodes of their own: folding them here would round differently
            # from the tensors that training continues from. Runtimes fold them when they load.
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamo=False,
        )
    graph = buffer.getvalue()
    onnx.checker.check_model(graph, full_check=True)
    return graph


class _Listed(torch.nn.Module):
    """The exporter wants a tuple."""

    def __init__(self, module: torch.nn.Module, outputs: Sequence[str]) -> None:
        super().__init__()
        self.module, self._outputs = module, tuple(outputs)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        found = self.module(*inputs)
        if isinstance(found, Mapping):
            return tuple(found[name] for name in self._outputs)
        return (found,) if isinstance(found, Tensor) else tuple(found)
