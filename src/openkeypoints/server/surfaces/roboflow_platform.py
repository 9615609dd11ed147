"""The look-ups by which the ``roboflow`` package finds its way from a key to a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from openkeypoints.errors import NotFoundError
from openkeypoints.models import Model, list_models
from openkeypoints.server.config import ServerConfig
from openkeypoints.server.context import Caller, Context, authorise, context_of
from openkeypoints.server.routing import surface_route
from openkeypoints.server.served import skeletons_block
from openkeypoints.server.surfaces.roboflow_answers import json_answer, render_error
from openkeypoints.server.surfaces.roboflow_bodies import picture_of
from openkeypoints.server.surfaces.roboflow_inference import (
    Ready,
    answer_pictures,
    ready,
    resolve,
)
from openkeypoints.server.surfaces.roboflow_params import from_query
from openkeypoints.server.surfaces.roboflow_schema import LOOKUP_RESPONSES, path_parameters

_CREATED = 1_700_000_000.0
"""Models of a server have no birthday that anybody knows, and the package wants a number."""
_VERSION = "/{project}/{version}"
_COLOR = "#56b4e9"
_Route = surface_route(render_error)


class BodylessRoute(_Route):  # type: ignore[misc, valid-type]
    """A route of requests without a body: with one, ``POST /`` is another surface's."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match the path, the method, and the absence of a body."""
        headers = dict(scope.get("headers", ()))
        has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        return (Match.NONE, {}) if has_body else super().matches(scope)


def router(config: ServerConfig) -> APIRouter:
    """Return the routes, all but the first below the name of the server's workspace."""
    routes = APIRouter()
    first = APIRouter(route_class=BodylessRoute)
    # Described with the other POST /, the one that takes a picture.
    first.add_api_route("/", _whose_key, methods=["POST"], include_in_schema=False)
    routes.routes.extend(first.routes)
    below = APIRouter(route_class=_Route, tags=["Roboflow"])
    for path, handle, summary in (
        ("", _workspace, "The projects: every model that is served"),
        ("/{project}", _project, "The versions of a model"),
        (_VERSION, _version, "One version of a model"),
        (f"{_VERSION}/v2/trainings", _trainings, "The trainings of a version: one"),
        (f"{_VERSION}/v2/trainings/get", _training, "The training of a version"),
    ):
        below.add_api_route(
            f"/{config.workspace}{path}",
            handle,
            methods=["GET"],
            summary=summary,
            responses=LOOKUP_RESPONSES,
            openapi_extra=path_parameters(path),
        )
    routes.routes.extend(below.routes)
    return routes


async def _whose_key(request: Request) -> Response:
    """Tell the name of the workspace."""
    await authorise(request, "infer")
    workspace = context_of(request).config.workspace
    return json_answer(request, {"welcome": "OpenKeypoints", "workspace": workspace})


async def _workspace(request: Request) -> Response:
    """List the models that are served as projects."""
    await authorise(request, "infer")
    context = context_of(request)
    workspace = context.config.workspace
    projects = [
        _project_entry(context, project, _model_of(context, project, versions[0]), len(versions))
        for project, versions in _projects(context).items()
    ]
    body = {"name": workspace, "url": workspace, "members": 1, "projects": projects}
    return json_answer(request, {"workspace": body})


async def _project(request: Request) -> Response:
    """Describe a model; with ``image=`` it is the inference of a model of this name."""
    caller = await authorise(request, "infer")
    context = context_of(request)
    project = str(request.path_params["project"])
    if request.query_params.get("image"):
        return await _infer(request, f"{context.config.workspace}/{project}", caller)
    versions = _projects(context).get(project) or ["1"]
    found = [await _loaded(request, project, version, caller) for version in versions]
    body = {
        "workspace": {"name": context.config.workspace, "url": context.config.workspace},
        "project": _project_entry(context, project, found[0].model, len(versions)),
        "versions": [
            _version_entry(request, project, version, ready_model.model)
            for version, ready_model in zip(versions, found, strict=True)
        ],
    }
    return json_answer(request, body)


async def _version(request: Request) -> Response:
    """Describe one version of a model, with its skeletons."""
    caller = await authorise(request, "infer")
    project, version = _named(request)
    model = (await _loaded(request, project, version, caller)).model
    context = context_of(request)
    body = {
        "project": _project_entry(context, project, model, 1),
        "version": _version_entry(request, project, version, model),
        "skeletons": skeletons_block(model),
    }
    return json_answer(request, body)


async def _trainings(request: Request) -> Response:
    """List the one training that a version has."""
    caller = await authorise(request, "infer")
    project, version = _named(request)
    model = (await _loaded(request, project, version, caller)).model
    row = {
        "id": _training_id(project, version),
        "versionId": version,
        "status": "finished",
        "modelType": model.id,
        "modelIds": [f"{project}/{version}"],
    }
    return json_answer(request, {"trainings": [row]})


async def _training(request: Request) -> Response:
    """Describe the training of a version."""
    caller = await authorise(request, "infer")
    project, version = _named(request)
    asked = request.query_params.get("trainingId")
    if asked not in (None, _training_id(project, version)):
        raise NotFoundError("There is no such training: a version has the one that is listed.")
    model = (await _loaded(request, project, version, caller)).model
    row = {"modelId": f"{project}/{version}", "modelType": model.id, "metrics": {}}
    body = {
        "trainingId": _training_id(project, version),
        "status": "finished",
        "modelType": model.id,
        "modelCount": 1,
        "models": [row],
    }
    return json_answer(request, body)


async def _infer(request: Request, name: str, caller: Caller) -> Response:
    wanted = from_query(request.query_params)
    model_id = resolve(request, name, caller)
    picture = await picture_of(request)
    model = await ready(request, model_id)
    return await answer_pictures(request, model, [picture], wanted, many=False)


def _named(request: Request) -> tuple[str, str]:
    return str(request.path_params["project"]), str(request.path_params["version"])


async def _loaded(request: Request, project: str, version: str, caller: Caller) -> Ready:
    return await ready(request, resolve(request, f"{project}/{version}", caller))


def _projects(context: Context) -> dict[str, list[str]]:
    """Return the numbered versions of every project that is served, by its name."""
    found: dict[str, list[str]] = {}
    for name in _names(context):
        project, _, version = name.partition("/")
        if version.isdecimal() and version not in found.setdefault(project, []):
            found[project].append(version)
    return {project: sorted(versions, key=int) for project, versions in found.items() if versions}


def _names(context: Context) -> Iterator[str]:
    """Yield what the served models are called, ids first."""
    catalogue = context.catalogue
    yield from catalogue.names()
    aliases = {row.id: row.aliases for row in list_models()}
    for model_id in catalogue.ids():
        yield from (n for n in aliases.get(model_id, ()) if catalogue.known(n) == model_id)
        yield from catalogue.requested(model_id)


def _model_of(context: Context, project: str, version: str) -> Model | None:
    model_id = context.catalogue.known(f"{project}/{version}")
    loaded = context.engine.loaded().get(model_id)
    return None if loaded is None else loaded.model


def _project_entry(
    context: Context, project: str, model: Model | None, versions: int
) -> Mapping[str, Any]:
    names = () if model is None else model.class_names
    return {
        "id": f"{context.config.workspace}/{project}",
        "name": project,
        "type": "keypoint-detection" if model is None else model.task,
        "annotation": names[0] if names else "object",
        "classes": dict.fromkeys(names, 0),
        "colors": dict.fromkeys(names, _COLOR),
        "created": _CREATED,
        "updated": _CREATED,
        "images": 0,
        "public": False,
        "multilabel": False,
        "splits": {"train": 0, "valid": 0, "test": 0},
        "unannotated": 0,
        "versions": versions,
    }


def _version_entry(request: Request, project: str, version: str, model: Model) -> dict[str, Any]:
    workspace = context_of(request).config.workspace
    name = f"{project}/{version}"
    return {
        "id": f"{workspace}/{name}",
        "name": model.id,
        "created": _CREATED,
        "images": 0,
        "augmentation": {},
        "preprocessing": {"auto-orient": {"enabled": True}},
        "splits": {"train": 0, "valid": 0, "test": 0},
        "exports": [],
        "model": {"id": name, "endpoint": str(request.base_url) + name},
        "skeletons": skeletons_block(model),
    }


def _training_id(project: str, version: str) -> str:
    return f"{project}-{version}"
