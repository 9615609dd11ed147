"""One inference for a Roboflow client: from the name of a model to the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import Response

from openkeypoints.engine import Call, Loaded
from openkeypoints.errors import InputError, OpenKeypointsError, OverloadedError
from openkeypoints.models import Model
from openkeypoints.server.config import id_fault
from openkeypoints.server.context import Caller, context_of, infer, unless_gone
from openkeypoints.server.surfaces.roboflow_answers import (
    MODEL_NAME,
    headers,
    infer_answer,
    json_answer,
    seconds,
)
from openkeypoints.server.surfaces.roboflow_bodies import Picture
from openkeypoints.server.surfaces.roboflow_params import Wanted


@dataclass(frozen=True, slots=True)
class Ready:
    """A model that can be asked.

    Attributes:
        id: of the engine.
        loaded: the model.
        cold: this request waited for its loading.
    """

    id: str
    loaded: Loaded
    cold: bool

    @property
    def model(self) -> Model:
        """The model."""
        return self.loaded.model


def resolve(request: Request, name: str, caller: Caller, *, add: bool = False) -> str:
    """Return the engine's id of a model that a client names.

    Args:
        request: that names it.
        name: as the client spells it.
        caller: who asks.
        add: serve it from now on, as far as the caller may decide this.

    Raises:
        InputError: it has more than two segments.
        UnknownModelError: there is none of this name, or not for this caller.
    """
    if name.strip("/").count("/") > 1:
        raise InputError("A model id has at most two segments, PROJECT/VERSION.")
    if id_fault(name.strip("/")) is None:
        request.scope[MODEL_NAME] = name.strip("/")
    catalogue = context_of(request).catalogue
    return catalogue.add(name, caller) if add else catalogue.resolve(name, caller)


async def ready(request: Request, model_id: str) -> Ready:
    """Return a model, loaded first where it is not there; the client waits until its deadline.

    Raises:
        OverloadedError: it was not loaded in time.
        OpenKeypointsError: it cannot be loaded.
    """
    context = context_of(request)
    loaded = context.engine.loaded_now(model_id)
    if loaded is not None:
        return Ready(model_id, loaded, cold=False)
    loading = context.engine.load(model_id, context.engine.limits.deadline_s)
    try:
        loaded = await unless_gone(request, loading)
    except OverloadedError:
        raise
    except OpenKeypointsError:
        context.metrics.error(model_id)
        raise
    return Ready(model_id, loaded, cold=True)


async def answer_pictures(
    request: Request, model: Ready, pictures: Sequence[Picture], wanted: Wanted, *, many: bool
) -> Response:
    """Return the answer to an inference.

    Args:
        request: whose caller was authorised and whose body was read.
        model: that is asked.
        pictures: of one call.
        wanted: by the client.
        many: the pictures came as a list.

    Raises:
        OpenKeypointsError: see ``Engine.infer``.
    """
    asked = replace(
        wanted.request,
        class_filter=_known(wanted.request.class_filter, model.model),
        options=wanted.request.options.only(model.model.honours),
    )
    call = Call(model.id, tuple(pictures), asked, orient=wanted.orient)
    answer = await infer(request, call)
    spent = seconds(answer)
    body = await infer_answer(answer, model.model, wanted, many=many, seconds=spent)
    cold = model.loaded if model.cold or answer.cold_start else None
    if isinstance(body, bytes):
        told = headers(request, cold=cold, seconds=spent)
        return Response(body, headers=told, media_type="image/jpeg")
    return json_answer(request, body, cold=cold, seconds=spent)


def _known(classes: Sequence[str | int] | None, model: Model) -> tuple[str | int, ...] | None:
    """Return the wanted classes that the model has: nothing is ever found of the others."""
    if classes is None:
        return None
    return tuple(name for name in classes if name in model.class_names)
