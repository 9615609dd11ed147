"""docs/map.md: its rooms are those of the contract, and its frames those that Python calls."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from openkeypoints import cli, get_model
from openkeypoints.samples import sample
from tests.arch.source import PACKAGE, ROOT

MAP = ROOT / "docs" / "map.md"
LINE = re.compile(r"^(\S+\.py) +(\S+)", re.MULTILINE)
"""A file of the package, and a function in it."""
MOST = {"library": 6, "command": 11}
"""Frames that a reader has to know; more need a reason."""


def listed(chain: str) -> list[tuple[str, ...]]:
    """Return the frames that the page lists: a block that begins with the name of the chain."""
    text = MAP.read_text(encoding="utf-8")
    block = re.search(rf"^```\n{chain}: .*?^```$", text, re.MULTILINE | re.DOTALL)
    assert block, f"{MAP} has no block that begins with '{chain}: '"
    return LINE.findall(block[0])


def frames_to_the_network(call: Callable[[], Any]) -> list[tuple[str, ...]]:
    """Return our own frames, outermost first, at the moment when a network is first run."""
    found: list[tuple[str, ...]] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and not found and runs_a_network(frame.f_code):
            above: FrameType | None = frame
            while above is not None:
                if Path(above.f_code.co_filename).is_relative_to(PACKAGE):
                    found.insert(0, named(above.f_code))
                above = above.f_back

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found


def runs_a_network(code: CodeType) -> bool:
    return code.co_name == "run" and Path(code.co_filename).parent == PACKAGE / "runtimes"


def named(code: CodeType) -> tuple[str, str]:
    file = Path(code.co_filename).relative_to(PACKAGE).as_posix()
    return file, code.co_qualname.replace("<locals>.", "")


def test_the_map_lists_the_frames_of_the_library():
    path = str(sample("people"))
    frames = frames_to_the_network(lambda: get_model().infer(path))
    assert listed("library") == frames


def test_the_map_lists_the_frames_of_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["okp", "predict", str(sample("people"))])

    def command() -> None:
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code

    assert listed("command") == frames_to_the_network(command)
    assert "2 person" in capsys.readouterr().out


def contract_layers() -> list[set[str]]:
    """Return the modules of each layer of the contract that are there, from top to bottom."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    layers = [set(re.findall(r"\w+", layer)) for layer in contracts[0]["layers"]]
    built = {path.stem for path in PACKAGE.iterdir()}
    return [layer & built for layer in layers if layer & built]


def test_the_rooms_of_the_map_are_those_of_the_contract():
    rows = re.findall(r"^\| \d \| (.+?) \|", MAP.read_text(encoding="utf-8"), re.MULTILINE)
    *upper, lowest = [set(re.findall(r"`(\w+)`", row)) for row in rows]
    *above, settings, errors = contract_layers()
    assert [*upper, lowest] == [*above, settings | errors]


@pytest.mark.parametrize("chain", MOST)
def test_the_way_to_the_network_grows_no_longer(chain):
    assert 0 < len(listed(chain)) <= MOST[chain]
