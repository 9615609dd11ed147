"""Answers of the Roboflow routes: their JSON, their pictures, their errors and headers."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from openkeypoints.drawing import DrawStyle, draw
from openkeypoints.engine import Answer, Loaded
from openkeypoints.errors import FormatError, OpenKeypointsError, UnauthorizedError
from openkeypoints.formats import roboflow
from openkeypoints.images import encode_image
from openkeypoints.models import Model
from openkeypoints.results import Image, Prediction
from openkeypoints.server.answers import json_bytes
from openkeypoints.server.context import header
from openkeypoints.server.surfaces.roboflow_params import Wanted

MODEL_NAME = "okp.roboflow_model"
"""Entry of a request's scope: the name of the model as the client spelled it."""
_STAGES = ("prepare", "run", "finish")
_QUANTIZATION = {"f32": "fp32"}
_EXECUTION_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_LINE_WIDTH = 2.4
"""Pixels of a line in a picture of 640 pixels at the size 1."""
_REFERENCE_SIDE = 640


def json_answer(
    request: Request,
    body: Any,
    *,
    status: int = 200,
    cold: Loaded | None = None,
    seconds: float | None = None,
) -> Response:
    """Return a JSON answer with the headers that all Roboflow routes have.

    Args:
        request: that is answered.
        body: what becomes the JSON.
        status: of the answer.
        cold: the model, if this request had to wait for its loading.
        seconds: that the model took.
    """
    told = headers(request, cold=cold, seconds=seconds)
    return Response(json_bytes(body), status, told, media_type="application/json")


def headers(
    request: Request, *, cold: Loaded | None = None, seconds: float | None = None
) -> dict[str, str]:
    """Return the headers that tell which model answered, whether it was there, and its time."""
    found = {
        "x-inference-engine": "openkeypoints",
        "x-model-cold-start": "false" if cold is None else "true",
        "x-model-cold-start-count": "0" if cold is None else "1",
    }
    name = request.scope.get(MODEL_NAME)
    if name is not None:
        found["x-model-id"] = name
    if cold is not None:
        found["x-model-load-time"] = f"{cold.load_s:.6f}"
        found["x-model-load-details"] = json.dumps([{"m": name, "t": round(cold.load_s, 6)}])
    execution = header(request, b"execution_id") or ""
    if _EXECUTION_ID.fullmatch(execution):
        found["execution_id"] = execution
    if seconds is not None:
        found["x-processing-time"] = f"{seconds:.6f}"
    return found


def render_error(error: OpenKeypointsError, request: Request) -> Response:
    """Return an error in the shape that Roboflow's server has for it."""
    status = error.http_status
    body: dict[str, Any] = {"message": str(error)}
    if isinstance(error, FormatError):
        unnamed = [{"type": "value_error", "loc": ["body"], "msg": str(error)}]
        body = {"detail": getattr(error, "details", unnamed)}
    elif isinstance(error, UnauthorizedError):
        body = {"status": status, "message": str(error)}
    answer = json_answer(request, body, status=status)
    if isinstance(error, UnauthorizedError):
        answer.headers["www-authenticate"] = "Bearer"
    return answer


async def infer_answer(
    answer: Answer, model: Model, wanted: Wanted, *, many: bool, seconds: float
) -> bytes | list[dict[str, Any]] | dict[str, Any]:
    """Return what an inference is answered with: a JPEG file, an object, or a list of them.

    Args:
        answer: of the engine.
        model: that answered.
        wanted: by the client.
        many: the pictures came as a list.
        seconds: that the model took.
    """
    found = [p[:0] if wanted.nothing else p for p in answer.predictions]
    pictures: list[bytes] = []
    if wanted.picture:  # drawing and writing a large picture takes tens of milliseconds
        pictures = await asyncio.to_thread(_pictures, answer.images, found, wanted)
    if wanted.bare:
        return pictures[0]
    if any(p.masks is not None for p in found):
        rows = await asyncio.to_thread(lambda: [roboflow.dump(p) for p in found])
    else:
        rows = [roboflow.dump(p) for p in found]
    head = {
        "inference_id": wanted.inference_id or roboflow.uuid_of(secrets.token_hex(16)),
        "time": seconds,
        "resolved_model": resolved_model(model),
    }
    bodies = [{**head, **row} for row in rows]
    for body, picture in zip(bodies, pictures, strict=bool(pictures)):
        body["visualization"] = base64.b64encode(picture).decode()
    return bodies if many else bodies[0]


def seconds(answer: Answer) -> float:
    """Return how long preparing, running and finishing took, of all pictures together."""
    timings: Sequence[Mapping[str, float]] = [p.timings for p in answer.predictions]
    return sum(times.get(stage, 0.0) for times in timings for stage in _STAGES) / 1e3


def resolved_model(model: Model) -> dict[str, str]:
    """Return what answers say of the model behind the name."""
    precision = _QUANTIZATION.get(model.precision, model.precision)
    return {
        "model_id": model.id,
        "model_package_id": f"{model.runtime}-{precision}",
        "backend": model.runtime,
        "quantization": precision,
    }


def _pictures(images: Sequence[Image], found: Sequence[Prediction], wanted: Wanted) -> list[bytes]:
    return [
        encode_image(_drawn(image, prediction, wanted))
        for image, prediction in zip(images, found, strict=True)
    ]


def _drawn(image: Image, prediction: Prediction, wanted: Wanted) -> Image:
    # Lines follow the size of the picture; a stroke that is thicker than these counts.
    own = _LINE_WIDTH * max(image.shape[:2]) / _REFERENCE_SIDE
    style = DrawStyle(scores=wanted.labels, size=max(1.0, wanted.stroke / own))
    return draw(image, prediction, color="rgb", style=style)
