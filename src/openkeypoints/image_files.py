"""From the bytes of a picture file to upright RGB pixels, with what they say before decoding."""

from __future__ import annotations

import io
import logging
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from openkeypoints.errors import ImageDecodeError, ImageTooLargeError, InputError

Image = NDArray[np.uint8]
OnSize = Callable[[int, int], None]
"""Is told width and height."""

logger = logging.getLogger(__name__)

# Brands (bytes 8 to 12) of ISO media files that hold still pictures; every other brand is a film.
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_FILM_BOXES = {b"moov", b"mdat", b"wide", b"free", b"skip"}
_FILM_STARTS = (
    (b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (b"FLV\x01", "FLV"),
    (b"OggS", "Ogg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMV"),
    (b"\x00\x00\x01\xba", "MPEG"),
    (b"\x00\x00\x01\xb3", "MPEG"),
)
_PICTURE_STARTS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II*\x00",
    b"MM\x00*",
    b"\x00\x00\x00\x0cjP  ",
    b"\xff\x4f\xff\x51",
)
_USUAL_STARTS = _PICTURE_STARTS[:2]
"""Of JPEG and PNG: no film begins like them."""
_FOREIGN_STARTS = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"8BPS", "Photoshop"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"FUJIFILMCCD-RAW", "camera raw"),
)
_TS_PACKET = 188
# The next marker of a JPEG: stuffed zeros, restart markers and fill bytes are picture data.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_END, _JPEG_START, _JPEG_TEMPORARY = 0xD9, 0xD8, 0x01
# No EPS, PDF or the like: Pillow hands those to other programs. MPO comes in as JPEG.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM")
# What Pillow's readers raise on damaged files (found by cutting and flipping bytes); the last one
# where the caller turns warnings into errors.
_PILLOW_FAULTS = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error),
    *(LookupError, TypeError, ArithmeticError, AttributeError, RuntimeError, UserWarning),
)
_ORIENTATION_TAG = 0x0112
_UPRIGHT: dict[int, Callable[[Image], Any]] = {
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.rotate(image, cv2.ROTATE_180),
    4: lambda image: cv2.flip(image, 0),
    5: cv2.transpose,
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.rotate(cv2.transpose(image), cv2.ROTATE_180),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


# ---------------------------------------------------------------- from bytes to pixels


def refuse_video(data: bytes, name: str) -> None:
    """Raise InputError where ``data`` begins as a video does; ``name`` is for the message."""
    if video := film_format(data):
        raise InputError(
            f"{name} is a video ({video}); use Model.stream, or `okp predict` on the command line."
        )


def decode(
    data: bytes,
    name: str,
    max_pixels: int,
    *,
    orient: bool = True,
    on_size: OnSize | None = None,
) -> Image:
    """Return the picture in the bytes of a whole file as RGB uint8 (H, W, 3).

    Args:
        data: the whole file.
        name: what messages call it.
        max_pixels: most pixels that are decoded.
        orient: turn it upright as its EXIF orientation says; False leaves it as it is stored.
        on_size: is told the stored width and height before pixels are decoded, and may raise.

    Raises:
        InputError: the file is a video.
        ImageDecodeError: the file is empty, damaged, cut off or of an unknown kind.
        ImageTooLargeError: its header tells more than ``max_pixels``; nothing is decoded.
    """
    if not data:
        raise ImageDecodeError(f"{name} is empty (0 bytes).", "empty_file")
    refuse_video(data, name)
    picture = _open(data, name)
    check_size(picture, name, max_pixels)
    if on_size is not None:
        on_size(*picture.size)
    if is_cut_short(data):
        raise _cut_short(name)
    # Same pixels as Pillow's (both are libjpeg-turbo), in about three quarters of the time.
    if picture.format == "JPEG" and picture.mode in ("RGB", "L"):
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if image is not None and image.shape == (picture.height, picture.width, 3):
            pixels = np.asarray(image, np.uint8)
            return _upright(pixels, picture) if orient else pixels
    return rgb_upright(picture, name, orient=orient)


def _open(data: bytes, name: str) -> PilImage.Image:
    """Read the header alone."""
    # HEIF is there after the caller registered a reader for it (pillow-heif).
    formats = (*_FORMATS, "HEIF") if "HEIF" in PilImage.OPEN else _FORMATS
    try:
        return PilImage.open(io.BytesIO(data), formats=formats)
    except (PilImage.DecompressionBombError, PilImage.DecompressionBombWarning) as error:
        raise ImageTooLargeError(
            f"{name} is too large: {error} Make it smaller, or raise OKP_MAX_PIXELS "
            "(Settings.max_pixels) and PIL.Image.MAX_IMAGE_PIXELS."
        ) from None
    except _PILLOW_FAULTS:
        pass
    if foreign := foreign_format(data):
        how = (
            "run `pip install pillow-heif` and pillow_heif.register_heif_opener(), or convert it"
            if foreign == "HEIC"
            else "convert it"
        )
        raise ImageDecodeError(
            f"{name} is of the format {foreign}, which is not read; {how} to JPEG or PNG.",
            "unsupported_format",
        )
    if is_media(data) and is_cut_short(data):
        raise _cut_short(name)
    raise ImageDecodeError(
        f"{name} is no readable picture (its bytes begin with {data[:8]!r}); JPEG, PNG, WebP, "
        "AVIF, GIF, TIFF, BMP, PPM and JPEG 2000 are read.",
        "unreadable",
    )


def check_size(picture: PilImage.Image, name: str, max_pixels: int) -> None:
    """Raise ImageTooLargeError beyond ``max_pixels``, ImageDecodeError where there are none."""
    width, height = picture.size
    if width < 1 or height < 1:
        raise ImageDecodeError(f"{name} has no pixels ({width} x {height}).", "unreadable")
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{name} has {width} x {height} pixels; at most {max_pixels} are decoded. Make it "
            "smaller, or raise OKP_MAX_PIXELS (Settings.max_pixels)."
        )


def _cut_short(name: str) -> ImageDecodeError:
    return ImageDecodeError(
        f"{name} is cut off before its end; copy or download it again.", "truncated"
    )


def rgb_upright(picture: PilImage.Image, name: str, *, orient: bool = True) -> Image:
    """Decode a PIL image, of any kind, to RGB uint8 (H, W, 3), upright unless ``orient`` is False.

    Raises:
        ImageDecodeError: its file is damaged or cut off, or its pixels have no known range.
    """
    try:
        picture.load()
        image = _rgbrgb_upright(picture, name)
    except _PILLOW_FAULTS as error:
        if isinstance(error, EOFError) or "truncated" in str(error):
            raise _cut_short(name) from error
        raise ImageDecodeError(f"{name} cannot be decoded ({error}).", "unreadable") from error
    _mention_further_frames(picture, name)
    return _upright(image, picture) if orient else image


def _rgbrgb_upright(picture: PilImage.Image, name: str) -> Image:
    mode = picture.mode
    # Pillow gives some 16-bit greys as 32-bit integers; those of other files have no known range.
    if mode.startswith("I;16") or (mode == "I" and picture.format in ("PNG", "PPM")):
        # 65535 / 255 = 257; Pillow's own conversion clips at 255 instead.
        wide = np.clip(np.asarray(picture), 0, 65535).astype(np.uint32)
        return rgb_from_gray(((wide + 128) // 257).astype(np.uint8))
    if mode in ("I", "F", "LAB"):
        raise ImageDecodeError(
            f"{name} has pixels of the kind {mode!r}, whose range is not known; scale them "
            "to 0..255 and save or pass them as uint8.",
            "unsupported_pixels",
        )
    if mode in ("P", "PA", "RGBa", "La"):
        picture = picture.convert("RGBA")
    # Dropping alpha this way keeps the stored colours; np.array because Pillow's view is read-only.
    return np.array(picture.convert("RGB"))


def rgb_from_gray(gray: Image) -> Image:
    """Return a grey image, uint8 (H, W), as RGB (H, W, 3)."""
    return np.repeat(gray[:, :, None], 3, axis=2)


def _upright(image: Image, picture: PilImage.Image) -> Image:
    """Apply the orientation that the header of ``picture`` gives; a damaged header gives none."""
    try:
        turn = _UPRIGHT.get(picture.getexif().get(_ORIENTATION_TAG, 1))
    except _PILLOW_FAULTS:
        turn = None
    return image if turn is None else np.asarray(turn(image), np.uint8)


def _mention_further_frames(picture: PilImage.Image, name: str) -> None:
    try:
        several = picture.format != "MPO" and getattr(picture, "is_animated", False)
    except _PILLOW_FAULTS:
        several = False
    if several:
        logger.info("%s has several frames; the first is used.", name)


# ---------------------------------------------------------------- what the bytes say


def film_format(data: bytes) -> str | None:
    """Return the name of the video or sound format that ``data`` begins with, or None."""
    if data.startswith(_USUAL_STARTS):
        return None
    for start, name in _FILM_STARTS:
        if data.startswith(start):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "AVI"
    still = _HEIF_BRANDS | _AVIF_BRANDS | {b"crx "}
    if data[4:8] in _FILM_BOXES or (data[4:8] == b"ftyp" and data[8:12] not in still):
        return "MP4 or QuickTime"
    packets = data[: 3 * _TS_PACKET : _TS_PACKET]
    if len(packets) > 1 and set(packets) == {0x47}:
        return "MPEG-TS"
    return None


def foreign_format(data: bytes) -> str | None:
    """Return the name of a picture format that the library does not read, or None."""
    for start, name in _FOREIGN_STARTS:
        if data.startswith(start):
            return name
    if data[4:8] == b"ftyp":
        if data[8:12] in _HEIF_BRANDS:
            return "HEIC"
        return "camera raw" if data[8:12] == b"crx " else None
    return "SVG" if b"<svg" in data[:1024] else None


def is_media(data: bytes) -> bool:
    """Tell whether ``data`` begins as a picture or a film does, readable by us or not."""
    return (
        data.startswith(_PICTURE_STARTS)
        or data[4:8] == b"ftyp"
        or (data[:4] == b"RIFF" and data[8:12] in (b"WEBP", b"AVI "))
        or film_format(data) is not None
        or foreign_format(data) is not None
    )


def is_cut_short(data: bytes) -> bool:
    """Tell whether the end of a JPEG, PNG, WebP or AVIF file is missing.

    Decoders differ here: some fill the missing part with grey, some accept a tail of zeros (an
    unfinished download), some fail. Files of other formats answer False: their decoder judges.
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg_is_cut_short(data)
    if data.startswith(b"\x89PNG"):
        return _png_is_cut_short(data)
    if data[:4] == b"RIFF":
        # Writers that forget the pad byte of an odd last chunk are one byte short.
        return int.from_bytes(data[4:8], "little") + 8 > len(data) + 1
    if data[4:8] == b"ftyp":
        return _iso_is_cut_short(data)
    return False


def _jpeg_is_cut_short(data: bytes) -> bool:
    """Walk the segments; lengths jump over the thumbnail, which has an end marker of its own."""
    at = 2
    while (marker := _JPEG_MARKER.search(data, at)) is not None:
        at = marker.end()
        kind = data[at - 1]
        if kind == _JPEG_END:
            return False
        if kind not in (_JPEG_START, _JPEG_TEMPORARY):
            at += int.from_bytes(data[at : at + 2], "big")
    return True


def _png_is_cut_short(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return False
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return True


def _iso_is_cut_short(data: bytes) -> bool:
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 0:  # this box reaches to the end of the file
            return False
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:
            return False
        at += size
    return at > len(data)
