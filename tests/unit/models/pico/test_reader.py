"""The keypoint half: calibrated scores and the mirrored crop."""

from __future__ import annotations

import numpy as np
import pytest

from openkeypoints.models.pico.reader import PicoReader
from openkeypoints.models.pico.spec import PicoSpec


class SideSession:
    """Answers with two maps that follow the bright dots of the left and the right half."""

    runtime, device, precision = "double", "cpu", "f32"

    def __init__(self):
        self.inputs, self.outputs, self.runs, self.closed = {}, ("maps",), [], False

    def run(self, feeds):
        crops = feeds["images"]
        self.runs.append(crops)
        cells = crops.reshape(len(crops), 8, 8, 8, 8, 3).max((2, 4, 5)).astype(np.float32) / 16
        maps = np.stack([cells, cells], 1)
        maps[:, 0, :, 4:] = maps[:, 1, :, :4] = 0
        return {"maps": maps}

    def close(self):
        self.closed = True


def spec(calibration=((0, 1), (0, 1))):
    return PicoSpec(
        views={},
        detector_size=(64, 64),
        crop_size=(64, 64),
        fill=0.9,
        flip=(1, 0),
        calibration=np.array(calibration, float),
        confidence=0.3,
        iou_threshold=0.6,
        networks={},
        licence="x",
        card={},
    )


def crop():
    image = np.zeros((1, 64, 64, 3), np.uint8)
    image[0, 20, 12] = image[0, 44, 36] = 255
    return image


def test_the_score_is_the_calibrated_mass():
    plain = PicoReader(SideSession(), spec()).read(crop(), flip_test=False)
    half = PicoReader(SideSession(), spec([[0, 1], [0, 0.5]])).read(crop(), flip_test=False)
    assert np.allclose(half.scores, plain.scores / 2)
    assert plain.scores.min() > 0.99


def test_outside_the_knots_the_calibration_is_flat():
    read = PicoReader(SideSession(), spec([[0.2, 0.5], [0.1, 0.6]])).read(crop(), flip_test=False)
    assert read.scores.tolist() == [[pytest.approx(0.6), pytest.approx(0.6)]]


def test_the_mirrored_crop_is_read_with_partners_exchanged():
    # What is left in the crop is right in its mirror image: a network that knows its sides agrees
    # with itself only where the maps are mirrored back and the partners exchanged.
    session = SideSession()
    reader = PicoReader(session, spec())
    once, twice = (reader.read(crop(), flip_test=chosen) for chosen in (False, True))
    assert np.array_equal(session.runs[2], crop()[:, :, ::-1])
    assert np.allclose(once.points, [[[12, 20], [36, 44]]], atol=0.01)
    assert np.allclose(once.points, twice.points, atol=0.01)


def test_closing_closes_the_session():
    session = SideSession()
    PicoReader(session, spec()).close()
    assert session.closed
