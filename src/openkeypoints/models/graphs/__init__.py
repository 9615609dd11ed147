"""The room of graphs: foreign ones and what enters them, written ones and where they are kept."""

from openkeypoints.models.graphs.compiled import open_network
from openkeypoints.models.graphs.foreign import Graph, is_graph, open_graph
from openkeypoints.models.graphs.inputs import PictureInput, as_input, picture_input
from openkeypoints.weights.artifact import Port, Shape

__all__ = [
    "Graph",
    "PictureInput",
    "Port",
    "Shape",
    "as_input",
    "is_graph",
    "open_graph",
    "open_network",
    "picture_input",
]
