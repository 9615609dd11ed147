"""Networks that answer NaN or infinity: no boxes, and keypoints that are missing."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import openkeypoints as okp
from openkeypoints.formats import FORMATS
from openkeypoints.models.pico.process import decode_centers, decode_maps
from openkeypoints.models.request import InferOptions
from openkeypoints.weights.okp import open_okp, write_okp

NAN, INF = float("nan"), float("inf")
PICTURE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
MEMBERS = [f"{part}.{kind}" for part in ("detector", "pose") for kind in ("onnx", "safetensors")]
pytestmark = pytest.mark.parametrize("broken", [NAN, INF, -INF])


@pytest.fixture(params=["openvino", "onnxruntime"])
def broken_model(request, tiny_okp, tmp_path):
    """Return a function that opens the tiny model with outputs that all are one number."""

    def opened(part, names, number):
        file = open_okp(tiny_okp)
        members = {name: file.read(name) for name in MEMBERS}
        members[f"{part}.onnx"] = answering(members[f"{part}.onnx"], names, number)
        record = {k: v for k, v in file.model.items() if k not in ("format", "version")}
        write_okp(tmp_path / "broken.okp", record, members)
        return okp.get_model(tmp_path / "broken.okp", runtime=request.param)

    return opened


def answering(graph, names, number):
    """Return a graph some of whose outputs are one number everywhere."""
    model = onnx.load_from_string(graph)
    for name in names:
        for node in model.graph.node:
            node.output[:] = [f"{n}.before" if n == name else n for n in node.output]
        model.graph.initializer.append(
            numpy_helper.from_array(np.float32(number), f"{name}.broken")
        )
        model.graph.node.append(
            helper.make_node("Where", [f"{name}.yes", f"{name}.broken", f"{name}.before"], [name])
        )
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), f"{name}.yes"))
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.mark.parametrize("names", [["centers"], ["distances"], ["centers", "distances"]])
def test_a_detector_without_numbers_finds_nothing(broken_model, broken, names):
    with broken_model("detector", names, broken) as model:
        assert len(model.infer(PICTURE, confidence=0)[0]) == 0


@pytest.mark.parametrize("flip_test", [False, True])
def test_keypoints_that_are_no_numbers_are_missing(broken_model, broken, flip_test):
    boxes = [np.array([[5, 5, 40, 55], [30, 2, 78, 50]], np.float32)]
    with broken_model("pose", ["maps"], broken) as model:
        options = InferOptions(boxes=boxes, flip_test=flip_test)
        (found,) = model.infer(PICTURE, options=options)
    assert len(found) == 2
    assert np.isnan(found.keypoints).all()
    assert not found.keypoint_scores.any()
    for format in FORMATS:
        text = okp.dump(found, format)
        assert "NaN" not in (text if isinstance(text, str) else json.dumps(text))
    assert okp.draw(PICTURE, found).shape == PICTURE.shape


def test_a_cell_that_is_no_number_leaves_its_neighbours_alone(broken):
    centers = np.full((1, 6, 6), -9, np.float32)
    centers[0, 2, 2] = 2
    distances = np.zeros((4, 6, 6), np.float32)
    expected = decode_centers(centers, distances, threshold=0.5)
    assert len(expected.scores) == 1
    centers[0, 2, 3], distances[1, 3, 2] = broken, broken
    for one, other in zip(decode_centers(centers, distances, threshold=0.5), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_box_that_is_no_number_is_dropped(broken):
    centers = np.full((1, 6, 6), -9, np.float32)
    centers[0, 2, 2] = 2
    distances = np.zeros((4, 6, 6), np.float32)
    distances[3, 2, 2] = broken
    assert len(decode_centers(centers, distances, threshold=0.5).scores) == 0


def test_a_map_with_a_number_that_is_none_leaves_the_other_maps_alone(broken):
    maps = np.random.default_rng(0).normal(size=(1, 2, 8, 8)).astype(np.float32)
    expected = decode_maps(maps)
    maps[0, 0, 3, 3] = broken
    found = decode_maps(maps)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one[0, 1], other[0, 1])
    # Least of all is what a map may say of a cell.
    assert np.isfinite(found.points[0, 0]).all() == (broken == -INF)
