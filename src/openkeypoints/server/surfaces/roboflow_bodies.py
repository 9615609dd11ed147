"""Pictures out of the bodies that Roboflow clients send: base64, forms, raw bytes, addresses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from starlette.requests import Request

from openkeypoints.errors import FormatError, ImageDecodeError, ImageTooLargeError, InputError
from openkeypoints.image_files import is_media
from openkeypoints.images import decode_base64, is_base64_picture, swap_red_and_blue
from openkeypoints.results import Image
from openkeypoints.server.context import (
    context_of,
    header,
    parse_form,
    parse_json,
    query_of,
    read_body,
    timing,
    unless_gone,
)
from openkeypoints.server.submitted import picture_of_bytes
from openkeypoints.server.surfaces.roboflow_params import FieldError

Picture = bytes | Image
"""Encoded bytes, or RGB uint8 (H, W, 3)."""
FORM_PART = "file"
_HEAD = 1024
_SMALL = 1 << 19
"""Bytes that are read faster than a thread takes over."""
_KINDS = ("base64", "url", "npy")
_NPY = b"\x93NUMPY"
_NPY_HEADER = re.compile(
    _NPY + rb"\x01\x00..\{'descr': '\|u1', 'fortran_order': False, "
    rb"'shape': \((\d{1,6}), (\d{1,6})(, 3)?\), \} *\n",
    re.DOTALL,
)
Result = TypeVar("Result")


async def picture_of(request: Request) -> Picture:
    """Return the picture of a request on the legacy route.

    Raises:
        InputError: there is none, or it cannot be read.
        ImageTooLargeError, PayloadTooLargeError: it is too large.
        VideoError: it is a video.
        ForbiddenAddressError: its address is not fetched.
    """
    if address := query_of(request).get("image"):
        return await _fetched(request, address)
    content_type = header(request, b"content-type")
    if not content_type:
        raise InputError(
            "The request has no Content-Type and no `image` parameter: send a picture as base64 "
            "or as the part 'file' of a form, or name its address with ?image=."
        )
    kind = query_of(request).get("image_type", "base64").lower()
    if kind not in ("base64", "npy"):
        raise _unknown_kind()
    body = await read_body(request)
    if content_type.lower().startswith("multipart/form-data"):
        body = await _off_loop(_part, body, content_type, request)
    if not body:
        raise ImageDecodeError("The request holds no picture: its body is empty.", "empty_file")
    return await _off_loop(_from_npy if kind == "npy" else _from_bytes, body, request)


async def json_of(request: Request) -> Mapping[str, Any]:
    """Return the JSON object of a request, whatever its Content-Type says.

    Raises:
        FormatError: it is no JSON object.
        PayloadTooLargeError: it is too large.
    """
    body = await read_body(request)
    if not body:
        raise FieldError("missing", ("body",), "Send a JSON object.")
    try:
        value = await _off_loop(parse_json, body, context_of(request))
    except FormatError as error:
        raise FieldError("json_invalid", ("body",), str(error)) from None
    if not isinstance(value, dict):
        raise FieldError("model_attributes_type", ("body",), "Send a JSON object.")
    return value


async def pictures_in(request: Request, value: object) -> tuple[list[Picture], bool]:
    """Return the pictures in the field ``image`` of a JSON body, and whether it was a list.

    Raises:
        FieldError: it has another form.
        InputError: a picture is of a type that is not read, or damaged.
    """
    many = isinstance(value, list)
    entries = value if isinstance(value, list) else [value]
    if not entries:
        raise InputError("`image` is an empty list: send at least one picture.")
    most = context_of(request).engine.limits.max_images
    if len(entries) > most:
        raise InputError(f"`image` lists {len(entries)} pictures: send at most {most} at once.")
    checked = [_kind_and_value(entry, i if many else None) for i, entry in enumerate(entries)]
    return [await _read(request, kind, text) for kind, text in checked], many


def _kind_and_value(entry: object, index: int | None) -> tuple[str, str]:
    where = ("body", "image") if index is None else ("body", "image", index)
    if not isinstance(entry, dict):
        message = "Give an object with type and value, or a list of such objects."
        raise FieldError("model_type", where, message)
    for name in ("type", "value"):
        if name not in entry:
            raise FieldError("missing", (*where, name), "This field is required.")
    if not isinstance(entry["type"], str):
        raise FieldError("string_type", (*where, "type"), "Give a text.")
    kind = entry["type"].lower()
    if kind not in _KINDS:
        raise _unknown_kind()
    if not isinstance(entry["value"], str):
        raise FieldError("string_type", (*where, "value"), "Give a text.")
    return kind, entry["value"]


async def _read(request: Request, kind: str, text: str) -> Picture:
    if kind == "url":
        return await _fetched(request, text)
    body = text.encode("utf-8", "replace")
    if not body:
        raise ImageDecodeError("The picture is an empty text.", "empty_file")
    return await _off_loop(_from_npy if kind == "npy" else _from_bytes, body, request)


async def _fetched(request: Request, address: str) -> bytes:
    context = context_of(request)
    began = context.clock()
    data = await unless_gone(request, context.pictures.fetch(address))
    timing(request, "fetch", (context.clock() - began) * 1e3)
    return picture_of_bytes(request, data)


async def _off_loop(function: Callable[..., Result], body: bytes, *arguments: Any) -> Result:
    """Call a function on some bytes, in a thread where they are many."""
    if len(body) <= _SMALL:
        return function(body, *arguments)
    return await asyncio.to_thread(function, body, *arguments)


def _part(body: bytes, content_type: str, request: Request) -> bytes:
    try:
        form = parse_form(body, content_type, context_of(request))
    except FormatError as error:
        raise InputError(str(error)) from None
    if (file := form.file(FORM_PART)) is not None:
        return file.content
    if (text := form.fields.get(FORM_PART)) is not None:
        return text.encode()
    raise InputError(f"The form has no part {FORM_PART!r}: send the picture under this name.")


def _from_bytes(body: bytes, request: Request) -> bytes:
    """Return the picture in some bytes: as they are, or what their base64 says."""
    plain = is_base64_picture(body) or is_media(body[:_HEAD])  # the engine reads either
    return picture_of_bytes(request, body if plain else _decoded(body))


def _decoded(body: bytes) -> bytes:
    """Return what base64, or a data URI of it, says."""
    if body[:5].lower() == b"data:":
        head, _, body = body.partition(b",")
        if not head.lower().endswith(b";base64"):
            raise ImageDecodeError("A data URI must hold base64.", "unreadable")
    try:
        return decode_base64(body)
    except ValueError:
        raise ImageDecodeError(
            "The picture is neither base64 nor the bytes of a picture file.", "unreadable"
        ) from None


def _from_npy(body: bytes, request: Request) -> Image:
    """Return the array in a ``.npy`` file, or in its base64; its channels are BGR, as OpenCV's.

    NumPy's own reader is not asked: it evaluates the header, and allocates what it says.
    """
    data = body if body.startswith(_NPY) else _decoded(body)
    found = _NPY_HEADER.match(picture_of_bytes(request, data))
    if found is None:
        raise ImageDecodeError(
            "The array is no .npy file of uint8 in the shape (H, W) or (H, W, 3), as numpy.save "
            "writes it.",
            "unsupported_pixels",
        )
    height, width, channels = int(found[1]), int(found[2]), 3 if found[3] else 1
    if height * width * channels != len(data) - found.end() or not height * width:
        raise ImageDecodeError("The array is cut off, or longer than it says.", "truncated")
    if height * width > context_of(request).engine.limits.max_pixels:
        raise ImageTooLargeError(f"The array has {height * width} pixels, which is too many.")
    array = np.frombuffer(data, np.uint8, offset=found.end()).reshape(height, width, channels)
    return np.repeat(array, 3, 2) if channels == 1 else swap_red_and_blue(array)


def _unknown_kind() -> InputError:
    return InputError(
        "This type of picture is not read; types are base64, url and npy (an array that "
        "numpy.save wrote)."
    )
