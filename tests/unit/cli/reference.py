"""Writes docs/cli.md from the help of every command: ``python -m tests.unit.cli.reference``."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from openkeypoints.cli import COMMANDS, cli

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"
INTRODUCTION = """\
# The command line

`okp` does what the Python API does. Data goes to standard output, talk to standard error; `--json`
makes the data JSON. Nothing asks questions. A progress bar appears on a terminal alone, and
`NO_COLOR` takes its colours away.

| exit code | meaning |
| --- | --- |
| 0 | all well |
| 1 | something failed here: a runtime, a model file, a download |
| 2 | wrong usage |
| 3 | not found |
| 4 | bad input: a file that cannot be read, or an output that may not be replaced |
| 130 | interrupted |

No command writes over one of its inputs, not through a link either. In the folder of an input the
output is called `<name>_keypoints`. A folder that was written into holds `.okp-outputs.json`, which
says what each file was made from: a later run replaces a file only where it makes it from the same
inputs, or with `--overwrite`, and leaves these files out where it searches a folder for pictures.

This page is written by `python -m tests.unit.cli.reference`.
"""


def reference() -> str:
    """Return the page: an introduction, and the help of every command."""
    pages = [[], *([name] for name in COMMANDS)]
    pages[3:3] = [["models", name] for name in ("list", "info", "pull", "add", "remove")]
    parts = [INTRODUCTION]
    for page in pages:
        text = CliRunner().invoke(cli, [*page, "--help"], prog_name="okp", terminal_width=90).stdout
        parts.append(f"## okp {' '.join(page)}".rstrip() + f"\n\n```\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
