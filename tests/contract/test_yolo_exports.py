"""Exports that the vendor's software, and Roboflow's, wrote: their numbers come out of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import openvino as ov
import pytest
import yaml

from openkeypoints.geometry import iou_matrix
from openkeypoints.images import read_image
from openkeypoints.models import ModelSpec, open_model
from openkeypoints.models.export import TOLERANCE, export
from openkeypoints.models.request import SettledRequest
from openkeypoints.models.yolo.exports import read_export
from openkeypoints.models.yolo.predictor import YoloPredictor
from openkeypoints.runtimes import open_session
from openkeypoints.settings import Settings

pytestmark = pytest.mark.oracle

STATIC = "yolov8n_pose_tubes/model_static320.onnx"
FUSED = "yolov8_pose_narrow_onnx_nms_fp16/model.onnx"
RUNTIMES = ("openvino", "onnxruntime")


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    return request.param


@pytest.fixture
def settings(tmp_path_factory):
    return Settings(cache_dir=tmp_path_factory.getbasetemp() / "yolo-cache")


def raw(path, runtime, pixels):
    """Return the table that an export answers for planes (N, 3, H, W) of RGB pixels."""
    spec, artifact = read_export(path, {})
    session = open_session(artifact, runtime=runtime, device="cpu", precision="f32")
    (output,) = spec.outputs.values()
    feeds = {spec.input.name: pixels.astype(np.float32) / 255}
    return session.run(feeds)[output.names["table"]]


def predictor(path, runtime="openvino"):
    spec, artifact = read_export(path, {})
    return YoloPredictor(
        spec, lambda _: open_session(artifact, runtime=runtime, precision="f32"), path.name
    )


def picture(shared, name):
    return read_image(str(shared / "oracles/yolo_images" / name), settings=Settings())


def rows_of(shared, path):
    data = json.loads((shared / "oracles" / path).with_name("results_onnx.json").read_text())
    name = path.rpartition("/")[2]
    return [row for row in data["results"] if row.get("model", name) == name]


def request_of(row):
    return SettledRequest(row["args"].get("conf", 0.25), row["args"].get("iou", 0.7))


def assert_static_results(found, row):
    assert len(found) == len(row["conf"])
    truth = np.array(row["keypoints"], np.float32)
    np.testing.assert_allclose(found.boxes, row["boxes_xyxy"], atol=0.05)
    np.testing.assert_allclose(found.scores, row["conf"], atol=1e-4)
    np.testing.assert_allclose(found.keypoints, truth[..., :2], atol=0.05)
    np.testing.assert_allclose(found.keypoint_scores, truth[..., 2], atol=1e-4)


def test_the_static_export_gives_the_vendors_table(shared, runtime):
    stored = np.load(shared / "oracles/yolov8n_pose_tubes/onnx.npz")
    found = raw(shared / "oracles" / STATIC, runtime, stored["static_input_uint8"][None])
    np.testing.assert_allclose(found[:, :4], stored["static_output0"][:, :4], atol=0.02)
    np.testing.assert_allclose(found[:, 4], stored["static_output0"][:, 4], atol=1e-4)
    np.testing.assert_allclose(found[:, 5:], stored["static_output0"][:, 5:], atol=0.02)


def test_the_static_export_gives_the_vendors_results(shared, runtime):
    opened = predictor(shared / "oracles" / STATIC, runtime)
    for row in rows_of(shared, STATIC):
        (found,) = opened.predict([picture(shared, row["image"])], request_of(row))
        assert found.details["letterbox"] == "square"
        assert_static_results(found, row)


def test_an_openvino_folder_of_it_gives_the_vendors_results(shared, tmp_path):
    source = shared / "oracles" / STATIC
    metadata = {entry.key: entry.value for entry in onnx.load(source).metadata_props}
    native = metadata | {
        key: yaml.safe_load(metadata[key]) for key in ("stride", "batch", "imgsz", "kpt_shape")
    }
    native |= {"names": {0: "glue_tube"}, "kpt_names": {0: ["head", "tail"]}, "end2end": False}
    native |= {"args": {"nms": None, "dynamic": False}}
    model = ov.Core().read_model(str(source))
    for port, names in ((model.input(0), {"x.1"}), (model.output(0), set())):
        port.get_tensor().set_names(names)
    ov.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    (tmp_path / "metadata.yaml").write_text(yaml.safe_dump(native))
    opened = predictor(tmp_path)
    for row in rows_of(shared, STATIC):
        (found,) = opened.predict([picture(shared, row["image"])], request_of(row))
        assert found.skeletons[0].keypoints == ("head", "tail")
        assert_static_results(found, row)


def test_the_export_with_embedded_suppression_gives_the_vendors_results(shared, runtime):
    opened = predictor(shared / "oracles" / FUSED, runtime)
    for row in rows_of(shared, FUSED):
        (found,) = opened.predict([picture(shared, row["image"])], request_of(row))
        assert found.details["head"] == "embedded-nms"
        truth = np.array(row["boxes_xyxy"], np.float32).reshape(-1, 4)
        # Scores have 16 bits: what lies near a limit may be there or not.
        assert abs(len(found) - len(truth)) <= max(1, len(truth) // 20)
        assert_matched(found, truth, row)


def assert_matched(found, truth, row):
    """Compare with the instance of the same class that overlaps by 0.9 or more."""
    overlaps = iou_matrix(truth, found.boxes)
    overlaps[np.array(row["cls"])[:, None] != found.class_ids] = 0
    best = overlaps.argmax(axis=1)
    matched = overlaps.max(axis=1) >= 0.9
    assert matched.mean() >= 0.95
    points = np.array(row["keypoints"], np.float32)[matched]
    other = best[matched]
    boxes = np.abs(found.boxes[other] - truth[matched]).max(axis=1)
    keypoints = np.abs(found.keypoints[other] - points[..., :2]).max(axis=(1, 2))
    scores = np.abs(found.scores[other] - np.array(row["conf"])[matched])
    # 1.5 px of the network's input, of which the picture has twice as many. Where hundreds overlap
    # a neighbour with nearly the same box is often kept instead, so the best ones have to hold.
    near = (boxes <= 3) & (keypoints <= 3) & (scores <= 0.005)
    assert near[:5].all()
    assert near.mean() >= 0.75


def test_a_package_of_the_synthetic_model_gives_its_numbers(shared, tmp_path, runtime):
    script = shared / "contracts/roboflow_exchanges/make_synthetic_model.py"
    subprocess.run([sys.executable, script, tmp_path / "pose-3"], check=True)
    opened = predictor(tmp_path / "pose-3", runtime)
    (found,) = opened.predict([np.zeros((320, 640, 3), np.uint8)], SettledRequest(0.4, 0.3))
    assert len(found) == 2
    expected = [220.05, 85.2875, 420.55, 235.4125]  # half as high as the network's input
    np.testing.assert_allclose(found.boxes[0], expected, atol=1e-3)
    assert found.skeletons[0].keypoints[0] == "nose"


# Our own


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "format", "precision"),
    [
        ("yolov8n_pose_tubes", "onnx", "f32"),
        ("yolov8n_pose_tubes", "openvino", "fp16"),
        ("yolo11n_pose_tubes", "openvino", "f32"),
        ("yolo26n_pose_tubes", "onnx", "fp16"),
    ],
)
def test_our_exports_answer_like_the_checkpoint(
    shared, tmp_path, settings, name, format, precision
):
    path, allowed = shared / "oracles" / name / "model.pt", TOLERANCE[precision]
    out = tmp_path / ("model.onnx" if format == "onnx" else "model")
    spec = ModelSpec(str(path), precision="f32")
    done = export(spec, out, format=format, precision=precision, settings=settings)
    assert done.difference.instances == 150 * len(done.runtimes)
    wide, tall = (picture(shared, n) for n in ("IMG_4916.jpg", "IMG_4925.jpg"))
    pictures = [wide, tall, wide[:, 140:500]]
    with open_model(spec, settings) as original:
        expected = original.infer(pictures, color="rgb")
    for runtime in done.runtimes:
        with open_model(replace(spec, model=str(done.path), runtime=runtime), settings) as artefact:
            assert artefact.skeletons == original.skeletons
            found = artefact.infer(pictures, color="rgb")
        for one, other in zip(expected, found, strict=True):
            assert len(one) == len(other) > 0
            assert np.abs(one.boxes - other.boxes).max() < allowed.pixels
            assert np.abs(one.keypoints - other.keypoints).max() < allowed.pixels
            assert np.abs(one.scores - other.scores).max() < allowed.score
