"""Every program of the seed pages is in the table, and those that are ready run."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openkeypoints.models import ModelSpec
from openkeypoints.server.config import NamedModel, ServerConfig
from openkeypoints.settings import Settings
from tests.arch.source import PACKAGE
from tests.live_server import live_server
from tests.seeds.extract import Program, programs
from tests.tiny_yolo import tiny_yolo

FILE = tomllib.loads(Path(__file__).with_name("programs.toml").read_text(encoding="utf-8"))
TABLE: list[dict[str, Any]] = FILE["program"]
NEEDS = {"ready": set(), "pending": {"issue"}, "wrong": {"reason"}, "no program": {"reason"}}
FIELDS = {
    *("id", "seed", "digest", "status", "issue", "reason", "edits", "setup", "after", "weights"),
    "served",
}


def printed(shared: Path) -> dict[tuple[str, str], Program]:
    return programs(shared / "seeds")


def edited(row: dict[str, Any], program: Program) -> str:
    """Return the program with the edits of its row; an edit that changes nothing is an error."""
    text = program.text
    for before, after in row.get("edits", []):
        assert before in text, f"{row['id']}: {before!r} is not in the program"
        text = text.replace(before, after)
    setup = FILE["setup"][row["setup"]] if "setup" in row else ""
    after = FILE["after"][row["after"]] if "after" in row else ""
    return setup + text + after


def test_ids_are_unique():
    ids = [row["id"] for row in TABLE]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["id"])
def test_every_row_says_what_its_status_needs(row):
    assert NEEDS[row["status"]] <= row.keys() <= FIELDS


@pytest.mark.oracle
def test_the_table_has_every_printed_program_and_no_others(shared):
    assert {(row["seed"], row["digest"]) for row in TABLE} == printed(shared).keys()


@pytest.mark.oracle
def test_only_fragments_are_no_programs(shared):
    fragments = {key for key, program in printed(shared).items() if program.kind == "fragment"}
    left_out = {(r["seed"], r["digest"]) for r in TABLE if r["status"] == "no program"}
    assert left_out == fragments


@pytest.mark.oracle
def test_no_line_that_imports_is_outside_a_program(shared):
    for path in sorted((shared / "seeds").glob("*.txt")):
        page = path.read_text(encoding="utf-8")
        found = [p.text for p in printed(shared).values() if path.name.startswith(p.seed)]
        lines = [line.strip() for line in page.splitlines() if line.strip().startswith("import ")]
        assert all(any(line in text for text in found) for line in lines)


@pytest.mark.oracle
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["id"])
def test_the_edits_of_a_row_apply_and_leave_a_program(row, shared):
    program = printed(shared)[row["seed"], row["digest"]]
    text = edited(row, program)
    if program.kind == "python":
        compile(text, row["id"], "exec")


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize(
    "row", [row for row in TABLE if row["status"] == "ready"], ids=lambda row: row["id"]
)
def test_a_ready_program_runs(row, shared, tmp_path):
    program = printed(shared)[row["seed"], row["digest"]]
    shutil.copy(PACKAGE / "samples" / "people.jpg", tmp_path)
    put_weights(row.get("weights", {}), shared, tmp_path)
    text = edited(row, program)
    with contextlib.ExitStack() as running:
        if "served" in row:
            text = text.replace("{server}", running.enter_context(serving(row["served"], tmp_path)))
        python = program.kind == "python"
        done = run([sys.executable, "-c", text] if python else ["bash", "-ec", text], tmp_path)
    assert done.returncode == 0, done.stderr


def put_weights(weights: dict[str, str], shared: Path, folder: Path) -> None:
    """Put a checkpoint behind each id, as a user does, or under each file name."""
    for name, oracle in weights.items():
        checkpoint = shared / "oracles" / oracle / "model.pt"
        if name.endswith(".pt"):
            shutil.copy(checkpoint, folder / name)
        else:
            done = run(
                [sys.executable, "-m", "openkeypoints.cli", "models", "add", name, str(checkpoint)],
                folder,
            )
            assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def serving(tasks: dict[str, str], folder: Path) -> Iterator[str]:
    """Run a server with a small YOLO model of a task under each id, and return its address."""
    models = tuple(
        NamedModel(model_id, ModelSpec(str(tiny_yolo(folder / f"{task}.pt", task=task))))
        for model_id, task in tasks.items()
    )
    settings = Settings(cache_dir=folder / "cache", offline=True)
    with live_server(ServerConfig(port=0, models=models), settings=settings) as server:
        yield server.url


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    here = str(Path(sys.executable).parent)
    return subprocess.run(
        command,
        cwd=folder,
        env={
            **os.environ,
            "PATH": os.pathsep.join((here, os.environ["PATH"])),
            "OKP_CACHE_DIR": str(folder / "cache"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
