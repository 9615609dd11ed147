"""Takes away each guard of docs/security.md in a copy of the sources, and wants its test to fail.

    python benchmarks/remove_guards.py [--only S1,S19] [--list]

The rows are in ``remove_guards.toml``. Nothing of the working tree is changed. It exits 1 where a
guard is gone and its test still passes, or where the text of a guard is no longer in its file.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_suffix(".toml")
COPIED = ("src", "tests", "pyproject.toml", "constraints.txt")
LIMIT_S = 240
NOTICED = 1
"""What pytest answers where a test fails; another code is a fault of the row."""


def main() -> int:
    """Try every row; return 1 where one goes unnoticed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="rows, separated by commas: S1,S19")
    parser.add_argument("--list", action="store_true", help="show the rows and run nothing")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = tomllib.loads(TABLE.read_text(encoding="utf-8"))["guard"]
    chosen = set(filter(None, options.only.split(",")))
    rows = [row for row in rows if not chosen or row["row"] in chosen]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        _copy(copy)
        for row in rows:
            began = time.monotonic()
            verdict = "-" if options.list else _try(copy, row)
            failed += verdict not in ("-", "noticed")
            seconds = time.monotonic() - began
            print(f"{row['row']:4} {verdict:12} {seconds:5.1f} s  {row['what']}  <- {row['test']}")
            sys.stdout.flush()
    print(f"{len(rows)} guards, {failed} that nobody misses or finds.")
    return 1 if failed else 0


def _copy(folder: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_file():
            shutil.copy(source, folder / name)
        else:
            shutil.copytree(source, folder / name)  # with the bytecode, which saves seconds


def _try(copy: Path, row: dict[str, Any]) -> str:
    """Return what came of one row: noticed, or what is wrong with it."""
    for file, old, _ in row["edits"]:
        if (copy / "src/openkeypoints" / file).read_text(encoding="utf-8").count(old) != 1:
            return "NOT FOUND"
    with _without(copy, row["edits"]):
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        environment = {
            **os.environ,
            "PYTHONPATH": str(copy / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        try:
            done = subprocess.run(
                [*command, row["test"]],
                cwd=copy,
                env=environment,
                capture_output=True,
                timeout=LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "noticed"
    return "noticed" if done.returncode == NOTICED else f"UNNOTICED {done.returncode}"


@contextmanager
def _without(copy: Path, edits: Sequence[Sequence[str]]) -> Iterator[None]:
    """Take the guards away for a while."""
    before: dict[Path, str] = {}
    for file, old, new in edits:
        path = copy / "src/openkeypoints" / file
        text = path.read_text(encoding="utf-8")
        before.setdefault(path, text)
        path.write_text(text.replace(old, new), encoding="utf-8")
    try:
        yield
    finally:
        for path, text in before.items():
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
