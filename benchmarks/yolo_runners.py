"""One runner of benchmarks/yolo_cpu.py in a process of its own: JPEG bytes in, instances out.

Started with a name and its settings as JSON; then one question a line comes in, and one answer a
line goes out. A runner imports nothing of its rivals. All of them use one thread.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIDE, CONFIDENCE, IOU, STRIDE = 640, 0.25, 0.7, 32
STAGES = ("decode", "prepare", "run", "finish")
Answer = dict[str, Any]


class Ours:
    """OpenKeypoints: a checkpoint or an int8 artefact in one of its runtimes."""

    def __init__(self, config: Answer) -> None:
        import openkeypoints as okp  # noqa: PLC0415
        from openkeypoints.settings import Settings  # noqa: PLC0415

        self.options = okp.InferOptions(input_size=(SIDE, SIDE), letterbox=config["letterbox"])
        self.model = okp.get_model(
            config["model"],
            runtime=config["runtime"],
            precision=config["precision"],
            device="cpu",
            settings=Settings(cache_dir=Path(config["cache"]), threads=1),
        )
        self.precision = self.model.precision

    def __call__(self, data: bytes) -> tuple[Answer, Answer]:
        """Return the instances of a picture, and milliseconds by stage."""
        found = self.model.infer(
            data, confidence=CONFIDENCE, iou_threshold=IOU, options=self.options
        )[0]
        instances = {
            "boxes": found.boxes, "scores": found.scores, "keypoints": found.keypoints,
        }  # fmt: skip
        return instances, dict(found.timings)


class Ultralytics:
    """The vendor's own package, on a checkpoint or on an export that it made."""

    def __init__(self, config: Answer) -> None:
        import openvino  # noqa: PLC0415
        import torch  # noqa: PLC0415

        self.precision = "f32"
        # It has no switch for the threads and the precision of its OpenVINO.
        compile_model = openvino.Core.compile_model
        forced: Answer = {"INFERENCE_NUM_THREADS": 1}
        if config["precision"] != "auto":
            forced["INFERENCE_PRECISION_HINT"] = config["precision"]

        def compile_as_told(
            core: Any, model: Any, device_name: Any = None, config: Any = None, **rest: Any
        ) -> Any:
            compiled = compile_model(core, model, device_name, {**(config or {}), **forced}, **rest)
            kind = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
            self.precision = {"bf16": "bf16", "f16": "f16"}.get(kind, "f32")
            return compiled

        openvino.Core.compile_model = compile_as_told
        from ultralytics import YOLO  # noqa: PLC0415

        self.model = YOLO(config["model"], task="pose")
        # A call that loads it: it chooses a number of threads then, which is overruled after.
        self(cv2.imencode(".png", np.zeros((SIDE, SIDE, 3), np.uint8))[1].tobytes())
        torch.set_num_threads(1)

    def __call__(self, data: bytes) -> tuple[Answer, Answer]:
        """Return the instances of a picture, and milliseconds by stage."""
        began = time.perf_counter()
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        decode = (time.perf_counter() - began) * 1e3
        found = self.model.predict(
            picture, imgsz=SIDE, conf=CONFIDENCE, iou=IOU, device="cpu", verbose=False
        )[0]
        instances = {
            "boxes": found.boxes.xyxy.numpy(),
            "scores": found.boxes.conf.numpy(),
            "keypoints": found.keypoints.xy.numpy(),
        }
        speed = found.speed
        return instances, {
            "decode": decode, "prepare": speed["preprocess"],
            "run": speed["inference"], "finish": speed["postprocess"],
        }  # fmt: skip


class Plain:
    """The loop that people write around ONNX Runtime: OpenCV, a session, suppression by OpenCV."""

    precision = "f32"

    def __init__(self, config: Answer) -> None:
        os.putenv("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime as ort  # noqa: PLC0415

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(
            config["model"], options, providers=["CPUExecutionProvider"]
        )
        self.input = self.session.get_inputs()[0].name
        self.rect = config["letterbox"] == "rect"

    def __call__(self, data: bytes) -> tuple[Answer, Answer]:
        """Return the instances of a picture, and milliseconds by stage."""
        times = [time.perf_counter()]
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        times.append(time.perf_counter())
        height, width = picture.shape[:2]
        scale = min(SIDE / height, SIDE / width)
        size = round(width * scale), round(height * scale)
        spare = [(SIDE - side) % STRIDE if self.rect else SIDE - side for side in size]
        left, top = spare[0] // 2, spare[1] // 2
        small = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
        padded = cv2.copyMakeBorder(
            small, top, spare[1] - top, left, spare[0] - left, cv2.BORDER_CONSTANT,
            value=(114, 114, 114),
        )  # fmt: skip
        blob = cv2.dnn.blobFromImage(padded, 1 / 255, swapRB=True)
        times.append(time.perf_counter())
        rows = self.session.run(None, {self.input: blob})[0][0].T
        times.append(time.perf_counter())
        rows = rows[rows[:, 4] > CONFIDENCE]
        boxes = rows[:, :4] - np.hstack([rows[:, 2:4] / 2, rows[:, 2:4] * 0])  # corner and size
        kept = np.asarray(
            cv2.dnn.NMSBoxes(boxes.tolist(), rows[:, 4].tolist(), CONFIDENCE, IOU), int
        ).ravel()
        boxes, rows = boxes[kept], rows[kept]
        shift = np.array([left, top], np.float32)
        corners = np.stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
        points = rows[:, 5:].reshape(len(rows), -1, 3)[..., :2]
        limit = np.array([width, height], np.float32)
        instances = {
            "boxes": np.clip((corners - shift) / scale, 0, limit).reshape(-1, 4),
            "scores": rows[:, 4],
            "keypoints": np.clip((points - shift) / scale, 0, limit),
        }
        times.append(time.perf_counter())
        return instances, dict(zip(STAGES, np.diff(times) * 1e3, strict=True))


RUNNERS: dict[str, Callable[[Answer], Any]] = {
    "ours": Ours, "ultralytics": Ultralytics, "plain": Plain,
}  # fmt: skip


def measure(runner: Any, data: bytes, calls: int) -> list[Answer]:
    """Run some times; return CPU and wall milliseconds and the stages of each call."""
    measured = []
    for _ in range(calls):
        cpu, wall = time.process_time(), time.perf_counter()
        _, stages = runner(data)
        measured.append(
            {
                "cpu": (time.process_time() - cpu) * 1e3,  # of all threads of this process
                "wall": (time.perf_counter() - wall) * 1e3,
                **{name: float(value) for name, value in stages.items()},
            }
        )
    return measured


def instances(runner: Any, path: str) -> Answer:
    """Return what it finds in a picture as plain lists."""
    found, _ = runner(Path(path).read_bytes())
    return {name: np.asarray(array, float).tolist() for name, array in found.items()}


def main() -> None:
    """Answer questions until the input ends."""
    # Some packages talk on stdout while they load or run: that goes to stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    cv2.setNumThreads(1)
    config = json.loads(sys.argv[1])
    runner = RUNNERS[config["runner"]](config)
    print(json.dumps(runner.precision), file=answers)
    for line in sys.stdin:
        question = json.loads(line)
        answer: Any
        if "calls" in question:
            answer = measure(runner, Path(question["picture"]).read_bytes(), question["calls"])
        else:
            answer = instances(runner, question["picture"])
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
