"""The arguments of our own routes, and what the OpenAPI document says of their answers."""

from __future__ import annotations

from typing import Any

from openkeypoints.formats import FORMATS
from openkeypoints.server.arguments import Choice, Number, Whole
from openkeypoints.server.documented import (
    NUMBER,
    TEXT,
    Schema,
    array,
    closed,
    parameter,
    responses,
)

CONFIDENCE = Number(
    ("confidence",),
    0,
    100,
    "Lowest score of an instance: 0.4 and 40 are both 40 %. Default: the model's.",
)
IOU = Number(
    ("iou_threshold",),
    0,
    100,
    "Overlap above which the weaker of two boxes is dropped. Default: the model's.",
)
KEYPOINT_CONFIDENCE = Number(
    ("keypoint_confidence",),
    0,
    100,
    "Score below which `roboflow` leaves keypoints out and `coco` gives no place; others keep all.",
)
MAX_DETECTIONS = Whole(("max_detections",), 1, 300, "So many instances at most, the best.")
FORMAT = Choice(("format",), tuple(FORMATS), "Format of the answer.")
CLASSES = "classes"
FILES = ("image", "file")

_WHOLE: Schema = {"type": "integer", "minimum": 0}
_MAYBE: Schema = {"type": ["number", "null"]}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_ERROR = closed({"error": TEXT})
_MODEL: dict[str, Schema] = {
    "id": TEXT,
    "served": {
        "type": "boolean",
        "description": "False: it is loaded when somebody asks for it.",
    },
    "loaded": {"type": "boolean"},
    "task": _MAYBE_TEXT,
    "licence": {**_MAYBE_TEXT, "description": "Of the weights; null where it is not known yet."},
}
_SKELETON = closed(
    {
        "class": TEXT,
        "class_id": _WHOLE,
        "keypoints": array(closed({"id": _WHOLE, "name": TEXT, "color": TEXT})),
        "edges": array({**array(_WHOLE), "minItems": 2, "maxItems": 2}),
    }
)
_DESCRIBED = closed(
    {
        **_MODEL,
        "class_names": array(TEXT),
        "skeletons": array(_SKELETON),
        "input_size": {**array(_WHOLE), "description": "Width and height in pixels."},
        "confidence": NUMBER,
        "iou_threshold": NUMBER,
        "runtime": TEXT,
        "device": TEXT,
        "precision": TEXT,
    }
)
_INSTANCE = closed(
    {
        "box": {**array(NUMBER), "description": "x1, y1, x2, y2 in pixels of the picture."},
        "score": NUMBER,
        "class_id": _WHOLE,
        "keypoints": {
            **array(array(_MAYBE)),
            "description": "x, y, score of each; x and y are null in slots that are not used.",
        },
        "covariances": {**array(array(array(_MAYBE))), "description": "2 x 2 each, in px²."},
        "track_id": {"type": "integer"},
        "mask": {**array(_WHOLE), "description": "Run lengths down the columns, background first."},
    },
    optional=["covariances", "track_id", "mask"],
)
_OBJECT: Schema = {"type": "object"}
_PREDICTION = closed(
    {
        "format": {**TEXT, "const": "openkeypoints"},
        "version": {"type": "integer"},
        "image": closed({"width": _WHOLE, "height": _WHOLE}),
        "model_id": TEXT,
        "class_names": array(TEXT),
        "skeletons": {**_OBJECT, "description": "By class id."},
        "keypoint_slots": _WHOLE,
        "has_covariances": {"type": "boolean"},
        "has_track_ids": {"type": "boolean"},
        "mask_size": {"type": ["array", "null"], "items": _WHOLE},
        "instances": array(_INSTANCE),
        "extras": _OBJECT,
        "keypoint_confidence": NUMBER,
        "timings": {"type": "object", "additionalProperties": NUMBER},
        "details": _OBJECT,
    }
)
_FOREIGN: list[Schema] = [
    {"type": "object", "required": ["predictions"], "description": "format=roboflow"},
    {"type": "array", "description": "format=ultralytics"},
    {"type": "object", "required": ["annotations"], "description": "format=coco"},
]
_IN_PATH = parameter("model", {"type": "string", "minLength": 1}, where="path")
_PICTURE: Schema = {"type": "string", "format": "binary", "description": "The picture, as a file."}
_TEXT_PICTURE: Schema = {
    "type": "string",
    "minLength": 1,
    "description": "Base64, a data URI, or an https address, if the server fetches any.",
}
_CLASSES: Schema = {
    "type": "string",
    "description": "Names or ids of the classes to return, separated by commas.",
}
_NOT_READ = (413, 415)

LIST_ROUTE: dict[str, Any] = {
    "summary": "List the models",
    "responses": responses(
        closed({"models": array(closed(_MODEL)), "default": TEXT}),
        _ERROR,
        without=(400, 404, *_NOT_READ, 501, 502, 503),
        about="The models; those that are served come first.",
    ),
}
MODEL_ROUTE: dict[str, Any] = {
    "summary": "Describe a model",
    "responses": responses(_DESCRIBED, _ERROR, without=_NOT_READ, about="The model."),
    "openapi_extra": {"parameters": [_IN_PATH]},
}
PREDICT_ROUTE: dict[str, Any] = {
    "summary": "Find instances",
    "responses": responses(
        {"anyOf": [_PREDICTION, *_FOREIGN]}, _ERROR, about="What was found, best first."
    ),
    "openapi_extra": {
        "parameters": [
            _IN_PATH,
            parameter("confidence", CONFIDENCE.schema()),
            parameter("iou_threshold", IOU.schema()),
            parameter("keypoint_confidence", KEYPOINT_CONFIDENCE.schema(0.0)),
            parameter("max_detections", MAX_DETECTIONS.schema(300)),
            parameter(CLASSES, _CLASSES),
            parameter("format", FORMAT.schema("openkeypoints")),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "image/*": {"schema": _PICTURE},
                "application/octet-stream": {"schema": _PICTURE},
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": dict.fromkeys(FILES, _PICTURE)}
                },
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {"image": _TEXT_PICTURE},
                        "required": ["image"],
                    }
                },
            },
        },
    },
}
