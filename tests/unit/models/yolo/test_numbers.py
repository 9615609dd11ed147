"""Networks that answer NaN or infinity: what is no number is no instance, and harms no other."""

from __future__ import annotations

import json

import numpy as np
import pytest

import openkeypoints as okp
from openkeypoints.geometry import letterbox
from openkeypoints.models.request import InferOptions, SettledRequest
from openkeypoints.models.yolo.decode import find
from openkeypoints.models.yolo.process import to_picture
from openkeypoints.models.yolo.spec import OutputSpec
from openkeypoints.settings import Settings
from tests.yolo_graphs import POSE, columns, rows, write_onnx

NAN, INF = float("nan"), float("inf")
BROKEN = (NAN, INF, -INF)
PICTURE = np.full((64, 64, 3), 90, np.uint8)
SEGMENT = {"task": "segment", "stride": "32", "names": "{0: 'tube'}"}
RUNTIMES = ("openvino", "onnxruntime")
pytestmark = pytest.mark.parametrize("broken", BROKEN)


@pytest.fixture(params=RUNTIMES)
def ask(request, tmp_path):
    """Return a function that gives the answer of a graph with a table."""

    def answer(table, metadata=POSE, **choices):
        options = choices.pop("options", None)
        path = write_onnx(tmp_path / "model.onnx", table, metadata=metadata, **choices)
        settings = Settings(cache_dir=tmp_path / "cache")
        with okp.get_model(path, runtime=request.param, settings=settings) as model:
            (found,) = model.infer(PICTURE, options=options)
        return found

    return answer


def with_another(table, layout):
    """Return a table with a third instance, stronger than the others and on the first of them."""
    made = table.copy()
    if layout == "columns":
        made[0, :, 7] = made[0, :, 0]
        made[0, 4, 7] = 0.95
    else:
        made[0, 7] = made[0, 0]
        made[0, 7, 4] = 0.95
    return made


def put(table, layout, place, number):
    made = with_another(table, layout)
    made[(0, place, 7) if layout == "columns" else (0, 7, place)] = number
    return made


def assert_same(found, expected):
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.keypoints, expected.keypoints)


@pytest.mark.parametrize("place", range(5), ids=["x", "y", "width", "height", "score"])
def test_a_column_whose_box_or_score_is_no_number_is_dropped(ask, broken, place):
    expected = ask(columns(11))
    assert_same(ask(put(columns(11), "columns", place, broken)), expected)


@pytest.mark.parametrize("place", range(6), ids=["x1", "y1", "x2", "y2", "score", "class"])
@pytest.mark.parametrize("said", [{"end2end": "True"}, {"args": "{'nms': True}"}])
def test_a_row_whose_box_score_or_class_is_no_number_is_dropped(ask, broken, place, said):
    expected = ask(rows(12), POSE | said)
    assert_same(ask(put(rows(12), "rows", place, broken), POSE | said), expected)


@pytest.mark.parametrize(("layout", "first"), [("columns", 5), ("rows", 6)])
@pytest.mark.parametrize("value", range(3), ids=["x", "y", "score"])
def test_a_keypoint_that_is_no_number_is_missing(ask, broken, layout, first, value):
    table, metadata = columns(11), POSE
    if layout == "rows":
        table, metadata = rows(12), POSE | {"end2end": "True"}
    found = ask(put(table, layout, first + value, broken), metadata)
    assert found.scores[0] == np.float32(0.95)
    assert np.isnan(found.keypoints[0, 0]).all()
    assert found.keypoint_scores[0, 0] == 0
    assert np.isfinite(found.keypoints[0, 1]).all()
    for format in ("roboflow", "ultralytics", "coco", "openkeypoints"):
        text = okp.dump(found, format)
        assert "NaN" not in (text if isinstance(text, str) else json.dumps(text))


@pytest.mark.parametrize("layout", ["columns", "rows"])
@pytest.mark.parametrize("retina", [False, True])
def test_an_instance_whose_mask_is_no_number_is_dropped(ask, broken, layout, retina):
    table, first = (columns(37), 5) if layout == "columns" else (rows(38), 6)
    choices = {
        "metadata": SEGMENT,
        "prototypes": np.ones((1, 32, 16, 16), np.float32),
        "options": InferOptions(retina_masks=retina),
    }
    expected = ask(table, **choices)
    assert len(expected) == 2
    assert_same(ask(put(table, layout, first + 3, broken), **choices), expected)


def test_prototypes_that_are_no_numbers_give_no_empty_masks(ask, broken):
    prototypes = np.full((1, 32, 16, 16), broken, np.float32)
    found = ask(columns(37), metadata=SEGMENT, prototypes=prototypes)
    assert np.isfinite(found.boxes).all()
    assert found.masks.any(axis=(1, 2)).all()


@pytest.mark.parametrize("table", [columns(11), rows(12)], ids=["columns", "rows"])
def test_a_network_that_answers_nothing_else_finds_nothing(ask, broken, table):
    metadata = POSE if table.shape[1] == 11 else POSE | {"end2end": "True"}
    assert len(ask(np.full_like(table, broken), metadata)) == 0


# The raw outputs of our own graphs

SIZE, ANCHORS = (64, 64), 84
LAYOUT = OutputSpec("maps", {}, "one2many", 2, keypoints=(2, 3))


def maps():
    random = np.random.default_rng(0)
    scores = np.full((2, ANCHORS), -9, np.float32)
    scores[0, [3, 60]] = (2, 1)
    return {
        "boxes": random.normal(size=(64, ANCHORS)).astype(np.float32),
        "scores": scores,
        "keypoints": random.normal(size=(6, ANCHORS)).astype(np.float32),
    }


def found_in(values, head):
    spec = OutputSpec("maps", {}, head, 2, keypoints=(2, 3))
    return find(values, spec, SIZE, SettledRequest(0.25, 0.7))


@pytest.mark.parametrize("head", ["one2many", "one2one"])
@pytest.mark.parametrize(("role", "place"), [("boxes", 0), ("boxes", 63), ("scores", 1)])
def test_an_anchor_whose_box_or_score_is_no_number_is_dropped(broken, head, role, place):
    expected = found_in(maps(), head)
    values = maps()
    values["scores"][0, 30] = 3
    values[role][place, 30] = broken
    if (role, broken) in (("scores", -INF), ("boxes", -INF)):
        # Least of all scores, or a distance that is surely not this one: still numbers.
        assert len(found_in(values, head).scores) == len(expected.scores) + 1
        return
    for one, other in zip(found_in(values, head), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("head", ["one2many", "one2one"])
def test_anchors_without_numbers_leave_room_for_the_others(broken, head):
    values = maps()
    values["scores"][:, np.setdiff1d(np.arange(ANCHORS), [3, 60])] = broken
    assert len(found_in(values, head).scores) == 2


def test_keypoints_of_anchors_that_are_no_numbers_are_missing(broken):
    values = maps()
    values["keypoints"][0, 3] = broken
    found = found_in(values, "one2many")
    skeletons = {i: okp.models.yolo.names.skeletons_for(("a", "b"), 2)[i] for i in range(2)}
    located = to_picture(found, letterbox(SIZE, SIZE, stride=32, rect=True), skeletons)
    assert np.isnan(located.keypoints[0, 0]).all()
    assert located.keypoint_scores[0, 0] == 0
    assert np.isfinite(located.keypoints[0, 1]).all()


@pytest.mark.parametrize("class_id", [1, -1, 80])
def test_a_row_of_a_class_that_is_not_there_is_dropped(ask, broken, class_id):
    metadata = POSE | {"end2end": "True"}
    table = put(rows(12), "rows", 5, class_id)
    table[0, 9, 4] = broken
    assert_same(ask(table, metadata), ask(rows(12), metadata))
