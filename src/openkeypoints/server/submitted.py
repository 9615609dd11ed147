"""The one picture of a request, however it came: a file, a raw body, base64 text or an address."""

from __future__ import annotations

from starlette.requests import Request

from openkeypoints.errors import ImageDecodeError, ImageTooLargeError, InputError
from openkeypoints.image_files import film_format, is_media
from openkeypoints.images import decode_base64
from openkeypoints.server.context import context_of, timing, unless_gone

_HEAD = 1024
_ADDRESS_WITHIN = 32
"""Signs of a text in which an address has its ``://``; base64 never has one."""


class VideoError(InputError):
    """A film or a sound was sent where a picture is asked for."""

    http_status = 415


def picture_of_bytes(request: Request, data: bytes) -> bytes:
    """Return the bytes of a picture if they may be one; they are decoded later, by the engine.

    Args:
        request: whose server has the limits.
        data: an encoded picture, or base64 of one.

    Raises:
        ImageTooLargeError: it has more bytes than a picture may have.
        VideoError: it is a video.
    """
    head, size = data[:_HEAD], len(data)
    if (decoded := _from_base64(head)) is not None:
        head, size = decoded, size * 3 // 4
    if size > (limit := context_of(request).config.limits.picture_bytes):
        raise ImageTooLargeError(
            f"The picture has more than {limit} bytes, which is all it may: make it smaller."
        )
    if (film := film_format(head)) is not None:
        raise VideoError(
            f"This is a video or sound ({film}), and this route takes one picture: send single "
            "frames, or run `okp predict` on the file."
        )
    return data


async def picture_of_text(request: Request, text: str) -> bytes:
    """Return the picture at an address, as far as the operator lets it, or in base64 text.

    Args:
        request: whose body was read.
        text: an address, base64, or a data URI of it. It is never the name of a file.

    Raises:
        ForbiddenAddressError: the address is not fetched, or did not deliver.
        ImageDecodeError: the text is neither.
        ImageTooLargeError, VideoError: see :func:`picture_of_bytes`.
    """
    if "://" in text[:_ADDRESS_WITHIN]:
        context = context_of(request)
        began = context.clock()
        data = await unless_gone(request, context.pictures.fetch(text))
        timing(request, "fetch", (context.clock() - began) * 1e3)
        return picture_of_bytes(request, data)
    data = text.replace(" ", "+").encode()  # a form that was not escaped turns each + into a blank
    head = _from_base64(data[:_HEAD])
    if head is None or not is_media(head):
        raise ImageDecodeError(
            "The text for the picture is neither an https address nor base64 of a picture.",
            "unreadable",
        )
    return picture_of_bytes(request, data)


def _from_base64(head: bytes) -> bytes | None:
    """Return what the beginning of base64, or of a data URI of it, holds; None if it is neither."""
    if not head.isascii():
        return None
    text = head.decode()
    if text[:5].lower() == "data:":
        kind, comma, text = text.partition(",")
        if not comma or not kind.lower().endswith(";base64"):
            return None
    text = "".join(text.split()).rstrip("=")
    try:
        return decode_base64(text[: len(text) // 4 * 4])
    except ValueError:
        return None
