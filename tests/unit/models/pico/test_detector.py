"""The detector half: letterbox in, boxes in pixels of the picture out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from openkeypoints.errors import InputError
from openkeypoints.geometry import letterbox
from openkeypoints.models.pico.detector import PicoDetector, fit
from openkeypoints.models.request import InferOptions, Request
from tests.drawn import dots, find_dot

SIDE = 40.0


class DotSession:
    """A detector whose boxes lie about the brightest red cell of its input."""

    runtime, device, precision = "double", "cpu", "f32"

    def __init__(self):
        self.inputs, self.outputs, self.sizes = {}, ("centers", "distances"), []

    def run(self, feeds):
        (image,) = feeds["images"]
        self.sizes.append(image.shape[1::-1])
        h, w = image.shape[0] // 8, image.shape[1] // 8
        centers = np.full((1, 2, h, w), -6.0, np.float32)
        distances = np.zeros((1, 4, h, w), np.float32)
        for class_id, channel in ((0, 0), (1, 2)):
            if (dot := find_dot(image, channel)) is not None:
                col, row = (dot // 8).astype(int)
                middle = np.array([col + 0.5, row + 0.5]) * 8
                off = (dot - middle) / 8
                centers[0, class_id, row, col] = 2.0 - class_id
                sides = np.array([*(SIDE / 16 - off), *(SIDE / 16 + off)])
                distances[0, :, row, col] = np.log(sides)
        return {"centers": centers, "distances": distances}

    def close(self):
        pass


def spec(size_exponent=0.0):
    return SimpleNamespace(
        detector_size=(256, 256),
        confidence=0.3,
        iou_threshold=0.6,
        licence="none",
        size_exponent=size_exponent,
    )


def find(size, point, *, options=None, confidence=None, class_ids=None, blue=()):
    session = DotSession()
    detector = PicoDetector(session, spec(), "double", ("a", "b"))
    request = Request(confidence, class_filter=class_ids, options=options or InferOptions())
    picture = dots(size, [point, *blue], radius=max(size) / 50)
    (found,) = detector.detect([picture], request)
    return found, session.sizes[0]


def test_the_size_of_a_box_counts_where_the_model_says_so():
    plain = PicoDetector(DotSession(), spec(), "double", ("a", "b"))
    weighed = PicoDetector(DotSession(), spec(0.25), "double", ("a", "b"))
    request = Request(0.1)
    picture = dots((640, 480), [(320, 240)], radius=13)
    (first,) = plain.detect([picture], request)
    (second,) = weighed.detect([picture], request)
    covered = np.prod(first.boxes[0, 2:] - first.boxes[0, :2]) / (640 * 480)
    assert np.array_equal(first.boxes, second.boxes)
    assert second.scores[0] == pytest.approx(first.scores[0] * covered**0.25, rel=0.02)


@pytest.mark.parametrize("size", [(640, 480), (300, 700), (256, 256), (100, 60)])
@pytest.mark.parametrize("shape", ["rect", "square"])
def test_boxes_return_to_pixels_of_the_picture(size, shape):
    point = (0.55 * size[0], 0.4 * size[1])
    found, _ = find(size, point, options=InferOptions(letterbox=shape))
    scale = min(256 / size[0], 256 / size[1])
    middle = (found.boxes[0, :2] + found.boxes[0, 2:]) / 2
    assert np.abs(middle - point).max() < 0.5 / min(scale, 1)
    assert found.boxes[0, 2] - found.boxes[0, 0] == pytest.approx(SIDE / scale, rel=0.02)


def test_rect_pads_to_the_stride_and_square_to_the_whole_input():
    assert find((640, 300), (320, 150))[1] == (256, 128)
    square = InferOptions(letterbox="square")
    assert find((640, 300), (320, 150), options=square)[1] == (256, 256)


def test_the_input_size_is_a_choice():
    options = InferOptions(input_size=(320, 192), letterbox="square")
    assert find((640, 480), (300, 200), options=options)[1] == (320, 192)


@pytest.mark.parametrize("size", [(100, 128), (16, 16)])
def test_an_input_size_that_does_not_fit_the_stride_is_refused(size):
    with pytest.raises(InputError, match="multiples of 32"):
        find((640, 480), (300, 200), options=InferOptions(input_size=size))


def test_boxes_end_at_the_edge_of_the_picture():
    found, _ = find((256, 256), (10, 250))
    assert found.boxes[0].tolist() == pytest.approx([0, 230, 30, 256], abs=0.6)


def test_weak_cells_are_no_finds():
    assert len(find((256, 256), (100, 100), confidence=0.95)[0].boxes) == 0


def test_classes_are_told_apart_and_filtered():
    both, _ = find((256, 256), (60, 60), blue=[(180, 180)])
    assert both.class_ids.tolist() == [0, 1]
    one, _ = find((256, 256), (60, 60), blue=[(180, 180)], class_ids=(1,))
    assert one.class_ids.tolist() == [1]


def test_overlapping_boxes_of_two_classes_stay_unless_said_otherwise():
    close = [(64, 60)]
    assert len(find((256, 256), (60, 60), blue=close)[0].boxes) == 2
    agnostic = InferOptions(class_agnostic=True)
    assert len(find((256, 256), (60, 60), blue=close, options=agnostic)[0].boxes) == 1


def test_fit_places_the_picture_where_the_letterbox_says():
    box = letterbox((200, 100), (96, 96), stride=32, rect=False)
    fitted = fit(dots((200, 100), [(150, 30)], radius=8), box)
    dot = find_dot(fitted, 0)
    assert fitted.shape == (96, 96, 3)
    assert np.abs(box.to_original(dot) - [150, 30]).max() < 0.3
