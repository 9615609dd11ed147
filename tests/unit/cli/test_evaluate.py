"""``okp evaluate``: the figures are those of the reference scorer, and nothing is replaced."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from openkeypoints.outputs import RECORD
from openkeypoints.skeletons import load_skeleton
from tests.unit.cli.conftest import files
from tests.unit.cli.labelled import write_set

SCORER = Path(__file__).parents[2] / "data" / "score.py"


@pytest.fixture
def data(tmp_path):
    return write_set(tmp_path / "data", "val", list(load_skeleton("coco17").keypoints))


@pytest.fixture
def evaluate(okp, tiny_okp):
    return lambda *arguments: okp("evaluate", "--model", tiny_okp, *arguments)


def test_json_has_the_figures_of_both_kinds_of_boxes(evaluate, data):
    report = json.loads(evaluate("--data", data, "--json").stdout)
    assert report["given"]["joints"] == 17
    assert {"box_ap50", "clean"} <= set(report["found"])


@pytest.mark.parametrize("boxes", ["given", "found"])
def test_the_figures_are_those_of_the_reference_scorer(evaluate, data, tmp_path, boxes):
    done = evaluate("--data", data, "--boxes", boxes, "--predictions", "p.json", "--json")
    figures = json.loads(done.stdout)[boxes]
    score = runpy.run_path(str(SCORER))["score"]
    truth, made = (json.loads(p.read_text()) for p in (data, tmp_path / "p.json"))
    expected = score(truth, made, 48.0, 0.3)
    if boxes == "found":
        del expected["oks_ap"]  # there the COCO evaluator's figure is given
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-3)


def test_the_table_names_every_joint(evaluate, data):
    text = evaluate("--data", data, "--boxes", "given").stdout
    assert all(f"\n{name} " in text for name in load_skeleton("coco17").keypoints)


def test_a_folder_stands_for_its_val_file(evaluate, data):
    assert evaluate("--data", data.parent, "--boxes", "given").exit_code == 0


def test_both_kinds_of_boxes_are_written_to_two_files(evaluate, data, tmp_path):
    evaluate("--data", data, "--predictions", "out/p.json")
    assert files(tmp_path / "out") == [RECORD, "p_found.json", "p_given.json"]


def test_the_labels_are_never_written_over(evaluate, data):
    before = data.read_bytes()
    done = evaluate("--data", data, "--boxes", "given", "--predictions", data, "--overwrite")
    assert (done.exit_code, data.read_bytes()) == (4, before)


def test_a_missing_file_is_not_found(evaluate):
    assert evaluate("--data", "nothing.json").exit_code == 3


@pytest.mark.parametrize(
    "words", ["right hip to left shoulder", "best-scored", "long side", "crowd"]
)
def test_the_help_states_the_definitions(okp, words):
    assert words in " ".join(okp("evaluate", "--help").stdout.split())
