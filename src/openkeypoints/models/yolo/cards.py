"""What a user's card says of a YOLO model: of a bare file, or in place of what a file says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from openkeypoints.errors import InputError
from openkeypoints.models.request import positive, share
from openkeypoints.models.yolo.names import class_names_from, skeletons_for
from openkeypoints.models.yolo.spec import MAX_STRIDE, TASKS, InputSpec, YoloSpec
from openkeypoints.results import Skeleton
from openkeypoints.skeletons import load_skeleton

CARD_KEYS = frozenset(
    {
        "class_names", "color", "confidence", "family", "fill", "input_size", "iou_threshold",
        "keypoints", "layout", "licence", "resize", "skeleton", "stride", "task",
    }
)  # fmt: skip
"""What a card may say of a YOLO model (see docs/models/cards.md)."""
_COLORS, _FITS, _LAYOUTS = ("rgb", "bgr"), ("letterbox", "stretch"), ("columns", "rows")
_MAX_LEVEL = 255


def check_card(card: Mapping[str, Any]) -> None:
    """Raise InputError for keys and values that no YOLO model takes."""
    if unknown := sorted(card.keys() - CARD_KEYS):
        raise InputError(
            f"card has {unknown[0]!r}, which a yolo model does not take; "
            f"it takes {', '.join(sorted(CARD_KEYS))}."
        )
    choices = {
        "family": ("yolo",), "color": _COLORS, "resize": _FITS, "layout": _LAYOUTS,
        "task": tuple(TASKS),
    }  # fmt: skip
    for key, allowed in choices.items():
        if card.get(key, allowed[0]) not in allowed:
            raise InputError(f"card has {key} {card[key]!r}: give {' or '.join(allowed)}.")
    fill = card.get("fill", 0)
    if isinstance(fill, bool) or not isinstance(fill, int) or not 0 <= fill <= _MAX_LEVEL:
        raise InputError(f"card has fill {fill!r}: give a grey level from 0 to {_MAX_LEVEL}.")


def with_card(spec: YoloSpec, card: Mapping[str, Any]) -> YoloSpec:
    """Return a model with what the caller's card changes: names, skeletons, thresholds, input.

    Args:
        spec: the model as its file says.
        card: any of ``CARD_KEYS``; ``layout`` counts for foreign graphs alone, see ``metadata.py``.

    Raises:
        InputError: the card has an unknown key, or a value that does not fit the model.
        UnknownSkeletonError: it names a skeleton that is not in the package.
    """
    if not card:
        return spec
    check_card(card)
    _check_task(card, spec)
    output = next(iter(spec.outputs.values()))
    class_names = _class_names(card, spec.class_names, output.classes)
    count = output.keypoints[0] if output.keypoints else 0
    return replace(
        spec,
        class_names=class_names,
        skeletons=_skeletons(card, spec.skeletons, class_names, count),
        input=_input(card, spec.input),
        confidence=share("confidence", card.get("confidence", spec.confidence)),
        iou_threshold=share("iou_threshold", card.get("iou_threshold", spec.iou_threshold)),
        licence=str(card.get("licence", spec.licence)),
    )


def card_of(spec: YoloSpec) -> dict[str, Any]:
    """Return a card that says what a file, or the one who opened it, said of a model."""
    output = next(iter(spec.outputs.values()))
    card: dict[str, Any] = {
        "family": "yolo",
        "task": next(name for name, task in TASKS.items() if task == spec.task),
        "class_names": list(spec.class_names),
        "input_size": list(spec.input.size),
        "resize": spec.input.fit,
        "fill": spec.input.fill,
        "color": "bgr" if spec.input.bgr else "rgb",
        "confidence": spec.confidence,
        "iou_threshold": spec.iou_threshold,
        "licence": spec.licence,
    }
    if output.layout in _LAYOUTS:
        card["layout"] = output.layout
        if not spec.input.static:
            card["stride"] = spec.input.stride
    skeletons = {spec.class_names[i]: skeleton for i, skeleton in spec.skeletons.items()}
    if skeletons:
        card["keypoints"] = {name: list(s.keypoints) for name, s in skeletons.items()}
    edges = {n: [[s.keypoints[i] for i in e] for e in s.edges] for n, s in skeletons.items()}
    if any(edges.values()):
        card["skeleton"] = edges
    return card


def class_names_from_card(card: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the class names that a card gives, None where it gives none.

    Raises:
        InputError: they are no list, or there is a gap in their ids.
    """
    if "class_names" not in card:
        return None
    try:
        return class_names_from(card["class_names"])
    except (ValueError, TypeError) as error:
        raise InputError(f"card has class_names {card['class_names']!r}: {error}.") from error


def keypoint_count_from_card(card: Mapping[str, Any]) -> int | None:
    """Return how many keypoints a card speaks of, of the class with most; None where of none.

    Raises:
        InputError: a value is wrong.
        UnknownSkeletonError: it names a skeleton that is not in the package.
    """
    keypoints, skeleton = card.get("keypoints"), card.get("skeleton")
    if isinstance(keypoints, int):
        return positive("card's keypoints", keypoints)
    if keypoints is not None:
        lists = keypoints.values() if isinstance(keypoints, Mapping) else [keypoints]
        counts = [len(names) for names in lists if isinstance(names, list | tuple)]
    else:
        named = skeleton.values() if isinstance(skeleton, Mapping) else [skeleton]
        counts = [len(load_skeleton(name)) for name in named if isinstance(name, str)]
    return max(counts, default=None)


def stride_from_card(card: Mapping[str, Any]) -> int | None:
    """Return the stride that a card gives, None where it gives none.

    Raises:
        InputError: it is no number of pixels, or too large.
    """
    if "stride" not in card:
        return None
    stride = positive("card's stride", card["stride"])
    if stride > MAX_STRIDE:
        raise InputError(f"card has stride {stride}: give 1 to {MAX_STRIDE} pixels.")
    return stride


def size_from_card(card: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the (width, height) that a card asks for, None where it does not.

    Raises:
        InputError: it is neither one number nor two.
    """
    size = card.get("input_size")
    if size is None:
        return None
    sides = list(size) if isinstance(size, list | tuple) else [size, size]
    if len(sides) != 2:
        raise InputError(f"card has input_size {size!r}: give one number, or [width, height].")
    width, height = (positive("card's input_size", side) for side in sides)
    return width, height


def _class_names(card: Mapping[str, Any], present: tuple[str, ...], count: int) -> tuple[str, ...]:
    names = class_names_from_card(card) or present
    if len(names) != count:
        raise InputError(
            f"card has {len(names)} class_names: give {count}, one for each class of the model."
        )
    return names


def _check_task(card: Mapping[str, Any], spec: YoloSpec) -> None:
    task = card.get("task")
    if task is not None and TASKS[task] != spec.task:
        found = next(name for name, ours in TASKS.items() if ours == spec.task)
        raise InputError(f"card has task {task!r}, but the network is for {found!r}: correct it.")


def _input(card: Mapping[str, Any], spec: InputSpec) -> InputSpec:
    size = size_from_card(card) or spec.size
    if spec.static and size != spec.size:
        raise InputError(
            f"card has input_size {size}, but the graph takes {spec.size} and no other: leave it "
            "out, or export the model with dynamic sizes."
        )
    return replace(
        spec,
        size=size,
        stride=stride_from_card(card) or spec.stride,
        fit=card.get("resize", spec.fit),
        fill=card.get("fill", spec.fill),
        bgr=card["color"] == "bgr" if "color" in card else spec.bgr,
    )


def _skeletons(
    card: Mapping[str, Any],
    present: Mapping[int, Skeleton],
    class_names: Sequence[str],
    count: int,
) -> Mapping[int, Skeleton]:
    asked = {"keypoints", "skeleton"} & card.keys()
    if not asked:
        return present
    if not count:
        raise InputError(f"card has {min(asked)}, but the model finds no keypoints: leave it out.")
    listed = {} if isinstance(card.get("keypoints"), int) else card.get("keypoints", {})
    names = _per_class(listed, class_names, "keypoints")
    drawn = _per_class(card.get("skeleton", {}), class_names, "skeleton")
    made: dict[int, Skeleton] = {}
    for class_id in range(len(class_names)):
        own = _names(names.get(class_id), present.get(class_id))
        made[class_id] = _skeleton(drawn.get(class_id), own, class_names, class_id)
        if len(made[class_id]) > count:
            raise InputError(
                f"card has {len(made[class_id])} keypoints for {class_names[class_id]!r}; "
                f"the model has {count}."
            )
    return made


def _names(listed: Any, present: Skeleton | None) -> tuple[str, ...]:
    if listed is None:
        return present.keypoints if present else ()
    if not isinstance(listed, list | tuple) or not listed:
        raise InputError(f"card has keypoints {listed!r}: give a list of names.")
    return tuple(str(name) for name in listed)


def _skeleton(
    drawn: Any, names: tuple[str, ...], class_names: Sequence[str], class_id: int
) -> Skeleton:
    """Return the skeleton of a class: a packaged one by name, or names joined by edges."""
    if isinstance(drawn, str):
        return load_skeleton(drawn)
    pairs = [_edge(pair, names) for pair in drawn or ()]
    alone = {class_id: names}
    return skeletons_for(class_names, len(names), alone, {class_id: pairs})[class_id]


def _edge(pair: Any, names: tuple[str, ...]) -> tuple[int, int]:
    """Return an edge given by indexes from 0, or by names."""
    ends = [names.index(end) if end in names else end for end in _two(pair)]
    if all(isinstance(end, int) and 0 <= end < len(names) for end in ends):
        return ends[0], ends[1]
    raise InputError(
        f"card has the edge {pair!r} in skeleton: give pairs of keypoint names, or of their "
        f"numbers from 0 to {len(names) - 1}."
    )


def _two(pair: Any) -> tuple[Any, ...]:
    return tuple(pair) if isinstance(pair, list | tuple) and len(pair) == 2 else (None, None)


def _per_class(value: Any, class_names: Sequence[str], key: str) -> dict[int, Any]:
    """Return class id -> value for a value of all classes, or a mapping of class to value."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(range(len(class_names)), value)
    found = {}
    for name, own in value.items():
        number = class_names.index(name) if name in class_names else name
        if isinstance(number, bool) or number not in range(len(class_names)):
            raise InputError(
                f"card has {key} for the class {name!r}; the classes are {', '.join(class_names)}."
            )
        found[int(number)] = own
    return found
