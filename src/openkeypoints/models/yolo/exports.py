"""Foreign and own exports of YOLO networks: a file or folder to a specification and its graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openkeypoints.errors import NotFoundError
from openkeypoints.models.facts import Claim, FileFacts
from openkeypoints.models.graphs import Graph, open_graph
from openkeypoints.models.yolo.cards import check_card, with_card
from openkeypoints.models.yolo.inputs import takes_pictures
from openkeypoints.models.yolo.metadata import described
from openkeypoints.models.yolo.package import is_package, read_package
from openkeypoints.models.yolo.record import spec_from_json
from openkeypoints.models.yolo.spec import YoloSpec
from openkeypoints.runtimes import Artifact
from openkeypoints.weights.artifact import OWN_KEY

_VENDORS = frozenset({"names", "task", "stride", "imgsz", "kpt_shape"})
"""Keys of which the vendor's exports have most."""
_TABLE = 3
"""Axes of a table of candidates, the batch among them."""


def claims(facts: FileFacts) -> Claim | None:
    """Claim the vendor's exports and packages surely, and graphs whose ports could be ours."""
    if facts.kind == "folder":
        return Claim(True, "a Roboflow package") if is_package(facts.files) else None
    if facts.graph is None:
        return None
    if len(_VENDORS & facts.metadata.keys()) > 1:
        return Claim(True, "an export with ultralytics' metadata")
    tables = [port for port in facts.graph.outputs if len(port.shape or ()) == _TABLE]
    fits = takes_pictures(facts.graph) is not None and bool(tables)
    return Claim(False, "one input of pictures, and a table of candidates") if fits else None


def read_export(
    path: Path, card: Mapping[str, Any], graph: Graph | None = None
) -> tuple[YoloSpec, Artifact]:
    """Read an export: ours, the vendor's, a Roboflow package folder, or a bare graph with a card.

    Args:
        path: an ``.onnx``, an ``.xml``, an OpenVINO folder or a package folder.
        card: what the caller says in place of the file, or of a file that says nothing.
        graph: what was read of the file before, None reads it now.

    Returns:
        The model, the card applied, and its graph.

    Raises:
        NotFoundError: there is no such file.
        WeightsError: it cannot be read, or does not say enough; the message says what is missing.
        InputError: the card does not fit the model.
    """
    if not path.exists():
        raise NotFoundError(f"No model file at {path}.")
    check_card(card)
    if path.is_dir() and is_package({p.name for p in path.iterdir()}):
        spec, artifact = read_package(path, card)
        return with_card(spec, card), artifact
    graph = graph or open_graph(path)
    if OWN_KEY in graph.metadata:
        spec = spec_from_json(graph.metadata[OWN_KEY], graph.name)
    else:
        spec = described(graph, card)
    return with_card(spec, card), graph.artifact
