from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openkeypoints.models.graphs import PictureInput, Port, as_input, open_graph, picture_input
from openkeypoints.runtimes import open_session
from tests.unit.runtimes.graphs import graph

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), np.uint8)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


# What a graph says


@pytest.mark.parametrize(
    ("shape", "tensor", "batch", "size"),
    [
        ((1, 3, 256, 192), "nchw", 1, (192, 256)),
        ((None, 3, None, None), "nchw", None, (None, None)),
        ((1, 192, 256, 3), "nhwc", 1, (256, 192)),
        ((None, None, 256, 3), "nhwc", None, (256, None)),
        ((4, 3, 3, 3), "nchw", 4, (3, 3)),
        ((None, None, 64, 64), "nchw", None, (64, 64)),
        (None, "nchw", None, (None, None)),
    ],
)
def test_axes_batch_and_size_are_told_from_the_shape(shape, tensor, batch, size):
    entry = picture_input(Port("x", shape, "float32"))
    assert entry == PictureInput("x", tensor, "float32", batch, size)


@pytest.mark.parametrize("shape", [(1, 3, 64), (1, 1, 64, 64), (1, 64, 64, 4), (1, 3), ()])
def test_other_shapes_are_no_colour_pictures(shape):
    assert picture_input(Port("x", shape, "float32")) is None


@pytest.mark.parametrize("dtype", ["bool", "object", "complex64", "unknown", "str"])
def test_other_types_are_no_pictures(dtype):
    assert picture_input(Port("x", (1, 3, 8, 8), dtype)) is None


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float64"])
def test_every_type_of_numbers_is_taken(dtype):
    assert picture_input(Port("x", (1, 3, 8, 8), dtype)).dtype == dtype


# Pictures in that form


def expected(entry):
    """Return the same by its definition, in double precision."""
    ordered = PICTURES if entry.color == "rgb" else PICTURES[..., ::-1]
    values = (ordered / entry.scale - np.array(entry.mean)) / np.array(entry.std)
    return values if entry.tensor == "nhwc" else values.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("tensor", ["nchw", "nhwc"])
@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_pictures_become_floats(tensor, color, dtype):
    entry = PictureInput("x", tensor, dtype, color=color, mean=MEAN, std=STD)
    found = as_input(PICTURES, entry)
    assert found.dtype == dtype
    assert found.flags.c_contiguous
    atol = 2e-3 if dtype == "float16" else 1e-6
    np.testing.assert_allclose(found, expected(entry), atol=atol)


def test_mean_and_std_belong_to_the_channels_as_they_are_ordered():
    entry = PictureInput("x", color="bgr", mean=(1, 2, 3), std=(10, 20, 30))
    found = as_input(np.full((1, 1, 1, 3), (7, 6, 5), np.uint8), entry)[0, :, 0, 0]
    np.testing.assert_allclose(found, [(5 - 1) / 10, (6 - 2) / 20, (7 - 3) / 30], rtol=1e-6)


def test_a_scale_comes_before_mean_and_std():
    entry = PictureInput("x", scale=255.0, mean=(0.5,) * 3, std=(0.25,) * 3)
    found = as_input(np.full((1, 1, 1, 3), 255, np.uint8), entry)
    np.testing.assert_array_equal(found, np.full((1, 3, 1, 1), 2, np.float32))


@pytest.mark.parametrize("tensor", ["nchw", "nhwc"])
@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_integers_of_0_to_255_are_the_pixels(tensor, color, dtype):
    entry = PictureInput("x", tensor, dtype, color=color)
    found = as_input(PICTURES, entry)
    assert found.dtype == dtype
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected(entry))


def test_pictures_that_are_wanted_as_they_are_are_not_copied():
    assert as_input(PICTURES, PictureInput("x", "nhwc", "uint8")) is PICTURES


@pytest.mark.parametrize(
    ("cast", "whole"), [("floor", [-3, -2, 0, 0, 1]), ("nearest", [-2, -1, 0, 1, 1])]
)
def test_integers_are_cut_or_rounded_as_is_said(cast, whole):
    # -2.25, -1.5, 0.0, 0.5, 1.25
    entry = PictureInput("x", dtype="int32", scale=4.0, mean=(2.25,) * 3, cast=cast)
    levels = np.array([0, 3, 9, 11, 14], np.uint8)
    found = as_input(np.repeat(levels.reshape(1, 1, 5, 1), 3, axis=3), entry)
    np.testing.assert_array_equal(found[0, 0, 0], whole)


def test_integers_stay_within_their_type():
    entry = PictureInput("x", "nhwc", "int8", mean=(128.0,) * 3, std=(0.5,) * 3)
    found = as_input(np.array([0, 128, 255], np.uint8).repeat(3).reshape(1, 1, 3, 3), entry)
    np.testing.assert_array_equal(found[0, 0, :, 0], [-128, 0, 127])


def test_two_inputs_that_differ_in_one_number_are_told_apart():
    entry = PictureInput("x", mean=MEAN, std=STD)
    first, other = as_input(PICTURES, entry), as_input(PICTURES, replace(entry, scale=2.0))
    assert np.abs(first - other).max() > 0.1


def test_a_foreign_graph_takes_what_is_made_for_it(tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(graph())
    opened = open_graph(path)
    entry = picture_input(opened.inputs[0])
    assert (entry.tensor, entry.dtype) == ("nhwc", "uint8")
    session = open_session(opened.artifact, precision="f32")
    assert session.run({entry.name: as_input(PICTURES, entry)})["peak"].shape == (2, 5)
