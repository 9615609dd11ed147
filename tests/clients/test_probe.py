"""The 175 raw requests against ``okp serve``, as their own program compares them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.clients.environments import run
from tests.synthetic import DATA

pytestmark = [pytest.mark.client, pytest.mark.slow]
PROBE = [sys.executable, DATA / "probe_server.py"]
RECORDED = DATA / "recordings" / "real_server"
EXPECTED = Path(__file__).with_name("expected_differences.txt")
ANSWERS = 175


def test_answers_differ_from_the_recorded_ones_where_intended_alone(server, tmp_path) -> None:
    asked = run([*PROBE, "--url", server, "--out", tmp_path])
    assert asked.returncode == 0, asked.stderr
    assert len(list(tmp_path.glob("*.json"))) == ANSWERS
    ended = run([*PROBE, "--compare", RECORDED, tmp_path, "--expected", EXPECTED])
    assert ended.returncode == 0, ended.stdout
