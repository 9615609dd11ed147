"""JSON answers."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response


def json_bytes(values: Any) -> bytes:
    """Return plain values as JSON; the formats leave nothing in them that JSON does not know.

    A tenth of the time of Python's own writer, which was a fifth of all that a request costs
    beside its picture.
    """
    return orjson.dumps(values)


def json_response(values: Any, status: int = 200) -> Response:
    """Return an answer of plain values."""
    return Response(json_bytes(values), status, media_type="application/json")
