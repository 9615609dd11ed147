"""What the output of a foreign YOLO graph means, decided by its shape and what is known of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from openkeypoints.errors import WeightsError
from openkeypoints.models.base import Task
from openkeypoints.models.graphs import Port, Shape
from openkeypoints.models.yolo.spec import Head, OutputSpec

Layout = Literal["columns", "rows"]

COLUMNS, ROWS = 4, 6
"""Numbers before those of the classes, or of the keypoints and masks: a box; with score, class."""
DEFAULT_COEFFICIENTS = 32
MAX_WIDTH = 4096
"""Numbers of one instance that are looked at; more are anchors, not an instance."""
USUAL_ROWS = 300
"""Instances that exports with rows give."""
STRIDES = ((8, 16, 32), (8, 16, 32, 64))


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an output beside its shape; None = nothing.

    Attributes:
        classes: number of classes.
        keypoints: number of keypoints, 0 = none.
        values: numbers per keypoint, 2 or 3.
        layout: which is said to be there. Where the shape contradicts, the shape is right.
        suppresses: box suppression is part of the graph.
        size: (width, height) of a graph that takes one size.
    """

    classes: int | None = None
    keypoints: int | None = None
    values: int | None = None
    layout: Layout | None = None
    suppresses: bool = False
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class _Reading:
    layout: Layout
    classes: int | None
    keypoints: tuple[int, int] | None


def output_spec(outputs: Sequence[Port], known: Known, name: str) -> OutputSpec:
    """Return what the outputs of a graph mean.

    Args:
        outputs: of the graph, in order.
        known: what metadata, package or card say.
        name: of the file, for messages.

    Raises:
        WeightsError: the output fits no layout, or more than one.
    """
    table, prototypes = _roles(outputs, name)
    coefficients = 0
    if prototypes is not None:
        shape = prototypes.shape or ()
        coefficients = (shape[1] if len(shape) > 1 else None) or DEFAULT_COEFFICIENTS
    readings = [
        reading
        for layout, width in _widths(table.shape)
        for reading in _readings(layout, width, known, coefficients)
    ]
    reading = _only(_narrowed(readings, table.shape, known), table, known, name)
    names = {"table": table.name}
    if prototypes is not None:
        names["prototypes"] = prototypes.name
    head: Head = "one2many"
    if reading.layout == "rows":
        head = "embedded-nms" if known.suppresses else "one2one"
    return OutputSpec(
        layout=reading.layout,
        names=names,
        head=head,
        classes=reading.classes or 0,
        keypoints=reading.keypoints,
        coefficients=coefficients,
    )


def first_fitting(outputs: Sequence[Port], known: Iterable[Known], name: str) -> OutputSpec:
    """Return what the outputs mean by the first knowledge of several that their shape bears out.

    Args:
        outputs: of the graph, in order.
        known: at least one, best first.
        name: of the file, for messages.

    Raises:
        WeightsError: none fits; the message is that of the first.
    """
    failures = []
    for one in dict.fromkeys(known):
        try:
            return output_spec(outputs, one, name)
        except WeightsError as error:
            failures.append(error)
    raise failures[0]


def task_of(output: OutputSpec) -> Task:
    """Return the task of a network by what comes out of it."""
    if output.keypoints:
        return "keypoint-detection"
    return "instance-segmentation" if output.coefficients else "object-detection"


def _roles(outputs: Sequence[Port], name: str) -> tuple[Port, Port | None]:
    """Return the output with the instances, and that with the prototypes of masks."""
    ranks = [len(port.shape) if port.shape else 3 for port in outputs]
    tables = [port for port, rank in zip(outputs, ranks, strict=True) if rank == 3]
    maps = [port for port, rank in zip(outputs, ranks, strict=True) if rank == 4]
    if len(tables) != 1 or len(maps) > 1:
        shapes = ", ".join(f"{port.name} {port.shape}" for port in outputs)
        raise WeightsError(
            f"{name} is no YOLO graph that is known here: it gives {shapes}, and one table of "
            "instances (N, C, A) or (N, n, C), with prototypes where there are masks, is read."
        )
    return tables[0], maps[0] if maps else None


def _widths(shape: Shape | None) -> tuple[tuple[Layout, int | None], ...]:
    _, middle, last = shape or (None, None, None)
    return ("columns", middle), ("rows", last)


def _readings(
    layout: Layout, width: int | None, known: Known, coefficients: int
) -> Iterator[_Reading]:
    """Yield the ways to share the numbers of one instance out that fit what is known."""
    if width is None:
        pair = _pair(known.keypoints or 0, known.values or 3)
        complete = coefficients or None not in (known.keypoints, known.values or not pair)
        if complete and known.classes is not None:
            yield _Reading(layout, known.classes, pair)
        return
    rest = width - (ROWS if layout == "rows" else COLUMNS) - coefficients
    if not 0 <= rest <= MAX_WIDTH:
        return
    for keypoints in (None,) if coefficients else _keypoints(known, rest):
        left = rest - (keypoints[0] * keypoints[1] if keypoints else 0)
        if layout == "rows":
            if left == 0:
                yield _Reading(layout, known.classes, keypoints)
        elif left >= 1 and known.classes in (None, left):
            yield _Reading(layout, left, keypoints)


def _keypoints(known: Known, most: int) -> Iterator[tuple[int, int] | None]:
    if not known.keypoints:
        yield None
    if known.keypoints == 0:
        return
    for values in (2, 3) if known.values is None else (known.values,):
        counts = range(1, most // values + 1) if known.keypoints is None else (known.keypoints,)
        yield from ((count, values) for count in counts)


def _pair(count: int, values: int) -> tuple[int, int] | None:
    return (count, values) if count else None


def _narrowed(readings: list[_Reading], shape: Shape | None, known: Known) -> list[_Reading]:
    """Return the readings of the layout that the shape, or else the file, speaks for."""
    if len({reading.layout for reading in readings}) < 2:
        return readings
    _, middle, last = shape or (None, None, None)
    says: Layout | None = known.layout
    if says is None and known.size is not None and last in _anchors(known.size):
        says = "columns"
    elif says is None and (known.suppresses or middle == USUAL_ROWS):
        says = "rows"
    return [reading for reading in readings if says in (None, reading.layout)]


def _anchors(size: tuple[int, int]) -> set[int]:
    width, height = size
    return {sum((width // s) * (height // s) for s in strides) for strides in STRIDES}


def _only(readings: list[_Reading], table: Port, known: Known, name: str) -> _Reading:
    if len(readings) == 1 and readings[0].classes is not None:
        return readings[0]
    said = {"class_names": known.classes, "keypoints": known.keypoints, "layout": known.layout}
    missing = [key for key, value in said.items() if value is None]
    if not readings or not missing:
        raise WeightsError(
            f"The output {table.name!r} of {name} has the shape {table.shape}, which does not fit "
            f"{known.classes or 'any number of'} classes with {_words(known)}: say what is right "
            "in a card (card=..., --card FILE)."
        )
    raise WeightsError(
        f"The output {table.name!r} of {name} has the shape {table.shape}, which can mean several "
        f"things: say {' and '.join(missing[:2])} in a card (card=..., --card FILE)."
    )


def _words(known: Known) -> str:
    if known.keypoints is None:
        return "any number of keypoints"
    return f"{known.keypoints} keypoints of {known.values or '2 or 3'} values"
