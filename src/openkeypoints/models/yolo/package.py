"""Roboflow package folders with a YOLO graph, of the current and of the older kind."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from openkeypoints.errors import WeightsError
from openkeypoints.models.graphs import Graph, open_graph
from openkeypoints.models.graphs.inputs import CHANNELS
from openkeypoints.models.yolo.cards import class_names_from_card, keypoint_count_from_card
from openkeypoints.models.yolo.inputs import input_spec
from openkeypoints.models.yolo.layouts import Known, first_fitting, task_of
from openkeypoints.models.yolo.metadata import known_counts
from openkeypoints.models.yolo.names import Edges, class_names_from, skeletons_for
from openkeypoints.models.yolo.spec import InputSpec, YoloSpec
from openkeypoints.runtimes import Artifact

GRAPH = "weights.onnx"
CLASSES, KEYPOINTS = "class_names.txt", "keypoints_metadata.json"
CONFIG, ENVIRONMENT = "inference_config.json", "environment.json"
MAX_BYTES = 4 << 20
"""Of one of the texts in a package."""

# How the older kind calls the ways to resize, and the grey level of the edges.
_FORMATS = {
    "stretch to": None,
    "fit (black edges) in": 0,
    "fit (grey edges) in": 114,
    "fit (gray edges) in": 114,
    "fit (white edges) in": 255,
}
_CHANGES = ("static-crop", "contrast", "grayscale")
"""Steps before the network that would change what it sees, and that are not done here."""


def is_package(files: Collection[str]) -> bool:
    """Tell whether a folder is a package, by the names in it."""
    return GRAPH in files and any(name in files for name in (CLASSES, ENVIRONMENT, CONFIG))


def read_package(folder: Path, card: Mapping[str, Any]) -> tuple[YoloSpec, Artifact]:
    """Read a package folder: ``weights.onnx`` and the texts beside it.

    Args:
        folder: the package.
        card: what counts in place of the texts, checked by ``check_card``.

    Raises:
        WeightsError: a file is missing or damaged, or asks for what is not done here.
        InputError: a value of the card is wrong.
    """
    graph = open_graph(folder / GRAPH)
    config, environment = (_mapping(folder / name) for name in (CONFIG, ENVIRONMENT))
    names, count = class_names_from_card(card), keypoint_count_from_card(card)
    try:
        in_file = _class_names(folder, environment, names)
        entry = _input(graph, config, environment, folder.name)
        listed, edges = _keypoints(folder / KEYPOINTS, in_file, corrected=count is not None)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise WeightsError(
            f"The package {folder.name} is incomplete or wrong: {error!r}."
        ) from error
    names = names or in_file
    fused = bool(_part(config, "post_processing").get("fused"))
    counts = [len(own) for own in listed.values()]
    suppresses = fused or graph.suppresses
    known = Known(
        classes=len(names),
        layout=card.get("layout", "rows" if suppresses else "columns"),
        suppresses=suppresses,
        size=entry.size if entry.static else None,
    )
    said = known_counts(known, count, (max(counts, default=None), 3 if counts else None))
    output = first_fitting(graph.outputs, said, f"{folder.name}/{GRAPH}")
    skeletons = {}
    if output.keypoints:
        skeletons = skeletons_for(names, output.keypoints[0], listed, edges)
    spec = YoloSpec(
        task=task_of(output),
        class_names=names,
        skeletons=skeletons,
        input=entry,
        outputs={output.head: output},
        card={"origin": "a Roboflow package"},
    )
    return spec, replace(graph.artifact, name=f"{folder.name}/{GRAPH}")


# --- texts -----------------------------------------------------------------------------------


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_BYTES:
        raise WeightsError(f"{path.parent.name}/{path.name} is too large for what it says.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path.parent.name}/{path.name} is not JSON ({error}): fetch the package again."
        ) from error


def _mapping(path: Path) -> Mapping[str, Any]:
    data = _json(path)
    if data is not None and not isinstance(data, Mapping):
        raise WeightsError(f"{path.parent.name}/{path.name} holds no mapping of names to values.")
    return data or {}


def _part(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = data.get(key)
    return found if isinstance(found, Mapping) else {}


def _class_names(
    folder: Path, environment: Mapping[str, Any], corrected: tuple[str, ...] | None
) -> tuple[str, ...]:
    """Return the names in the texts, or those of the card where none can be read."""
    path = folder / CLASSES
    listed: Any = environment.get("CLASS_LIST")
    if path.is_file() and path.stat().st_size <= MAX_BYTES:
        text = path.read_text(encoding="utf-8", errors="replace")
        listed = [line.strip() for line in text.splitlines() if line.strip()]
    try:
        return class_names_from(listed)
    except (ValueError, TypeError) as error:
        if corrected is not None:
            return corrected
        raise WeightsError(
            f"The package {folder.name} names no classes: put {CLASSES}, one name a line, "
            f"beside {GRAPH}."
        ) from error


def _keypoints(
    path: Path, class_names: Sequence[str], *, corrected: bool
) -> tuple[dict[int, tuple[str, ...]], dict[int, Edges]]:
    """Return class id -> names of keypoints, and class id -> edges; none where a card has them."""
    names: dict[int, tuple[str, ...]] = {}
    edges: dict[int, Edges] = {}
    try:
        for entry in _json(path) or ():
            number = _class_of(entry, class_names)
            by_number = {int(i): str(name) for i, name in entry["keypoints"].items()}
            if sorted(by_number) != [*range(len(by_number))]:
                raise ValueError(f"{KEYPOINTS}: class {entry.get('object_class')!r}")
            names[number] = tuple(by_number[i] for i in range(len(by_number)))
            pairs = entry.get("edges") or ()
            edges[number] = [(int(edge["from"]), int(edge["to"])) for edge in pairs]
    except (KeyError, TypeError, ValueError, AttributeError, WeightsError):
        if not corrected:
            raise
    return names, edges


def _class_of(entry: Mapping[str, Any], class_names: Sequence[str]) -> int:
    label = entry.get("object_class")
    number = class_names.index(label) if label in class_names else entry["object_class_id"]
    if number not in range(len(class_names)):
        raise ValueError(f"{KEYPOINTS}: class {label!r}")
    return int(number)


# --- preprocessing ---------------------------------------------------------------------------


def _input(
    graph: Graph, config: Mapping[str, Any], environment: Mapping[str, Any], name: str
) -> InputSpec:
    """Return how pictures enter: the current kind of text counts, else the older one."""
    if network := _part(config, "network_input"):
        _refuse_changes(_part(config, "image_pre_processing"), name)
        return _from_config(graph, network, name)
    steps = environment.get("PREPROCESSING", {})
    steps = json.loads(steps) if isinstance(steps, str) else steps
    _refuse_changes(steps, name)
    return _from_environment(graph, _part(steps, "resize"), name)


def _refuse_changes(steps: Mapping[str, Any], name: str) -> None:
    for step in _CHANGES:
        asked = steps.get(step)
        if asked and (not isinstance(asked, Mapping) or asked.get("enabled", True)):
            raise WeightsError(
                f"The package {name} wants the step {step!r} before its network, which is not done "
                "here: train a version without it."
            )


def _from_config(graph: Graph, network: Mapping[str, Any], name: str) -> InputSpec:
    side = network["training_input_size"]
    entry = input_spec(graph, size=(int(side["width"]), int(side["height"])))
    mode, channels = network.get("resize_mode"), network.get("input_channels", CHANNELS)
    if mode not in ("stretch", "letterbox"):
        raise WeightsError(
            f"The package {name} wants pictures resized by {mode!r}; 'stretch' and 'letterbox' "
            "are done here."
        )
    if channels != CHANNELS:
        raise WeightsError(f"The package {name} takes {channels} channels; {CHANNELS} are given.")
    mean, std = network.get("normalization") or (entry.mean, entry.std)
    return replace(
        entry,
        static=entry.static or not network.get("dynamic_spatial_size_supported", False),
        fit=mode,
        fill=_level(network.get("padding_value") or 0),
        bgr=str(network.get("color_mode", "rgb")).lower() == "bgr",
        scale=float(network.get("scaling_factor") or 1.0),
        mean=_three(mean),
        std=_three(std),
    )


def _from_environment(graph: Graph, resize: Mapping[str, Any], name: str) -> InputSpec:
    size = None
    if "width" in resize and "height" in resize:
        size = (int(resize["width"]), int(resize["height"]))
    entry = replace(input_spec(graph, size=size), static=True)
    kind = str(resize.get("format", "Stretch to"))
    if kind.lower() not in _FORMATS:
        raise WeightsError(
            f"The package {name} wants pictures resized by {kind!r}; 'Stretch to' and "
            "'Fit (black|grey|white edges) in' are done here."
        )
    fill = _FORMATS[kind.lower()]
    return replace(entry, fit="stretch") if fill is None else replace(entry, fill=fill)


def _level(value: Any) -> int:
    level = int(value)
    if not 0 <= level <= 255:
        raise ValueError(f"padding_value is {value!r}")
    return level


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third
