"""Everything a person may pass as a picture, and the operations on pixels."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from openkeypoints.errors import (
    DownloadError,
    ImageDecodeError,
    ImageTooLargeError,
    InputError,
    NotFoundError,
)
from openkeypoints.images import (
    Image,
    contours,
    encode_image,
    largest_contour,
    pad,
    read_image,
    resize,
    resize_mask,
    save_image,
    warp,
)
from openkeypoints.settings import Settings

MEDIA = Path(__file__).parents[1] / "data" / "media"
PLAIN = (MEDIA / "plain.png").read_bytes()
SETTINGS = Settings(cache_dir=Path("unused"))


def read(source: Any, **options: Any) -> Image:
    return read_image(source, **{"settings": SETTINGS, **options})


@pytest.fixture(scope="module")
def plain() -> Image:
    return np.array(PilImage.open(io.BytesIO(PLAIN)))


def encoded(data: bytes = PLAIN) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "source",
    [
        MEDIA / "plain.png",
        str(MEDIA / "plain.png"),
        PLAIN,
        bytearray(PLAIN),
        memoryview(PLAIN),
        io.BytesIO(PLAIN),
        PilImage.open(io.BytesIO(PLAIN)),
        encoded(),
        encoded().rstrip("="),
        "\n".join(encoded()[i : i + 76] for i in range(0, len(encoded()), 76)),
        base64.urlsafe_b64encode(PLAIN).decode(),
        "data:image/png;base64," + encoded(),
        "DATA:image/png;name=a.png;BASE64," + encoded(),
        encoded().encode(),
        b"data:image/png;base64," + encoded().encode(),
        {"type": "base64", "value": encoded()},
        {"type": "Base64", "value": encoded().encode()},
        {"type": "base64", "value": "data:image/png;base64," + encoded()},
        {"type": "pil", "value": PilImage.open(io.BytesIO(PLAIN))},
        {"type": "numpy_object", "value": np.array(PilImage.open(io.BytesIO(PLAIN)))[..., ::-1]},
    ],
    ids=lambda source: type(source).__name__,
)
def test_every_kind_of_source_gives_the_same_pixels(source: Any, plain: Image) -> None:
    assert np.array_equal(read(source), plain)


@pytest.mark.parametrize("name", ["exif6.jpg", "stereo.mpo", "plain.bmp", "plain.avif", "anim.gif"])
def test_base64_of_other_formats_is_recognised(name: str) -> None:
    data = (MEDIA / name).read_bytes()
    assert np.array_equal(read(encoded(data)), read(data))


@pytest.mark.parametrize("name", ["exif6.jpg", "exif6.png"])
def test_orientation_can_be_left_alone(tmp_path: Path, name: str) -> None:
    with PilImage.open(MEDIA / "exif6.jpg") as picture:
        picture.save(tmp_path / name, exif=picture.getexif())
    data = (tmp_path / name).read_bytes()
    stored, upright = read(data, orient=False), read(data)
    assert not np.array_equal(stored, upright)
    assert np.array_equal(np.rot90(stored, -1), upright)


def test_orientation_of_a_pil_image_can_be_left_alone() -> None:
    with PilImage.open(MEDIA / "exif6.jpg") as picture:
        stored = read(picture, orient=False)
        assert stored.shape[:2] == picture.size[::-1] != read(picture).shape[:2]


def test_the_size_of_a_file_is_told_before_its_pixels_are_decoded() -> None:
    class EnoughError(Exception): ...

    def stop(width: int, height: int) -> None:
        raise EnoughError(width, height)

    with pytest.raises(EnoughError) as caught:
        read(PLAIN[: len(PLAIN) // 2], on_size=stop)  # its pixels could not be decoded
    with PilImage.open(io.BytesIO(PLAIN)) as picture:
        assert caught.value.args == picture.size


def test_a_file_object_is_read_from_where_it_stands(plain: Image) -> None:
    file = io.BytesIO(b"junk" + PLAIN)
    file.seek(4)
    assert np.array_equal(read(file), plain)


@pytest.mark.parametrize("name", ["a b%20#1.png", "ünï 写真.png", "it's.png", "x.mp4"])
def test_odd_file_names_are_read(tmp_path: Path, name: str, plain: Image) -> None:
    (tmp_path / name).write_bytes(PLAIN)
    assert np.array_equal(read(str(tmp_path / name)), plain)


def test_colour_order_is_that_of_arrays_only(plain: Image) -> None:
    assert np.array_equal(read(plain[:, :, ::-1]), plain)
    assert np.array_equal(read(plain, color="rgb"), plain)
    assert np.array_equal(read(PLAIN, color="rgb"), read(PLAIN, color="bgr"))


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1)])
def test_grey_arrays_become_rgb(shape: tuple[int, ...]) -> None:
    image = read(np.full(shape, 77, np.uint8))
    assert image.shape == (4, 5, 3)
    assert (image == 77).all()


def test_arrays_come_out_contiguous() -> None:
    image = read(np.zeros((20, 30, 3), np.uint8)[::2, ::3], color="rgb")
    assert image.flags.c_contiguous


@pytest.mark.parametrize(
    ("array", "advice"),
    [
        (np.zeros((4, 4, 4), np.uint8), r"\[:, :, :3\]"),
        (np.zeros((4, 4, 3), np.float32), r"float32.*astype\(np.uint8\)"),
        (np.zeros((4, 4), bool), "bool.*uint8"),
        (np.zeros((3, 8, 8), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "list"),
        (np.zeros((8,), np.uint8), r"\(H, W\)"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
    ],
)
def test_other_arrays_are_refused_with_advice(array: Any, advice: str) -> None:
    with pytest.raises(InputError, match=advice):
        read(array)


@pytest.mark.parametrize("source", [None, 3, ["a.jpg"], {"image": 1}, object()])
def test_other_types_are_refused_with_what_is_allowed(source: Any) -> None:
    with pytest.raises(InputError, match="path, URL, bytes"):
        read(source)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("numpy", b"\x80\x04", "pickled"),
        ("numpy", "gASV", "pickled"),
        ("url", str(MEDIA / "plain.png"), "type 'url' whose value is a str"),
        ("file", str(MEDIA / "plain.png"), "type 'file'"),
        ("base64", None, "type 'base64' whose value is a NoneType"),
        (None, PLAIN, "types are base64"),
    ],
)
def test_objects_with_a_type_are_refused_where_it_does_not_fit(
    kind: Any, value: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read({"type": kind, "value": value})


def test_base64_in_an_object_is_never_taken_for_a_path() -> None:
    with pytest.raises(ImageDecodeError):
        read({"type": "base64", "value": str(MEDIA / "plain.png")})


def test_an_unknown_colour_order_is_refused(plain: Image) -> None:
    with pytest.raises(InputError, match="'bgr' or 'rgb'"):
        read(plain, color="RGB")


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"missing\.png.*does not exist"):
        read(str(tmp_path / "missing.png"))
    with pytest.raises(NotFoundError):
        read("person")


def test_a_folder_is_refused_with_the_command_that_reads_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"folder.*okp predict"):
        read(tmp_path)


@pytest.mark.parametrize("text", ["a\x00b.png", "/" + "x" * 300])
def test_names_that_no_file_can_have_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        read(text)


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        read("  ")


def test_a_long_text_that_is_no_picture_is_unreadable() -> None:
    with pytest.raises(ImageDecodeError) as caught:
        read("word " * 2000)
    assert caught.value.code == "unreadable"


def test_damaged_base64_is_unreadable() -> None:
    with pytest.raises(ImageDecodeError, match="base64") as caught:
        read(encoded()[:200] + "!" + encoded()[200:])
    assert caught.value.code == "unreadable"


def test_a_data_uri_without_base64_is_refused() -> None:
    with pytest.raises(InputError, match="base64"):
        read("data:image/svg+xml,%3Csvg%3E")


@pytest.mark.parametrize("url", ["rtsp://camera/1", "file:///tmp/a.jpg", "s3://bucket/a.jpg"])
def test_other_schemes_name_the_way_out(url: str) -> None:
    with pytest.raises(InputError, match=r"paths.*Model\.stream"):
        read(url)


def test_a_file_object_in_text_mode_is_refused() -> None:
    with pytest.raises(InputError, match="'rb'"):
        read(io.StringIO("text"))


def test_a_closed_file_object_is_refused() -> None:
    file = io.BytesIO(PLAIN)
    file.close()
    with pytest.raises(InputError, match="closed"):
        read(file)


def test_a_video_file_is_refused_by_its_first_bytes(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    with clip.open("wb") as file:
        file.write(b"\x00\x00\x00\x18ftypisom")
        file.truncate(1 << 40)  # sparse: reading all of it would not end
    with pytest.raises(InputError, match=r"clip\.mp4.*video.*Model\.stream.*okp predict"):
        read(clip)


def test_no_connection_is_opened_offline() -> None:
    with pytest.raises(DownloadError, match="OKP_OFFLINE"):
        read("HTTPS://example.org/a.jpg", settings=Settings(offline=True))


def test_a_pil_image_is_turned_upright_and_left_as_it_was() -> None:
    picture = PilImage.open(MEDIA / "exif6.jpg")
    assert read(picture).shape == (120, 160, 3)
    assert picture.size == (120, 160)


def test_a_pil_image_with_wide_pixels_is_refused() -> None:
    with pytest.raises(ImageDecodeError) as caught:
        read(PilImage.new("I", (4, 4)))
    assert caught.value.code == "unsupported_pixels"


def test_a_pil_image_beyond_the_limit_is_too_large() -> None:
    with pytest.raises(ImageTooLargeError):
        read(PilImage.new("L", (100, 100)), settings=Settings(max_pixels=9999))


# ---------------------------------------------------------------- geometry


def spot(width: int, height: int, x: float, y: float, sigma: float) -> Image:
    rows, columns = np.mgrid[:height, :width]
    value = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(value).astype(np.uint8)[:, :, None], 3, 2)


def centre(image: Image) -> tuple[float, float]:
    weight = image[:, :, 0].astype(float)
    rows, columns = np.indices(weight.shape)
    total = weight.sum()
    return ((columns + 0.5) * weight).sum() / total, ((rows + 0.5) * weight).sum() / total


@pytest.mark.parametrize(
    ("scale_x", "scale_y"), [(1.5, 1.5), (0.6, 0.6), (0.13, 0.4), (0.05, 0.05)]
)
def test_warp_puts_points_where_the_matrix_says(scale_x: float, scale_y: float) -> None:
    image = spot(900, 700, 433.0, 300.0, 24.0)
    matrix = np.array([[scale_x, 0.0, 5.25], [0.0, scale_y, -3.5]])
    size = (int(900 * scale_x) + 10, int(700 * scale_y) + 10)
    x, y = centre(warp(image, matrix, size, fill=0))
    assert (x, y) == pytest.approx((433.5 * scale_x + 5.25, 300.5 * scale_y - 3.5), abs=0.05)


def test_warp_puts_points_right_when_it_turns_and_shrinks() -> None:
    image = spot(900, 700, 433.0, 300.0, 24.0)
    angle = np.deg2rad(33)
    turn = 0.2 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.column_stack([turn, [40.0, 10.0]])
    expected = turn @ [433.5, 300.5] + [40.0, 10.0]
    assert centre(warp(image, matrix, (250, 200), fill=0)) == pytest.approx(expected, abs=0.05)


def test_warp_does_not_alias_when_it_shrinks() -> None:
    fine = np.zeros((400, 400, 3), np.uint8)
    fine[:, ::2] = 200
    small = warp(fine, [[0.1, 0, 0], [0, 0.1, 0]], (40, 40))
    assert np.abs(small[2:-2, 2:-2].astype(int) - 100).max() <= 4


def test_warp_by_the_identity_changes_nothing(plain: Image) -> None:
    assert np.array_equal(warp(plain, [[1, 0, 0], [0, 1, 0]], (160, 120)), plain)


def test_warp_fills_what_lies_outside(plain: Image) -> None:
    assert (warp(plain, [[1, 0, 5000], [0, 1, 0]], (20, 10), fill=7) == 7).all()
    shifted = warp(plain, [[1, 0, 10], [0, 1, 0]], (160, 120))
    assert (shifted[:, :10] == 114).all()
    assert np.array_equal(shifted[:, 10:], plain[:, :-10])


def test_warp_crops_from_a_picture_wider_than_opencv_allows() -> None:
    ribbon = np.zeros((4, 40_000, 3), np.uint8)
    ribbon[:, 39_000:] = 255
    assert (warp(ribbon, [[1, 0, -39_500], [0, 1, 0]], (30, 4)) == 255).all()


@pytest.mark.parametrize("matrix", [np.zeros((2, 3)), np.full((2, 3), np.nan)])
def test_warp_refuses_a_map_without_inverse(plain: Image, matrix: Any) -> None:
    with pytest.raises(InputError, match="inverse"):
        warp(plain, matrix, (10, 10))


def test_resize_takes_width_first(plain: Image) -> None:
    assert resize(plain, (80, 30)).shape == (30, 80, 3)


def test_contours_are_the_edges_of_the_pieces() -> None:
    mask = np.zeros((12, 20), bool)
    mask[2:9, 3:12] = True
    mask[4:6, 5:7] = False
    mask[10, 18] = True
    edges = sorted(contours(mask), key=len)
    assert edges[0].tolist() == [[18, 10]]
    assert sorted(map(tuple, edges[1].tolist())) == [(3, 2), (3, 8), (11, 2), (11, 8)]
    assert largest_contour(mask).tolist() == edges[1].tolist()


def test_an_empty_mask_has_no_contour() -> None:
    assert contours(np.zeros((4, 5), bool)) == []
    assert largest_contour(np.zeros((4, 5), bool)).shape == (0, 2)


def test_contours_of_a_part_of_an_array_are_found() -> None:
    whole = np.zeros((20, 20), bool)
    whole[8:12, 8:12] = True
    assert len(contours(whole[5:15:1, 5:15])[0]) == 4


@pytest.mark.parametrize("factor", [2, 3, 10])
def test_a_mask_grows_with_its_picture(factor: int) -> None:
    mask = np.zeros((8, 10), bool)
    mask[2:6, 3:9] = True
    grown = resize_mask(mask, (10 * factor, 8 * factor))
    expected = np.repeat(np.repeat(mask, factor, axis=0), factor, axis=1)
    assert grown.dtype == bool
    # Corners are rounded off.
    assert (grown != expected).sum() <= 4 * (factor / 2) ** 2


def test_a_mask_of_the_size_of_the_picture_stays() -> None:
    mask = np.eye(6, dtype=bool)
    assert resize_mask(mask, (6, 6)) is mask


def test_pad_adds_pixels_on_the_named_sides(plain: Image) -> None:
    padded = pad(plain, 1, 2, 3, 4, fill=9)
    assert padded.shape == (123, 167, 3)
    assert np.array_equal(padded[1:-2, 3:-4], plain)
    assert (padded[0] == 9).all()


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("format", ["png", "bmp", "tiff"])
def test_lossless_formats_keep_every_pixel(plain: Image, format: str) -> None:
    assert np.array_equal(read(encode_image(plain, format)), plain)


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_lossy_formats_stay_close(plain: Image, format: str) -> None:
    difference = np.abs(read(encode_image(plain, format, quality=95)).astype(int) - plain)
    assert difference.mean() < 3


def test_quality_changes_the_size_of_a_jpeg(plain: Image) -> None:
    assert len(encode_image(plain, quality=30)) < len(encode_image(plain, quality=95))


def test_an_unknown_format_is_refused_with_the_known_ones(plain: Image) -> None:
    with pytest.raises(InputError, match="bmp, jpeg, png"):
        encode_image(plain, "gif")


def test_the_ending_of_a_file_names_its_format(plain: Image, tmp_path: Path) -> None:
    save_image(plain, tmp_path / "out.PNG")
    assert (tmp_path / "out.PNG").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"\.xyz"):
        save_image(plain, tmp_path / "out.xyz")


def test_saving_into_a_missing_folder_is_not_found(plain: Image, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="folder"):
        save_image(plain, tmp_path / "none" / "out.png")
