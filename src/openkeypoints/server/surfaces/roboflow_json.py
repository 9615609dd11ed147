"""Roboflow's JSON routes: model, pictures and options in one body."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from openkeypoints.server.auth import KEYS, SentKeys
from openkeypoints.server.context import Caller, authorise, context_of
from openkeypoints.server.routing import surface_route
from openkeypoints.server.surfaces.roboflow_answers import render_error
from openkeypoints.server.surfaces.roboflow_bodies import json_of, pictures_in
from openkeypoints.server.surfaces.roboflow_inference import answer_pictures, ready, resolve
from openkeypoints.server.surfaces.roboflow_params import Fields, from_body
from openkeypoints.server.surfaces.roboflow_schema import INFER_BODY, JSON_RESPONSES

TASKS = ("keypoints_detection", "object_detection", "instance_segmentation")
"""Last segments of the routes. They are one: the model decides what is found."""


def router() -> APIRouter:
    """Return the routes of inference by JSON."""
    routes = APIRouter(route_class=surface_route(render_error), tags=["Roboflow"])
    for task in TASKS:
        routes.add_api_route(
            f"/infer/{task}",
            _infer,
            methods=["POST"],
            name=f"roboflow_infer_{task}",
            summary="Find keypoints in a picture or a list of pictures",
            responses=JSON_RESPONSES,
            openapi_extra=INFER_BODY,
        )
    return routes


async def _infer(request: Request) -> Response:
    """Answer pictures with what the model finds: one object, or a list where a list came."""
    caller, body = await authorised_json(request)
    fields = Fields("body", body)
    name = fields.text("model_id") or ""
    wanted = from_body(body)
    if "image" not in body:
        raise fields.wrong("image", "missing", "This field is required.")
    model_id = resolve(request, name, caller)
    pictures, many = await pictures_in(request, body["image"])
    model = await ready(request, model_id)
    return await answer_pictures(request, model, pictures, wanted, many=many)


async def authorised_json(request: Request) -> tuple[Caller, dict[str, object]]:
    """Return who calls and the JSON of the request, whose key may stand in it.

    Raises:
        UnauthorizedError, PermissionDeniedError, RateLimitError: see ``authorise``.
        FormatError, PayloadTooLargeError: see ``json_of``.
    """
    sent: SentKeys = request.scope.get(KEYS, SentKeys())
    if sent.values and context_of(request).config.has_keys:
        await authorise(request, "infer")  # nothing is read for a key that is none
    body = await json_of(request)
    key = body.get("api_key")
    caller = await authorise(request, "infer", body_key=key if isinstance(key, str) else None)
    return caller, dict(body)
