"""From pictures to predictions, against what the original answered for the same files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from openkeypoints.geometry import iou_matrix
from openkeypoints.images import read_image
from openkeypoints.models.request import InferOptions, SettledRequest
from openkeypoints.models.yolo.checkpoint import (
    Checkpoint,
    heads,
    input_spec,
    output_spec,
    read_checkpoint,
)
from openkeypoints.models.yolo.decode import find
from openkeypoints.models.yolo.graph import write_graph
from openkeypoints.models.yolo.predictor import YoloPredictor
from openkeypoints.models.yolo.process import fit, to_picture
from openkeypoints.models.yolo.spec import Head, InputSpec, OutputSpec, YoloSpec
from openkeypoints.results import Image, Prediction, Skeleton
from openkeypoints.runtimes import Artifact, Session, open_session
from openkeypoints.settings import Settings

TRAINED = (
    "yolov8n_pose_tubes",
    "yolo11n_pose_tubes",
    "yolo26n_pose_tubes",
    "yolov8n_pose_official_layout",
)
DRAWN = ("yolo26n_detect_random", "yolo11_seg_narrow_random")
PICTURES = ("IMG_4916.jpg", "IMG_4925.jpg", "IMG_4932.jpg")

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def oracles(shared: Path) -> Path:
    return shared / "oracles"


@pytest.fixture(scope="module")
def picture(oracles: Path) -> Callable[[str], Image]:
    return cache(lambda name: read_image(oracles / "yolo_images" / name, settings=Settings()))


@pytest.fixture(scope="module")
def opened(oracles: Path) -> Any:
    """Return a function: folder, runtime -> predictor, opened once."""
    predictors: dict[tuple[str, str], YoloPredictor] = {}

    def get(folder: str, runtime: str) -> YoloPredictor:
        if (folder, runtime) not in predictors:
            checkpoint = read_checkpoint(oracles / folder / "model.pt")
            predictors[folder, runtime] = predictor(checkpoint, folder, runtime)
        return predictors[folder, runtime]

    yield get
    for model in predictors.values():
        model.close()


def predictor(checkpoint: Checkpoint, name: str, runtime: str) -> YoloPredictor:
    count = checkpoint.keypoint_shape[0] if checkpoint.keypoint_shape else 0
    skeleton = Skeleton("points", tuple(str(i) for i in range(count)))
    spec = YoloSpec(
        task=checkpoint.task,
        class_names=checkpoint.class_names,
        skeletons=dict.fromkeys(range(len(checkpoint.class_names)), skeleton) if count else {},
        input=input_spec(checkpoint),
        outputs={head: output_spec(checkpoint, head) for head in heads(checkpoint)},
    )

    def open_head(head: Head) -> Session:
        artifact = Artifact(write_graph(checkpoint, head), name)
        return open_session(artifact, runtime=runtime, precision="f32", threads=1)

    return YoloPredictor(spec, open_head, name)


def recorded(folder: Path, file: str = "results.json") -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((folder / file).read_text())["results"]
    return cases


def request_of(arguments: dict[str, Any]) -> SettledRequest:
    """Translate the arguments of the original."""
    size = arguments["imgsz"]
    height, width = size if isinstance(size, list) else (size, size)
    options = InferOptions(
        input_size=(width, height),
        letterbox="square" if arguments.get("rect") is False else None,
        end2end=True if arguments.get("nms") is False else None,
        class_agnostic=arguments.get("agnostic_nms", False),
        retina_masks=arguments.get("retina_masks", False),
    )
    return SettledRequest(
        confidence=arguments["conf"],
        iou_threshold=arguments.get("iou", 0.7),
        max_detections=arguments.get("max_det", 300),
        class_filter=tuple(arguments["classes"]) if "classes" in arguments else None,
        options=options,
    )


def assert_same(found: Prediction, case: dict[str, Any], *, confidence: float = 1e-4) -> None:
    assert found.class_ids.tolist() == [int(c) for c in case["cls"]]
    boxes = np.array(case["boxes_xyxy"]).reshape(-1, 4)
    np.testing.assert_allclose(found.boxes, boxes, rtol=0, atol=0.05)
    np.testing.assert_allclose(found.scores, case["conf"], rtol=0, atol=confidence)
    points = np.array(case["keypoints"]).reshape(*found.keypoint_scores.shape, 3)
    np.testing.assert_allclose(found.keypoints, points[..., :2], rtol=0, atol=0.05)
    np.testing.assert_allclose(found.keypoint_scores, points[..., 2], rtol=0, atol=confidence)


# --- trained networks ------------------------------------------------------------------------


@pytest.mark.parametrize("folder", TRAINED)
def test_trained_networks_answer_as_recorded(
    folder: str, oracles: Path, opened: Any, picture: Any
) -> None:
    check_trained(opened(folder, "openvino"), oracles / folder, picture)


def test_trained_networks_answer_the_same_in_the_other_runtime(
    oracles: Path, opened: Any, picture: Any
) -> None:
    folder = "yolo26n_pose_tubes"
    check_trained(opened(folder, "onnxruntime"), oracles / folder, picture)


def check_trained(model: YoloPredictor, folder: Path, picture: Any) -> None:
    cases = recorded(folder)
    assert len(cases) >= 9
    for case in cases:
        (found,) = model.predict([picture(case["image"])], request_of(case["args"]))
        assert_same(found, case)
        if "input_shape" in case:
            assert [*found.details["input_size"]] == case["input_shape"][:1:-1]
        head = "one2one" if case["args"].get("nms") is False else "one2many"
        assert found.details["head"] == head


def test_pictures_of_one_call_answer_as_one_by_one(opened: Any, picture: Any) -> None:
    model = opened("yolov8n_pose_tubes", "openvino")
    pictures = [picture(name) for name in (*PICTURES, PICTURES[1])]
    request = request_of({"imgsz": 320, "conf": 0.25})
    for image, found in zip(pictures, model.predict(pictures, request), strict=True):
        (alone,) = model.predict([image], request)
        np.testing.assert_allclose(found.boxes, alone.boxes, rtol=0, atol=1e-3)
        np.testing.assert_allclose(found.keypoints, alone.keypoints, rtol=0, atol=1e-3)


def test_a_checkpoint_answers_as_its_exports_did(oracles: Path, opened: Any, picture: Any) -> None:
    model = opened("yolov8n_pose_tubes", "openvino")
    cases = recorded(oracles / "yolov8n_pose_tubes", "results_onnx.json")
    assert len(cases) == 6
    for case in cases:
        way = {"rect": False} if "static" in case["model"] else {}
        request = request_of(case["args"] | way)
        (found,) = model.predict([picture(case["image"])], request)
        assert_same(found, case, confidence=1e-3)


# --- networks with random numbers ------------------------------------------------------------


@pytest.mark.parametrize("folder", DRAWN)
def test_random_networks_answer_nearly_as_recorded(
    folder: str, oracles: Path, opened: Any, picture: Any
) -> None:
    model = opened(folder, "openvino")
    for case in recorded(oracles / folder):
        (found,) = model.predict([picture(case["image"])], request_of(case["args"]))
        boxes = np.array(case["boxes_xyxy"], np.float32).reshape(-1, 4)
        assert abs(len(found) - len(boxes)) <= 0.05 * len(boxes)
        np.testing.assert_allclose(found.boxes[:5], boxes[:5], rtol=0, atol=0.05)
        np.testing.assert_allclose(found.scores[:5], case["conf"][:5], rtol=0, atol=1e-4)
        assert found.class_ids[:5].tolist() == case["cls"][:5]


def test_masks_are_the_recorded_ones(oracles: Path, opened: Any, picture: Any) -> None:
    folder = "yolo11_seg_narrow_random"
    model = opened(folder, "openvino")
    for case in recorded(oracles / folder):
        (found,) = model.predict([picture(case["image"])], request_of(case["args"]))
        shape = case["mask_shape"]
        expected = np.stack([mask_from_runs(runs, shape) for runs in case["masks_rle"]])
        assert found.masks is not None
        assert found.masks.shape == expected.shape
        both = (found.masks & expected).sum(axis=(1, 2))
        assert (both / (found.masks | expected).sum(axis=(1, 2)) >= 0.99).all()


def mask_from_runs(runs: list[int], shape: Any) -> NDArray[np.bool_]:
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape)


# --- tables of exports -----------------------------------------------------------------------


def test_a_recorded_table_of_columns_gives_the_recorded_result(oracles: Path) -> None:
    folder = oracles / "yolov8n_pose_tubes"
    table = np.load(folder / "onnx.npz")["static_output0"][0]
    case = recorded(folder, "results_onnx.json")[0]
    assert (case["model"], case["image"]) == ("model_static320.onnx", "IMG_4916.jpg")
    rule = OutputSpec("columns", {}, "one2many", 1, keypoints=(2, 3))
    located = located_in(table, rule, request_of(case["args"]))
    np.testing.assert_allclose(located.boxes, case["boxes_xyxy"], rtol=0, atol=0.05)
    np.testing.assert_allclose(located.scores, case["conf"], rtol=0, atol=1e-4)
    points = np.array(case["keypoints"])
    np.testing.assert_allclose(located.keypoints, points[..., :2], rtol=0, atol=0.05)
    np.testing.assert_allclose(located.keypoint_scores, points[..., 2], rtol=0, atol=1e-4)


def test_a_recorded_table_of_rows_gives_the_recorded_result(oracles: Path) -> None:
    folder = oracles / "yolov8_pose_narrow_onnx_nms_fp16"
    table = np.load(folder / "onnx.npz")["output0"][0]
    case = recorded(folder, "results_onnx.json")[0]
    assert case["image"] == "IMG_4916.jpg"
    rule = OutputSpec("rows", {}, "embedded-nms", 2, keypoints=(4, 3))
    located = located_in(table, rule, request_of(case["args"]))
    boxes = np.array(case["boxes_xyxy"], np.float32)
    assert len(located.boxes) == len(boxes)
    # Scores in half precision are often equal: rows may have changed places.
    partner = iou_matrix(boxes, located.boxes).argmax(axis=1)
    np.testing.assert_allclose(located.boxes[partner], boxes, rtol=0, atol=1.5)
    np.testing.assert_allclose(located.scores[partner], case["conf"], rtol=0, atol=0.005)


def located_in(table: NDArray[np.float32], rule: OutputSpec, request: SettledRequest) -> Any:
    """Read a table of the static network for the first picture, 640x360."""
    spec = InputSpec("images", (320, 320), static=True)
    fitted = fit((640, 360), spec, InferOptions())
    assert rule.keypoints is not None
    skeleton = Skeleton("points", tuple(str(i) for i in range(rule.keypoints[0])))
    found = find({"table": table}, rule, (320, 320), replace(request, options=InferOptions()))
    return to_picture(found, fitted, dict.fromkeys(range(rule.classes), skeleton))
