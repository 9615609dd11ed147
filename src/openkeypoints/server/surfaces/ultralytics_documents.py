"""What the OpenAPI document says of Ultralytics' routes: their forms, envelopes and errors."""

from __future__ import annotations

from typing import Any

from openkeypoints.server.documented import (
    NUMBER,
    TEXT,
    Responses,
    Schema,
    array,
    closed,
    parameter,
    responses,
)
from openkeypoints.server.surfaces.ultralytics_forms import FILES, form_fields

_BOX = closed(dict.fromkeys(("x1", "y1", "x2", "y2"), NUMBER))
_POINTS = closed({"x": array(NUMBER), "y": array(NUMBER)})
_KEYPOINTS = closed(
    {"x": array(NUMBER), "y": array(NUMBER), "visible": array({**NUMBER, "minimum": 0})},
    optional=["visible"],
)
_ROW = closed(
    {
        "name": TEXT,
        "class": {"type": "integer", "minimum": 0},
        "confidence": {**NUMBER, "minimum": 0, "maximum": 1},
        "box": _BOX,
        "segments": _POINTS,
        "keypoints": _KEYPOINTS,
    },
    optional=["segments", "keypoints"],
)
ROWS = closed(
    {
        "success": {"type": "boolean", "const": True},
        "message": {**TEXT, "const": "Inference complete."},
        "data": array(_ROW),
    }
)
ROWS_ERROR = closed(
    {"success": {"type": "boolean", "const": False}, "message": TEXT, "data": closed({})}
)
_IMAGE = closed(
    {
        "shape": {**array({"type": "integer", "minimum": 0}), "minItems": 2, "maxItems": 2},
        "speed": closed(dict.fromkeys(("preprocess", "inference", "postprocess"), NUMBER)),
        "results": array(_ROW),
    }
)
_METADATA = closed(
    {
        "imageCount": {"type": "integer", "minimum": 0},
        "functionTimeAlive": NUMBER,
        "functionTimeCall": NUMBER,
        "version": {"type": "object", "additionalProperties": TEXT},
        "model": TEXT,
        "task": {"type": "string", "enum": ["pose", "detect", "segment"]},
        "classNames": array(TEXT),
    }
)
IMAGES = closed({"images": array(_IMAGE), "metadata": _METADATA})
ERROR = closed({"error": TEXT})
WORKSPACE = closed({"welcome": TEXT, "workspace": TEXT})
HEALTH = closed(
    {
        "healthy": {"type": "boolean"},
        "latencyMs": NUMBER,
        "status": {"type": "integer"},
        "error": TEXT,
    },
    optional=["status", "error"],
)


def rows_route() -> dict[str, Any]:
    """Return the documentation of a route that answers with rows, as arguments of a route."""
    return {
        "summary": "Find instances, as the first API",
        "responses": responses(ROWS, ROWS_ERROR, about="What was found, best first."),
        "openapi_extra": _asked(iou_threshold=0.45, path=("model",), model=False),
    }


def images_route(*path: str, root: bool = False) -> dict[str, Any]:
    """Return the documentation of a route that answers with a list of one picture.

    Args:
        path: names of its parameters in the path; without any, the form names the model.
        root: a request without a body is the look-up of the ``roboflow`` package.
    """
    success: Schema = {"anyOf": [IMAGES, WORKSPACE]} if root else IMAGES
    error: Schema = ERROR
    if root:  # the look-up has error bodies of its own
        error = {"anyOf": [ERROR, {"type": "object"}]}
    return {
        "summary": "Find instances, as the platform"
        if path
        else "Find instances, as the shared API",
        "responses": _with_reset(responses(success, error, about="What was found, best first.")),
        "openapi_extra": _asked(iou_threshold=0.7, path=path, model=not path),
    }


def health_route(*path: str) -> dict[str, Any]:
    """Return the documentation of a route that tells whether a model can be called."""
    return {
        "summary": "Health of a model",
        "responses": _with_reset(
            responses(HEALTH, ERROR, without=(413, 415), about="Whether the model answers.")
        ),
        "openapi_extra": {"parameters": _in_path(path)},
    }


def _with_reset(found: Responses) -> Responses:
    about = "When another try makes sense, in ISO 8601."
    reset = {"description": about, "schema": {"type": "string", "format": "date-time"}}
    limited = found[429]
    limited["headers"] = {**limited["headers"], "X-RateLimit-Reset": reset}
    return found


def _asked(*, iou_threshold: float, path: tuple[str, ...], model: bool) -> dict[str, Any]:
    fields = form_fields(iou_threshold=iou_threshold, model=model)
    texts = {name: schema for name, schema in fields.items() if name not in FILES}
    return {
        "parameters": _in_path(path) + [parameter(name, texts[name]) for name in texts],
        "requestBody": {
            "content": {
                "multipart/form-data": {"schema": _form(fields)},
                "application/x-www-form-urlencoded": {"schema": _form(texts)},
            }
        },
    }


def _form(fields: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": fields}


def _in_path(names: tuple[str, ...]) -> list[Schema]:
    return [parameter(name, {"type": "string", "minLength": 1}, where="path") for name in names]
