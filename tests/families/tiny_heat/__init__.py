"""A family of networks that give a map for each keypoint of a crop."""

from __future__ import annotations

from openkeypoints.models.facts import Claim, FileFacts
from openkeypoints.models.family import Family, Loading, OpenedReader
from openkeypoints.models.topdown import View
from openkeypoints.skeletons import skeleton_from_names
from tiny_heat.reader import HeatReader


def claims(facts: FileFacts) -> Claim | None:
    """Claim graphs of one picture (N, 3, H, W) and one stack of maps (N, K, h, w)."""
    inputs, outputs = facts.ports
    shapes = [len(port.shape or ()) for port in (*inputs, *outputs)]
    return Claim(False, "one picture in, one stack of maps out") if shapes == [4, 4] else None


def open_reader(facts: FileFacts, loading: Loading) -> OpenedReader:
    """Open the graph; a card says the name of the class."""
    names = tuple(loading.spec.card.get("class_names", ["person"]))
    reader = HeatReader(loading.session(facts.graph.artifact), facts.graph)
    count = reader.empty.points.shape[1]
    skeleton = skeleton_from_names(names[0], tuple(f"point {i}" for i in range(count)))
    view = View(names, {0: skeleton}, {0: tuple(range(count))})
    return OpenedReader(reader, view, "unknown", {})


FAMILY = Family("tiny_heat", (), (".onnx",), claims, reader=open_reader)
