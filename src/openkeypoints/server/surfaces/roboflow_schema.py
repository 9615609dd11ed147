"""What the API's description says of the Roboflow routes: parameters, bodies and answers."""

from __future__ import annotations

from collections.abc import Iterable

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

_INTEGER: Schema = {"type": "integer"}
_BINARY: Schema = {"type": "string", "format": "binary"}
_SCORE: Schema = {**NUMBER, "minimum": 0, "maximum": 1}
_SHARE: Schema = {**NUMBER, "minimum": 0, "maximum": 100}
_CONFIDENCE: Schema = {"anyOf": [_SHARE, {"type": "string", "enum": ["default"]}], "default": 0.4}
_FLAG: Schema = {"type": "boolean", "default": False}
_COUNT: Schema = {**_INTEGER, "minimum": 0, "default": 300}
_MESSAGE = closed({"message": TEXT})

_KEYPOINT = closed(
    {
        "x": NUMBER,
        "y": NUMBER,
        "confidence": _SCORE,
        "class_id": _INTEGER,
        "class": TEXT,
        "class_name": TEXT,
    }
)
_INSTANCE = closed(
    {
        "x": {**NUMBER, "description": "Middle of the box, pixels."},
        "y": NUMBER,
        "width": NUMBER,
        "height": NUMBER,
        "confidence": _SCORE,
        "class": TEXT,
        "class_id": _INTEGER,
        "detection_id": TEXT,
        "keypoints": array(_KEYPOINT),
        "points": {**array(closed({"x": NUMBER, "y": NUMBER})), "description": "Of the mask."},
    },
    optional=("keypoints", "points"),
)
_RESOLVED = closed(
    {"model_id": TEXT, "model_package_id": TEXT, "backend": TEXT, "quantization": TEXT}
)
_FOUND = closed(
    {
        "inference_id": TEXT,
        "time": {**NUMBER, "description": "Seconds in the model."},
        "resolved_model": _RESOLVED,
        "image": closed({"width": _INTEGER, "height": _INTEGER}),
        "predictions": array(_INSTANCE),
        "visualization": {**TEXT, "description": "A JPEG file as base64."},
    },
    optional=("visualization",),
)
_MODEL = closed(
    {
        "model_id": TEXT,
        "task_type": TEXT,
        "batch_size": {"type": ["integer", "null"]},
        "input_height": _INTEGER,
        "input_width": _INTEGER,
        "vram_bytes": {"type": ["integer", "null"]},
        "request_aliases": array(TEXT),
        "request_paths": array(TEXT),
    }
)
MEMORY = (
    "total_vram_bytes",
    "gpu_memory_used",
    "gpu_memory_total",
    "torch_cuda_allocated",
    "torch_cuda_reserved",
    "torch_cuda_allocator_cache",
    "non_torch_gpu_memory",
)
"""What the registry tells of the memory of a GPU: nothing here, but clients know the names."""
_REGISTRY = closed({"models": array(_MODEL), **{name: {"type": "null"} for name in MEMORY}})
_AUTH = closed({"status": _INTEGER, "message": TEXT})
_PLACE = array({"anyOf": [TEXT, _INTEGER]})
_DETAIL = closed({"detail": array(closed({"type": TEXT, "loc": _PLACE, "msg": TEXT}))})


def _json(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _answers(success: Schema, about: str, *, without: Iterable[int] = ()) -> Responses:
    found = responses(success, _MESSAGE, without=without, about=about)
    found[401] = _json("A key is needed, or this one is not known.", _AUTH)
    found[422] = _json("A field is missing or has a wrong value.", _DETAIL)
    return found


RESPONSES = _answers(
    {"anyOf": [_FOUND, array(_FOUND)]}, "What was found; with `format=image` a picture of it."
)
"""Answers of routes that run a model."""
RESPONSES[200]["content"]["image/jpeg"] = {"schema": _BINARY}
JSON_RESPONSES = _answers({"anyOf": [_FOUND, array(_FOUND)]}, "What was found.")
REGISTRY_RESPONSES = _answers(_REGISTRY, "The loaded models.", without=(415,))
START_RESPONSES = _answers(
    closed({"status": {"type": "integer"}, "message": TEXT}), "It is loaded.", without=(413, 415)
)
LOOKUP_RESPONSES = _answers({"type": "object"}, "What the package looks for.")
INFO_RESPONSES: Responses = {
    200: _json("Name and version.", closed({"name": TEXT, "version": TEXT, "uuid": TEXT}))
}


def path_parameters(path: str) -> Schema:
    """Return the parameters of a path as its description has them."""
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return {"parameters": [parameter(name, TEXT, where="path") for name in names]}


_LEGACY_QUERY: dict[str, Schema] = {
    "image": {**TEXT, "description": "Address of a picture, in place of a body."},
    "confidence": {**_CONFIDENCE, "description": "Lowest score; 1 and more are per cent."},
    "overlap": {**_SHARE, "default": 0.3, "description": "1 and more are per cent."},
    "keypoint_confidence": {**_SHARE, "default": 0, "description": "Weaker ones are left out."},
    "format": {**TEXT, "enum": ["json", "image", "image_and_json"], "default": "json"},
    "labels": {**_FLAG, "description": "Write class and score on the picture."},
    "stroke": {**_INTEGER, "default": 1, "description": "Width of the picture's lines, pixels."},
    "max_detections": _COUNT,
    "classes": {**TEXT, "description": "Names, with commas between them."},
    "image_type": {**TEXT, "enum": ["base64", "npy"], "default": "base64"},
    "disable_preproc_auto_orient": {**_FLAG, "description": "Leave it as it is stored."},
}
_PICTURE_BODY: Schema = {
    "requestBody": {
        "description": "A picture: base64 under any type, the part `file` of a form, or its bytes.",
        "content": {
            "application/x-www-form-urlencoded": {"schema": TEXT},
            "text/plain": {"schema": TEXT},
            "image/jpeg": {"schema": _BINARY},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": _BINARY},
                    "required": ["file"],
                }
            },
        },
    }
}


def _legacy(body: Schema) -> dict[str, Schema]:
    query = [parameter(name, schema) for name, schema in _LEGACY_QUERY.items()]
    return {
        path: {"parameters": [*path_parameters(path)["parameters"], *query], **body}
        for path in ("/{project}/{version}", "/{model}")
    }


LEGACY_POST = _legacy(_PICTURE_BODY)
LEGACY_GET = _legacy({})

_PICTURE = closed({"type": {**TEXT, "enum": ["base64", "url", "npy"]}, "value": TEXT})


def _json_body(properties: Schema, required: list[str]) -> Schema:
    schema = {"type": "object", "properties": properties, "required": required}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


INFER_BODY = _json_body(
    {
        "model_id": TEXT,
        "image": {"anyOf": [_PICTURE, {"type": "array", "items": _PICTURE, "minItems": 1}]},
        "api_key": {"type": ["string", "null"]},
        "id": TEXT,
        "confidence": _CONFIDENCE,
        "iou_threshold": {**_SHARE, "default": 0.3},
        "keypoint_confidence": {**_SHARE, "default": 0},
        "max_detections": _COUNT,
        "max_candidates": {"type": "integer", "minimum": 1},
        "class_filter": {"type": "array", "items": TEXT},
        "class_agnostic_nms": _FLAG,
        "visualize_predictions": _FLAG,
        "visualization_labels": _FLAG,
        "visualization_stroke_width": {"type": "integer", "default": 1},
        "disable_preproc_auto_orient": _FLAG,
    },
    ["model_id", "image"],
)
MODEL_BODY = _json_body({"model_id": TEXT, "api_key": {"type": ["string", "null"]}}, ["model_id"])
