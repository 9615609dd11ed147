"""JPEG bytes to instances on one CPU thread, beside ultralytics and plain ONNX Runtime.

Everything is measured in one run: each runner has a process of its own, and the rounds go from one
to the next. The rivals live in an environment of their own, which the first run makes. Writes the
table between the markers of docs/benchmarks.md; fails where our rows differ from theirs in what
they find, or are too slow beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import yolo_env
import yolo_page

from openkeypoints.geometry import iou_matrix
from openkeypoints.runtimes import cpu_flags
from openkeypoints.runtimes.base import BF16_FLAG
from openkeypoints.weights.okp import sha256_of

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared"
MODEL = SHARED / "oracles" / "yolov8n_pose_tubes" / "model.pt"
DATA = SHARED / "data" / "glue_tubes"
# Each object is found once there. Where near copies of a box survive, their order and number change
# with the last digits of a score.
PICTURE = "val/IMG_4916.jpg"
PICTURE_SIZE = (1280, 720)
ROUNDS, FEWEST_ROUNDS, CALLS, WARM_CALLS = 9, 5, 5, 3
PIXELS, SCORE = 1.5, 0.01
"""How far a row may be from the one that it stands beside, in px of the picture and in score."""
EXPORTS = ("model_openvino_model", "model.onnx", "dynamic.onnx", "int8")


@dataclass(frozen=True)
class Row:
    """One runner of the table.

    Attributes:
        name: for people.
        runner: which class of yolo_runners.py.
        model: file of the work folder; empty = the checkpoint.
        letterbox: how its pictures are padded.
        precision: asked of OpenVINO; ``auto`` leaves it the choice.
        runtime: of our rows.
        exact: what it finds has to be what its peer finds.
    """

    name: str
    runner: str
    model: str = ""
    letterbox: str = "rect"
    precision: str = "f32"
    runtime: str = "openvino"
    exact: bool = True

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"

    def config(self, model: Path, work: Path) -> dict[str, Any]:
        """Return what its process has to know."""
        return {
            "runner": self.runner,
            "model": str(work / self.model if self.model else model),
            "letterbox": self.letterbox,
            "precision": self.precision,
            "runtime": self.runtime,
            "cache": str(work / "cache"),
        }


TORCH = Row("ultralytics, torch", "ultralytics")
EXPORTED = Row("ultralytics, its OpenVINO export", "ultralytics", EXPORTS[0], "square", "auto")
EXPORTED_F32 = replace(EXPORTED, name="ultralytics, its OpenVINO export, held", precision="f32")
F32 = Row("ours, OpenVINO", "ours")
BF16 = Row("ours, OpenVINO", "ours", precision="bf16")
INT8 = Row("ours, OpenVINO", "ours", EXPORTS[3], precision="int8", exact=False)
ROWS = (
    F32, BF16, INT8,
    Row("ours, OpenVINO", "ours", letterbox="square"),
    Row("ours, ONNX Runtime", "ours", runtime="onnxruntime"),
    TORCH, EXPORTED, EXPORTED_F32,
    Row("plain ONNX Runtime, its ONNX export", "plain", EXPORTS[1], "square"),
    Row("plain ONNX Runtime, its ONNX export", "plain", EXPORTS[2]),
)  # fmt: skip
WITH_UNITS = ((BF16, TORCH, 3.5), (BF16, EXPORTED, 1.3))
WITHOUT_UNITS = ((F32, TORCH, 1.3), (F32, EXPORTED_F32, 1.6), (INT8, TORCH, 2.0))
"""How many times the CPU time of ours a rival has to need at least."""


class Worker:
    """A runner in a process of its own, which waits for questions."""

    def __init__(self, row: Row, model: Path, work: Path) -> None:
        config = row.config(model, work)
        self.name = row.name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # it lives as long as the process
        self._process = subprocess.Popen(
            [yolo_env.python(), HERE / "yolo_runners.py", json.dumps(config)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env=yolo_env.environment(work), cwd=work,
        )  # fmt: skip
        self.precision: str = self._answer()
        """That it really runs in."""

    def ask(self, **question: Any) -> Any:
        """Send a question and return the answer."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        if line := self._process.stdout.readline():
            return json.loads(line)
        self._log.seek(0)
        last = self._log.read().strip().splitlines()[-12:]
        sys.exit("\n".join([f"The runner {self.name!r} ended:", *last]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()  # the end of its input is its end
        self._log.close()


# --- what is run ---------------------------------------------------------------------------------


def prepared(model: Path, data: Path) -> Path:
    """Return the work folder of a checkpoint with every export; the vendor's are made once."""
    work = yolo_env.FOLDER / "work" / sha256_of(model)[:12]
    interpreter = yolo_env.python()
    work.mkdir(parents=True, exist_ok=True)
    for made_by_us in ("cache", INT8.model):  # by the code of another day, perhaps
        shutil.rmtree(work / made_by_us, ignore_errors=True)
    wanted = [name for name in EXPORTS if not (work / name).exists()]
    if BF16_FLAG in cpu_flags() and INT8.model in wanted:
        wanted.remove(INT8.model)
    for name in wanted:
        print(f"Writing {name}.", file=sys.stderr)
        done = subprocess.run(
            [interpreter, HERE / "yolo_exports.py", name, work, model, data],
            env=yolo_env.environment(work), cwd=work, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{name} could not be written:\n{(done.stdout + done.stderr)[-2000:]}")
    return work


def picture(data: Path, folder: Path) -> Path:
    """Write the picture at the size that is measured."""
    coded = np.frombuffer((data / PICTURE).read_bytes(), np.uint8)
    pixels = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert pixels is not None
    large = cv2.resize(pixels, PICTURE_SIZE, interpolation=cv2.INTER_CUBIC)
    target = folder / "picture.jpg"
    target.write_bytes(cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return target


def missing(row: Row) -> str | None:
    """Return why a row is not measured here, None where it is."""
    has_units = BF16_FLAG in cpu_flags()
    if row is BF16 and not has_units:
        return "not on this CPU"
    return "bf16 is better here" if row is INT8 and has_units else None


# --- what is compared ----------------------------------------------------------------------------


def pairs(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Return (row of ours, row of theirs) of the instances that both found, best overlap first."""
    if not ours["boxes"] or not theirs["boxes"]:
        return []
    overlap = iou_matrix(np.array(ours["boxes"]), np.array(theirs["boxes"]))
    found = []
    while overlap.max() >= 0.5:
        i, j = np.unravel_index(overlap.argmax(), overlap.shape)
        found.append((int(i), int(j)))
        overlap[i], overlap[:, j] = -1, -1
    return found


def shifts(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[dict[str, list[float]]]:
    """Return for each instance that both found how far boxes, keypoints and scores differ."""
    differences = []
    for i, j in pairs(ours, theirs):
        part = {name: np.array(ours[name][i]) - np.array(theirs[name][j]) for name in theirs}
        points = np.linalg.norm(part["keypoints"].reshape(-1, 2), axis=1)
        differences.append(
            {
                "boxes": np.abs(part["boxes"]).tolist(),
                "keypoints": points.tolist(),
                "scores": [abs(float(part["scores"]))],
            }
        )
    return differences


def gathered(differences: Sequence[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """Return the differences of all instances by kind."""
    kinds = ("boxes", "keypoints", "scores")
    return {kind: [v for one in differences for v in one[kind]] for kind in kinds}


def check(row: Row, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Stop unless a row finds what its peer finds."""
    counts = len(ours["boxes"]), len(theirs["boxes"])
    apart = gathered(shifts(ours, theirs))
    limits = {"boxes": PIXELS, "keypoints": PIXELS, "scores": SCORE}
    far = [
        f"{kind} {max(apart[kind]):.3f} apart, more than {limit}"
        for kind, limit in limits.items()
        if apart[kind] and max(apart[kind]) > limit
    ]
    if counts[0] != counts[1] or not counts[0] or len(apart["scores"]) != counts[0]:
        far.insert(0, f"{counts[0]} instances, its peer {counts[1]}")
    if far:
        sys.exit(f"{row} differs from ultralytics: {'; '.join(far)}.")


def check_all(workers: Mapping[Row, Worker], jpeg: Path) -> int:
    """Stop unless every row finds what the vendor's finds with its padding; return how many."""
    found = {row: worker.ask(picture=str(jpeg)) for row, worker in workers.items()}
    for row in workers:
        if row.exact:
            check(row, found[row], found[TORCH if row.letterbox == "rect" else EXPORTED])
    return len(found[TORCH]["boxes"])


def loss(workers: Mapping[Row, Worker], data: Path) -> str:
    """Return what 8 bits change on the val pictures, as a sentence."""
    both, counts, pictures = [], {F32: 0, INT8: 0}, sorted((data / "val").glob("*.jpg"))
    for path in pictures:
        found = {row: workers[row].ask(picture=str(path)) for row in counts}
        counts = {row: counts[row] + len(found[row]["boxes"]) for row in counts}
        both += shifts(found[INT8], found[F32])
    apart = gathered(both)
    return (
        f"int8 (NNCF after training, mixed preset, all train pictures) against f32 on the "
        f"{len(pictures)} val pictures: {counts[INT8]} instances and {counts[F32]}, {len(both)} of "
        f"them the same; median / 95 % / most: box sides {yolo_page.spread(apart['boxes'], 2)} px, "
        f"keypoints {yolo_page.spread(apart['keypoints'], 2)} px, "
        f"scores {yolo_page.spread(apart['scores'], 4)}."
    )


# --- the run -------------------------------------------------------------------------------------


def measure(workers: Mapping[Row, Worker], jpeg: Path, rounds: int) -> dict[Row, yolo_page.Rounds]:
    """Ask every runner in turn, round by round; a round of a runner is the median of its calls."""
    taken: dict[Row, list[dict[str, float]]] = {row: [] for row in workers}
    for number in range(-1, rounds):  # the first one warms up
        order = list(workers)
        start = number % len(order)
        for row in order[start:] + order[:start]:
            calls = workers[row].ask(picture=str(jpeg), calls=CALLS if number >= 0 else WARM_CALLS)
            if number >= 0:
                parts = calls[0].keys()
                taken[row].append(
                    {part: statistics.median(call[part] for call in calls) for part in parts}
                )
        print(f"Round {number + 1} of {rounds}.", file=sys.stderr)
    for row, found in taken.items():
        cpu_ms, wall_ms = (statistics.median(r[part] for r in found) for part in ("cpu", "wall"))
        if cpu_ms > 1.1 * wall_ms:
            sys.exit(f"{row.name!r} takes {cpu_ms:.0f} CPU-ms in {wall_ms:.0f} ms: threads.")
    return dict(taken)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL, help="a pose checkpoint")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with train and val")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS,
        help=f"below {FEWEST_ROUNDS} the page is not written and no limit holds",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="figures of each round on stdout")
    return parser.parse_args()


def main() -> None:
    """Measure, check, write the page, and fail where a limit does not hold."""
    args = arguments()
    load = os.getloadavg()[0]
    model, data = args.model.resolve(), args.data.resolve()
    work = prepared(model, data)
    jpeg = picture(data, work)
    with ExitStack() as stack:
        workers = {
            row: stack.enter_context(Worker(row, model, work)) for row in ROWS if not missing(row)
        }
        count = check_all(workers, jpeg)
        taken = measure(workers, jpeg, args.rounds)
        lost = [loss(workers, data)] if INT8 in workers else []
        precisions = {row: worker.precision for row, worker in workers.items()}
    limits = WITH_UNITS if BF16_FLAG in cpu_flags() else WITHOUT_UNITS
    ratios = [(a, b, least, yolo_page.ratio(taken[b], taken[a])) for a, b, least in limits]
    conditions = (
        f"Milliseconds of one call: medians of {args.rounds} rounds, in each of which every runner "
        f"in turn made {CALLS} calls on one thread; load {load:.1f} before. One JPEG of "
        f"{PICTURE_SIZE[0]} x {PICTURE_SIZE[1]} px and {jpeg.stat().st_size / 1e3:.0f} KB with "
        f"{count} instances, network input 640 x 384 (rect) or 640 x 640 (square), checkpoint "
        f"sha256 {sha256_of(model)[:12]}. {yolo_page.machine()}"
    )
    held = [f"{b} : {a} = {ratio:.2f}, at least {least}." for a, b, least, ratio in ratios]
    ours = [row for row in (BF16, F32, INT8) if row in taken]
    told = [f"{a} {yolo_page.ratio(taken[EXPORTED], taken[a]):.2f}" for a in ours]
    as_it_comes = f"{EXPORTED.name} as it comes, in {precisions[EXPORTED]} : {'; '.join(told)}."
    notes = [conditions, *held, as_it_comes, *lost]
    lines = [
        yolo_page.Line(
            row.name, precisions.get(row, row.precision), row.letterbox, missing(row) or taken[row]
        )
        for row in ROWS
    ]
    text = "\n\n".join([yolo_page.table(lines, taken[TORCH], "torch"), *notes])
    if args.json:
        print(json.dumps({"lines": [asdict(line) for line in lines], "notes": notes}))
    else:
        print(text)
    if args.rounds >= FEWEST_ROUNDS:
        yolo_page.write(text)
        if slow := [f"{a} beside {b}" for a, b, least, ratio in ratios if ratio < least]:
            sys.exit(f"Too slow: {'; '.join(slow)}.")


if __name__ == "__main__":
    main()
