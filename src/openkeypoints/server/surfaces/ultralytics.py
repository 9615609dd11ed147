"""Ultralytics' services: the rows of the first API, and the pictures of the shared and latest ones.

Three generations are spoken, and the address alone decides which: ``/v1/predict/MODEL`` answers
with rows, ``/`` and ``/predict`` (which name the model in the form) and ``/api/...`` with pictures.
All take the words of each other for their arguments, from the form or, where it is silent, from
the query string.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from openkeypoints import __version__
from openkeypoints.engine import Call
from openkeypoints.errors import OpenKeypointsError, OverloadedError, RateLimitError
from openkeypoints.formats.ultralytics import dump, service_answer
from openkeypoints.models import InferOptions
from openkeypoints.results import Prediction
from openkeypoints.server.answers import json_bytes, json_response
from openkeypoints.server.context import (
    Context,
    authorise,
    context_of,
    infer,
    refuse_if_full,
    unless_gone,
)
from openkeypoints.server.routing import surface_route
from openkeypoints.server.surfaces.ultralytics_documents import (
    health_route,
    images_route,
    rows_route,
)
from openkeypoints.server.surfaces.ultralytics_forms import Asked, read_asked

ROWS_IOU = 0.45
IMAGES_IOU = 0.7
STRIDE = 32
"""Input sizes are rounded up to multiples of this; models of a larger stride round again."""
HEALTH_S = 25.0
"""How long the question after a model's health waits for it to load."""
_NO_PICTURE = "An image file or URL must be submitted."
_NO_SOURCE = "Send the picture as `file`, or its address or base64 as `source`."


def router() -> APIRouter:
    """Return the routes of all generations."""
    began = time.monotonic()

    async def predict_named(request: Request) -> Response:
        """Find instances with the model that the field `model` names."""
        caller = await authorise(request, "infer")
        asked = await read_asked(request, iou_threshold=IMAGES_IOU, missing=_NO_SOURCE)
        catalogue = context_of(request).catalogue
        name = asked.model or catalogue.pinned[0]
        return await _images(request, catalogue.resolve(name, caller), asked, began)

    async def predict_model(request: Request) -> Response:
        """Find instances with the model whose id is the last name in the address."""
        model_id = await _resolved(request, "model")
        refuse_if_full(request, model_id)
        asked = await read_asked(request, iou_threshold=IMAGES_IOU, missing=_NO_SOURCE)
        return await _images(request, model_id, asked, began)

    async def predict_deployment(request: Request) -> Response:
        """Find instances with the model that has the deployment's name."""
        model_id = await _resolved(request, "deployment")
        refuse_if_full(request, model_id)
        asked = await read_asked(request, iou_threshold=IMAGES_IOU, missing=_NO_SOURCE)
        return await _images(request, model_id, asked, began)

    found = APIRouter(route_class=surface_route(render_error), tags=["Ultralytics"])
    found.add_api_route(
        "/v1/predict/{model:path}",
        _rows,
        methods=["POST"],
        route_class_override=surface_route(render_rows_error),
        **rows_route(),
    )
    # Without a body it is another vendor's look-up, whose route comes first and takes only those.
    found.add_api_route("/", predict_named, methods=["POST"], **images_route(root=True))
    model, deployment = ("owner", "project", "model"), ("owner", "deployment")
    for path, handle, names in (
        ("/predict", predict_named, ()),
        ("/api/models/{owner}/{project}/{model}/predict", predict_model, model),
        ("/api/deployments/{owner}/{deployment}/predict", predict_deployment, deployment),
    ):
        found.add_api_route(path, handle, methods=["POST"], **images_route(*names))
    for path, ask, names in (
        ("/api/models/{owner}/{project}/{model}/health", _model_health, model),
        ("/api/deployments/{owner}/{deployment}/health", _deployment_health, deployment),
    ):
        found.add_api_route(path, ask, methods=["GET"], **health_route(*names))
    return found


def render_rows_error(error: OpenKeypointsError, request: Request) -> Response:  # noqa: ARG001
    """Return an error as the first generation shows it."""
    content = {"success": False, "message": str(error), "data": {}}
    return json_response(content, _status(error))


def render_error(error: OpenKeypointsError, request: Request) -> Response:  # noqa: ARG001
    """Return an error as the later generations show it."""
    response = json_response({"error": str(error)}, _status(error))
    if isinstance(error, RateLimitError):
        free = datetime.now(UTC) + timedelta(seconds=error.retry_after_s)
        response.headers["x-ratelimit-reset"] = free.isoformat(timespec="milliseconds")
    return response


def _status(error: OpenKeypointsError) -> int:
    return 400 if error.http_status == 422 else error.http_status


# ------------------------------------------------------------------------------------- answers


async def _rows(request: Request) -> Response:
    """Find instances with the model at the end of the address; its id may have a slash."""
    model_id = await _resolved(request, "model")
    refuse_if_full(request, model_id)
    asked = await read_asked(request, iou_threshold=ROWS_IOU, missing=_NO_PICTURE)
    prediction = await _found(request, model_id, asked)

    def write() -> bytes:
        rows = dump(prediction, normalize=asked.normalize, decimals=asked.decimals)
        return json_bytes({"success": True, "message": "Inference complete.", "data": rows})

    return await _written(prediction, write)


async def _images(request: Request, model_id: str, asked: Asked, began: float) -> Response:
    arrived = time.monotonic()
    prediction = await _found(request, model_id, asked)

    def write() -> bytes:
        now = time.monotonic()
        answer = service_answer(
            [prediction],
            alive_s=round(now - began, 3),
            call_s=round(now - arrived, 6),
            versions={"openkeypoints": __version__},
            normalize=asked.normalize,
            decimals=asked.decimals,
        )
        return json_bytes(answer)

    return await _written(prediction, write)


async def _resolved(request: Request, parameter: str) -> str:
    """Return the id of the model that the address names, for a caller who may infer."""
    caller = await authorise(request, "infer")
    return context_of(request).catalogue.resolve(request.path_params[parameter], caller)


async def _found(request: Request, model_id: str, asked: Asked) -> Prediction:
    context = context_of(request)
    arrived = context.clock()
    wanted = asked.request
    if asked.size is not None:
        options = await unless_gone(request, _sized(context, model_id, asked.size))
        wanted = replace(wanted, options=options)
    left = context.engine.limits.deadline_s - (context.clock() - arrived)
    call = Call(model_id, (asked.picture,), wanted, deadline_s=max(0.0, left))
    return (await infer(request, call)).predictions[0]


async def _sized(context: Context, model_id: str, side: int) -> InferOptions:
    """Return the option of an input size, where the model has it: only a loaded one can tell."""
    loaded = await context.engine.load(model_id, context.engine.limits.deadline_s)
    if "input_size" not in loaded.model.honours:
        return InferOptions()
    side = -(-side // STRIDE) * STRIDE
    return InferOptions(input_size=(side, side))


async def _written(prediction: Prediction, write: Callable[[], bytes]) -> Response:
    # Outlines of masks take as long as a small network; everything else is done in no time.
    text = await asyncio.to_thread(write) if prediction.masks is not None else write()
    return Response(text, media_type="application/json")


# ------------------------------------------------------------------------------------- health


async def _model_health(request: Request) -> Response:
    """Tell whether the model whose id is the last name in the address can be called."""
    return await _health(request, await _resolved(request, "model"))


async def _deployment_health(request: Request) -> Response:
    """Tell whether the model that has the deployment's name can be called."""
    return await _health(request, await _resolved(request, "deployment"))


async def _health(request: Request, model_id: str) -> Response:
    """Load the model, and tell how long that took; one that is there takes no time."""
    context = context_of(request)
    began = context.clock()
    answer: dict[str, Any] = {"healthy": True}
    try:
        await context.engine.load(model_id, HEALTH_S)
    except OverloadedError as error:
        answer = {"healthy": False, "status": error.http_status, "error": str(error)}
    answer["latencyMs"] = round((context.clock() - began) * 1e3, 3)
    return json_response(answer)
