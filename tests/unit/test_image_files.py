"""Picture files of every kind become upright RGB, and bad ones are refused by name."""

from __future__ import annotations

import io
import json
import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from openkeypoints.errors import ImageDecodeError, ImageTooLargeError, InputError
from openkeypoints.image_files import decode

MEDIA = Path(__file__).parents[1] / "data" / "media"
EXPECTED: dict[str, dict[str, Any]] = json.loads((MEDIA / "expected.json").read_text())
LIMIT = 64_000_000


def file_of(image: PilImage.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def photo(width: int = 96, height: int = 64, seed: int = 0) -> PilImage.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return PilImage.fromarray(noise).resize((width, height), PilImage.Resampling.BICUBIC)


def check_entry(folder: Path, name: str, entry: dict[str, Any]) -> None:
    data = (folder / name).read_bytes()
    if error := entry.get("error"):
        with pytest.raises(InputError) as caught:
            decode(data, name, LIMIT)
        if error == "too_large":
            assert isinstance(caught.value, ImageTooLargeError)
        else:
            assert isinstance(caught.value, ImageDecodeError)
            assert caught.value.code == error
        return
    image = decode(data, name, LIMIT)
    height, width = image.shape[:2]
    assert [width, height] == entry["size"]
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    if "corners_rgb" in entry:
        rows, columns = {"t": 4, "b": height - 5}, {"l": 4, "r": width - 5}
        for corner, rgb in entry["corners_rgb"].items():
            found = image[rows[corner[0]], columns[corner[1]]].astype(int)
            assert np.abs(found - rgb).max() <= entry["tolerance"], corner
    if "pixel" in entry:
        x, y = entry["pixel"]["xy"]
        assert image[y, x].tolist() == entry["pixel"]["rgb_dropped_alpha"]


@pytest.mark.parametrize("name", EXPECTED)
def test_each_picture_is_read_or_refused_as_expected(name: str) -> None:
    check_entry(MEDIA, name, EXPECTED[name])


@pytest.mark.oracle
def test_each_picture_of_the_reference_folder_is_read_or_refused_as_expected(shared: Path) -> None:
    folder = shared / "media"
    entries = json.loads((folder / "expected.json").read_text())
    pictures = {name: entry for name, entry in entries.items() if entry["kind"] == "image"}
    assert pictures.keys() == EXPECTED.keys()
    for name, entry in pictures.items():
        check_entry(folder, name, entry)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_the_fast_jpeg_decoder_gives_the_pixels_of_pillow(options: dict[str, Any]) -> None:
    data = file_of(photo(), "JPEG", quality=90, **options)
    reference = np.asarray(PilImage.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode(data, "photo", LIMIT) - reference).max() <= 2


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF"])
def test_a_file_cut_off_is_truncated(format: str, share: float) -> None:
    data = file_of(photo(), format)
    with pytest.raises(ImageDecodeError) as caught:
        # GIF and TIFF may end in a byte or tag without pixels: cut into the pixels.
        decode(data[: int(len(data) * share) - 2 - 200 * (format == "TIFF")], "photo", LIMIT)
    assert caught.value.code == "truncated"


def test_a_jpeg_whose_missing_part_is_zeros_is_truncated() -> None:
    data = file_of(photo(), "JPEG")
    unfinished = data[: len(data) // 2] + bytes(len(data))
    with pytest.raises(ImageDecodeError) as caught:
        decode(unfinished, "photo", LIMIT)
    assert caught.value.code == "truncated"


def test_the_end_of_a_thumbnail_is_not_taken_for_the_end_of_the_jpeg() -> None:
    thumbnail = file_of(photo(16, 16), "JPEG")
    segment = b"\xff\xe2" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    data = file_of(photo(), "JPEG")
    assert decode(data[:2] + segment + data[2:], "photo", LIMIT).shape == (64, 96, 3)
    with pytest.raises(ImageDecodeError) as caught:
        decode(data[:2] + segment + data[2:-40], "photo", LIMIT)
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_raise_nothing_but_our_errors(seed: int) -> None:
    rng = random.Random(seed)
    for path in sorted(MEDIA.iterdir()):
        data = bytearray(path.read_bytes())
        for _ in range(8 if 0 < len(data) < 60_000 else 0):
            data[rng.randrange(min(len(data), 300))] = rng.randrange(256)
        try:
            image = decode(bytes(data), path.name, 1_000_000)
        except InputError:
            continue
        assert image.ndim == 3


def test_sixteen_bit_grey_is_rounded_by_257() -> None:
    wide = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = decode(file_of(PilImage.fromarray(wide), "PNG"), "grey", LIMIT)
    assert np.array_equal(image[:, :, 0], np.rint(wide / 257).astype(np.uint8))


def test_alpha_of_a_palette_is_dropped_and_its_colours_stay() -> None:
    picture = PilImage.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 200, 100, 50])
    data = file_of(picture, "PNG", transparency=b"\xff\x00")
    assert decode(data, "palette", LIMIT)[0, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_pixels_without_a_known_range_are_unsupported(mode: str) -> None:
    with pytest.raises(ImageDecodeError, match=f"{mode}.*0..255") as caught:
        decode(file_of(PilImage.new(mode, (8, 8)), "TIFF"), "wide", LIMIT)
    assert caught.value.code == "unsupported_pixels"


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript"),
        (b"%PDF-1.7", "PDF"),
        (b"8BPS\x00\x01", "Photoshop"),
        (b'<?xml version="1.0"?><svg/>', "SVG"),
        (b"\xff\x0a\x00\x00", "JPEG XL"),
        (b"\x00\x00\x00\x18ftypcrx ", "camera raw"),
    ],
)
def test_formats_that_are_not_read_are_named(start: bytes, name: str) -> None:
    with pytest.raises(ImageDecodeError, match=name) as caught:
        decode(start + bytes(40), "picture", LIMIT)
    assert caught.value.code == "unsupported_format"


def test_heic_is_refused_with_the_package_that_reads_it() -> None:
    with pytest.raises(ImageDecodeError, match=r"HEIC.*pip install pillow-heif"):
        decode((MEDIA / "header_only.heic").read_bytes(), "phone.heic", LIMIT)


@pytest.mark.parametrize(
    "start",
    [
        b"\x00\x00\x00\x18ftypisom",
        b"\x00\x00\x00\x08moov",
        b"\x1a\x45\xdf\xa3",
        b"RIFF\x00\x00\x00\x00AVI ",
        (b"\x47" + bytes(187)) * 3,
        b"FLV\x01",
        b"\x00\x00\x01\xba",
    ],
)
def test_a_video_names_the_calls_that_read_it(start: bytes) -> None:
    with pytest.raises(InputError, match=r"video.*Model\.stream.*okp predict"):
        decode(start + bytes(40), "clip", LIMIT)


def test_the_limit_of_pixels_is_checked_before_decoding() -> None:
    data = file_of(photo(), "PNG")
    header_alone = data[:60]
    assert decode(data, "photo", 96 * 64).shape == (64, 96, 3)
    with pytest.raises(ImageTooLargeError, match=r"96 x 64.*OKP_MAX_PIXELS"):
        decode(header_alone, "photo", 96 * 64 - 1)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's word on the damage
@pytest.mark.parametrize("exif", [b"not a header", b"MM\x00*\x00\x00\x00\x08\xff\xff\x01\x12"])
def test_a_damaged_orientation_tag_is_no_orientation(exif: bytes) -> None:
    data = file_of(photo(), "JPEG", exif=b"Exif\x00\x00" + exif)
    assert decode(data, "photo", LIMIT).shape == (64, 96, 3)


def test_an_animation_is_mentioned_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "openkeypoints"):
        decode((MEDIA / "anim.gif").read_bytes(), "anim.gif", LIMIT)
    assert "anim.gif has several frames; the first is used." in caplog.text
