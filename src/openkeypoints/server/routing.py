"""The routes of a surface: what goes wrong in a handler becomes that surface's own answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from openkeypoints.errors import (
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
        """A route whose errors are answered in the words of its surface.

        Its handlers take the request and nothing else, so none of FastAPI's own machinery between
        route and handler runs: it solves dependencies that there are not, and costs as much as
        the rest of the way.
        """

        def __init__(self, path: str, endpoint: Handler, **options: Any) -> None:
            super().__init__(path, endpoint, **options)
            self._beginning = path.partition("{")[0]
            self.app = self._serve

        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            if self._beginning not in scope["path"]:  # most routes, told without their pattern
                return Match.NONE, {}
            return super().matches(scope)

        async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
            response = await self._answer(Request(scope, receive, send))
            await response(scope, receive, send)

        async def _answer(self, request: Request) -> Response:
            try:
                response: Response = await self.endpoint(request)
                if public or CALLER in request.scope:
                    return response
                _log.error("The route %s answered without asking who calls.", self.path)
                error: OpenKeypointsError = PermissionDeniedError("This route is closed.")
            except OpenKeypointsError as raised:
                error = raised
            except ClientDisconnect:
                return Response(status_code=_GONE)
            except Exception:  # noqa: BLE001  # arch: a client gets an answer, the log the cause
                _log.exception("The route %s broke down.", self.path)
                error = InternalError()
            return failed(error, request, render_error)

    return SurfaceRoute


class InternalError(OpenKeypointsError):
    """Something broke that nobody thought of; the log has the cause."""

    def __init__(self) -> None:
        super().__init__(
            "Something broke in the server; its log says what, under this request's id."
        )


def failed(error: OpenKeypointsError, request: Request, render: RenderError) -> Response:
    """Return a surface's answer to an error, with ``Retry-After`` where trying again helps."""
    response = render(error, request)
    if isinstance(error, OverloadedError | RateLimitError):
        response.headers["retry-after"] = str(max(1, round(error.retry_after_s + 0.499)))
        metrics = request.app.state.context.metrics
        metrics.rejected(error.reason if isinstance(error, OverloadedError) else "rate")
    return response
