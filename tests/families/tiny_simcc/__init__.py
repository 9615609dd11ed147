"""A family of networks that give two rows of bins for each keypoint of a crop."""

from __future__ import annotations

from openkeypoints.models.facts import Claim, FileFacts
from openkeypoints.models.family import Family, Loading, OpenedReader
from openkeypoints.models.topdown import View
from openkeypoints.skeletons import skeleton_from_names
from tiny_simcc.reader import BinReader


def claims(facts: FileFacts) -> Claim | None:
    """Claim graphs by the names of their two outputs, which nobody else uses."""
    names = [port.name for port in facts.ports[1]]
    return Claim(True, "simcc_x and simcc_y") if names == ["simcc_x", "simcc_y"] else None


def open_reader(facts: FileFacts, loading: Loading) -> OpenedReader:
    """Open the graph; a card says the name of the class."""
    names = tuple(loading.spec.card.get("class_names", ["person"]))
    reader = BinReader(loading.session(facts.graph.artifact), facts.graph)
    count = reader.empty.points.shape[1]
    skeleton = skeleton_from_names(names[0], tuple(f"point {i}" for i in range(count)))
    view = View(names, {0: skeleton}, {0: tuple(range(count))})
    return OpenedReader(reader, view, "unknown", {})


FAMILY = Family("tiny_simcc", (), (".onnx",), claims, reader=open_reader)
