"""The documentation of the command line is the one that the commands give."""

from __future__ import annotations

import pytest

from openkeypoints.cli import COMMANDS
from tests.unit.cli.reference import PAGE, reference

README = PAGE.parents[1] / "README.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "run `python -m tests.unit.cli.reference`"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_names_every_command(name):
    assert f"okp {name}" in README.read_text(encoding="utf-8")
