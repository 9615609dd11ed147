"""What a model file says of itself, read once, so that families can tell whether it is theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from openkeypoints.errors import WeightsError
from openkeypoints.models.graphs import Graph, Port, is_graph, open_graph
from openkeypoints.weights.artifact import OWN_KEY
from openkeypoints.weights.okp import open_okp
from openkeypoints.weights.safe import pickle_of
from openkeypoints.weights.tensors import tensor_names

Kind = Literal["okp", "pickle", "tensors", "graph", "folder", "other"]
OKP, TENSORS = ".okp", ".safetensors"
PICKLED = (".pt", ".pth", ".ckpt")


@dataclass(frozen=True, slots=True, eq=False)
class FileFacts:
    """A model file or folder as it was found; nothing of it was executed.

    Attributes:
        path: where it is.
        kind: ``okp`` (our zip), ``pickle`` (torch's checkpoints), ``tensors`` (safetensors),
            ``graph`` (ONNX, OpenVINO), ``folder`` (of other files), ``other``.
        record: what we ourselves wrote into it: ``model.json``, or our entry in the metadata.
        graph: of a graph: its metadata and its ports.
        pickle: of a checkpoint: the bytes of its pickle.
        tensors: of a safetensors file: the names of its tensors.
        files: of a folder: the names in it.
    """

    path: Path
    kind: Kind
    record: Mapping[str, Any] = field(default_factory=dict)
    graph: Graph | None = None
    pickle: bytes = b""
    tensors: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What a graph says of itself, empty for every other file."""
        return {} if self.graph is None else self.graph.metadata

    @property
    def ports(self) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
        """Inputs and outputs of a graph, none for every other file."""
        return ((), ()) if self.graph is None else (self.graph.inputs, self.graph.outputs)


class Claim(NamedTuple):
    """What a family says of a file that may be its own.

    ``sure``: the file says so itself, or in a form that nobody else writes; else its ports or
    names would only fit. ``reason``: a few words for people.
    """

    sure: bool
    reason: str


def read_facts(path: Path) -> FileFacts:
    """Read what a file or folder says of itself.

    Raises:
        NotFoundError: it is not there.
        WeightsError: it is damaged, or its weights lie outside its folder.
        RuntimeUnavailableError: it is OpenVINO's, which is not here.
    """
    suffix = path.suffix.lower()
    if path.is_dir() and not is_graph(path):
        return FileFacts(path, "folder", files=frozenset(p.name for p in path.iterdir()))
    if is_graph(path):
        graph = open_graph(path)
        record = graph.metadata.get(OWN_KEY)
        own = record if isinstance(record, Mapping) else {}
        return FileFacts(path, "graph", own, graph)
    if suffix == OKP:
        return FileFacts(path, "okp", open_okp(path).model)
    if suffix == TENSORS:
        return FileFacts(path, "tensors", tensors=tensor_names(path))
    pickled = pickle_of(path)
    return FileFacts(path, "pickle" if pickled or suffix in PICKLED else "other", pickle=pickled)


def unclaimed(facts: FileFacts, endings: list[str]) -> WeightsError:
    """Return the error for a file that no family takes for its own: what it has, what would help.

    Args:
        facts: of the file.
        endings: of the files that are read.
    """
    name = facts.path.name
    if facts.graph is None:
        folder = facts.kind == "folder"
        what = f"The folder {facts.path} holds no model" if folder else f"{name} is no model file"
        return WeightsError(f"{what} that this version reads; it reads {', '.join(endings)}.")
    inputs, outputs = (", ".join(map(_port, ports)) for ports in facts.ports)
    return WeightsError(
        f"No family knows the graph {name}: it takes {inputs or 'nothing'} and gives {outputs}. "
        "If it is of a family that is read here, say so in a card: family, and what the file does "
        "not say itself, for example class_names, keypoints, input_size (docs/models/cards.md)."
    )


def _port(port: Port) -> str:
    if port.shape is None:
        return f"{port.name} {port.dtype}"
    sides = ", ".join("any" if side is None else str(side) for side in port.shape)
    return f"{port.name} {port.dtype} ({sides})"
