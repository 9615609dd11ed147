"""The JSON formats that predictions are written in and read from."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

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


class Rows(Protocol):
    """Writes the rows of one picture for a list of many."""

    def __call__(
        self, prediction: Prediction, *, image_id: int, first_id: int
    ) -> list[dict[str, Any]]:
        """Return plain values for JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """One row of `FORMATS`.

    Attributes:
        dump: prediction -> plain values for JSON.
        load: those values, or their text -> prediction; None where it is only written.
        rows: where a file holds the pictures of a whole run as one list of rows, as COCO's results
            do: prediction, ``image_id`` and ``first_id`` -> rows of one picture.
        loses: fields of `Prediction` that the format does not carry, or not wholly.
        decimals: digits after the point of what it carries; None writes all that there are.
    """

    dump: Callable[[Prediction], dict[str, Any] | list[Any]]
    load: Callable[[Any], Prediction] | None
    loses: frozenset[str]
    decimals: int | None = None
    rows: Rows | None = None


FORMATS: dict[str, Format] = {
    "roboflow": Format(roboflow.dump, roboflow.load, roboflow.LOSES),
    "ultralytics": Format(
        ultralytics.dump, ultralytics.load, ultralytics.LOSES, ultralytics.DECIMALS
    ),
    "coco": Format(coco.dump, coco.load, coco.LOSES, rows=coco.results_rows),
    "openkeypoints": Format(openkeypoints.dump, openkeypoints.load, openkeypoints.LOSES),
}


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
        InputError: no format has this name, or it is only written.
        FormatError: the JSON is not of this format; the message names the field.
    """
    reader = _format(format).load
    if reader is None:
        raise InputError(f"The format {format!r} is written and not read.")
    return reader(data)


def _format(name: str) -> Format:
    if name not in FORMATS:
        closest = difflib.get_close_matches(str(name).lower(), FORMATS, n=3, cutoff=0.5)
        raise InputError(
            f"No format is named {name!r}; choose one of {', '.join(closest or FORMATS)}."
        )
    return FORMATS[name]
