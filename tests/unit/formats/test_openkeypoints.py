from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from openkeypoints.errors import FormatError, InputError
from openkeypoints.formats import dumps, load, openkeypoints
from tests.unit.predictions import people


def test_numbers_are_as_short_as_their_precision_allows() -> None:
    prediction = replace(people(1), scores=np.array([0.9], np.float32))
    assert openkeypoints.dump(prediction)["instances"][0]["score"] == 0.9


def test_empty_arrays_keep_their_shapes() -> None:
    empty = load(dumps(people(2, full=True)[[]], "openkeypoints"), "openkeypoints")
    assert empty.keypoints.shape == (0, 17, 2)
    assert empty.covariances is not None
    assert empty.covariances.shape == (0, 17, 2, 2)
    assert empty.masks is not None
    assert empty.masks.shape == (0, 6, 9)
    assert empty.track_ids is not None
    assert set(empty.extras) == {"plain_scores", "original_order"}


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, 3e38, 1e-40])
def test_unusual_floats_come_back(fill: float) -> None:
    keypoints = np.full((1, 17, 2), fill, np.float32)
    extras = {"spread": np.full((1, 3), fill, np.float64)}
    prediction = replace(people(1), keypoints=keypoints, extras=extras)
    loaded = load(dumps(prediction, "openkeypoints"), "openkeypoints")
    np.testing.assert_array_equal(loaded.keypoints, keypoints)
    np.testing.assert_array_equal(loaded.extras["spread"], extras["spread"])


@pytest.mark.parametrize("value", [False, True])
def test_uniform_masks_come_back(value: bool) -> None:
    masks = np.full((2, 3, 5), value)
    loaded = load(dumps(replace(people(2), masks=masks), "openkeypoints"), "openkeypoints")
    assert loaded.masks is not None
    np.testing.assert_array_equal(loaded.masks, masks)


def test_the_threshold_is_written_and_hides_nothing() -> None:
    prediction = replace(people(1), keypoint_confidence=0.99)
    loaded = load(dumps(prediction, "openkeypoints"), "openkeypoints")
    assert loaded.keypoint_confidence == 0.99
    np.testing.assert_array_equal(loaded.keypoints, prediction.keypoints)


def test_details_become_plain_values() -> None:
    @dataclass
    class Padding:
        left: int

    details = {"padding": Padding(3), "sizes": (np.int64(4), {"a": [1.5]}), "none": None}
    prediction = replace(people(1), details=details)
    loaded = load(dumps(prediction, "openkeypoints"), "openkeypoints")
    assert loaded.details == {"padding": {"left": 3}, "sizes": (4, {"a": (1.5,)}), "none": None}


def test_extras_that_json_cannot_hold_are_refused() -> None:
    prediction = replace(people(1), extras={"names": np.array(["x"])})
    with pytest.raises(InputError, match="extras of type"):
        openkeypoints.dump(prediction)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("version", 2, "version is 2; it must be a whole number from 1 to 1"),
        ("format", "roboflow", "format is 'roboflow'"),
        ("mask_size", [10**6, 10**6], "mask_size"),
        ("keypoint_slots", 4, r"instances\[0\].keypoints"),
        ("class_names", [], "the parts do not fit"),
        ("skeletons", {"person": {}}, "must be a class id"),
    ],
)
def test_a_document_that_does_not_fit_is_refused(name: str, value: object, message: str) -> None:
    data = {**openkeypoints.dump(people(2, full=True)), name: value}
    with pytest.raises(FormatError, match=message):
        openkeypoints.load(data)


def test_a_mask_of_another_area_is_refused() -> None:
    data = openkeypoints.dump(people(2, full=True))
    data["instances"][1]["mask"] = [10**12]
    with pytest.raises(FormatError, match=r"instances\[1\].mask .* add up to 54"):
        openkeypoints.load(data)
