"""What a foreign graph's metadata say of its model, the caller's card in place of each word.

A word of the file is judged only where the card does not say it: a card can correct any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from openkeypoints.errors import WeightsError
from openkeypoints.models.graphs import Graph
from openkeypoints.models.yolo.cards import (
    class_names_from_card,
    keypoint_count_from_card,
    size_from_card,
    stride_from_card,
)
from openkeypoints.models.yolo.inputs import input_spec
from openkeypoints.models.yolo.layouts import Known, Layout, first_fitting, task_of
from openkeypoints.models.yolo.names import class_names_from, skeletons_for
from openkeypoints.models.yolo.spec import MAX_STRIDE, TASKS, YoloSpec

DEFAULT_STRIDE = 32
_FACTS = ("description", "author", "date", "version", "docs", "head", "args")


@dataclass(frozen=True, slots=True)
class _Words:
    """What is said of a model, by its card or else by its file; None where neither says it.

    Attributes:
        class_names: name of each class id.
        card_keypoints: number of keypoints that the card speaks of, which may be those of a class.
        keypoints: (K, D) that the file says, (0, None) = none.
        keypoint_names: class id -> names that the file has.
        layout: of the output.
        embedded: box suppression is said to be part of the graph.
        stride: largest stride in pixels.
    """

    class_names: tuple[str, ...] | None
    card_keypoints: int | None
    keypoints: tuple[int | None, int | None]
    keypoint_names: Mapping[int, tuple[str, ...]]
    layout: Layout | None
    embedded: bool
    stride: int


def described(graph: Graph, card: Mapping[str, Any]) -> YoloSpec:
    """Return the model of a foreign graph, by its metadata and the card.

    Args:
        graph: the graph; its metadata may be wrong, or say nothing.
        card: what counts in place of them, checked by ``check_card``.

    Raises:
        WeightsError: what is said is wrong or not enough; the message says what a card can say.
        InputError: a value of the card is wrong.
    """
    words = _words(graph, card)
    entry = input_spec(graph, size=size_from_card(card), stride=words.stride)
    known = Known(
        classes=None if words.class_names is None else len(words.class_names),
        layout=words.layout,
        suppresses=graph.suppresses or words.embedded,
        size=entry.size if entry.static else None,
    )
    counts = known_counts(known, words.card_keypoints, words.keypoints)
    output = first_fitting(graph.outputs, counts, graph.name)
    names = words.class_names or tuple(f"class_{i}" for i in range(output.classes))
    skeletons = {}
    if output.keypoints:
        skeletons = skeletons_for(names, output.keypoints[0], words.keypoint_names)
    return YoloSpec(
        task=task_of(output),
        class_names=names,
        skeletons=skeletons,
        input=entry,
        outputs={output.head: output},
        licence=str(graph.metadata.get("license", "unknown")),
        card={key: graph.metadata[key] for key in _FACTS if key in graph.metadata},
    )


def known_counts(
    known: Known, card_keypoints: int | None, keypoints: tuple[int | None, int | None]
) -> Iterator[Known]:
    """Yield what is known with each count of keypoints that may be right, the card's first.

    Args:
        known: what is known beside it.
        card_keypoints: number of keypoints that the card speaks of, which may be those of a class.
        keypoints: (K, D) that the file says, None where it says nothing.
    """
    count, values = keypoints
    if card_keypoints is not None:
        yield replace(known, keypoints=card_keypoints, values=values)
        yield replace(known, keypoints=card_keypoints, values=None)
        if count is None or count <= card_keypoints:
            return
    yield replace(known, keypoints=count, values=values)  # the card names some of them


# --- one word after the other ----------------------------------------------------------------


def _words(graph: Graph, card: Mapping[str, Any]) -> _Words:
    data, task = graph.metadata, _task(graph, card)
    args = data.get("args")
    embedded = isinstance(args, Mapping) and args.get("nms") is True
    class_names, count = class_names_from_card(card), keypoint_count_from_card(card)
    try:
        if class_names is None and "names" in data:
            class_names = class_names_from(data["names"])
        return _Words(
            class_names=class_names,
            card_keypoints=count,
            keypoints=_keypoints(data, task, corrected=count is not None),
            keypoint_names=_keypoint_names(data.get("kpt_names")),
            layout=card.get("layout", _layout(data.get("end2end"), embedded)),
            embedded=embedded,
            stride=stride_from_card(card) or _stride(data.get("stride", DEFAULT_STRIDE)),
        )
    except (ValueError, TypeError) as error:
        raise WeightsError(
            f"The metadata of {graph.name} are wrong: {error}. A card can say what is right "
            "(card=..., --card FILE)."
        ) from error


def _task(graph: Graph, card: Mapping[str, Any]) -> str | None:
    task = card.get("task", graph.metadata.get("task"))
    if task is None:
        return None
    if isinstance(task, str) and task in TASKS:
        return task
    if keypoint_count_from_card(card) is not None:
        return "pose"
    raise WeightsError(
        f"{graph.name} is a network for {str(task)!r}; those for {', '.join(TASKS)} are run here. "
        "Where that is wrong, say task in a card (card=..., --card FILE)."
    )


def _keypoints(
    data: Mapping[str, Any], task: str | None, *, corrected: bool
) -> tuple[int | None, int | None]:
    """Return the number of keypoints and of values of each that a file says."""
    shape = data.get("kpt_shape")
    if task not in (None, "pose"):
        return 0, None
    if shape is None:
        return (0 if "names" in data and task is None else None), None
    try:
        count, values = (int(number) for number in shape)
        if count < 1 or values not in (2, 3):
            raise ValueError(f"kpt_shape is {shape!r}")
    except (ValueError, TypeError):
        if corrected:
            return None, None
        raise
    return count, values


def _keypoint_names(names: Any) -> dict[int, tuple[str, ...]]:
    """Return what can be read as names; how far they fit is seen where they are used."""
    if not isinstance(names, Mapping):
        return {}
    return {
        int(class_id): tuple(str(name) for name in own)
        for class_id, own in names.items()
        if str(class_id).isdecimal() and isinstance(own, list | tuple)
    }


def _layout(end2end: Any, embedded: bool) -> Layout | None:
    if end2end is True or embedded:
        return "rows"
    # Older files say nothing, and then either may be there.
    return None if end2end is None else "columns"


def _stride(value: Any) -> int:
    stride = int(max(value)) if isinstance(value, list | tuple) and value else int(value)
    if not 0 < stride <= MAX_STRIDE:
        raise ValueError(f"stride is {value!r}")
    return stride
