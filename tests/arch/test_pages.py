"""The pages for people: the files, modules and tests that they name are there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from tests.arch.source import PACKAGE, ROOT

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
BASES = (ROOT, PACKAGE, PACKAGE / "server", ROOT / "tests", ROOT / "tests" / "unit")
"""Where the path of a page may begin."""
FILE = re.compile(r"((?:\w+/)*\w+\.py)(?:::\w+)?")
NAME = re.compile(r"((?:\w+/)+\w+)\.([A-Za-z_]\w*)(?:\.\w+)?(?:\(.*\))?")
"""``server/keys.KeyStore.find``: a module and a name in it."""
TEST = re.compile(r"(?:\S*::)?(test_\w+)")
SAID_OF_ANY = {"variants.py"}
"""Files that every family has."""


def wrong_names(text: str) -> list[str]:
    """Return what a page names between backticks and is not there."""
    return [
        word
        for word in re.findall(r"`([^`\n]+)`", text)
        if ((found := FILE.fullmatch(word)) and not known_file(found[1]))
        or ((found := NAME.fullmatch(word)) and not known_name(found[1], found[2]))
        or ((found := TEST.fullmatch(word)) and found[1] not in our_tests())
    ]


@cache
def our_tests() -> set[str]:
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for text in texts for name in re.findall(r"^ *def (test_\w+)", text, re.MULTILINE)}


def known_file(name: str) -> bool:
    return name in SAID_OF_ANY or any((base / name).is_file() for base in BASES)


def known_name(module: str, name: str) -> bool:
    files = [base / f"{module}{end}" for base in BASES for end in (".py", "/__init__.py")]
    texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
    other_file = any(Path(base, f"{module}.{name}").is_file() for base in BASES)
    return other_file or any(re.search(rf"\b{name}\b", text) for text in texts)


def test_pages_name_only_what_is_there():
    wrong = {page.name: found for page in PAGES if (found := wrong_names(page.read_text("utf-8")))}
    assert not wrong


def test_what_is_not_there_is_noticed():
    said = "`weights/none.py` `server/keys.KeyRing` `test_nothing` `a/b.py::test_x` `models/none.A`"
    assert wrong_names(said) == re.findall(r"`([^`]+)`", said)
    assert wrong_names("`server/keys.KeyStore.find`, `test_pages_name_only_what_is_there`") == []
