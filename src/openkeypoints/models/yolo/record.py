"""The record by which our own exports describe themselves: a specification as JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, get_args

from openkeypoints.errors import WeightsError
from openkeypoints.models.base import Task
from openkeypoints.models.yolo.spec import Fit, Head, InputSpec, OutputSpec, YoloSpec
from openkeypoints.skeletons import skeleton_from_json, skeleton_to_json

FAMILY = "yolo"
VERSION = 1


def spec_to_json(spec: YoloSpec) -> dict[str, Any]:
    """Return what :func:`spec_from_json` reads, in plain JSON values."""
    record: dict[str, Any] = {
        "family": FAMILY,
        "version": VERSION,
        "task": spec.task,
        "class_names": list(spec.class_names),
        "skeletons": {str(i): skeleton_to_json(s) for i, s in spec.skeletons.items()},
        "preprocessing": asdict(spec.input),
        "outputs": {
            head: asdict(output) | {"names": dict(output.names)}
            for head, output in spec.outputs.items()
        },
        "thresholds": {"confidence": spec.confidence, "iou": spec.iou_threshold},
        "licence": spec.licence,
        "card": dict(spec.card),
    }
    plain: dict[str, Any] = _plain(record)
    return plain


def spec_from_json(record: Any, name: str) -> YoloSpec:
    """Return the specification that an export of ours carries.

    Args:
        record: content of its metadata.
        name: of the file, for messages.

    Raises:
        WeightsError: it is of another family or a later version, or a field is missing or wrong.
    """
    if not isinstance(record, Mapping) or record.get("family") != FAMILY:
        family = record.get("family") if isinstance(record, Mapping) else None
        raise WeightsError(f"{name} says that it is of the family {family!r}, not {FAMILY!r}.")
    if record.get("version") != VERSION:
        raise WeightsError(
            f"{name} has a record of version {record.get('version')!r}, this library reads "
            f"{VERSION}: install a newer openkeypoints."
        )
    try:
        return _checked(
            YoloSpec(
                task=_one_of(record["task"], Task),
                class_names=tuple(str(n) for n in record["class_names"]),
                skeletons={int(i): skeleton_from_json(s) for i, s in record["skeletons"].items()},
                input=_input(record["preprocessing"]),
                outputs={_one_of(h, Head): _output(o) for h, o in record["outputs"].items()},
                confidence=float(record["thresholds"]["confidence"]),
                iou_threshold=float(record["thresholds"]["iou"]),
                licence=str(record["licence"]),
                card=dict(record.get("card", {})) | _origin(record),
            )
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"The record in {name} is incomplete or wrong: {error!r}.") from error


def _checked(spec: YoloSpec) -> YoloSpec:
    if not spec.outputs:
        raise ValueError("no output")
    for output in spec.outputs.values():
        if output.classes != len(spec.class_names):
            raise ValueError(f"{len(spec.class_names)} names for {output.classes} classes")
        count = output.keypoints[0] if output.keypoints else 0
        if any(len(skeleton) > count for skeleton in spec.skeletons.values()):
            raise ValueError(f"a skeleton has more than {count} keypoints")
    if any(not 0 <= i < len(spec.class_names) for i in spec.skeletons):
        raise ValueError("a skeleton belongs to no class")
    return spec


def _origin(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: str(record[key]) for key in ("source_sha256", "precision") if key in record}


def _input(data: Mapping[str, Any]) -> InputSpec:
    size, mean, std = data["size"], data["mean"], data["std"]
    batch = data["batch"]
    return InputSpec(
        name=str(data["name"]),
        size=(int(size[0]), int(size[1])),
        static=bool(data["static"]),
        batch=None if batch is None else int(batch),
        stride=int(data["stride"]),
        pictures=bool(data["pictures"]),
        half=bool(data["half"]),
        fit=_one_of(data["fit"], Fit),
        bgr=bool(data["bgr"]),
        fill=int(data["fill"]),
        scale=float(data["scale"]),
        mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        std=(float(std[0]), float(std[1]), float(std[2])),
        threshold=str(data.get("threshold", "")),
    )


def _output(data: Mapping[str, Any]) -> OutputSpec:
    layout = data["layout"]
    if layout not in ("maps", "columns", "rows"):
        raise ValueError(f"layout {layout!r}")
    keypoints = data["keypoints"]
    return OutputSpec(
        layout=layout,
        names={str(role): str(name) for role, name in data["names"].items()},
        head=_one_of(data["head"], Head),
        classes=int(data["classes"]),
        keypoints=None if keypoints is None else (int(keypoints[0]), int(keypoints[1])),
        coefficients=int(data["coefficients"]),
        strides=tuple(int(stride) for stride in data["strides"]),
        bins=int(data["bins"]),
        centred=bool(data["centred"]),
    )


def _one_of(value: Any, choices: Any) -> Any:
    if value not in get_args(choices):
        raise ValueError(f"{value!r} is none of {get_args(choices)}")
    return value


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: lists for tuples, text for what JSON does not know."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
