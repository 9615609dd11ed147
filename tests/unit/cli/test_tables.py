"""Tables and lists in plain text."""

from __future__ import annotations

import pytest

from openkeypoints.cli.tables import bytes_text, listing, table


def test_columns_stand_under_each_other():
    assert table(["id", "n"], [["person", 1], ["x", 22]]) == "id      n\nperson  1\nx       22"


def test_values_of_a_list_read_as_words():
    values = {"a": None, "long": [], "b": True, "c": {"x": 1}}
    assert listing(values).splitlines() == ["a     unknown", "long  none", "b     yes", "c     x 1"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (15_900_000, "15.9 MB"), (3e9, "3.0 GB")],
)
def test_bytes_read_as_people_read_them(count, text):
    assert bytes_text(int(count)) == text
