"""Roboflow's routes for the models that are loaded, and what the server says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from openkeypoints import __version__
from openkeypoints.engine import Loaded
from openkeypoints.errors import NotFoundError
from openkeypoints.server.context import Context, authorise, context_of
from openkeypoints.server.routing import surface_route
from openkeypoints.server.served import spellings
from openkeypoints.server.surfaces.roboflow_answers import json_answer, render_error
from openkeypoints.server.surfaces.roboflow_inference import ready, resolve
from openkeypoints.server.surfaces.roboflow_json import TASKS, authorised_json
from openkeypoints.server.surfaces.roboflow_params import Fields
from openkeypoints.server.surfaces.roboflow_schema import (
    INFO_RESPONSES,
    MEMORY,
    MODEL_BODY,
    REGISTRY_RESPONSES,
    START_RESPONSES,
    path_parameters,
)

SERVER_ID = uuid4().hex[:6]


def routers() -> tuple[APIRouter, APIRouter]:
    """Return the routes that everybody may ask, and those that need a scope."""
    public = APIRouter(route_class=surface_route(render_error, public=True), tags=["Roboflow"])
    public.add_api_route(
        "/info", _info, methods=["GET"], summary="Name and version", responses=INFO_RESPONSES
    )
    public.add_api_route("/logs", _logs, methods=["GET"], include_in_schema=False)
    closed = APIRouter(route_class=surface_route(render_error), tags=["Roboflow"])
    closed.add_api_route(
        "/model/registry",
        _registry,
        methods=["GET"],
        summary="The models that are loaded",
        responses=REGISTRY_RESPONSES,
    )
    for path, handle, summary in (
        ("/model/add", _add, "Load a model"),
        ("/model/remove", _remove, "Unload a model"),
    ):
        closed.add_api_route(
            path,
            handle,
            methods=["POST"],
            summary=summary,
            responses=REGISTRY_RESPONSES,
            openapi_extra=MODEL_BODY,
        )
    closed.add_api_route(
        "/model/clear",
        _clear,
        methods=["POST"],
        summary="Unload all models",
        responses=REGISTRY_RESPONSES,
    )
    for path in ("/start/{project}/{version}", "/start/{model}"):
        closed.add_api_route(
            path,
            _start,
            methods=["GET"],
            name=f"roboflow_start_{path.count('/')}",
            summary="Load a model",
            responses=START_RESPONSES,
            openapi_extra=path_parameters(path),
        )
    return public, closed


async def _info(request: Request) -> Response:
    """Tell the name and version of the server."""
    body = {"name": "OpenKeypoints", "version": __version__, "uuid": SERVER_ID}
    return json_answer(request, body)


async def _logs(request: Request) -> Response:
    """Show no logs: they are the operator's alone."""
    return json_answer(request, {"detail": "Not Found"}, status=NotFoundError.http_status)


async def _registry(request: Request) -> Response:
    """List every loaded model under each name that it was asked for."""
    await authorise(request, "infer")
    return json_answer(request, registry(context_of(request)))


async def _add(request: Request) -> Response:
    """Load a model; the answer comes when it is there."""
    caller, body = await authorised_json(request)
    name = Fields("body", body).text("model_id") or ""
    model = await ready(request, resolve(request, name, caller, add=True))
    context = context_of(request)
    return json_answer(request, registry(context), cold=model.loaded if model.cold else None)


async def _remove(request: Request) -> Response:
    """Unload a model; one that is not loaded is fine."""
    _, body = await authorised_json(request)
    await authorise(request, "admin")
    context = context_of(request)
    model_id = context.catalogue.known(Fields("body", body).text("model_id") or "")
    context.catalogue.remove(model_id)
    await context.engine.unload(model_id)
    return json_answer(request, registry(context))


async def _clear(request: Request) -> Response:
    """Unload all models."""
    await authorise(request, "admin")
    context = context_of(request)
    context.catalogue.clear()
    await context.engine.clear()
    return json_answer(request, registry(context))


async def _start(request: Request) -> Response:
    """Load a model."""
    caller = await authorise(request, "infer")
    name = "/".join(str(part) for part in request.path_params.values())
    model = await ready(request, resolve(request, name, caller))
    body = {"status": 200, "message": f"The model {name} is loaded."}
    return json_answer(request, body, cold=model.loaded if model.cold else None)


def registry(context: Context) -> dict[str, Any]:
    """Return the loaded models as clients look them up: one entry per name that was asked for."""
    models = []
    for model_id, loaded in context.engine.loaded().items():
        asked = context.catalogue.requested(model_id)
        names = list(dict.fromkeys((*spellings(model_id), *asked)))
        models += [_entry(name, names, loaded) for name in names]
    return {"models": models, **dict.fromkeys(MEMORY)}


def _entry(name: str, names: list[str], loaded: Loaded) -> Mapping[str, Any]:
    width, height = loaded.model.input_size
    return {
        "model_id": name,
        "task_type": loaded.model.task,
        "batch_size": None,
        "input_height": height,
        "input_width": width,
        "vram_bytes": None,
        "request_aliases": [other for other in names if other != name],
        "request_paths": [f"/{name}", *(f"/infer/{task}" for task in TASKS)],
    }
