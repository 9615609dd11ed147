"""How pictures enter a foreign YOLO graph, told from its input."""

from __future__ import annotations

from openkeypoints.errors import WeightsError
from openkeypoints.models.graphs import Graph
from openkeypoints.models.yolo.spec import InputSpec

DEFAULT_SIZE = (640, 640)
CHANNELS = 3
_ANY = (None,) * 4


def takes_pictures(graph: Graph) -> bool:
    """Tell whether a graph has one input of colour pictures (N, 3, H, W), as floats."""
    if len(graph.inputs) != 1 or graph.inputs[0].dtype not in ("float32", "float16"):
        return False
    shape = graph.inputs[0].shape or _ANY
    return len(shape) == len(_ANY) and shape[1] in (None, CHANNELS)


def input_spec(graph: Graph, *, size: tuple[int, int] | None, stride: int = 32) -> InputSpec:
    """Return how pictures enter a graph that takes floats as the vendor's exports do.

    Args:
        graph: the graph; a size that it fixes holds.
        size: (width, height) for a graph that takes any, None = 640x640.
        stride: multiple of which its sides are.

    Raises:
        WeightsError: it has not one input of colour pictures (N, 3, H, W).
    """
    if not takes_pictures(graph):
        shapes = ", ".join(f"{port.name} {port.dtype} {port.shape}" for port in graph.inputs)
        raise WeightsError(
            f"{graph.name} takes {shapes or 'nothing'}; a YOLO graph takes one float32 or float16 "
            f"input (N, {CHANNELS}, H, W)."
        )
    (port,) = graph.inputs
    batch, _, height, width = port.shape or _ANY
    wide, high = size or DEFAULT_SIZE
    return InputSpec(
        name=port.name,
        size=(width or wide, height or high),
        static=width is not None or height is not None,
        batch=batch,
        stride=stride,
        half=port.dtype == "float16",
    )
