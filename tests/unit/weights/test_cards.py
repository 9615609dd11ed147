"""Cards: mappings, JSON or YAML, and nothing else."""

from __future__ import annotations

import pytest

from openkeypoints.errors import InputError, NotFoundError
from openkeypoints.weights.cards import read_card


def test_no_card_is_an_empty_one():
    assert read_card(None) == {}


def test_a_mapping_is_copied():
    card = {"a": 1}
    read = read_card(card)
    assert read == card
    assert read is not card


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"licence": "mine", "names": ["a"]}'),
        ("c.JSON", '{"licence": "mine",\t"names": ["a"]}'),
        ("c.yaml", "licence: mine\nnames: [a]\n"),
        ("c.yml", '{"licence": "mine", "names": ["a"]}'),
    ],
)
def test_json_and_yaml_say_the_same(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_card(str(tmp_path / name)) == {"licence": "mine", "names": ["a"]}


def test_a_missing_card_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match=r"c\.json"):
        read_card(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("c.json", b"{"),
        ("c.json", b"[1]"),
        ("c.yaml", b"a: [1"),
        ("c.yaml", b"just words"),
        ("c.yaml", b""),
        ("c.yaml", b"\xff\xfe\xff"),
        ("c.yaml", b"!!python/object/apply:os.system ['true']"),
    ],
)
def test_a_card_that_is_no_mapping_is_refused_by_name(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=name):
        read_card(tmp_path / name)
