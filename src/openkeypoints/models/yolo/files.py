"""Opens ONNX files and OpenVINO exports of any origin as graphs whose ports are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openkeypoints.errors import WeightsError
from openkeypoints.models.yolo.spec import InputSpec
from openkeypoints.runtimes import Artifact, openvino_ports
from openkeypoints.weights.artifact import Port, onnx_metadata, openvino_metadata

DEFAULT_SIZE = (640, 640)
CHANNELS = 3


@dataclass(frozen=True, slots=True)
class Graph:
    """A foreign graph.

    Attributes:
        name: of its file, for messages.
        artifact: what runtimes open.
        metadata: what the file says of itself.
        inputs: of the graph.
        outputs: of the graph, in order.
        suppresses: box suppression is part of it.
    """

    name: str
    artifact: Artifact
    metadata: Mapping[str, Any]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    suppresses: bool


def open_graph(path: Path) -> Graph:
    """Open an ``.onnx``, an ``.xml`` or an OpenVINO folder without its weights.

    Raises:
        NotFoundError: there is no such file.
        WeightsError: it cannot be read.
        RuntimeUnavailableError: it is OpenVINO's, which is not here.
    """
    if path.suffix.lower() == ".onnx" and not path.is_dir():
        facts = onnx_metadata(path)
        artifact = Artifact(path, path.name, int8=facts.int8)
        return Graph(
            path.name, artifact, facts.metadata, facts.inputs, facts.outputs, facts.suppresses
        )
    found = openvino_metadata(path)
    artifact = Artifact(None, path.name, int8=found.int8, openvino=found.xml)
    inputs, outputs = (
        tuple(Port(name, shape or None, str(dtype)) for name, shape, dtype in ports)
        for ports in openvino_ports(artifact)
    )
    return Graph(path.name, artifact, found.metadata, inputs, outputs, found.suppresses)


def input_spec(graph: Graph, *, size: tuple[int, int] | None, stride: int = 32) -> InputSpec:
    """Return how pictures enter a graph that takes floats as the vendor's exports do.

    Args:
        graph: the graph; a size that it fixes holds.
        size: (width, height) for a graph that takes any, None = 640x640.
        stride: multiple of which its sides are.

    Raises:
        WeightsError: it has not one input of colour pictures (N, 3, H, W).
    """
    shapes = ", ".join(f"{port.name} {port.dtype} {port.shape}" for port in graph.inputs)
    wrong = WeightsError(
        f"{graph.name} takes {shapes or 'nothing'}; a YOLO graph takes one float32 or float16 "
        f"input (N, {CHANNELS}, H, W)."
    )
    if len(graph.inputs) != 1 or graph.inputs[0].dtype not in ("float32", "float16"):
        raise wrong
    (port,) = graph.inputs
    shape = port.shape or (None,) * 4
    if len(shape) != 4 or shape[1] not in (None, CHANNELS):
        raise wrong
    batch, _, height, width = shape
    wide, high = size or DEFAULT_SIZE
    return InputSpec(
        name=port.name,
        size=(width or wide, height or high),
        static=width is not None or height is not None,
        batch=batch,
        stride=stride,
        half=port.dtype == "float16",
    )
