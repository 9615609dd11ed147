"""Reads what clients of Ultralytics' services send: one picture and its arguments, in any words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from openkeypoints.errors import InputError
from openkeypoints.formats.ultralytics import DECIMALS
from openkeypoints.models import Request as ModelRequest
from openkeypoints.server.arguments import Arguments, Flag, Number, Whole
from openkeypoints.server.context import Form, query_of, read_form
from openkeypoints.server.submitted import picture_of_bytes, picture_of_text

FILES = ("image", "file")
TEXTS = ("url", "source")
MODEL = ("model",)
CONFIDENCE = Number(("confidence", "conf"), 0.01, 1.0, "Lowest score of an instance.")
IOU = Number(("iou",), 0.0, 0.95, "Overlap above which the weaker of two boxes is dropped.")
SIZE = Whole(
    ("size", "imgsz"),
    32,
    1280,
    "Side of the network's input in pixels, rounded up to a multiple of its stride; default: the "
    "model's own. Models whose input size is fixed leave it out of account.",
)
NORMALIZE = Flag(("normalize",), "Divide coordinates by the width and height of the picture.")
PLACES = Whole(("decimals",), 0, 10, "Digits after the point of all numbers.")
STRIDE = Whole(("vid_stride",), 1, 10_000, "Of videos, which are not taken: it changes nothing.")
DEFAULT_CONFIDENCE = 0.25


@dataclass(frozen=True, slots=True)
class Asked:
    """One request in our words.

    Attributes:
        picture: encoded bytes.
        model: as the client names it, None where it names none.
        request: of the model, without the size.
        size: side of the network's input, None = the model's own.
        normalize: divide coordinates by the picture's size.
        decimals: digits after the point.
    """

    picture: bytes
    model: str | None
    request: ModelRequest
    size: int | None
    normalize: bool
    decimals: int


async def read_asked(request: Request, *, iou_threshold: float, missing: str) -> Asked:
    """Return what a form asks for, or the address where the form is silent.

    Args:
        request: whose body was not read before.
        iou_threshold: where none was sent.
        missing: what to say where there is no picture.

    Raises:
        InputError: an argument is out of its range, or there is not exactly one picture.
        OpenKeypointsError: see ``read_form`` and ``picture_of_text``.
    """
    form = await read_form(request)
    arguments = Arguments(form.fields, query_of(request))
    STRIDE.read(arguments, 1)
    named = arguments.text(MODEL)
    return Asked(
        request=ModelRequest(
            confidence=CONFIDENCE.read(arguments, DEFAULT_CONFIDENCE),
            iou_threshold=IOU.read(arguments, iou_threshold),
        ),
        size=SIZE.read(arguments, None),
        normalize=NORMALIZE.read(arguments, default=False),
        decimals=PLACES.read(arguments, DECIMALS),
        model=model_name(named[1]) if named is not None and named[1] else None,
        picture=await _picture(request, form, arguments, missing=missing),
    )


def model_name(text: str) -> str:
    """Return the id in the field ``model``: it holds one, or the address of a model's page."""
    if "://" not in text:
        return text
    path = text.partition("://")[2].partition("?")[0].partition("#")[0]
    return path.rstrip("/").rpartition("/")[2]


async def _picture(request: Request, form: Form, arguments: Arguments, *, missing: str) -> bytes:
    # A browser sends an empty file without a name for a field that nobody filled in.
    files = [f for f in form.files if f.name in FILES and (f.content or f.filename)]
    sent = arguments.text(TEXTS)
    text = sent[1] if sent is not None else ""
    if len(files) + bool(text) > 1:
        raise InputError("Send one picture in a request: one file, or one address or text.")
    if files:
        return picture_of_bytes(request, files[0].content)
    if not text:
        raise InputError(missing)
    return await picture_of_text(request, text)


def form_fields(*, iou_threshold: float, model: bool) -> dict[str, dict[str, Any]]:
    """Return what OpenAPI says of every field, under each of its names.

    Args:
        iou_threshold: the default of the route.
        model: whether the route reads the field ``model``.
    """
    fields: dict[str, dict[str, Any]] = {
        name: {"type": "string", "format": "binary", "description": "The picture, as a file."}
        for name in FILES
    }
    about = "In place of a file: an https address, if the server fetches any; base64; a data URI."
    fields |= {name: {"type": "string", "description": about} for name in TEXTS}
    for argument, schema in (
        (SIZE, SIZE.schema()),
        (CONFIDENCE, CONFIDENCE.schema(DEFAULT_CONFIDENCE)),
        (IOU, IOU.schema(iou_threshold)),
        (NORMALIZE, NORMALIZE.schema(default=False)),
        (PLACES, PLACES.schema(DECIMALS)),
        (STRIDE, STRIDE.schema(1)),
    ):
        fields |= dict.fromkeys(argument.names, schema)
    if model:
        about = "Id of the model, or the address of its page; default: the first that is served."
        fields["model"] = {"type": "string", "description": about}
    return fields
