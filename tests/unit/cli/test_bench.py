"""``okp bench``: every stage of every runtime, as JSON and as a table."""

from __future__ import annotations

import json

import pytest

from openkeypoints.cli.speed import percentiles
from openkeypoints.runtimes import available_runtimes


@pytest.fixture
def bench(okp, tiny_okp):
    return lambda *arguments: okp("bench", "--model", tiny_okp, "--rounds", "3", *arguments)


def test_all_measures_every_runtime(bench):
    runs = json.loads(bench("--runtime", "all", "--json").stdout)["runs"]
    assert [run["runtime"] for run in runs] == available_runtimes()


def test_the_stages_make_up_the_total(bench):
    (run,) = json.loads(bench("--json").stdout)["runs"]
    assert list(run["stages"]) == ["decode", "prepare", "run", "finish"]
    assert sum(s["p50"] for s in run["stages"].values()) <= 1.5 * run["total"]["p95"]
    assert all(s["p50"] > 0 for s in run["stages"].values())


def test_processor_time_and_memory_are_measured(bench):
    (run,) = json.loads(bench("--json").stdout)["runs"]
    assert 0 < run["cpu_ms"] < 1000
    assert 20 < run["peak_memory_mb"] < 20_000


def test_the_table_has_a_row_per_runtime(bench):
    text = bench("--runtime", "openvino", "--runtime", "onnxruntime").stdout
    assert "\nopenvino/cpu " in text
    assert "\nonnxruntime/cpu " in text


def test_a_picture_without_instances_is_said_to_measure_half_of_the_model(bench, tmp_path):
    (tmp_path / "card.json").write_text('{"confidence": 0.99}')
    assert "Nothing was found" in bench("--card", "card.json").stdout


def test_a_picture_with_instances_is_said_nothing_of(bench):
    assert "Nothing was found" not in bench().stdout


def test_a_missing_picture_is_not_found(bench):
    assert bench("--image", "missing.jpg").exit_code == 3


def test_percentiles_are_the_median_and_the_95th():
    assert percentiles(range(101)) == {"p50": 50.0, "p95": 95.0}
