"""Roboflow's legacy route: a picture to ``/PROJECT/VERSION``, everything else in the query."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response

from openkeypoints.errors import InputError
from openkeypoints.server.config import RESERVED_SEGMENTS
from openkeypoints.server.context import authorise, query_of, refuse_if_full
from openkeypoints.server.routing import surface_route
from openkeypoints.server.surfaces.roboflow_answers import render_error
from openkeypoints.server.surfaces.roboflow_bodies import picture_of
from openkeypoints.server.surfaces.roboflow_inference import answer_pictures, ready, resolve
from openkeypoints.server.surfaces.roboflow_params import from_query
from openkeypoints.server.surfaces.roboflow_schema import LEGACY_GET, LEGACY_POST, RESPONSES


class FirstSegment(StringConvertor):
    """Matches the first segment of a model id: anything but the beginnings of other routes."""

    regex = rf"(?!(?:{'|'.join(sorted(RESERVED_SEGMENTS))})(?:/|$))[^/]+"


register_url_convertor("first_segment", FirstSegment())


def router() -> APIRouter:
    """Return the routes whose path is the id of a model, to be mounted after all others."""
    routes = APIRouter(route_class=surface_route(render_error), tags=["Roboflow"])
    for described, path in (
        ("/{project}/{version}", "/{project:first_segment}/{version}"),
        ("/{model}", "/{model:first_segment}"),
    ):
        for spelling in (path, f"{path}/"):
            for method, handle, extra in (
                ("POST", _post, LEGACY_POST),
                ("GET", _get, LEGACY_GET),
            ):
                routes.add_api_route(
                    spelling,
                    handle,
                    methods=[method],
                    name=f"roboflow_legacy_{method.lower()}",
                    summary="Find keypoints in a picture",
                    responses=RESPONSES,
                    openapi_extra=extra[described],
                    include_in_schema=spelling == path,
                )
    return routes


async def _post(request: Request) -> Response:
    """Answer a picture in the body, or at the address ``image``, with what the model finds."""
    return await _infer(request)


async def _get(request: Request) -> Response:
    """Answer the picture at the address ``image`` with what the model finds."""
    return await _infer(request)


async def _infer(request: Request) -> Response:
    caller = await authorise(request, "infer")
    wanted = from_query(dict(query_of(request)))
    model_id = resolve(request, name_of(request), caller)
    if request.method == "GET" and not query_of(request).get("image"):
        raise InputError("A GET needs the address of a picture, ?image=; pictures are POSTed.")
    refuse_if_full(request, model_id)
    picture = await picture_of(request)
    model = await ready(request, model_id)
    return await answer_pictures(request, model, [picture], wanted, many=False)


def name_of(request: Request) -> str:
    """Return the name of the model that the path of a legacy request is."""
    parts = request.path_params
    return str(parts["model"] if "model" in parts else f"{parts['project']}/{parts['version']}")
