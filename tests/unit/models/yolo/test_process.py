from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openkeypoints.geometry import letterbox
from openkeypoints.images import resize
from openkeypoints.models.request import InferOptions
from openkeypoints.models.yolo.decode import Instances
from openkeypoints.models.yolo.process import fit, policy, prepare, to_picture
from openkeypoints.models.yolo.spec import InputSpec
from openkeypoints.results import Skeleton

DYNAMIC = InputSpec("images", (64, 64), pictures=True)
STATIC = replace(DYNAMIC, static=True)
STRETCH = replace(DYNAMIC, fit="stretch")
RNG = np.random.default_rng(5)
PICTURE = RNG.integers(0, 256, (20, 40, 3), np.uint8)


def inputs(spec: InputSpec, *pictures: Any, **options: Any) -> Any:
    fits = [fit((p.shape[1], p.shape[0]), spec, InferOptions(**options)) for p in pictures]
    return prepare(pictures, fits, spec)


# --- in --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "options", "way", "size"),
    [
        (DYNAMIC, {}, "rect", (64, 32)),
        (DYNAMIC, {"letterbox": "square"}, "square", (64, 64)),
        (DYNAMIC, {"input_size": (65, 90)}, "rect", (96, 64)),
        (DYNAMIC, {"input_size": (65, 90), "letterbox": "square"}, "square", (96, 96)),
        (STATIC, {}, "square", (64, 64)),
        (replace(STATIC, size=(50, 70)), {}, "square", (50, 70)),
        (STRETCH, {}, "stretch", (64, 64)),
        (STRETCH, {"input_size": (65, 90)}, "stretch", (96, 96)),
    ],
)
def test_pictures_are_fitted_as_graph_and_options_say(
    spec: InputSpec, options: dict[str, Any], way: str, size: tuple[int, int]
) -> None:
    chosen = InferOptions(**options)
    assert policy(spec, chosen) == way
    assert fit((40, 20), spec, chosen).input_size == size


def test_a_stretched_picture_has_a_gain_for_each_axis() -> None:
    fitted = fit((40, 20), STRETCH, InferOptions())
    np.testing.assert_allclose(fitted.to_original(np.array([[32.0, 32.0]])), [[20, 10]])


def test_pictures_enter_scaled_and_padded_with_the_fill() -> None:
    (pixels,) = inputs(replace(DYNAMIC, fill=7), PICTURE, letterbox="square")
    np.testing.assert_array_equal(pixels[16:48], resize(PICTURE, (64, 32)))
    assert (pixels[:16] == 7).all()
    assert (pixels[48:] == 7).all()


def test_pictures_may_be_wanted_in_the_other_order_of_colours() -> None:
    np.testing.assert_array_equal(
        inputs(replace(DYNAMIC, bgr=True), PICTURE), inputs(DYNAMIC, PICTURE)[..., ::-1]
    )


def test_floats_are_scaled_planes() -> None:
    planes = inputs(replace(DYNAMIC, pictures=False), PICTURE)
    assert planes.dtype == np.float32
    pixels = inputs(DYNAMIC, PICTURE).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(planes, pixels.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("bgr", [False, True])
def test_floats_are_normalised_per_channel_of_the_network(bgr: bool) -> None:
    spec = replace(DYNAMIC, pictures=False, bgr=bgr, scale=1.0, mean=(1, 2, 3), std=(2.0, 4.0, 5.0))
    pixels = inputs(DYNAMIC, PICTURE)[..., :: -1 if bgr else 1]
    expected = ((pixels - [1.0, 2, 3]) / [2, 4, 5]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(inputs(spec, PICTURE), expected, rtol=1e-6)


def test_floats_may_be_wanted_in_half_precision() -> None:
    assert inputs(replace(DYNAMIC, pictures=False, half=True), PICTURE).dtype == np.float16


def test_a_fixed_batch_is_filled_up() -> None:
    pixels = inputs(replace(DYNAMIC, batch=3), PICTURE)
    assert pixels.shape == (3, 32, 64, 3)
    np.testing.assert_array_equal(pixels[:1], inputs(DYNAMIC, PICTURE))


# --- back ------------------------------------------------------------------------------------

FITTED = letterbox((200, 100), (64, 64), stride=32, rect=False)  # x · 0.32 + (0, 16)


def found(keypoints: Any, class_ids: Any = (0,), coefficients: Any = None) -> Instances:
    points = np.array(keypoints, np.float32)
    count = len(points)
    return Instances(
        np.tile(np.array([[16, 20, 48, 40]], np.float32), (count, 1)),
        np.linspace(0.9, 0.5, count, dtype=np.float32),
        np.array(class_ids, np.int64),
        points,
        np.zeros((count, 0), np.float32) if coefficients is None else coefficients,
    )


def test_boxes_and_keypoints_return_to_the_picture() -> None:
    skeletons = {0: Skeleton("two", ("a", "b"))}
    located = to_picture(found([[[32, 32, 0.4], [0, 16, 0.6]]]), FITTED, skeletons)
    np.testing.assert_allclose(located.boxes, [[50, 12.5, 150, 75]])
    np.testing.assert_allclose(located.keypoints, [[[100, 50], [0, 0]]])
    np.testing.assert_allclose(located.keypoint_scores, [[0.4, 0.6]])


def test_what_lies_outside_moves_to_the_edge_and_keeps_its_score() -> None:
    skeletons = {0: Skeleton("two", ("a", "b"))}
    located = to_picture(found([[[-5, 10, 0.1], [70, 60, 0.2]]]), FITTED, skeletons)
    np.testing.assert_allclose(located.keypoints, [[[0, 0], [200, 100]]])
    np.testing.assert_allclose(located.keypoint_scores, [[0.1, 0.2]])


def test_keypoints_without_a_score_of_their_own_are_certain() -> None:
    located = to_picture(found([[[32, 32]]]), FITTED, {0: Skeleton("one", ("a",))})
    np.testing.assert_array_equal(located.keypoint_scores, [[1]])


def test_slots_that_a_class_does_not_use_are_empty() -> None:
    skeletons = {0: Skeleton("two", ("a", "b")), 1: Skeleton("one", ("a",))}
    points = [[[32, 32, 0.5]] * 3] * 3
    located = to_picture(found(points, (1, 0, 2)), FITTED, skeletons)
    used = [[True, False], [True, True], [False, False]]
    np.testing.assert_array_equal(np.isfinite(located.keypoints).all(2), used)
    np.testing.assert_array_equal(located.keypoint_scores > 0, used)


def test_instances_with_an_empty_mask_are_dropped() -> None:
    coefficients = np.array([[-1], [1]], np.float32)
    instances = found(np.zeros((2, 0, 2)), (0, 1), coefficients)
    prototypes = np.ones((1, 16, 16), np.float32)
    located = to_picture(instances, FITTED, {}, prototypes=prototypes)
    assert located.class_ids.tolist() == [1]
    assert located.masks is not None
    assert located.masks.shape == (1, 64, 64)
    assert located.masks.sum() == 32 * 20


def test_masks_may_be_of_the_size_of_the_picture() -> None:
    instances = found(np.zeros((1, 0, 2)), (0,), np.ones((1, 1), np.float32))
    prototypes = np.ones((1, 16, 16), np.float32)
    located = to_picture(instances, FITTED, {}, prototypes=prototypes, retina_masks=True)
    assert located.masks is not None
    assert located.masks.shape == (1, 100, 200)
    assert located.masks.sum() == 100 * 62  # rows 12.5 <= y < 75


def test_without_prototypes_there_are_no_masks() -> None:
    assert to_picture(found([[[32, 32]]]), FITTED, {}).masks is None


# --- recorded cases --------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("index", range(5))
def test_inputs_equal_the_recorded_pixels(shared: Path, index: int) -> None:
    recorded = np.load(shared / "oracles/yolo_unit/letterbox_pixels.npz")
    height, width, rect, stride = recorded[f"args{index}"].tolist()
    spec = InputSpec("images", (width, height), stride=stride, pictures=True)
    way = "rect" if rect else "square"
    (pixels,) = inputs(spec, recorded[f"in{index}"], letterbox=way)
    np.testing.assert_array_equal(pixels, recorded[f"out{index}"])
