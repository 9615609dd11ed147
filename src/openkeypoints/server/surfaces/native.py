"""Our own routes: which models there are, what each finds, and its predictions without loss."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from openkeypoints.engine import Call, Loaded
from openkeypoints.errors import FormatError, InputError, OpenKeypointsError
from openkeypoints.formats import dump
from openkeypoints.formats.openkeypoints import dump_arrays
from openkeypoints.models import Model, Variant
from openkeypoints.models import Request as ModelRequest
from openkeypoints.results import Prediction
from openkeypoints.server.answers import json_response
from openkeypoints.server.arguments import Arguments
from openkeypoints.server.context import (
    Context,
    authorise,
    context_of,
    header,
    infer,
    parse_form,
    parse_json,
    query_of,
    read_body,
    refuse_if_full,
    unless_gone,
)
from openkeypoints.server.routing import surface_route
from openkeypoints.server.served import skeletons_block
from openkeypoints.server.submitted import picture_of_bytes, picture_of_text
from openkeypoints.server.surfaces.native_documents import (
    CLASSES,
    CONFIDENCE,
    FILES,
    FORMAT,
    IOU,
    KEYPOINT_CONFIDENCE,
    LIST_ROUTE,
    MAX_DETECTIONS,
    MODEL_ROUTE,
    PREDICT_ROUTE,
)

_NO_PICTURE = (
    "No picture was sent: send its bytes as the body, a form with the file `image`, or JSON "
    '{"image": BASE64}.'
)


def router() -> APIRouter:
    """Return the routes below ``/v1/models``."""
    found = APIRouter(route_class=surface_route(render_error), tags=["Models"])
    path = "/v1/models/{model:path}"
    found.add_api_route("/v1/models", _models, methods=["GET"], **LIST_ROUTE)
    found.add_api_route(f"{path}/predict", _predict, methods=["POST"], **PREDICT_ROUTE)
    found.add_api_route(path, _model, methods=["GET"], **MODEL_ROUTE)
    return found


def render_error(error: OpenKeypointsError, request: Request) -> Response:  # noqa: ARG001
    """Return an error as these routes show it."""
    status = 400 if isinstance(error, FormatError) else error.http_status
    return json_response({"error": str(error)}, status)


# ------------------------------------------------------------------------------------- models


async def _models(request: Request) -> Response:
    """List the models that are served, then the ids that are loaded when somebody asks for them."""
    await authorise(request, "infer")
    context = context_of(request)
    catalogue, loaded = context.catalogue, context.engine.loaded()
    ids = dict.fromkeys((*catalogue.ids(), *loaded, *catalogue.loadable()))
    rows = [_row(context, model_id, loaded.get(model_id)) for model_id in ids]
    return json_response({"models": rows, "default": catalogue.pinned[0]})


def _row(context: Context, model_id: str, loaded: Loaded | None) -> dict[str, Any]:
    known: Variant | Model | None = context.catalogue.row(model_id)
    if known is None and loaded is not None:
        known = loaded.model
    return {
        "id": model_id,
        "served": model_id in context.catalogue.ids(),
        "loaded": loaded is not None,
        "task": None if known is None else known.task,
        "licence": None if known is None else known.licence,
    }


async def _model(request: Request) -> Response:
    """Describe a model, and load it if it is not there yet: its classes, skeletons, thresholds."""
    caller = await authorise(request, "infer")
    context = context_of(request)
    model_id = context.catalogue.resolve(request.path_params["model"], caller)
    loading = context.engine.load(model_id, context.engine.limits.deadline_s)
    loaded = await unless_gone(request, loading)
    return json_response({**_row(context, model_id, loaded), **_described(loaded.model)})


def _described(model: Model) -> dict[str, Any]:
    return {
        "class_names": list(model.class_names),
        "skeletons": skeletons_block(model),
        "input_size": list(model.input_size),
        "confidence": model.description.confidence,
        "iou_threshold": model.description.iou_threshold,
        "runtime": model.runtime,
        "device": model.device,
        "precision": model.precision,
    }


# ------------------------------------------------------------------------------------- predict


async def _predict(request: Request) -> Response:
    """Find instances on one picture.

    The body is the picture itself, a form with the file `image`, or JSON whose `image` is base64,
    a data URI or, where the server fetches any, an https address.
    """
    caller = await authorise(request, "infer")
    model_id = context_of(request).catalogue.resolve(request.path_params["model"], caller)
    refuse_if_full(request, model_id)
    arguments = Arguments(query_of(request))
    written = FORMAT.read(arguments, "openkeypoints")
    asked = ModelRequest(
        confidence=CONFIDENCE.read(arguments, None),
        iou_threshold=IOU.read(arguments, None),
        keypoint_confidence=KEYPOINT_CONFIDENCE.read(arguments, 0.0),
        max_detections=MAX_DETECTIONS.read(arguments, 300),
        class_filter=_classes(request),
    )
    picture = await _picture(request)  # the rest is checked before it is read
    answer = await infer(request, Call(model_id, (picture,), asked))
    prediction = answer.predictions[0]
    if prediction.masks is None:
        found = _dumped(prediction, written)
    else:  # run lengths and outlines of masks take their time
        found = await asyncio.to_thread(_dumped, prediction, written)
    return json_response(found)


def _dumped(prediction: Prediction, written: str) -> Any:
    return dump_arrays(prediction) if written == "openkeypoints" else dump(prediction, written)


def _classes(request: Request) -> tuple[str | int, ...] | None:
    """Return the classes that the query names: separated by commas, or each by itself."""
    sent = query_of(request).getlist(CLASSES)
    names = [name.strip() for text in sent for name in text.split(",") if name.strip()]
    # At most so many digits make an id; more are the name of no class.
    ids = [int(n) if n.isascii() and n.isdecimal() and len(n) < 10 else n for n in names]
    return tuple(ids) or None


async def _picture(request: Request) -> bytes:
    context = context_of(request)
    body = await read_body(request)
    content_type = header(request, b"content-type") or ""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        sent = parse_json(body, context)
        text = sent.get("image") if isinstance(sent, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise InputError(_NO_PICTURE)
        return await picture_of_text(request, text.strip())
    if kind == "multipart/form-data":
        form = parse_form(body, content_type, context)
        files = [file for file in form.files if file.name in FILES]
        if len(files) != 1:
            raise InputError(_NO_PICTURE)
        return picture_of_bytes(request, files[0].content)
    if not body:
        raise InputError(_NO_PICTURE)
    return picture_of_bytes(request, body)  # whatever its type: `curl --data-binary` says a form
