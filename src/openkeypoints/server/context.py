"""What a surface works with: who calls, the body within its limits, and one inference."""

from __future__ import annotations

from starlette.requests import Request

from openkeypoints.engine import Answer, Call
from openkeypoints.errors import OpenKeypointsError, OverloadedError
from openkeypoints.server.auth import authorise
from openkeypoints.server.callers import Caller
from openkeypoints.server.departure import unless_gone
from openkeypoints.server.limits import (
    Form,
    FormFile,
    parse_form,
    parse_json,
    read_body,
    read_form,
    read_json,
)
from openkeypoints.server.state import Context, context_of, header, query_of

__all__ = [
    "Caller",
    "Context",
    "Form",
    "FormFile",
    "authorise",
    "context_of",
    "header",
    "infer",
    "parse_form",
    "parse_json",
    "query_of",
    "read_body",
    "read_form",
    "read_json",
    "refuse_if_full",
    "timing",
    "unless_gone",
]

STAGES = "okp.stages"
"""Entry of a request's scope: milliseconds by stage, which become ``Server-Timing``."""


async def infer(request: Request, call: Call) -> Answer:
    """Run one call, counted and timed; it is cancelled when the client leaves.

    Args:
        request: whose body was read and whose caller was authorised.
        call: what to run.

    Raises:
        ClientDisconnect: the client is gone.
        OpenKeypointsError: see ``Engine.infer``.
    """
    context = context_of(request)
    began = context.clock()
    try:
        answer = await unless_gone(request, context.engine.infer(call))
    except OpenKeypointsError:
        context.metrics.error(call.model_id)
        raise
    first, *others = answer.predictions
    stages: dict[str, float] = {"queue": answer.waited_ms, **first.timings}
    for prediction in others:
        for name, milliseconds in prediction.timings.items():
            stages[name] = stages.get(name, 0.0) + milliseconds
    context.metrics.serve(call.model_id)
    seconds = context.clock() - began
    context.metrics.inference(call.model_id, seconds, len(answer.predictions), stages)
    request.scope.setdefault(STAGES, {}).update(stages)
    return answer


def refuse_if_full(request: Request, model_id: str) -> None:
    """Turn a request away before its body is read, where its model has no room for it.

    Raises:
        OverloadedError: see ``Engine.refuse_if_full``.
    """
    context = context_of(request)
    try:
        context.engine.refuse_if_full(model_id)
    except OverloadedError:
        context.metrics.error(model_id)
        raise


def timing(request: Request, stage: str, milliseconds: float) -> None:
    """Add the time of a stage to the ``Server-Timing`` header of the answer."""
    stages = request.scope.setdefault(STAGES, {})
    stages[stage] = stages.get(stage, 0.0) + milliseconds
