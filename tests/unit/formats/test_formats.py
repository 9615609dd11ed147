from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from openkeypoints.errors import FormatError, InputError
from openkeypoints.formats import FORMATS, dump, dumps, load
from openkeypoints.results import Prediction
from tests.unit.predictions import boxes_only, masked, people, two_values

KINDS = {
    "plain": people,
    "full": lambda count: people(count, full=True),
    "boxes only": boxes_only,
    "masks": masked,
    "keypoints without scores": two_values,
}


def assert_same(one: Prediction, other: Prediction, name: str) -> None:
    """Compare all fields that a format does not lose, to the digits that it writes."""
    decimals = FORMATS[name].decimals
    room = 0.0 if decimals is None else 0.5 * 10.0**-decimals
    near = room and 1e-6  # what float32 rounds comes on top
    for field in {f.name for f in fields(Prediction)} - FORMATS[name].loses:
        a, b = getattr(one, field), getattr(other, field)
        if field == "extras":
            assert set(a) == set(b)
            for key in a:
                assert a[key].dtype == b[key].dtype, key
                np.testing.assert_array_equal(a[key], b[key])
        elif isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, field
            np.testing.assert_allclose(b, a, rtol=near, atol=room, err_msg=field)
        else:
            assert a == b, field


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("name", FORMATS)
def test_what_a_format_does_not_lose_comes_back(name: str, count: int, kind: str) -> None:
    prediction = KINDS[kind](count)
    assert_same(prediction, load(dump(prediction, name), name), name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMATS)
def test_the_text_holds_the_same_as_the_dict(name: str, kind: str) -> None:
    prediction = KINDS[kind](3)
    text = dumps(prediction, name)
    assert json.loads(text) == json.loads(json.dumps(dump(prediction, name), allow_nan=False))
    assert_same(prediction, load(text, name), name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_prediction_without_instances_comes_back_without_instances(name: str, kind: str) -> None:
    loaded = load(dumps(KINDS[kind](3)[[]], name), name)
    assert len(loaded) == 0
    assert loaded.image_size == (640, 480) or "image_size" in FORMATS[name].loses
    assert loaded.keypoints.ndim == 3


@pytest.mark.parametrize("name", FORMATS)
def test_losses_are_fields_of_the_prediction(name: str) -> None:
    assert FORMATS[name].loses <= {f.name for f in fields(Prediction)}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", '"x"', "NaN", "[" * 100_000, "{}"], ids=range(8)
)
def test_json_of_another_form_is_a_format_error(name: str, text: str) -> None:
    with pytest.raises(FormatError, match=f"^{name}: "):
        load(text, name)


def holes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a document, containers included; of lists two entries."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2])
    found = []
    for key, entry in inner if isinstance(value, dict | list) else ():
        found.append((*path, key))
        if isinstance(entry, dict | list):
            found += holes(entry, (*path, key))
    return found


@pytest.mark.parametrize(
    "wrong",
    [None, "x", -7.5, 10**400, {}, [], True, float("inf")],
    ids=["null", "text", "negative", "huge", "object", "list", "true", "infinite"],
)
@pytest.mark.parametrize("name", FORMATS)
def test_a_wrong_value_anywhere_is_a_format_error_or_harmless(name: str, wrong: Any) -> None:
    good = json.loads(dumps(people(2, full=True), name))
    for path in holes(good):
        data = json.loads(json.dumps(good))
        target = data
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = wrong
        with suppress(FormatError):  # any other exception fails here
            load(data, name)


@pytest.mark.parametrize("name", FORMATS)
def test_low_keypoints_are_in_no_json_as_nan(name: str) -> None:
    assert "NaN" not in dumps(people(3, full=True), name)


def test_an_unknown_format_is_answered_with_the_closest() -> None:
    with pytest.raises(InputError, match=r"'Coco17'.*coco"):
        dump(people(1), "Coco17")
