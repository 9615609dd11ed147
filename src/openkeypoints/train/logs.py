"""What a training run leaves for people to look at: CSV, TensorBoard, curves and samples."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from openkeypoints.drawing import draw
from openkeypoints.errors import MissingExtraError
from openkeypoints.images import resize, save_image
from openkeypoints.models import InferOptions, Model
from openkeypoints.results import Image
from openkeypoints.settings import Settings
from openkeypoints.train.coco import Dataset
from openkeypoints.train.loop import Progress
from openkeypoints.train.sources import load_picture

TILE = 256
"""Side of one picture on the sheet of samples."""


class RunLog:
    """Writes each report of the loop to ``log.csv`` and to TensorBoard's event files.

    Args:
        folder: where the files go; those of an interrupted run are continued.
        step: where the run continues; lines beyond it, which it writes again, are dropped.
    """

    def __init__(self, folder: Path, *, step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtraError("The training log for TensorBoard", "train") from error
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "log.csv"
        if self.path.exists():
            head, *lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if int(line.partition(",")[0]) <= step]
            self.path.write_text("".join([head, *kept]), encoding="utf-8")
        self._events = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, line: Progress) -> None:
        """Add one report."""
        row = {
            "step": line.step,
            "seconds": round(line.seconds, 1),
            "rate": f"{line.rate:.4g}",
            **{f"loss_{name}": f"{value:.5f}" for name, value in line.losses.items()},
            "figures": json.dumps({k: round(v, 4) for k, v in line.figures.items()}),
        }
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)
        for name, value in {**line.losses, **line.figures, "rate": line.rate}.items():
            self._events.add_scalar(name, value, line.step)

    def close(self) -> None:
        """Finish TensorBoard's file."""
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def draw_curves(log: Path, picture: Path) -> None:
    """Draw losses and figures of a ``log.csv`` over the steps."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("Drawing curves", "train") from error
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows]
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in rows[0]:
        if name.startswith("loss_"):
            left.plot(steps, [float(row[name]) for row in rows], label=name.removeprefix("loss_"))
    measured = [(s, json.loads(row["figures"])) for s, row in zip(steps, rows, strict=True)]
    measured = [(s, figures) for s, figures in measured if figures]
    for name in sorted({n for _, figures in measured for n in figures}):
        points = [(s, figures[name]) for s, figures in measured if name in figures]
        right.plot(*zip(*points, strict=True), marker="o", label=name)
    for axes, title in ((left, "loss"), (right, "figures")):
        axes.set(title=title, xlabel="step")
        if axes.lines:
            axes.legend()
    figure.savefig(picture)


def draw_samples(model: Model, dataset: Dataset, picture: Path, *, count: int = 8) -> None:
    """Draw a model's keypoints in the labelled boxes of the first pictures on one sheet."""
    tiles, settings = [], Settings.from_env()
    for row in [p for p in dataset.pictures if len(p.boxes)][:count]:
        image, options = load_picture(row, settings), InferOptions(boxes=[row.boxes])
        (found,) = model.infer(image, color="rgb", options=options)
        tiles.append(_tile(draw(image, found, color="rgb")))
    if tiles:
        save_image(_sheet(tiles), picture)


def _tile(image: Image) -> Image:
    height, width = image.shape[:2]
    scale = TILE / max(height, width)
    small = resize(image, (max(1, round(width * scale)), max(1, round(height * scale))))
    tile = np.full((TILE, TILE, 3), 255, np.uint8)
    tile[: small.shape[0], : small.shape[1]] = small
    return tile


def _sheet(tiles: Sequence[Image], columns: int = 4) -> Image:
    blank = np.full((TILE, TILE, 3), 255, np.uint8)
    full = [*tiles, *[blank] * (-len(tiles) % columns)]
    rows = [np.hstack(full[i : i + columns]) for i in range(0, len(full), columns)]
    return np.ascontiguousarray(np.vstack(rows))
