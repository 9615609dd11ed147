"""Plants one violation of each kind in a copy of the package: the named rule must catch it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.arch.source import ROOT

LAYERS = "Imports only go down the layers"
CIRCLES = "No modules import each other in a circle"
FAMILIES = "Model families are independent"
TORCH = "torch is at home in networks, the torch runtime, the tracer, the safe reader and training"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return the package in a copy of the repository that holds what the rules look at."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    ignored = shutil.ignore_patterns("__pycache__", "*.okp", "*.jpg")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=ignored)
    return tmp_path / "src" / "openkeypoints"


def broken_contracts(package: Path) -> set[str]:
    """Return the names of the contracts that import-linter finds broken."""
    root = package.parents[1]
    run = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as m; m()",
         "--no-cache"],
        cwd=root, env={**os.environ, "PYTHONPATH": str(root / "src"), "COLUMNS": "200"},
        capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert "Contracts:" in run.stdout, run.stdout + run.stderr
    names = re.findall(r"^(.+?) BROKEN", run.stdout, flags=re.MULTILINE)
    assert bool(names) == bool(run.returncode)
    return set(names)


def ruff_codes(package: Path) -> set[str]:
    """Return the codes that ruff reports with the repository's configuration."""
    run = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", "."],
        cwd=package.parents[1], capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    return set(re.findall(r": ([A-Z]+\d+) ", run.stdout))


def plant(file: Path, line: str) -> None:
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{text}\n{line}\n", encoding="utf-8")


def test_the_copy_without_a_violation_breaks_nothing(package):
    assert broken_contracts(package) == set()
    assert "TID251" not in ruff_codes(package)


def test_a_format_that_imports_a_model_is_caught(package):
    plant(package / "formats" / "roboflow.py", "import openkeypoints.models.base")
    assert broken_contracts(package) == {LAYERS}


def test_two_modules_of_a_room_that_need_each_other_are_caught(package):
    plant(package / "cli" / "tables.py", "import openkeypoints.cli.progress")
    plant(package / "cli" / "progress.py", "import openkeypoints.cli.tables")
    assert broken_contracts(package) == {CIRCLES}


def test_a_family_that_imports_another_is_caught(package):
    plant(package / "models" / "yolo" / "__init__.py", "import openkeypoints.models.pico.process")
    assert broken_contracts(package) == {FAMILIES}


def test_a_family_that_nobody_placed_is_caught(package):
    plant(package / "models" / "newcomer" / "__init__.py", "")
    assert broken_contracts(package) == {FAMILIES}


def test_the_environment_read_outside_settings_is_caught(package):
    plant(package / "geometry.py", "import os\n\nHOME = os.environ['HOME']")
    assert "TID251" in ruff_codes(package)


def test_a_top_level_module_that_nobody_placed_is_caught(package):
    plant(package / "novelty.py", "")
    assert broken_contracts(package) == {LAYERS}


def test_torch_in_metrics_is_caught(package):
    plant(package / "metrics" / "oks.py", "import torch")
    assert broken_contracts(package) == {TORCH}


@pytest.mark.parametrize("line", ["import pickle", "import torch\n\ntorch.load('x')"])
def test_what_executes_what_it_reads_is_caught(package, line):
    plant(package / "geometry.py", line)
    assert "TID251" in ruff_codes(package)
