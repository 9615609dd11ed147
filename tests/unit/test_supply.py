"""What the program is made of (S27): every pin is exact, and nothing is installed while it runs."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!]+")
PROGRAMS = {"subprocess", "pip", "ensurepip", "venv", "pkg_resources", "setuptools", "pty"}
CALLS = {"system", "popen", "execv", "execve", "execvp", "spawnl", "spawnv", "posix_spawn"}


def test_every_line_of_the_constraints_is_an_exact_pin():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 50
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    names = [re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines]
    assert len(names) == len(set(names))


def test_every_requirement_of_the_server_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["server"]
    pinned = {
        re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    }
    names = {re.match(r"[A-Za-z0-9._-]+", text)[0].lower() for text in wanted}  # type: ignore[index]
    assert names <= pinned


def test_the_library_starts_no_program_and_installs_nothing():
    found = []
    for file in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                is_os = isinstance(owner, ast.Name) and owner.id == "os"
                names = ["subprocess"] if is_os and node.func.attr in CALLS else []
            else:
                continue
            found += [(file.name, name) for name in names if name.split(".")[0] in PROGRAMS]
    assert found == []
