"""The JSON formats that predictions are written in and read from."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from openkeypoints.errors import InputError
from openkeypoints.formats import coco, openkeypoints, roboflow, ultralytics
from openkeypoints.formats.supervision import supervision_edges, to_supervision
from openkeypoints.results import Prediction

__all__ = [
    "FORMATS",
    "Format",
    "coco",
    "dump",
    "dumps",
    "json_text",
    "load",
    "openkeypoints",
    "roboflow",
    "supervision_edges",
    "to_supervision",
    "ultralytics",
]


@dataclass(frozen=True, slots=True)
class Format:
    """One row of `FORMATS`.

    Attributes:
        dump: prediction -> plain values for JSON.
        load: those values, or their text -> prediction.
        loses: fields of `Prediction` that the format does not carry, or not wholly.
        decimals: digits after the point of what it carries; None writes all that there are.
    """

    dump: Callable[[Prediction], dict[str, Any] | list[Any]]
    load: Callable[[Any], Prediction]
    loses: frozenset[str]
    decimals: int | None = None


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "roboflow": Format(roboflow.dump, roboflow.load, roboflow.LOSES),
        "ultralytics": Format(
            ultralytics.dump, ultralytics.load, ultralytics.LOSES, ultralytics.DECIMALS
        ),
        "coco": Format(coco.dump, coco.load, coco.LOSES),
        "openkeypoints": Format(openkeypoints.dump, openkeypoints.load, openkeypoints.LOSES),
    }
)


def dump(prediction: Prediction, format: str) -> dict[str, Any] | list[Any]:
    """Return a prediction as plain values for JSON.

    Args:
        prediction: what a model found.
        format: one of `FORMATS`: ``roboflow``, ``ultralytics``, ``coco``, ``openkeypoints``.

    Raises:
        InputError: no format has this name.
    """
    return _format(format).dump(prediction)


def dumps(prediction: Prediction, format: str) -> str:
    """Return a prediction as JSON text, on one line.

    Args:
        prediction: what a model found.
        format: one of `FORMATS`.

    Raises:
        InputError: no format has this name.
    """
    return json_text(_format(format).dump(prediction))


def json_text(values: Any) -> str:
    """Return plain values as JSON on one line, without spaces."""
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def load(data: Any, format: str) -> Prediction:
    """Return the prediction that JSON holds.

    Args:
        data: parsed JSON, or its text.
        format: one of `FORMATS`.

    Raises:
        InputError: no format has this name.
        FormatError: the JSON is not of this format; the message names the field.
    """
    return _format(format).load(data)


def _format(name: str) -> Format:
    if name not in FORMATS:
        closest = difflib.get_close_matches(str(name).lower(), FORMATS, n=3, cutoff=0.5)
        raise InputError(
            f"No format is named {name!r}; choose one of {', '.join(closest or FORMATS)}."
        )
    return FORMATS[name]
