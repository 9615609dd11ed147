"""Join the two trained networks, calibrate their scores on validation pictures, write person.okp.

    python training/person/finish.py POSE.okp DETECTOR.okp OUT.okp --data ../shared/data

The calibration maps the mass of a keypoint's map to the chance that the point lies within a tenth
of the box's long side. It is fitted on the validation parts of the packs that were trained on;
coco_mini is only measured.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from openkeypoints.metrics import calibration
from openkeypoints.models import family
from openkeypoints.models.base import Loading
from openkeypoints.models.pico.spec import spec_from_okp, spec_to_json
from openkeypoints.settings import Settings
from openkeypoints.train.coco import load_coco, read_dataset
from openkeypoints.train.evaluate import joint_marks, predict
from openkeypoints.weights.okp import OkpFile, open_okp, sha256_of, write_okp

CALIBRATED_ON = (
    "lspet/val.json",
    "people/fashion17/val.json",
    "people/tiny_coco/val.json",
    "labels19/voc_val.json",
)
DETECTOR_SIZE = (352, 352)
"""Of 256, 288, 320, 352 and 384 the one with the best box AP50 on VOC val."""
SIZE_EXPONENT = 0.1
"""How much the size of a box counts: of 0, 0.05, 0.1, 0.15, 0.2 and 0.25 the one with the best box
AP50 on VOC val; on LSPET val, too, the right person comes first more often than with 0."""
CONFIDENCE = 0.4
"""The lowest, in steps of 0.05, that finds nothing in VOC val's pictures without people."""
IOU = 0.6
CARD = {
    "name": "person",
    "trained_from": "random weights; no third-party weights inside",
    "labels": "people, and a teacher: MoveNet Thunder and MultiPose, Apache-2.0",
    "pictures": (
        "8,000 LSP Extended (no licence stated), 1,231 VOC, 967 fashion17, 77 tiny COCO, 36 COCO; "
        "none included"
    ),
    "not_for": "safety, medical, surveillance or identification use",
    "details": "docs/models/person.md",
}


def main() -> None:
    """Read the arguments and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pose", type=Path)
    parser.add_argument("detector", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    pose, detector = open_okp(arguments.pose), open_okp(arguments.detector)
    spec = replace(
        spec_from_okp(pose),
        detector_size=DETECTOR_SIZE,
        size_exponent=SIZE_EXPONENT,
        confidence=CONFIDENCE,
        iou_threshold=IOU,
        calibration=np.array([[0.0, 1.0], [0.0, 1.0]]),
        licence="Apache-2.0",
        card=CARD,
    )
    networks = {
        "pose": spec.networks["pose"],
        "detector": spec_from_okp(detector).networks["detector"],
    }
    spec = replace(spec, networks=networks)
    members = {**_members(pose, "pose"), **_members(detector, "detector")}
    write_okp(arguments.out, spec_to_json(spec), members)
    knots = calibration.fit_monotone(*_marks(arguments.out, arguments.data))
    write_okp(arguments.out, spec_to_json(replace(spec, calibration=np.array(knots))), members)
    print(arguments.out.stat().st_size, sha256_of(arguments.out))  # noqa: T201


def _members(file: OkpFile, part: str) -> dict[str, bytes]:
    return {name: file.read(name) for name in (f"{part}.onnx", f"{part}.safetensors")}


def _marks(path: Path, data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return mass and hit of every labelled keypoint of the validation pictures."""
    rows = []
    with family("pico").load(path, "person-19", Loading(Settings.from_env())) as model:
        for name in CALIBRATED_ON:
            predictions = predict(model, read_dataset(data / name), boxes="given")
            rows.append(joint_marks(load_coco(data / name), predictions))
    scores, hits = (np.concatenate(column) for column in zip(*rows, strict=True))
    return scores, hits


if __name__ == "__main__":
    main()
