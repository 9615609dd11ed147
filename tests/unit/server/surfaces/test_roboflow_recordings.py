"""Every recorded answer of the vendor's server against ours: equal, or different on purpose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.roboflow import probe_server
from tests.live_server import LiveServer
from tests.synthetic import DATA, KEY, synthetic_server

RECORDED = DATA / "recordings" / "real_server"
EXPECTED = Path(__file__).parents[3] / "clients" / "expected_differences.txt"
CASES = probe_server.build("my-pose/3", KEY, "badkey")


def expected() -> dict[str, str]:
    lines = EXPECTED.read_text().splitlines()
    found = (line.split(maxsplit=1) for line in lines if not line.startswith("#"))
    return {name: row.strip() for name, row in found}


@pytest.fixture(scope="module")
def server(synthetic_package, tmp_path_factory) -> Iterator[LiveServer]:
    """Return a server of its own: the last cases take its models away."""
    with synthetic_server(synthetic_package, tmp_path_factory.mktemp("cache")) as running:
        yield running


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_answer_is_as_recorded_or_differs_on_purpose(server: LiveServer, case) -> None:
    name = case[0]
    recorded = json.loads((RECORDED / f"{name.replace('/', '_')}.json").read_text())
    ours, _ = probe_server.send(server.url, case)
    same = probe_server.view(ours) == probe_server.view(recorded)
    both_found = ours["status"] == recorded["status"] == 200
    if same and both_found:
        same = not probe_server.lost(recorded["body"], ours["body"])
    assert same is (name not in expected()), probe_server.view(ours)


def test_every_recorded_case_is_asked() -> None:
    assert {path.stem for path in RECORDED.glob("*.json")} == {
        c[0].replace("/", "_") for c in CASES
    }


@pytest.mark.oracle
def test_every_difference_names_a_row_of_the_contract(shared: Path) -> None:
    contract = (shared / "contracts" / "roboflow.md").read_text()
    table = contract[contract.index("## 9.") : contract.index("## 10.")]
    rows = {line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")}
    assert set(expected().values()) <= rows
