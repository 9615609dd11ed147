"""What a Roboflow client asks for: query parameters and body fields become one checked record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from openkeypoints.errors import FormatError
from openkeypoints.models import InferOptions, Request

CONFIDENCE, OVERLAP, MAX_DETECTIONS = 0.4, 0.3, 300
LOWEST_LEGACY = 0.01
MAX_STROKE = 50
_PER_CENT = 100
_YES = {"true", "1", "on", "yes", "t", "y"}
_NO = {"false", "0", "off", "no", "f", "n"}
_REQUIRED: Any = object()


class FieldError(FormatError):
    """A field of a request is missing or has a wrong value.

    Attributes:
        details: what is wrong and where, without what the client sent.
    """

    def __init__(self, kind: str, where: tuple[str | int, ...], message: str) -> None:
        super().__init__(f"{where[-1]}: {message}")
        self.details = [{"type": kind, "loc": list(where), "msg": message}]


@dataclass(frozen=True, slots=True)
class Fields:
    """Fields of a request, read by name.

    Attributes:
        place: where they stand, for errors.
        values: by name; of a query all are texts.
    """

    place: Literal["query", "body"]
    values: Mapping[str, Any] = field(repr=False)

    def has(self, name: str) -> bool:
        """Return whether a field is there and not null."""
        return self.values.get(name) is not None

    def wrong(self, name: str, kind: str, message: str) -> FieldError:
        """Return the error that says what a field must be."""
        return FieldError(kind, (self.place, name), message)

    def text(self, name: str, default: str | None = _REQUIRED) -> str | None:
        """Return a text."""
        if not self.has(name):
            if default is not _REQUIRED:
                return default
            if name in self.values:
                raise self.wrong(name, "string_type", "Give a text.")
            raise self.wrong(name, "missing", "This field is required.")
        value = self.values[name]
        if not isinstance(value, str):
            raise self.wrong(name, "string_type", "Give a text.")
        return value

    def flag(self, name: str) -> bool:
        """Return a yes or no, no where it is absent."""
        if not self.has(name):
            return False
        word = str(self.values[name]).strip().lower()
        if word not in _YES | _NO:
            raise self.wrong(name, "bool_parsing", "Give true or false.")
        return word in _YES

    def integer(self, name: str, default: int, low: int | None = None) -> int:
        """Return a whole number."""
        if not self.has(name):
            return default
        number = self._number(name, "int_parsing", "Give a whole number.")
        if number != int(number):
            raise self.wrong(name, "int_parsing", "Give a whole number.")
        if low is not None and number < low:
            raise self.wrong(name, "greater_than_equal", f"Give at least {low}.")
        return int(number)

    def share(self, name: str, default: float, *, one_is_per_cent: bool = False) -> float:
        """Return a share given from 0 to 1 or as per cent up to 100.

        Args:
            name: of the field.
            default: where it is absent.
            one_is_per_cent: 1 means 1 %, not all.
        """
        if not self.has(name):
            return default
        number = self._number(name, "float_parsing", "Give a number from 0 to 1, or per cent.")
        if not 0 <= number <= _PER_CENT:
            raise self.wrong(
                name, "value_error", "Give a number from 0 to 1, or up to 100 per cent."
            )
        as_per_cent = number > 1 or (one_is_per_cent and number == 1)
        return number / _PER_CENT if as_per_cent else number

    def _number(self, name: str, kind: str, message: str) -> float:
        value = self.values[name]
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self.wrong(name, kind, message)
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise self.wrong(name, kind, message) from None
        if not math.isfinite(number):
            raise self.wrong(name, kind, message)
        return number


_USUAL_REQUEST = Request(CONFIDENCE, OVERLAP)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one inference is asked for.

    Attributes:
        request: of the model; it may name classes and options that the model does not know.
        nothing: no instance at all, ``max_detections`` of 0.
        orient: turn the picture as its EXIF orientation says.
        picture: the answer holds a picture of what was found.
        bare: the answer is that picture.
        labels: write class and score on it.
        stroke: width of its lines, pixels.
        inference_id: that the answer carries, None = a new one.
    """

    request: Request = _USUAL_REQUEST
    nothing: bool = False
    orient: bool = True
    picture: bool = False
    bare: bool = False
    labels: bool = False
    stroke: int = 1
    inference_id: str | None = None


_USUAL = Wanted()
"""What a client gets that asks for nothing in particular."""


def from_query(query: Mapping[str, str]) -> Wanted:
    """Return what the query of the legacy route asks for.

    Raises:
        FieldError: a parameter is wrong.
    """
    if not query:
        return _USUAL
    fields = Fields("query", query)
    confidence = _confidence(fields, one_is_per_cent=True)
    form = query.get("format", "json").lower()
    names = query.get("classes") or query.get("class_filter") or ""
    most = fields.integer("max_detections", MAX_DETECTIONS, 0)
    return Wanted(
        Request(
            confidence=None if confidence is None else max(confidence, LOWEST_LEGACY),
            iou_threshold=fields.share("overlap", OVERLAP, one_is_per_cent=True),
            keypoint_confidence=fields.share("keypoint_confidence", 0.0),
            max_detections=min(max(most, 1), MAX_DETECTIONS),
            class_filter=tuple(name.strip() for name in names.split(",") if name.strip()) or None,
        ),
        nothing=most == 0,
        orient=not fields.flag("disable_preproc_auto_orient"),
        picture=form in ("image", "image_and_json"),
        bare=form == "image",
        labels=fields.flag("labels"),
        stroke=_stroke(fields, "stroke"),
    )


def from_body(body: Mapping[str, Any]) -> Wanted:
    """Return what the body of a JSON route asks for.

    Raises:
        FieldError: a field is wrong.
    """
    fields = Fields("body", body)
    if "confidence" in body and body["confidence"] is None:
        raise fields.wrong("confidence", "float_type", "Give a number or 'default'.")
    candidates = fields.integer("max_candidates", 0, 1) if fields.has("max_candidates") else None
    agnostic = fields.flag("class_agnostic_nms")
    most = fields.integer("max_detections", MAX_DETECTIONS, 0)
    return Wanted(
        Request(
            confidence=_confidence(fields),
            iou_threshold=fields.share("iou_threshold", OVERLAP),
            keypoint_confidence=fields.share("keypoint_confidence", 0.0),
            max_detections=min(max(most, 1), MAX_DETECTIONS),
            class_filter=_class_filter(fields),
            options=InferOptions(class_agnostic=agnostic, max_candidates=candidates),
        ),
        nothing=most == 0,
        orient=not fields.flag("disable_preproc_auto_orient"),
        picture=fields.flag("visualize_predictions"),
        labels=fields.flag("visualization_labels"),
        stroke=_stroke(fields, "visualization_stroke_width"),
        inference_id=fields.text("id", None),
    )


def _confidence(fields: Fields, *, one_is_per_cent: bool = False) -> float | None:
    word = fields.values.get("confidence")
    if word == "default":
        return None
    if word == "best":
        raise fields.wrong(
            "confidence", "value_error", "There is no 'best' for these models; give a number."
        )
    return fields.share("confidence", CONFIDENCE, one_is_per_cent=one_is_per_cent)


def _class_filter(fields: Fields) -> tuple[str, ...] | None:
    if not fields.has("class_filter"):
        return None
    names = fields.values["class_filter"]
    if not isinstance(names, list):
        raise fields.wrong("class_filter", "list_type", "Give a list of class names.")
    if not all(isinstance(name, str) for name in names):
        raise fields.wrong("class_filter", "string_type", "Give the names of classes as texts.")
    return tuple(names) or None


def _stroke(fields: Fields, name: str) -> int:
    return min(max(fields.integer(name, 1), 1), MAX_STROKE)
