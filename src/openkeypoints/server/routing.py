"""The routes of a surface: what goes wrong in a handler becomes that surface's own answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from openkeypoints.errors import (
    FormatError,
    OpenKeypointsError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
)
from openkeypoints.server.auth import CALLER

RenderError = Callable[[OpenKeypointsError, Request], Response]
Handler = Callable[[Request], Coroutine[Any, Any, Response]]
_GONE = 499
"""Nobody gets this answer: it is for the log."""
_log = logging.getLogger(__name__)


def surface_route(render_error: RenderError, *, public: bool = False) -> type[APIRoute]:
    """Return the class of the routes of a surface, for ``APIRouter(route_class=...)``.

    Args:
        render_error: makes the surface's answer of an error.
        public: whether the routes answer callers that nobody asked for a key. Otherwise a handler
            that forgot to call ``authorise`` answers nothing.
    """

    class SurfaceRoute(APIRoute):
        """A route whose errors are answered in the words of its surface."""

        def get_route_handler(self) -> Handler:
            handle = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    response = await handle(request)
                    if public or CALLER in request.scope:
                        return response
                    _log.error("The route %s answered without asking who calls.", self.path)
                    error: OpenKeypointsError = PermissionDeniedError("This route is closed.")
                except OpenKeypointsError as raised:
                    error = raised
                except RequestValidationError as raised:
                    error = RequestFormatError(raised)
                except ClientDisconnect:
                    return Response(status_code=_GONE)
                except Exception:  # noqa: BLE001  # arch: a client gets an answer, the log the cause
                    _log.exception("The route %s broke down.", self.path)
                    error = InternalError()
                return failed(error, request, render_error)

            return answer

    return SurfaceRoute


class InternalError(OpenKeypointsError):
    """Something broke that nobody thought of; the log has the cause."""

    def __init__(self) -> None:
        super().__init__(
            "Something broke in the server; its log says what, under this request's id."
        )


class RequestFormatError(FormatError):
    """Parameters of a request do not fit.

    Attributes:
        details: where and why, one entry each, without what the client sent.
    """

    def __init__(self, error: RequestValidationError) -> None:
        self.details = [
            {"type": entry["type"], "loc": list(entry["loc"]), "msg": entry["msg"]}
            for entry in error.errors()
        ]
        first = self.details[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        super().__init__(f"{where or 'The request'}: {first['msg']}.")


def failed(error: OpenKeypointsError, request: Request, render: RenderError) -> Response:
    """Return a surface's answer to an error, with ``Retry-After`` where trying again helps."""
    response = render(error, request)
    if isinstance(error, OverloadedError | RateLimitError):
        response.headers["retry-after"] = str(max(1, round(error.retry_after_s + 0.499)))
        metrics = request.app.state.context.metrics
        metrics.rejected(error.reason if isinstance(error, OverloadedError) else "rate")
    return response
