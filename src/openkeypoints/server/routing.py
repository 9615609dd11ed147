"""The routes of a surface: what goes wrong in a handler becomes that surface's own answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from openkeypoints.errors import (
    OpenKeypointsError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
)
from openkeypoints.server.auth import CALLER
from openkeypoints.server.state import context_of

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
            self.app = self._serve

        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            # FastAPI's own way asks first whether the route was included from elsewhere.
            match, found = Route.matches(self, scope)
            return match, {**found, "route": self}

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


class Dispatch:
    """Asks only the routes that can match: those that begin as the path does.

    With fifty routes a request would else be held against as many patterns.

    Args:
        routes: all that there are, in their order.
        otherwise: answers what none of them matches.
    """

    def __init__(self, routes: Sequence[BaseRoute], otherwise: ASGIApp) -> None:
        self._otherwise = otherwise
        known = [(_first_segment(r.path), r) for r in routes if isinstance(r, APIRoute)]
        self._anything = [route for name, route in known if "{" in name]
        self._named = {
            name: [route for other, route in known if other == name or "{" in other]
            for name, _ in known
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or hand it on."""
        if scope["type"] == "http":
            path, root = scope["path"], scope["root_path"]
            if root and path.startswith(f"{root}/"):
                path = path[len(root) :]
            for route in self._named.get(_first_segment(path), self._anything):
                match, found = route.matches(scope)
                if match is Match.FULL:
                    scope.update(found)
                    await route.app(scope, receive, send)
                    return
        await self._otherwise(scope, receive, send)


def _first_segment(path: str) -> str:
    return path[1:].partition("/")[0]


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
        metrics = context_of(request).metrics
        metrics.rejected(error.reason if isinstance(error, OverloadedError) else "rate")
    return response
