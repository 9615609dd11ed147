"""``okp models``: the catalogue, and what is known about one model."""

from __future__ import annotations

import json

from openkeypoints import list_models
from openkeypoints.weights.okp import sha256_of


def test_the_list_has_every_model_of_the_catalogue(okp):
    ids = [row["id"] for row in json.loads(okp("models", "--json").stdout)]
    assert ids == [variant.id for variant in list_models()]


def test_the_list_is_the_same_with_its_name(okp):
    assert okp("models", "list").stdout == okp("models").stdout


def test_the_table_has_a_line_per_model_with_its_licence(okp):
    lines = okp("models").stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines] == [variant.id for variant in list_models()]
    assert all("Apache-2.0" in line for line in lines)


def test_the_facts_of_a_model_are_complete(okp):
    facts = json.loads(okp("models", "info", "person-19", "--json").stdout)
    assert {"licence", "source", "size_bytes", "sha256", "claims", "card"} <= set(facts)
    assert facts["skeletons"] == {"person": "person19"}


def test_the_facts_of_a_file_are_those_it_states(okp, tiny_okp):
    facts = json.loads(okp("models", "info", tiny_okp, "--json").stdout)
    assert facts["sha256"] == sha256_of(tiny_okp)
    assert facts["card"] == {"note": "random weights"}
    assert facts["views"] == ["person", "person-19"]


def test_the_facts_read_as_lines(okp, tiny_okp):
    assert "\nlicence " in okp("models", "info", tiny_okp).stdout
