"""Opens ONNX files and OpenVINO exports of any origin as graphs whose ports are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openkeypoints.runtimes import Artifact, openvino_ports
from openkeypoints.weights.artifact import Port, find_xml, onnx_metadata, openvino_metadata


@dataclass(frozen=True, slots=True)
class Graph:
    """A foreign graph: what it says of itself, read without its weights.

    Attributes:
        name: of its file, for messages.
        artifact: what runtimes open; knows whether the graph holds 8-bit layers.
        metadata: what the file says of itself, empty where it says nothing.
        inputs: of the graph, in order.
        outputs: of the graph, in order.
        suppresses: box suppression is part of it.
    """

    name: str
    artifact: Artifact
    metadata: Mapping[str, Any]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    suppresses: bool


def is_graph(path: Path) -> bool:
    """Tell by its name whether this is a file or folder that :func:`open_graph` may open. Cheap."""
    if path.is_dir():
        return find_xml(path) is not None
    return path.suffix.lower() in (".onnx", ".xml")


def open_graph(path: Path) -> Graph:
    """Open an ``.onnx``, an ``.xml`` or an OpenVINO folder without its weights.

    Nothing of it is executed.

    Raises:
        NotFoundError: there is no such file.
        WeightsError: it cannot be read, or its weights lie outside its folder.
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
