"""Pictures in and out: whatever a person passes becomes RGB uint8 (H, W, 3), upright."""

from __future__ import annotations

import base64
import binascii
import io
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image as PilImage

from openkeypoints.errors import (
    ImageDecodeError,
    InputError,
    NotFoundError,
)
from openkeypoints.image_files import (
    Image,
    OnSize,
    check_size,
    decode,
    is_media,
    refuse_video,
    rgb_from_gray,
    rgb_upright,
)
from openkeypoints.settings import Settings

Mask = NDArray[np.bool_]
"""The pixels of one instance: (h, w) bool."""
ColorOrder = Literal["bgr", "rgb"]
ImageSource = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | PilImage.Image
) | (NDArray[Any] | Mapping[str, Any])

_HEAD_BYTES = 4096
_MAX_PATH_CHARACTERS = 4096
_BASE64_HEAD = 64
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_STANDARD, _BETWEEN = bytes.maketrans(b"-_", b"+/"), b" \t\r\n\v\f\"'"
_DATA_URI = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
FORMATS_BY_ENDING = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".webp": "webp",
    ".bmp": "bmp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
"""Endings of files -> formats that ``encode_image`` writes."""


def read_image(
    source: ImageSource,
    *,
    color: ColorOrder = "bgr",
    settings: Settings,
    orient: bool = True,
    on_size: OnSize | None = None,
) -> Image:
    """Return any picture that a person may pass as upright RGB.

    EXIF orientation is applied, alpha is dropped (the stored colours stay, nothing is blended),
    16-bit pixels are scaled to 8 bits, and of animations and multi-page files the first frame is
    taken. Files, bytes and PIL images carry their own colour order; ``color`` is for arrays.

    Args:
        source: path, ``http(s)`` URL of the caller's own, ``bytes``, base64 text or data URI,
            binary file object (read from where it stands), PIL image, array (H, W), (H, W, 1) or
            (H, W, 3) uint8, or Roboflow's ``{"type": ..., "value": ...}`` around one of these.
        color: channel order of an (H, W, 3) array, ``"bgr"`` as OpenCV reads or ``"rgb"``.
        settings: limits of pixels, download size and time; offline mode.
        orient: False leaves files, bytes and PIL images as they are stored, not upright.
        on_size: is told the stored width and height of a file before its pixels are decoded; what
            it raises ends the reading.

    Returns:
        RGB uint8 (H, W, 3), C-contiguous. An RGB array comes back as itself, not as a copy.

    Raises:
        InputError: a wrong type, shape or number type, a folder, or a video.
        ImageDecodeError: bytes that are no readable picture; ``code`` says why.
        ImageTooLargeError: more pixels than ``settings.max_pixels``, told from the header.
        NotFoundError: no such file, or the address answers that there is nothing.
        DownloadError: an address did not deliver.
    """
    if color not in ("bgr", "rgb"):
        raise InputError(f"color is {color!r}; it must be 'bgr' or 'rgb'.")
    if isinstance(source, Mapping) and "type" in source:
        source = _unwrapped(source)
    if isinstance(source, np.ndarray):
        return _from_array(source, color)
    if isinstance(source, PilImage.Image):
        check_size(source, "the PIL image", settings.max_pixels)
        return rgb_upright(source, "the PIL image", orient=orient)
    data, name = _read_bytes(source, settings)
    return decode(data, name, settings.max_pixels, orient=orient, on_size=on_size)


def source_name(source: ImageSource) -> str | None:
    """Return the path or address of a picture that has one, without what may be secret in it."""
    if isinstance(source, os.PathLike):
        return os.fspath(source)
    if not isinstance(source, str) or _DATA_URI.match(source[:256]) or _is_base64_media(source):
        return None
    if not _is_url(source):
        return source
    from openkeypoints.urls import shown_url  # noqa: PLC0415

    return shown_url(source)


# ---------------------------------------------------------------- from a source to bytes


def _unwrapped(source: Mapping[str, Any]) -> Any:
    """Return what a ``{"type", "value"}`` object holds; its type decides, nothing is guessed."""
    kind, value = str(source.get("type")).lower(), source.get("value")
    if kind == "base64" and isinstance(value, str | bytes):
        return _from_base64(value)
    is_array = kind in ("numpy", "numpy_object") and isinstance(value, np.ndarray)
    is_url = kind == "url" and isinstance(value, str) and _is_url(value)
    if is_array or is_url or (kind == "pil" and isinstance(value, PilImage.Image)):
        return value
    if kind == "numpy" and isinstance(value, str | bytes):
        raise InputError("pickled arrays are not read: reading one runs its code; pass the array.")
    raise InputError(
        f"a picture of type {kind!r} whose value is a {type(value).__name__} is unknown; types are "
        "base64 (text), url (http or https), pil (a PIL image) and numpy_object (an array)."
    )


def _read_bytes(source: object, settings: Settings) -> tuple[bytes, str]:
    """Return the bytes behind a source, and what to call it in messages."""
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        if is_base64_picture(data):
            return _from_base64(data), "the picture (base64 bytes)"
        return data, "the picture (bytes)"
    if isinstance(source, str):
        return _read_text(source, settings)
    if isinstance(source, os.PathLike):
        return _read_path(Path(source))
    if callable(read := getattr(source, "read", None)):
        return _read_stream(read, "the picture (file object)"), "the picture (file object)"
    raise InputError(
        f"a picture cannot be a {type(source).__module__}.{type(source).__qualname__}; pass a "
        "path, URL, bytes, base64 text, file object, PIL image or numpy array."
    )


def _is_url(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://"))


def _read_text(text: str, settings: Settings) -> tuple[bytes, str]:
    """Tell URL, data URI, base64 and path apart, by their beginnings alone."""
    if _is_url(text):
        # httpx is slow to import, and only URLs need it.
        from openkeypoints.urls import Guard, fetch, shown_url  # noqa: PLC0415

        return fetch(text, guard=Guard.own(), settings=settings), shown_url(text)
    if _DATA_URI.match(text[:256]):
        return _from_base64(text), "the picture (data URI)"
    if text[:5].lower() == "data:":
        raise InputError("a data URI must hold base64: 'data:image/jpeg;base64,...'.")
    if _is_base64_media(text):
        return _from_base64(text), "the picture (base64 text)"
    if not text.strip():
        raise InputError("the text for a picture is empty; pass a path, URL or base64 text.")
    if len(text) > _MAX_PATH_CHARACTERS or "\n" in text:
        raise ImageDecodeError(
            f"the text ({len(text)} characters) is neither a path or URL nor base64 of a picture.",
            "unreadable",
        )
    if scheme := _SCHEME.match(text):
        raise InputError(
            f"addresses of type {scheme[1].lower()}:// hold no single picture; http and https are "
            "fetched, files are passed as paths, cameras and streams go to Model.stream."
        )
    return _read_path(Path(text))


def is_base64_picture(data: bytes) -> bool:
    """Tell whether bytes begin as base64 of a picture, or a data URI, which `read_image` reads."""
    head = data[: 2 * _BASE64_HEAD]
    if not head.isascii():
        return False
    text = head.decode()
    return _DATA_URI.match(text) is not None or _is_base64_media(text)


def _is_base64_media(text: str) -> bool:
    """Tell whether a text begins as base64 of a picture or video does (paths hardly can)."""
    head = "".join(text[: 2 * _BASE64_HEAD].split())[:_BASE64_HEAD]
    if len(head) < _BASE64_HEAD // 2:
        return False
    head = head[: len(head) // 4 * 4]
    try:
        return is_media(decode_base64(head))
    except ValueError:
        return False


def _from_base64(text: str | bytes) -> bytes:
    """Return what base64 text, or a data URI of it, holds."""
    head = text[:256] if isinstance(text, str) else text[:256].decode("latin-1")
    if uri := _DATA_URI.match(head):
        text = text[uri.end() :]
    try:
        return decode_base64(text)
    except ValueError as error:
        raise ImageDecodeError(
            f"the base64 text of a picture is damaged ({error}); encode the file's bytes again.",
            "unreadable",
        ) from None


def decode_base64(text: str | bytes) -> bytes:
    """Return what base64 says: either alphabet, padded or not, with blanks, line breaks or quotes.

    Raises:
        ValueError: it is none.
    """
    data = text.encode("ascii") if isinstance(text, str) else text
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:  # what is plain, as nearly all is, need not be searched for the rest
        plain = data.translate(_STANDARD, _BETWEEN).rstrip(b"=")
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)


def _read_path(path: Path) -> tuple[bytes, str]:
    name = f"'{path}'"
    try:
        if path.is_dir():
            raise InputError(
                f"{name} is a folder; pass the files in it, or run `okp predict` on the folder."
            )
        if path.exists() and not path.is_file():
            raise InputError(f"{name} is no ordinary file; open it and pass the file object.")
        with path.open("rb") as file:
            return _read_stream(file.read, name), name
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"the file {name} does not exist; check the path.") from None
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise InputError(f"{name!r} is no path ({error}).") from None


def _read_stream(read: Callable[..., Any], name: str) -> bytes:
    """Read to the end, but of a video only the beginning: it may be larger than the memory."""
    try:
        head = read(_HEAD_BYTES)
        if not isinstance(head, bytes):
            raise InputError(f"{name} gives {type(head).__name__}; open the file with mode 'rb'.")
        refuse_video(head, name)
        rest: bytes = read()
    except (ValueError, io.UnsupportedOperation) as error:
        raise InputError(f"{name} cannot be read ({error}); pass an open, readable file.") from None
    return head + rest


def _from_array(array: NDArray[Any], color: ColorOrder) -> Image:
    shape = array.shape
    if array.dtype != np.uint8:
        raise InputError(
            f"the array's numbers are {array.dtype}; they must be uint8 in 0..255. Scale them and "
            "convert with .astype(np.uint8)."
        )
    if 0 in shape:
        raise InputError(f"the array has the shape {shape} and so no pixels.")
    if array.ndim == 2 or (array.ndim == 3 and shape[2] == 1):
        return rgb_from_gray(array.reshape(shape[:2]))
    if array.ndim == 3 and shape[2] == 3:
        return np.ascontiguousarray(array) if color == "rgb" else swap_red_and_blue(array)
    advice = "pass one array (H, W), (H, W, 1) or (H, W, 3)"
    if array.ndim == 3 and shape[2] == 4:
        advice = "drop its alpha channel with array[:, :, :3]"
    elif array.ndim == 3 and shape[0] in (1, 3):
        advice = "put the channels last with array.transpose(1, 2, 0)"
    elif array.ndim == 4:
        advice = "pass a list of arrays (H, W, 3)"
    raise InputError(f"the array has the shape {shape}, which is no picture; {advice}.")


def swap_red_and_blue(image: Image) -> Image:
    """Return RGB of BGR or the other way round, (H, W, 3) uint8, as a copy."""
    # Copying the reversed channels with numpy takes eighty times as long.
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2RGB), np.uint8)


# ---------------------------------------------------------------- geometry on pixels


def resize(image: Image, size_wh: tuple[int, int]) -> Image:
    """Stretch an image to a size, bilinear.

    Args:
        image: uint8 (H, W, 3).
        size_wh: (width, height) of the result, at least 1 each.
    """
    if (image.shape[1], image.shape[0]) == tuple(size_wh):
        return image
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_LINEAR), np.uint8)


def resize_map(values: NDArray[np.float32], size_wh: tuple[int, int]) -> NDArray[np.float32]:
    """Stretch a map of numbers to a size, bilinear.

    Args:
        values: float32 (h, w).
        size_wh: (width, height) of the result, at least 1 each.
    """
    return np.asarray(cv2.resize(values, size_wh, interpolation=cv2.INTER_LINEAR), np.float32)


def warp(image: Image, matrix: ArrayLike, size_wh: tuple[int, int], *, fill: int = 114) -> Image:
    """Return the part of an image that an affine map brings into a window, bilinear.

    Where the map shrinks by more than 2 the source is averaged first, so that nothing aliases.

    Args:
        image: uint8 (H, W, 3).
        matrix: (2, 3); maps source pixels to output pixels, both with (0, 0) the outer corner of
            the top left pixel, like every coordinate of the library.
        size_wh: (width, height) of the result.
        fill: value of what lies outside of the source.

    Raises:
        InputError: the map has no inverse.
    """
    forward = np.vstack([np.asarray(matrix, np.float64), [0.0, 0.0, 1.0]])
    # OpenCV counts from the middle of the first pixel.
    forward[:2, 2] += forward[:2, :2] @ np.full(2, 0.5) - 0.5
    if not np.isfinite(forward).all() or abs(np.linalg.det(forward)) < 1e-12:
        raise InputError("the affine map of a crop has no inverse; its box has no area.")
    # Whole factors, per source axis, that leave a shrinkage of 1 to 2 to the bilinear step.
    factor_x, factor_y = (max(1, math.floor(1 / np.hypot(*forward[:2, i]) + 1e-6)) for i in (0, 1))
    width, height = size_wh
    corners = np.array([[-1, width, width, -1], [-1, -1, height, height], [1, 1, 1, 1]])
    xs, ys, _ = np.linalg.inv(forward) @ corners
    left, right = _needed_span(xs, image.shape[1], factor_x)
    top, bottom = _needed_span(ys, image.shape[0], factor_y)
    if right <= left or bottom <= top:
        return np.full((height, width, 3), fill, np.uint8)
    part = image[top:bottom, left:right]
    scale_x = scale_y = 1.0
    if factor_x > 1 or factor_y > 1:
        small_wh = (
            max(1, round((right - left) / factor_x)),
            max(1, round((bottom - top) / factor_y)),
        )
        part = np.asarray(cv2.resize(part, small_wh, interpolation=cv2.INTER_AREA), np.uint8)
        scale_x, scale_y = (right - left) / small_wh[0], (bottom - top) / small_wh[1]
    # A pixel of the part, by its centre, in source pixels.
    part_to_source = np.array(
        [
            [scale_x, 0.0, left + (scale_x - 1) / 2],
            [0.0, scale_y, top + (scale_y - 1) / 2],
            [0.0, 0.0, 1.0],
        ]
    )
    warped = cv2.warpAffine(
        part,
        (forward @ part_to_source)[:2],
        size_wh,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(fill, fill, fill),
    )
    return np.asarray(warped, np.uint8)


def _needed_span(reach: NDArray[np.float64], limit: int, factor: int) -> tuple[int, int]:
    """Return (first, end) of the source pixels, on one axis, that the output draws on."""
    margin = 2 * factor
    first, end = np.clip([np.floor(reach.min()) - margin, np.ceil(reach.max()) + margin], 0, limit)
    if end <= first:
        return 0, 0
    # Averaging a whole number of blocks is four times as fast: grow to one, back then front.
    missing = int(first - end) % factor
    grown = min(int(end) + missing, limit)
    return max(0, int(first) - (missing - (grown - int(end)))), grown


def pad(image: Image, top: int, bottom: int, left: int, right: int, fill: int = 114) -> Image:
    """Return the image (H, W, 3) with so many pixels of the value ``fill`` added on each side."""
    if not (top or bottom or left or right):
        return image
    padded = cv2.copyMakeBorder(
        image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(fill, fill, fill)
    )
    return np.asarray(padded, np.uint8)


# ---------------------------------------------------------------- masks of instances


def contours(mask: Mask) -> list[NDArray[np.float32]]:
    """Return the outer edges of the pieces of a mask; holes are passed over.

    Args:
        mask: (h, w).

    Returns:
        For each piece (P, 2) float32, the x and y of pixels along its edge, counted from 0; of
        straight runs only the ends.
    """
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    found, _ = cv2.findContours(pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [np.asarray(edge, np.float32).reshape(-1, 2) for edge in found]


def largest_contour(mask: Mask) -> NDArray[np.float32]:
    """Return the outer edge (P, 2) that encloses the largest area; of an empty mask no points."""
    pieces = contours(mask)
    return max(pieces, key=cv2.contourArea) if pieces else np.zeros((0, 2), np.float32)


def run_lengths(mask: Mask) -> list[int]:
    """Return the lengths of the runs down the columns, as in COCO: of False, True, False, ..."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts: list[int] = np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()
    return counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts


def resize_mask(mask: Mask, size_wh: tuple[int, int]) -> Mask:
    """Return a mask stretched to (width, height); between two pixels an edge runs half way."""
    if (mask.shape[1], mask.shape[0]) == tuple(size_wh):
        return mask
    levels = np.where(mask, np.uint8(255), np.uint8(0))
    return np.asarray(cv2.resize(levels, size_wh, interpolation=cv2.INTER_LINEAR)) > 127


# ---------------------------------------------------------------- pixels to files


def encode_image(image: Image, format: str = "jpeg", quality: int = 90) -> bytes:
    """Return an image as the bytes of a picture file.

    Args:
        image: RGB uint8 (H, W, 3).
        format: ``jpeg``, ``png``, ``webp``, ``bmp`` or ``tiff``.
        quality: 1 to 95, of JPEG and WebP.

    Raises:
        InputError: another format.
    """
    if format not in FORMATS_BY_ENDING.values():
        known = ", ".join(sorted(set(FORMATS_BY_ENDING.values())))
        raise InputError(f"pictures are not written as {format!r}; choose one of {known}.")
    buffer = io.BytesIO()
    PilImage.fromarray(image).save(buffer, format, quality=quality)
    return buffer.getvalue()


def save_image(image: Image, path: str | os.PathLike[str]) -> None:
    """Write an image (RGB uint8) to a file of the format that its ending names.

    Raises:
        InputError: an unknown ending.
        NotFoundError: the folder does not exist.
    """
    target = Path(path)
    format_name = FORMATS_BY_ENDING.get(target.suffix.lower())
    if format_name is None:
        raise InputError(
            f"the ending {target.suffix!r} of '{target}' names no picture format; use one of "
            f"{', '.join(FORMATS_BY_ENDING)}."
        )
    data = encode_image(image, format_name)
    try:
        target.write_bytes(data)
    except FileNotFoundError:
        raise NotFoundError(f"the folder '{target.parent}' does not exist; create it.") from None
