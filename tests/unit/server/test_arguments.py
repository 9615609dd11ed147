"""Texts of requests become numbers within their ranges, whatever the texts are."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openkeypoints.errors import InputError
from openkeypoints.server.arguments import Arguments, Choice, Flag, Number, Whole

SHARE = Number(("share", "part"), 0.01, 1.0, "A share.")
COUNT = Whole(("count",), 1, 300, "A count.")
FLAG = Flag(("flag",), "Yes or no.")
WORD = Choice(("word",), ("roboflow", "coco"), "A word.")


@given(st.text() | st.from_regex(r"[+-]?[0-9._]{0,12}(e[+-]?[0-9]{0,4})?", fullmatch=True))
def test_any_text_is_a_number_in_the_range_or_an_error(text):
    try:
        value = SHARE.read(Arguments({"share": text}), None)
    except InputError:
        return
    assert value is not None
    assert math.isfinite(value)
    assert 0.01 <= value <= 1.0


@given(st.text() | st.integers().map(str) | st.floats().map(str))
def test_any_text_is_a_whole_number_in_the_range_or_an_error(text):
    try:
        value = COUNT.read(Arguments({"count": text}), None)
    except InputError:
        return
    assert isinstance(value, int)
    assert 1 <= value <= 300


@given(st.integers(1, 300))
def test_every_whole_number_of_the_range_is_read(value):
    assert COUNT.read(Arguments({"count": str(value)}), None) == value


@given(st.floats(0.01, 1.0))
def test_every_number_of_the_range_is_read_exactly(value):
    assert SHARE.read(Arguments({"share": repr(value)}), None) == value


@pytest.mark.parametrize("argument", [SHARE, COUNT, FLAG])
def test_what_was_not_sent_is_the_default(argument):
    assert argument.read(Arguments({}), default=None) is None


def test_the_first_source_and_the_first_name_count():
    arguments = Arguments({"part": "0.2"}, {"share": "0.3"})
    assert SHARE.read(arguments, None) == 0.2
    assert SHARE.read(Arguments({"part": "0.2", "share": "0.3"}), None) == 0.3


def test_an_error_names_the_word_of_the_client():
    with pytest.raises(InputError, match=r"^part is '2': give a number from 0\.01 to 1\.$"):
        SHARE.read(Arguments({"part": "2"}), None)


def test_a_wrong_word_gets_the_closest():
    with pytest.raises(InputError, match="give roboflow"):
        WORD.read(Arguments({"word": "Roboflow"}), "coco")


def test_the_documents_say_the_range_and_the_default():
    assert COUNT.schema(300) == {
        "type": "integer",
        "minimum": 1,
        "maximum": 300,
        "description": "A count.",
        "default": 300,
    }
