"""Finds every program that a seed page prints, however the page was saved."""

from __future__ import annotations

import ast
import hashlib
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["python", "shell", "fragment"]

_LANGUAGES: dict[str, Kind] = {"python": "python", "bash": "shell", "commandline": "shell"}
_FENCE = re.compile(r"^([ \t]*)```(\w+)[ \t]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)
_FENCE_IN_A_LINE = re.compile(r"```(python|bash|commandline) (.*?) ```", re.DOTALL)

# A page that was saved as one line lost the line breaks of its programs: a statement or a comment
# began at each of these.
_LINE_STARTS = re.compile(
    r" (?=(?:# |url = |headers = |data = |files = |response = |model = |results = "
    r"|with open\(|print\())"
)
_IN_A_WITH = re.compile(r"^(?=files = |response = )", re.MULTILINE)

# A line of a page without fences that may begin or continue a program.
_CODE_LINE = re.compile(
    r"""import\ \w | from\ [\w.]+\ import\ | assert\ | raise\ | break$
    | (?:if|while|with|for)\ .*:$
    | \#\ | \)
    | [\w.]+(?:,\ \w+)*\ =\ \S
    | [\w.]+\(
    | (?:huggingface-cli|curl|pip|export)\ """,
    re.VERBOSE,
)
_SHELL_LINE = re.compile(r"(?:huggingface-cli|curl|pip|export) ")


@dataclass(frozen=True)
class Program:
    """One program of one page; the same text printed twice is one program."""

    seed: str
    kind: Kind
    text: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]


def programs(folder: Path) -> dict[tuple[str, str], Program]:
    """Return the programs of all pages by (number of the page, digest), in their order.

    A block that looks like code and is none (a signature, a line of prose that calls a method) is
    kept as ``fragment``, so that nothing drops out unseen.
    """
    found = (
        Program(path.name.partition("_")[0], kind, text)
        for path in sorted(folder.glob("*.txt"))
        for kind, text in _blocks(path.read_text(encoding="utf-8"))
    )
    return {(program.seed, program.digest): program for program in found}


def _blocks(page: str) -> Iterator[tuple[Kind, str]]:
    if "\n" not in page.strip():
        for language, text in _FENCE_IN_A_LINE.findall(page):
            yield _LANGUAGES[language], _with_line_breaks(_LANGUAGES[language], text)
    elif "```" in page:
        for _indent, language, text in _FENCE.findall(page):
            if language in _LANGUAGES:
                yield _LANGUAGES[language], textwrap.dedent(text).strip() + "\n"
    else:
        yield from _unfenced(page)


def _with_line_breaks(kind: Kind, text: str) -> str:
    if kind == "shell":
        return text.replace(" \\ ", " \\\n  ").strip() + "\n"
    return _IN_A_WITH.sub("    ", _LINE_STARTS.sub("\n", text)).strip() + "\n"


def _unfenced(page: str) -> Iterator[tuple[Kind, str]]:
    block: list[str] = []
    for line in [*page.splitlines(), "."]:
        indented = bool(block) and (not line.strip() or line[0] in " \t")
        if indented or _CODE_LINE.match(line):
            if block and re.match(r"import |from ", line) and not _only_imports(block):
                yield _judged(block)
                block = []
            block.append(line)
        elif block:
            yield _judged(block)
            block = []


def _only_imports(lines: list[str]) -> bool:
    return all(re.match(r"import |from |$", line) for line in lines)


def _judged(lines: list[str]) -> tuple[Kind, str]:
    text = "\n".join(lines).strip() + "\n"
    if _SHELL_LINE.match(text):
        return "shell", text
    try:
        ast.parse(text)
    except SyntaxError:
        return "fragment", text
    return "python", text
