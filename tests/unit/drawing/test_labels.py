from __future__ import annotations

import numpy as np

from openkeypoints.drawing.labels import Labels, write_name


def fields(canvas: np.ndarray) -> list[int]:
    """Return how many pixels each colour of a label's field has."""
    return [int((canvas == color).all(axis=-1).sum()) for color in ((0, 200, 0), (0, 0, 200))]


def test_a_label_stands_above_its_box() -> None:
    canvas = np.zeros((100, 200, 3), np.uint8)
    Labels(canvas).add("person 0.90", (20, 50, 120, 90), (0, 200, 0), 12)
    rows = np.flatnonzero(canvas.any(axis=(1, 2)))
    assert rows.max() == 49


def test_a_label_without_room_above_stays_within_the_picture() -> None:
    canvas = np.zeros((100, 200, 3), np.uint8)
    Labels(canvas).add("person 0.90", (150, -30, 400, 90), (0, 200, 0), 12)
    assert fields(canvas)[0] > 100


def test_labels_of_the_same_box_do_not_cover_each_other() -> None:
    canvas = np.zeros((100, 200, 3), np.uint8)
    labels = Labels(canvas)
    labels.add("person 0.90", (20, 30, 120, 70), (0, 200, 0), 12)
    before = fields(canvas)[0]
    labels.add("person 0.80", (20, 30, 120, 70), (0, 0, 200), 12)
    assert fields(canvas)[0] == before
    assert fields(canvas)[1] > 100


def test_names_may_reach_outside_the_picture() -> None:
    canvas = np.full((20, 20, 3), 90, np.uint8)
    for place in ((-30.0, 2.0), (10.0, 19.0), (500.0, 5.0)):
        write_name(canvas, "left_wrist", place, 9)
    assert (canvas != 90).any()
