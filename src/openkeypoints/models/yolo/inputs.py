"""How pictures enter a foreign YOLO graph, told from its input."""

from __future__ import annotations

from openkeypoints.errors import WeightsError
from openkeypoints.models.graphs import Graph
from openkeypoints.models.graphs.inputs import CHANNELS, PictureInput, picture_input
from openkeypoints.models.yolo.spec import InputSpec

DEFAULT_SIZE = (640, 640)


def takes_pictures(graph: Graph) -> PictureInput | None:
    """Return the input of a graph that takes colour pictures (N, 3, H, W) as floats, else None."""
    entry = picture_input(graph.inputs[0]) if len(graph.inputs) == 1 else None
    if entry is None or entry.tensor != "nchw" or entry.dtype not in ("float32", "float16"):
        return None
    return entry


def input_spec(graph: Graph, *, size: tuple[int, int] | None, stride: int = 32) -> InputSpec:
    """Return how pictures enter a graph that takes floats as the vendor's exports do.

    Args:
        graph: the graph; a size that it fixes holds.
        size: (width, height) for a graph that takes any, None = 640x640.
        stride: multiple of which its sides are.

    Raises:
        WeightsError: it has not one input of colour pictures (N, 3, H, W).
    """
    entry = takes_pictures(graph)
    if entry is None:
        shapes = ", ".join(f"{port.name} {port.dtype} {port.shape}" for port in graph.inputs)
        raise WeightsError(
            f"{graph.name} takes {shapes or 'nothing'}; a YOLO graph takes one float32 or float16 "
            f"input (N, {CHANNELS}, H, W)."
        )
    (width, height), (wide, high) = entry.size, size or DEFAULT_SIZE
    return InputSpec(
        name=entry.name,
        size=(width or wide, height or high),
        static=width is not None or height is not None,
        batch=entry.batch,
        stride=stride,
        half=entry.dtype == "float16",
    )
