"""What a run leaves to look at: a table that a resumed run continues, and pictures."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from openkeypoints.images import read_image
from openkeypoints.settings import Settings
from openkeypoints.train.coco import read_dataset
from openkeypoints.train.logs import TILE, RunLog, draw_curves, draw_samples
from openkeypoints.train.loop import Progress
from tests.doubles import FixedDetector, model
from tests.drawn import write_sticks


def line(step, **figures):
    return Progress(step, 100, 1e-3, {"keypoints": 1 / step}, figures, step / 10)


def write(folder, *lines, step=0):
    with RunLog(folder, step=step) as log:
        for one in lines:
            log.write(one)
    return log.path


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_report_is_a_row(tmp_path):
    first, second = rows(write(tmp_path / "run", line(20), line(40, good=0.5)))
    assert (first["step"], first["loss_keypoints"], first["figures"]) == ("20", "0.05000", "{}")
    assert json.loads(second["figures"]) == {"good": 0.5}


def test_tensorboard_gets_a_file(tmp_path):
    write(tmp_path, line(20))
    assert [p for p in tmp_path.iterdir() if "tfevents" in p.name]


def test_a_resumed_run_continues_where_its_checkpoint_stands(tmp_path):
    write(tmp_path, line(20), line(40), line(60))
    path = write(tmp_path, line(60, good=0.7), line(80), step=50)
    assert [r["step"] for r in rows(path)] == ["20", "40", "60", "80"]
    assert rows(path)[2]["figures"] != "{}"


@pytest.mark.parametrize("lines", [[line(20)], [line(20, good=0.1), line(40, good=0.2, other=1)]])
def test_curves_are_a_picture(tmp_path, lines):
    draw_curves(write(tmp_path, *lines), tmp_path / "curves.png")
    image = read_image(tmp_path / "curves.png", settings=Settings())
    assert np.ptp(image.astype(int), axis=-1).max() > 50  # a coloured line is in it


def test_samples_are_one_sheet_of_the_pictures_that_have_instances(tmp_path):
    dataset = read_dataset(write_sticks(tmp_path, 7))
    draw_samples(model(FixedDetector([])), dataset, tmp_path / "sheet.png", count=5)
    sheet = read_image(tmp_path / "sheet.png", settings=Settings())
    assert sheet.shape == (2 * TILE, 4 * TILE, 3)
    assert (sheet[TILE:, TILE:] == 255).all()
