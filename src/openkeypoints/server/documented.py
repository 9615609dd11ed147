"""What the OpenAPI document says of the routes of several surfaces: their answers and errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Schema = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]

NUMBER: Schema = {"type": "number"}
TEXT: Schema = {"type": "string"}
_RETRY = {
    "Retry-After": {
        "description": "Seconds after which another try makes sense.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_REASONS = {
    400: "An argument is wrong, or the picture cannot be read or fetched.",
    401: "A key is needed, and none that is valid was sent.",
    403: "The caller may not do this, or the licence of the model is not allowed here.",
    404: "There is no such model here.",
    413: "The request or the picture is too large.",
    415: "A video was sent where a picture is asked for.",
    429: "The key asks more often than it may.",
    500: "The model or the server broke down; the log has the cause.",
    501: "The model needs a part that is not installed here.",
    502: "The files of the model cannot be fetched or used.",
    503: "No room or no time now, or the runtime of the model is not there.",
}
_MAY_PASS = {429, 503}


def closed(properties: Mapping[str, Schema], *, optional: Iterable[str] = ()) -> Schema:
    """Return the schema of an object that has these properties and no others."""
    left_out = set(optional)
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in left_out],
        "additionalProperties": False,
    }


def array(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def responses(
    success: Schema, error: Schema, *, without: Iterable[int] = (), about: str = "Done."
) -> Responses:
    """Return the answers of a route that calls a model.

    Args:
        success: schema of the answer 200.
        error: schema of all others.
        without: statuses that the route never has.
        about: what an answer 200 means.
    """
    found: Responses = {200: {"description": about, "content": _json(success)}}
    for status, reason in _REASONS.items():
        if status not in set(without):
            found[status] = {"description": reason, "content": _json(error)}
            if status in _MAY_PASS:
                found[status]["headers"] = _RETRY
    return found


def parameter(name: str, schema: Schema, *, where: str = "query") -> Schema:
    """Return a parameter; those of the path are required."""
    found: Schema = {"name": name, "in": where, "required": where == "path", "schema": schema}
    if "description" in schema:
        found["description"] = schema["description"]
    return found


def _json(schema: Schema) -> dict[str, Schema]:
    return {"application/json": {"schema": schema}}
