"""Whether an earlier commit and the working tree answer with the same bits, on this machine.

Runs both side by side on the same inputs and compares digests: every array that `person`, YOLO
networks (checkpoint and exports) and the two together answer with, in every runtime; the weights
after twenty seeded steps of training; the figures of an evaluation; the bytes of written graphs. It
prints what differs and exits 1 where anything does, or where anything failed.

    .venv/bin/python benchmarks/same_bits.py [COMMIT] [--only topdown/yolo]
    .venv/bin/python benchmarks/same_bits.py --probe --only trained
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from openkeypoints.samples import sample

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.tiny_pico import write_tiny_pico  # noqa: E402
from tests.tiny_yolo import tiny_yolo  # noqa: E402

PROBE = Path(__file__).with_name("same_bits_probe.py")
BASE = "c9c11d1"
"""The commit whose answers are to stay."""
LIMIT_S = 600
SHOWN = 100
"""Differences that are printed."""
CHECKPOINTS = (("v8", "pose"), ("v8", "detect"), ("v8", "segment"), ("11", "pose"), ("26", "pose"))
TRAINING = """
pose: {steps: 20, batch: 2, warmup: 2, evaluate_every: 10}
detector: {steps: 20, batch: 2, warmup: 2, evaluate_every: 10}
detector_size: [64, 64]
"""
JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
LABELS = {
    (14, 160, 80, 212): (
        56, 184, 56, 176, 48, 176, 60, 180, 44, 180, 68, 208, 30, 204, 72, 240, 20, 232, 80, 264,
        24, 268, 64, 264, 38, 264, 64, 312, 40, 316, 64, 352, 40, 356,
    ),
    (292, 140, 104, 204): (
        364, 164, 368, 160, 356, 160, 372, 164, 352, 160, 368, 192, 344, 188, 372, 228, 316, 180,
        394, 236, 308, 160, 364, 256, 340, 256, 376, 296, 368, 296, 352, 332, 352, 330,
    ),
}  # fmt: skip
"""Box (x, y, width, height) px of a person in the photograph -> 17 points x, y, roughly."""


def photograph() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the photograph in the package, RGB."""
    with Image.open(sample("people")) as picture:
        return np.asarray(picture)


def write_inputs(folder: Path) -> None:
    """Write what both sides read: pictures, checkpoints, labelled pictures, a configuration."""
    wide = photograph()[:, :, ::-1]
    tall = np.rot90(wide)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    np.savez(folder / "pictures.npz", wide=wide, tall=tall, noise=noise)
    for family, task in CHECKPOINTS:
        tiny_yolo(folder / f"{family}-{task}.pt", family=family, task=task)
    write_tiny_pico(folder / "tiny.okp")
    (folder / "train.yaml").write_text(TRAINING, encoding="utf-8")
    for split in ("train", "val"):
        write_labelled(folder / "labelled", split)


def write_labelled(folder: Path, split: str) -> None:
    """Write the photograph, small and large, with its labels, and noise without any."""
    (folder / split).mkdir(parents=True)
    wide = photograph()
    noise = np.random.default_rng(1).integers(0, 256, wide.shape, np.uint8)
    images, annotations = [], []
    for number, (picture, part) in enumerate([(wide, 1.0), (wide[::2, ::2], 0.5), (noise, 0.0)]):
        name = f"{number}.png"
        Image.fromarray(picture).save(folder / split / name)
        height, width = picture.shape[:2]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for box, points in LABELS.items() if part else ():
            x, y, w, h = (side * part for side in box)
            # Off by up to 8 px in turn, so that no figure is at its best.
            off = np.arange(len(points)) * 7 % 17 - 8
            scaled = (np.array(points) + off).reshape(-1, 2) * part
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
                "bbox": [x, y, w, h], "area": w * h * 0.6, "num_keypoints": len(JOINTS),
                "keypoints": [value for px, py in scaled.tolist() for value in (px, py, 2)],
            })  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": JOINTS, "skeleton": [[1, 2]]}
    data = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / f"{split}.json").write_text(json.dumps(data), encoding="utf-8")


@contextmanager
def tree_of(commit: str, folder: Path) -> Iterator[Path]:
    """Check a commit out into a folder of its own, for as long as it is needed."""
    git = ("git", "-C", str(ROOT), "worktree")
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


@contextmanager
def started(tree: Path, inputs: Path, out: Path, only: str) -> Iterator[subprocess.Popen[str]]:
    """Run the probe with the package of a tree, with one thread and an empty cache."""
    out.mkdir()
    env = {**os.environ, "PYTHONPATH": str(tree / "src"), "OKP_CACHE_DIR": str(out / "cache")}
    env |= {"OKP_THREADS": "1", "OMP_NUM_THREADS": "1", "OKP_OFFLINE": "1", "PYTHONHASHSEED": "0"}
    command = [sys.executable, str(PROBE), str(inputs), str(out), "--only", only]
    with subprocess.Popen(command, env=env, cwd=out, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def digests(process: subprocess.Popen[str], tree: Path) -> dict[str, str]:
    """Wait for a probe and return its digests; ends the program where it fails."""
    said, _ = process.communicate(timeout=LIMIT_S)
    if process.returncode:
        sys.exit(f"The probe of {tree} ended with {process.returncode}.")
    answer = json.loads(said.splitlines()[-1])
    if not Path(answer["package"]).is_relative_to(tree):
        sys.exit(f"The probe imported {answer['package']} in place of the package of {tree}.")
    found: dict[str, str] = answer["digests"]
    return found


def report(before: dict[str, str], after: dict[str, str]) -> int:
    """Print what differs and what failed, and return the exit code."""
    names = sorted(before | after)
    wrong = [
        name for name in names
        if before.get(name) != after.get(name) or after.get(name, "").startswith("FAILED")
    ]  # fmt: skip
    for name in wrong[:SHOWN]:
        print(f"{name:70} {before.get(name, 'nothing'):28} {after.get(name, 'nothing')}")
    if len(wrong) > SHOWN:
        print(f"... and {len(wrong) - SHOWN} more.")
    print(f"{len(names) - len(wrong)} of {len(names)} are the same bits.")
    return bool(wrong) or not names


def main() -> None:
    """Compare, and exit 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", nargs="?", default=BASE)
    parser.add_argument("--only", metavar="NAME", default="", help="what has this in its name")
    parser.add_argument("--probe", action="store_true", help="print the working tree's digests")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="okp-same-bits-") as name:
        work = Path(name)
        inputs = work / "inputs"
        inputs.mkdir()
        write_inputs(inputs)
        if arguments.probe:
            with started(ROOT, inputs, work / "after", arguments.only) as alone:
                print(json.dumps(digests(alone, ROOT), indent=1))
            return
        with (
            tree_of(arguments.commit, work / "tree") as tree,
            started(tree, inputs, work / "before", arguments.only) as before,
            started(ROOT, inputs, work / "after", arguments.only) as after,
        ):
            code = report(digests(before, tree), digests(after, ROOT))
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(code)


if __name__ == "__main__":
    main()
