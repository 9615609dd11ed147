"""Reads a YOLO checkpoint: its tensors, its YAML, and what it says of itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import CheckpointKeyError, WeightsError
from openkeypoints.models.base import Task
from openkeypoints.models.facts import Claim, FileFacts
from openkeypoints.models.yolo.head import unread
from openkeypoints.models.yolo.layers import Network, read_network
from openkeypoints.models.yolo.ops import Conv, Shape
from openkeypoints.models.yolo.spec import Head, InputSpec, OutputSpec
from openkeypoints.weights.safe import Node, read_pickle, state_dict

_NAMESPACE = b"ultralytics"
_DEFAULT_SIZE = 640
_LARGEST_SIZE = 1 << 14
_LARGEST_NUMBER = 1e12
_LONGEST_TEXT = 500
_LISTED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A network with its numbers, as a file had it.

    Attributes:
        tensors: by the names of the file, float32.
        yaml: description of the network.
        class_names: name of each class id.
        task: what it finds.
        keypoint_shape: (K, D), None without keypoints.
        keypoint_names: class id -> K names, None where the file has none.
        sigmas: K standard deviations of OKS, None where the file has none.
        strides: pixels of the input per cell, level by level.
        input_size: (width, height) that it was trained with.
        licence: as the file states it.
        facts: about its origin and training, for the card.
        activations: path of a unit -> name of its activation's class, as the stored objects have
            it; units that are not listed have the one that the YAML implies.
    """

    tensors: Mapping[str, NDArray[np.float32]]
    yaml: Mapping[str, Any]
    class_names: tuple[str, ...]
    task: Task
    keypoint_shape: tuple[int, int] | None = None
    keypoint_names: Mapping[int, tuple[str, ...]] | None = None
    sigmas: tuple[float, ...] | None = None
    strides: tuple[int, ...] = (8, 16, 32)
    input_size: tuple[int, int] = (_DEFAULT_SIZE, _DEFAULT_SIZE)
    licence: str = "unknown"
    facts: Mapping[str, Any] = field(default_factory=dict)
    activations: Mapping[str, str] = field(default_factory=dict)


def claims(facts: FileFacts) -> Claim | None:
    """Claim the checkpoints whose pickle names the classes of this family."""
    return Claim(True, "a checkpoint of ultralytics") if _NAMESPACE in facts.pickle else None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a ``.pt`` file without executing anything of it.

    Raises:
        NotFoundError: there is no such file.
        UnsafeCheckpointError: the file asks for more than values.
        CheckpointKeyError: its tensors are not those of its own YAML.
        WeightsError: it is damaged, holds no network, or one that is not supported.
    """
    top = read_pickle(path)
    try:
        return _checkpoint(*_network_node(top))
    except WeightsError as error:
        raise type(error)(f"{path.name}: {error}") from error


def heads(checkpoint: Checkpoint) -> tuple[Head, ...]:
    """Return the heads that a checkpoint holds, the default one first.

    YOLO26 has two, and a fused file of it one of them.

    Raises:
        CheckpointKeyError: the tensors are not those of the YAML.
    """
    shapes = {name: t.shape for name, t in checkpoint.tensors.items()}
    return _check(read_network(checkpoint.yaml), shapes)


def input_spec(checkpoint: Checkpoint) -> InputSpec:
    """Return how pictures enter the graph that ``write_graph`` makes of a checkpoint."""
    stride = max(checkpoint.strides)
    width, height = (math.ceil(side / stride) * stride for side in checkpoint.input_size)
    return InputSpec(name="images", size=(width, height), stride=stride, pictures=True)


def output_spec(checkpoint: Checkpoint, head: Head) -> OutputSpec:
    """Return what the graph that ``write_graph`` makes of one head gives."""
    network = read_network(checkpoint.yaml)
    shape = network.head
    return OutputSpec(
        layout="maps",
        names={role: role for role in network.outputs[head]},
        head=head,
        classes=shape.classes,
        keypoints=shape.keypoints,
        coefficients=shape.coefficients,
        strides=network.strides,
        bins=shape.bins,
        centred=shape.kind == "Pose26",
    )


def _checkpoint(node: Node, top: Mapping[str, Any]) -> Checkpoint:
    yaml = _plain(node.get("yaml"))
    if not isinstance(yaml, dict):
        raise WeightsError(
            f"The network ({node.path}) comes without the YAML that describes it: only checkpoints "
            "of YOLOv8, 11 and 26 can be read."
        )
    network = read_network(yaml)
    tensors = {name: np.asarray(t, np.float32) for name, t in state_dict(node).items()}
    _check(network, {name: t.shape for name, t in tensors.items()})
    head, arguments = network.head, _arguments(top, node)
    return Checkpoint(
        tensors=tensors,
        yaml=yaml,
        class_names=_class_names(node.get("names"), head.classes),
        task=head.task,
        keypoint_shape=head.keypoints,
        keypoint_names=_keypoint_names(node.get("kpt_names"), head.keypoints),
        sigmas=_sigmas(node.get("kpt_oks_sigmas"), head.keypoints),
        strides=network.strides,
        input_size=_input_size(arguments.get("imgsz")),
        licence=_text(top.get("license")) or "unknown",
        facts=_facts(top, yaml, arguments),
        activations=dict(_activations(node, "")),
    )


def _network_node(top: Any) -> tuple[Node, Mapping[str, Any]]:
    if isinstance(top, Node):  # somebody saved the network alone
        return top, {}
    if isinstance(top, Mapping):
        # While training, the averaged network is `ema` and there is no other.
        for key in ("ema", "model"):
            if isinstance(top.get(key), Node):
                return top[key], top
    raise WeightsError(
        "There is no network under 'ema' or 'model': a YOLO checkpoint with its network is needed, "
        "as training writes it (best.pt), not a table of tensors."
    )


# ---------------------------------------------------------------------------- tensors


def _check(network: Network, shapes: Mapping[str, Shape]) -> tuple[Head, ...]:
    """Return the heads that are there, or raise what is wrong with the tensors."""
    known: dict[str, Shape] = dict(network.training)
    for conv in network.convolutions():
        known |= conv.tensors() | conv.fused_tensors()
    read = [name for name in shapes if not unread(name, network.head)]
    unexpected = [name for name in read if name not in known]
    misshapen = [
        f"{name} {shapes[name]} instead of {known[name]}"
        for name in read
        if name in known and shapes[name] != known[name]
    ]
    found, missing = _held(network, shapes)
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    if any(faults.values()):
        listed = "; ".join(
            f"{len(names)} {fault} ({', '.join(names[:_LISTED])}{', ...' * (len(names) > _LISTED)})"
            for fault, names in faults.items()
            if names
        )
        raise CheckpointKeyError(
            "The tensors of the checkpoint are not those of the network that its YAML describes: "
            f"{listed}. The file is damaged, or its network was changed after the YAML was written."
        )
    return found


def _held(network: Network, shapes: Mapping[str, Shape]) -> tuple[tuple[Head, ...], list[str]]:
    """Return the heads that are there, and the names of missing tensors."""
    found: list[Head] = []
    missing: dict[str, None] = {}
    needed = _convolutions_of(network)
    for head, convs in needed.items():
        absent = {conv.path: lost for conv in convs if (lost := _absent(conv, shapes))}
        others = {conv.path for name in needed if name != head for conv in needed[name]}
        if not absent:
            found.append(head)
        # Fusing leaves the branches of one head away, all of them.
        elif not others or set(absent) != {conv.path for conv in convs} - others:
            missing |= dict.fromkeys(name for lost in absent.values() for name in lost)
    if not found and not missing:
        first = needed[network.head.heads[0]]
        missing = dict.fromkeys(name for conv in first for name in _absent(conv, shapes))
    return tuple(found), list(missing)


def _convolutions_of(network: Network) -> dict[Head, list[Conv]]:
    return {
        head: [op for op in network.needed_for(head) if isinstance(op, Conv)]
        for head in network.outputs
    }


def _absent(conv: Conv, shapes: Mapping[str, Shape]) -> list[str]:
    if all(name in shapes for name in conv.fused_tensors()):
        return []
    whole = [name for name in conv.tensors() if not name.endswith(".num_batches_tracked")]
    return [name for name in whole if name not in shapes]


def _activations(node: Node, path: str) -> Iterator[tuple[str, str]]:
    children = node.state.get("_modules")
    if not isinstance(children, Mapping):
        return
    act = children.get("act")
    if "conv" in children and isinstance(act, Node):
        yield path, act.name
    for name, child in children.items():
        if isinstance(child, Node):
            yield from _activations(child, f"{path}.{name}" if path else str(name))


# ---------------------------------------------------------------------------- facts


def _arguments(top: Mapping[str, Any], node: Node) -> dict[str, Any]:
    """Return the arguments of the training, those of the file before those of the network."""
    merged: dict[str, Any] = {}
    for source in (node.get("args"), top.get("train_args")):
        values = source.state if isinstance(source, Node) else source
        if isinstance(values, Mapping):
            merged |= {str(key): value for key, value in values.items() if value is not None}
    return merged


def _class_names(names: Any, count: int) -> tuple[str, ...]:
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, Mapping):
        names = {}
    return tuple(str(names.get(i, f"class{i}")) for i in range(count))


def _text(value: Any) -> str | None:
    return value[:_LONGEST_TEXT] if isinstance(value, str) and value else None


def _plain(value: Any) -> Any:
    """Return a value made of tables with text keys, lists, texts and numbers; the rest is None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value if isinstance(value, str | int | float | bool) else None


def _keypoint_names(
    names: Any, shape: tuple[int, int] | None
) -> Mapping[int, tuple[str, ...]] | None:
    if shape is None or not isinstance(names, Mapping):
        return None
    kept = {
        class_id: tuple(str(name) for name in row)
        for class_id, row in names.items()
        if isinstance(class_id, int) and isinstance(row, list | tuple) and len(row) == shape[0]
    }
    return kept or None


def _sigmas(values: Any, shape: tuple[int, int] | None) -> tuple[float, ...] | None:
    values = _plain(values)
    if shape is None or not isinstance(values, list):
        return None
    good = len(values) == shape[0] and all(_is_number(v) and v > 0 for v in values)
    return tuple(float(v) for v in values) if good else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < _LARGEST_NUMBER


def _input_size(size: Any) -> tuple[int, int]:
    size = _plain(size)
    sides = size if isinstance(size, list) else [size]
    good = [s for s in sides if isinstance(s, int) and 1 < s <= _LARGEST_SIZE]
    if len(good) != len(sides) or not 1 <= len(good) <= 2:
        return (_DEFAULT_SIZE, _DEFAULT_SIZE)
    return (good[-1], good[0])  # written as height, width


def _facts(
    top: Mapping[str, Any], yaml: Mapping[str, Any], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    version = _text(top.get("version"))
    facts = {
        "architecture": _text(yaml.get("yaml_file")),
        "saved": _text(top.get("date")),
        "saved_by": f"ultralytics {version}" if version else None,
        "epochs": arguments.get("epochs"),
        "data": _text(arguments.get("data")),
    }
    plain: dict[str, Any] = {
        k: v for k, v in facts.items() if isinstance(v, str | int) and not isinstance(v, bool)
    }
    metrics = top.get("train_metrics")
    if isinstance(metrics, Mapping):
        # Measured by whoever trained it, on pictures that we do not know.
        plain["metrics"] = {str(k): float(v) for k, v in metrics.items() if _is_number(v)}
    return plain
