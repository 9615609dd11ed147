"""Whether the server lives and is ready, and its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from openkeypoints.errors import OpenKeypointsError
from openkeypoints.server.auth import authorise
from openkeypoints.server.metrics import CONTENT_TYPE
from openkeypoints.server.routing import surface_route
from openkeypoints.server.state import Context, context_of


def routers() -> tuple[APIRouter, APIRouter]:
    """Return the routes that everybody may ask, and those that need a scope."""
    public = APIRouter(route_class=surface_route(render_error, public=True), tags=["health"])
    public.add_api_route("/healthz", _healthz, methods=["GET"], responses=_down("unhealthy"))
    public.add_api_route("/readiness", _readiness, methods=["GET"], responses=_down("not ready"))
    closed = APIRouter(route_class=surface_route(render_error), tags=["health"])
    closed.add_api_route(
        "/metrics",
        _metrics,
        methods=["GET"],
        response_class=PlainTextResponse,
        responses={401: {"description": "No valid key"}, 403: {"description": "Scope missing"}},
    )
    return public, closed


def render_error(error: OpenKeypointsError, request: Request) -> Response:  # noqa: ARG001
    """Return an error as these routes show it."""
    return JSONResponse({"status": error.http_status, "message": str(error)}, error.http_status)


async def _healthz(request: Request) -> Response:
    """Tell whether the process lives: 200, or 503 where a model hangs."""
    stuck = context_of(request).engine.stats().stuck
    if stuck:
        reason = f"{stuck} model threads hang"
        return JSONResponse({"status": "unhealthy", "reason": reason}, 503)
    return JSONResponse({"status": "healthy"})


async def _readiness(request: Request) -> Response:
    """Tell whether new requests may come: the named models are loaded, and nothing stops."""
    condition = context_of(request).condition
    if condition.ready and not condition.stopping:
        return JSONResponse({"status": "ready"})
    return JSONResponse({"status": "not ready"}, 503)


async def _metrics(request: Request) -> Response:
    """Return counts of requests, models and the process, in Prometheus' text format."""
    await authorise(request, "metrics")
    context = context_of(request)
    return Response(context.metrics.text(_gauges(context)), media_type=CONTENT_TYPE)


def _gauges(context: Context) -> Iterable[tuple[str, str, Mapping[str, float]]]:
    stats = context.engine.stats()
    models = stats.models
    of_models: dict[str, Mapping[str, float]] = {
        "okp_model_waiting": {i: m.waiting for i, m in models.items()},
        "okp_model_running": {i: m.running for i, m in models.items()},
        "okp_model_predicted_wait_seconds": {i: m.predicted_wait_s for i, m in models.items()},
        "okp_model_bytes": {i: m.bytes for i, m in models.items()},
        "okp_model_load_seconds": {i: m.load_s for i, m in models.items()},
        "okp_model_ready": {i: float(m.state == "ready") for i, m in models.items()},
    }
    for name, values in of_models.items():
        yield name, "model", values
    engine: dict[str, float] = {
        "active_calls": stats.active,
        "inflight_bytes": stats.inflight_bytes,
        "body_bytes": context.condition.body_bytes,
        "model_bytes": stats.model_bytes,
        "stuck": stats.stuck,
        "loads": stats.loads,
        "load_failures": stats.load_failures,
        "evictions": stats.evictions,
    }
    yield "okp_engine", "what", engine


def _down(status: str) -> dict[int | str, dict[str, object]]:
    return {503: {"description": f"The server is {status}."}}
