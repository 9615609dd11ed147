"""Schemathesis asks every documented route what nobody would: the document is true, none breaks."""

from __future__ import annotations

import pytest

from tests.clients.environments import python_of, run
from tests.tiny_yolo import tiny_yolo

pytestmark = [pytest.mark.client, pytest.mark.timeout(280)]

SECONDS = 40
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
IDS = {"model": "tiny", "project": "tiny", "version": "1", "deployment": "tiny"}
"""Parameters of paths, and what is served under them."""


@pytest.mark.parametrize("ids", [{}, IDS], ids=["any-ids", "served-ids"])
def test_no_request_gets_a_5xx_or_an_answer_that_is_not_documented(
    okp_serve, tmp_path, monkeypatch, ids
) -> None:
    overrides = "".join(f'"path.{name}" = "{value}"\n' for name, value in ids.items())
    (tmp_path / "schemathesis.toml").write_text(f"[parameters]\n{overrides}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)  # it leaves a folder where it runs
    model = tiny_yolo(tmp_path / "tiny.pt")
    st = python_of("schemathesis").with_name("st")
    with okp_serve("--model", f"tiny={model}") as url:
        done = run(
            [
                *(st, "--config-file", tmp_path / "schemathesis.toml"),
                *("run", f"{url}/openapi.json", "--no-color", "--checks", ",".join(CHECKS)),
                *("--max-time", str(SECONDS), "--seed", "1", "--request-timeout", "20"),
            ]
        )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Test cases:" in done.stdout
    assert _operations(done.stdout) > 25


def _operations(report: str) -> int:
    """Return how many routes the report says it asked."""
    line = next(line for line in report.splitlines() if "selected" in line)
    return int(line.split("Operations:")[1].split()[0])
