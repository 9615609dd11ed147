"""Reads bodies within limits: raw bytes, JSON and forms."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from openkeypoints.errors import FormatError, OverloadedError, PayloadTooLargeError
from openkeypoints.server.config import Limits
from openkeypoints.server.state import RELEASE, Context, context_of, header

_ESCAPED = 4
"""A form without files may have so many bytes for each of its longest text: escapes take three."""


async def read_body(request: Request, limit: int | None = None) -> bytes:
    """Return the body of a request.

    Args:
        request: whose body was not read before.
        limit: bytes; default: what a body may have at most.

    Raises:
        PayloadTooLargeError: it has more bytes.
        OverloadedError: the server holds as many bodies as it may.
        ClientDisconnect: the client is gone.
    """
    context = context_of(request)
    most = context.config.limits.body_bytes
    limit = most if limit is None else min(limit, most)
    declared = header(request, b"content-length") or ""
    if declared.isdecimal() and int(declared) > limit:
        _too_large(limit)
    held = _Held(context)
    request.scope.setdefault(RELEASE, []).append(held.give_back)
    parts: list[bytes] = []
    receive = request.receive
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if part := message.get("body", b""):
            held.take(len(part))
            if held.bytes > limit:
                _too_large(limit)
            parts.append(bytes(part))  # no copy, but where a server gives another kind
        if not message.get("more_body", False):
            break
    context.metrics.size("request", held.bytes)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit: int) -> NoReturn:
    raise PayloadTooLargeError(f"The request has more than {limit} bytes, which is all it may.")


class _Held:
    """The bytes of one body that count against what all bodies may take."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.bytes = 0

    def take(self, count: int) -> None:
        condition = self._context.condition
        if condition.body_bytes + count > self._context.config.limits.inflight_bytes:
            self._context.metrics.rejected("memory")
            raise OverloadedError(
                "The server holds as many requests as it can; try again.", 1.0, "inflight"
            )
        condition.body_bytes += count
        self.bytes += count

    def give_back(self) -> None:
        self._context.condition.body_bytes -= self.bytes
        self.bytes = 0


async def read_json(request: Request) -> Any:
    """Return the JSON value of a body.

    Raises:
        FormatError: it is no JSON, or nested deeper than anything that is asked for here.
        PayloadTooLargeError: it has too many bytes or values.
    """
    body = await read_body(request)
    return parse_json(body, context_of(request))


def parse_json(body: bytes, context: Context) -> Any:
    """Return the JSON value of some bytes, within the limits of a server. See :func:`read_json`."""
    limits = context.config.limits
    if sum(map(body.count, (b"{", b"[", b","))) > limits.json_marks:
        raise PayloadTooLargeError("The JSON has more values than any request here needs.")
    try:
        value = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise FormatError("The body is no valid JSON.") from None
    if _depth(value, limits.json_depth) > limits.json_depth:
        raise FormatError(f"The JSON is nested deeper than {limits.json_depth} levels.")
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _depth(value: Any, most: int) -> int:
    """Return how deep a value is nested, or one more than asked about."""
    level, depth = [value], 0
    while level and depth <= most:
        inside = [
            entry
            for box in level
            if isinstance(box, dict | list)
            for entry in (box.values() if isinstance(box, dict) else box)
        ]
        if any(isinstance(box, dict | list) for box in level):
            depth += 1
        level = inside
    return depth


@dataclass(frozen=True, slots=True)
class FormFile:
    """A file of a form."""

    name: str
    filename: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Form:
    """A form: text fields by name (the last of each), and files in their order."""

    fields: dict[str, str] = field(repr=False)
    files: tuple[FormFile, ...] = ()

    def file(self, name: str) -> FormFile | None:
        """Return the first file of a name."""
        return next((file for file in self.files if file.name == name), None)


async def read_form(request: Request) -> Form:
    """Return the form of a body, ``multipart/form-data`` or ``application/x-www-form-urlencoded``.

    Nothing is written to the disk. A body of another type is an empty form.

    Raises:
        FormatError: the body is not what its type says.
        PayloadTooLargeError: too many bytes or parts, or a text field that is too long.
    """
    body = await read_body(request)
    return parse_form(body, header(request, b"content-type") or "", context_of(request))


def parse_form(body: bytes, content_type: str, context: Context) -> Form:
    """Return the form of some bytes, within the limits of a server. See :func:`read_form`."""
    kind, options = parse_options_header(content_type)
    if kind == "application/x-www-form-urlencoded":
        return _url_encoded(body, context)
    if kind != "multipart/form-data":
        return Form({})
    boundary = options.get("boundary", "")
    if not 0 < len(boundary) <= 200:
        raise FormatError("The form has no boundary in its Content-Type.")
    return _multipart(body, boundary, context.config.limits)


def _multipart(body: bytes, boundary: str, limits: Limits) -> Form:
    fields: dict[str, str] = {}
    files: list[FormFile] = []
    count, part, content = 0, MultipartSegment([]), b""
    try:
        # Names that are no UTF-8 are no reason to refuse a picture: they are decoded below.
        parser = PushMultipartParser(boundary, header_charset="latin-1")
        for event in parser.parse(body):
            if isinstance(event, MultipartSegment):
                count, part, content = count + 1, event, b""
                if count > limits.parts:
                    raise PayloadTooLargeError(f"The form has more than {limits.parts} parts.")
                if not part.name:
                    raise FormatError("A part of the form has no name.")
            elif event is not None:
                content = event  # all of it: the parser has the whole body
            elif part.filename is None:
                fields[_utf8(part.name)] = _text(content, limits)
            else:
                files.append(FormFile(_utf8(part.name), _utf8(part.filename), content))
        parser.close()
    except MultipartError:
        raise FormatError(
            "The form cannot be read; it is no multipart/form-data, or cut off."
        ) from None
    return Form(fields, tuple(files))


def _utf8(name: str) -> str:
    return name.encode("latin-1").decode("utf-8", "replace")


def _text(content: bytes, limits: Limits) -> str:
    if len(content) > limits.text_bytes:
        raise _long_text(limits)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise FormatError("A text field of the form is no UTF-8.") from None


def _url_encoded(body: bytes, context: Context) -> Form:
    limits = context.config.limits
    if len(body) > _ESCAPED * limits.text_bytes:  # before its escapes are read, which is slow
        raise _long_text(limits)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=limits.parts)
    except UnicodeDecodeError:
        raise FormatError("The form is no UTF-8.") from None
    except ValueError:
        raise PayloadTooLargeError(f"The form has more than {limits.parts} fields.") from None
    if any(len(text) > limits.text_bytes for pair in pairs for text in pair):
        raise _long_text(limits)
    return Form(dict(pairs))


def _long_text(limits: Limits) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"A text field of the form has more than {limits.text_bytes} bytes."
    )
