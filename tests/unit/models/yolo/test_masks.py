from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from openkeypoints.geometry import letterbox, letterbox_of
from openkeypoints.models.request import SettledRequest
from openkeypoints.models.yolo.decode import find
from openkeypoints.models.yolo.masks import input_masks, picture_masks
from openkeypoints.models.yolo.spec import OutputSpec

ONE = np.ones((1, 1), np.float32)


def halves(height: int, width: int) -> NDArray[np.float32]:
    """Return one prototype: its right half is inside."""
    values = np.where(np.arange(width) < width // 2, -1, 1)
    return np.broadcast_to(values, (1, height, width)).astype(np.float32)


def boxes(*box: float) -> NDArray[np.float32]:
    return np.array([box], np.float32)


def test_a_mask_is_cut_to_the_pixels_from_the_first_edge_up_to_the_second() -> None:
    (mask,) = input_masks(halves(8, 8), ONE, boxes(10.0, 3.5, 20.0, 6.5), (32, 32))
    expected = np.zeros((32, 32), np.bool_)
    expected[4:7, 16:20] = True  # the rows 4, 5, 6 lie in 3.5 <= y < 6.5
    np.testing.assert_array_equal(mask, expected)


def test_coefficients_weigh_the_prototypes() -> None:
    prototypes = np.concatenate([halves(8, 8), np.ones((1, 8, 8), np.float32)])
    coefficients = np.array([[-1, 0], [0, 1], [1, -5]], np.float32)
    found = input_masks(prototypes, coefficients, np.tile(boxes(0, 0, 32, 32), (3, 1)), (32, 32))
    assert found.sum(axis=(1, 2)).tolist() == [32 * 16, 32 * 32, 0]


@pytest.mark.parametrize("box", [(40, 0, 50, 9), (-9, -9, -1, -1), (9, 9, 3, 3)])
def test_a_box_without_pixels_has_an_empty_mask(box: tuple[float, ...]) -> None:
    found = input_masks(np.ones((1, 8, 8), np.float32), ONE, boxes(*box), (32, 32))
    assert not found.any()


def test_without_instances_masks_keep_their_shape() -> None:
    none = np.zeros((0, 1), np.float32), np.zeros((0, 4), np.float32)
    assert input_masks(halves(8, 8), *none, (32, 24)).shape == (0, 24, 32)
    fitted = letterbox((100, 50), (32, 32), stride=32, rect=False)
    assert picture_masks(halves(8, 8), *none, fitted).shape == (0, 50, 100)


def test_masks_of_the_picture_leave_out_the_padding() -> None:
    fitted = letterbox((160, 80), (32, 32), stride=32, rect=False)
    prototypes = np.full((1, 8, 8), -1, np.float32)
    prototypes[:, 2:6] = 1  # the picture between its two bands
    (mask,) = picture_masks(prototypes, ONE, boxes(0, 0, 160, 80), fitted)
    assert mask.shape == (80, 160)
    assert mask[8:72].all()


def test_masks_of_a_stretched_picture_fill_it() -> None:
    fitted = letterbox_of((160, 80), (32, 32), stretch=True)
    (mask,) = picture_masks(halves(8, 8), ONE, boxes(0, 0, 160, 80), fitted)
    assert mask[:, 80:].all()
    assert not mask[:, :80].any()


# --- recorded cases --------------------------------------------------------------------------


@pytest.mark.oracle
def test_masks_equal_the_recorded_ones(shared: Path) -> None:
    folder = shared / "oracles/yolo11_seg_narrow_random"
    recorded = np.load(folder / "raw.npz")
    results = json.loads((folder / "results.json").read_text())["results"]
    cases = [case for case in results if case["image"] == "IMG_4916.jpg"]
    assert len(cases) == 2
    fitted = letterbox((640, 360), (320, 320), stride=32, rect=True)
    rule = OutputSpec("columns", {}, "one2many", 3, coefficients=32)
    for case in cases:
        arguments = case["args"]
        limits = arguments["conf"], arguments["iou"]
        request = SettledRequest(*limits, max_detections=arguments["max_det"])
        found = find({"table": recorded["decoded"][0]}, rule, (320, 192), request)
        prototypes = recorded["proto"][0]
        if arguments.get("retina_masks"):
            inside = fitted.boxes_to_original(found.boxes)
            masks = picture_masks(prototypes, found.coefficients, inside, fitted)
        else:
            masks = input_masks(prototypes, found.coefficients, found.boxes, (320, 192))
        expected = np.stack([mask_from_runs(r, case["mask_shape"]) for r in case["masks_rle"]])
        shared_area = (masks & expected).sum(axis=(1, 2))
        assert (shared_area / (masks | expected).sum(axis=(1, 2)) > 0.999).all()


def mask_from_runs(runs: list[int], shape: Any) -> NDArray[np.bool_]:
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(shape)
