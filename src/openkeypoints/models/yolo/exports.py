"""Foreign and own exports of YOLO networks: a file or folder to a specification and its graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from openkeypoints.errors import NotFoundError, WeightsError
from openkeypoints.models.facts import Claim, FileFacts
from openkeypoints.models.graphs import Graph, open_graph
from openkeypoints.models.yolo.cards import (
    check_card,
    known_from_card,
    size_from_card,
    with_card,
)
from openkeypoints.models.yolo.inputs import input_spec, takes_pictures
from openkeypoints.models.yolo.layouts import Known, Layout, output_spec, task_of
from openkeypoints.models.yolo.names import class_names_from, skeletons_for
from openkeypoints.models.yolo.package import is_package, read_package
from openkeypoints.models.yolo.record import spec_from_json
from openkeypoints.models.yolo.spec import YoloSpec
from openkeypoints.runtimes import Artifact
from openkeypoints.weights.artifact import OWN_KEY

TASKS = ("pose", "detect", "segment")
"""The vendor's names of the tasks that are run here."""
MAX_STRIDE = 256
_VENDORS = frozenset({"names", "task", "stride", "imgsz", "kpt_shape"})
"""Keys of which the vendor's exports have most."""
_TABLE = 3
"""Axes of a table of candidates, the batch among them."""
_FACTS = ("description", "author", "date", "version", "docs", "head", "args")


def claims(facts: FileFacts) -> Claim | None:
    """Claim the vendor's exports and packages surely, and graphs whose ports could be ours."""
    if facts.kind == "folder":
        return Claim(True, "a Roboflow package") if is_package(facts.files) else None
    if facts.graph is None:
        return None
    if len(_VENDORS & facts.metadata.keys()) > 1:
        return Claim(True, "an export with ultralytics' metadata")
    tables = [port for port in facts.graph.outputs if len(port.shape or ()) == _TABLE]
    fits = takes_pictures(facts.graph) and bool(tables)
    return Claim(False, "one input of pictures, and a table of candidates") if fits else None


def read_export(path: Path, card: Mapping[str, Any]) -> tuple[YoloSpec, Artifact]:
    """Read an export: ours, the vendor's, a Roboflow package folder, or a bare graph with a card.

    Args:
        path: an ``.onnx``, an ``.xml``, an OpenVINO folder or a package folder.
        card: what the caller says in place of the file, or of a file that says nothing.

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
        spec, artifact = read_package(path)
        return with_card(spec, card), artifact
    graph = open_graph(path)
    if OWN_KEY in graph.metadata:
        spec = spec_from_json(graph.metadata[OWN_KEY], graph.name)
    elif "names" in graph.metadata:
        spec = _from_metadata(graph)
    else:
        spec = _from_card(graph, card)
    return with_card(spec, card), graph.artifact


# --- the vendor's metadata -------------------------------------------------------------------


def _from_metadata(graph: Graph) -> YoloSpec:
    data = graph.metadata
    try:
        names = class_names_from(data["names"])
        shape = _keypoint_shape(data)
        stride = _stride(data.get("stride", 32))
        listed = _keypoint_names(data.get("kpt_names"))
    except (ValueError, TypeError) as error:
        raise WeightsError(f"The metadata of {graph.name} are wrong: {error}.") from error
    task = str(data.get("task", "pose" if shape else "detect"))
    if task not in TASKS and "task" in data:
        raise WeightsError(
            f"{graph.name} is a network for {task!r}; those for {', '.join(TASKS)} are run here."
        )
    entry = input_spec(graph, size=None, stride=stride)
    args = data.get("args")
    embedded = isinstance(args, Mapping) and args.get("nms") is True
    known = Known(
        classes=len(names),
        keypoints=shape[0] if shape else 0,
        values=shape[1] if shape else None,
        layout=_stated_layout(data.get("end2end"), embedded),
        suppresses=graph.suppresses or embedded,
        size=entry.size if entry.static else None,
    )
    output = output_spec(graph.outputs, known, graph.name)
    return YoloSpec(
        task=task_of(output),
        class_names=names,
        skeletons=skeletons_for(names, shape[0], listed) if shape else {},
        input=entry,
        outputs={output.head: output},
        licence=str(data.get("license", "unknown")),
        card={key: data[key] for key in _FACTS if key in data},
    )


def _stated_layout(end2end: Any, embedded: bool) -> Layout | None:
    if end2end is True or embedded:
        return "rows"
    # Older files say nothing, and then either may be there.
    return None if end2end is None else "columns"


def _keypoint_shape(data: Mapping[str, Any]) -> tuple[int, int] | None:
    shape = data.get("kpt_shape")
    if shape is None or data.get("task", "pose") != "pose":
        return None
    count, values = (int(number) for number in shape)
    if count < 1 or values not in (2, 3):
        raise ValueError(f"kpt_shape is {shape!r}")
    return count, values


def _keypoint_names(names: Any) -> dict[int, tuple[str, ...]]:
    if not isinstance(names, Mapping):
        return {}
    return {
        int(class_id): tuple(str(name) for name in own)
        for class_id, own in names.items()
        if isinstance(own, list | tuple)
    }


def _stride(value: Any) -> int:
    stride = int(max(value)) if isinstance(value, list | tuple) and value else int(value)
    if not 0 < stride <= MAX_STRIDE:
        raise ValueError(f"stride is {value!r}")
    return stride


# --- a bare graph ----------------------------------------------------------------------------


def _from_card(graph: Graph, card: Mapping[str, Any]) -> YoloSpec:
    entry = input_spec(graph, size=size_from_card(card))
    known = replace(
        known_from_card(card),
        suppresses=graph.suppresses,
        size=entry.size if entry.static else None,
    )
    output = output_spec(graph.outputs, known, graph.name)
    names = tuple(f"class_{i}" for i in range(output.classes))
    if "class_names" in card:
        names = class_names_from(card["class_names"])
    return YoloSpec(
        task=task_of(output),
        class_names=names,
        skeletons=skeletons_for(names, output.keypoints[0]) if output.keypoints else {},
        input=entry,
        outputs={output.head: output},
    )
