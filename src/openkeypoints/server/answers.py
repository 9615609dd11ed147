"""JSON answers."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response


def json_bytes(values: Any) -> bytes:
    """Return plain values and arrays as JSON; the formats leave nothing else in them.

    A tenth of the time of Python's own writer, which was a fifth of all that a request costs
    beside its picture.
    """
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)


def json_response(values: Any, status: int = 200) -> Response:
    """Return an answer of plain values."""
    return Response(json_bytes(values), status, media_type="application/json")
