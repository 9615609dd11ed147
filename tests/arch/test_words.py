"""One word per idea: the synonyms we dropped do not come back."""

from __future__ import annotations

import re

import pytest

from tests.arch.source import PACKAGE, ROOT

# Dropped word -> the one we use.
DROPPED = {
    r"backends?": "runtime",
    r"adapt[eo]rs?": "format",
    r"landmarks?": "keypoints",
    r"serializers?": "format",
    r"letter_box(?:es|ing)?": "letterbox",
    r"flavou?rs?": "variant",
    r"downloaders?": "provider",
    r"detected objects?": "instance",
}
# Names of other people's things are no words of ours.
FOREIGN = re.compile(r"torch\.backends|network_backend|build-backend|\"backend\":")

FILES = [*sorted(PACKAGE.rglob("*.py")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]


@pytest.mark.parametrize("dropped", DROPPED)
def test_nobody_uses_a_dropped_word(dropped):
    word = re.compile(rf"(?<![a-z]){dropped}(?![a-z])", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: say {DROPPED[dropped]!r}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if word.search(FOREIGN.sub("", line))
    ]
    assert not found
