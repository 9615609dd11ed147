"""`get_model`: ids, paths and the sentence for each thing that is neither."""

from __future__ import annotations

import json
import zipfile

import pytest

from openkeypoints.errors import NotFoundError, UnknownModelError, WeightsError
from openkeypoints.models import FAMILIES, find_variant, get_model, list_models
from openkeypoints.models.base import Model
from openkeypoints.skeletons import load_skeleton
from openkeypoints.weights.okp import open_okp, write_okp


def test_nothing_asked_is_the_person_model():
    with get_model() as person:
        assert person.id == "person"
        assert person.skeletons[0].keypoints == load_skeleton("coco17").keypoints


def test_person_19_shows_neck_and_head_top_too():
    with get_model("person-19") as person:
        assert person.skeletons[0].keypoints[17:] == ("neck", "head_top")


def test_an_existing_file_wins_over_an_id(tiny_okp, tmp_path, monkeypatch):
    (tmp_path / "person").write_bytes(tiny_okp.read_bytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"person is no model file .* it reads \.okp"):
        get_model("person")


def test_text_and_path_open_the_same_file(tiny_okp):
    with get_model(str(tiny_okp)) as one, get_model(tiny_okp) as other:
        assert one.id == other.id == str(tiny_okp)
        assert isinstance(one, Model)


@pytest.mark.parametrize("name", ["persn", "Person", "person19"])
def test_an_unknown_id_lists_the_closest(name):
    with pytest.raises(UnknownModelError, match=rf"{name}.*person"):
        get_model(name)


def test_even_an_id_like_nothing_gets_a_hint():
    with pytest.raises(UnknownModelError, match="closest names are person"):
        get_model("zzzzzz")


def test_a_missing_model_file_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match=r"No model file at .*best\.okp"):
        get_model(tmp_path / "best.okp")


def test_a_file_of_a_kind_that_is_not_read_names_the_kinds_that_are(tmp_path):
    (tmp_path / "net.tflite").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"net\.tflite is no model file .* \.okp"):
        get_model(tmp_path / "net.tflite")


def write_zip(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


HEAD = {"format": "openkeypoints-model", "version": 1}
WRONG = {
    "no zip": (lambda p: p.write_bytes(b"no zip at all"), "not a whole .okp file"),
    "empty": (lambda p: p.write_bytes(b""), "not a whole .okp file"),
    "no model.json": (lambda p: write_zip(p, {"a": "b"}), "holds no model.json"),
    "no JSON": (lambda p: write_zip(p, {"model.json": "{"}), "is not JSON"),
    "another JSON": (lambda p: write_zip(p, {"model.json": "[]"}), "does not say"),
    "another format": (lambda p: write_zip(p, {"model.json": "{}"}), "does not say"),
    "compressed": (
        lambda p: write_zip(p, {"model.json": json.dumps(HEAD)}, zipfile.ZIP_DEFLATED),
        "compressed",
    ),
    "later version": (
        lambda p: write_zip(p, {"model.json": json.dumps({**HEAD, "version": 2})}),
        "install a newer openkeypoints",
    ),
    "no family": (lambda p: write_okp(p, {}, {}), "family 'None'"),
    "unknown family": (lambda p: write_okp(p, {"family": "giant"}, {}), "'giant'.*pico"),
    "empty family": (lambda p: write_okp(p, {"family": "pico"}, {}), "incomplete or wrong"),
}


@pytest.mark.parametrize("case", WRONG)
def test_each_wrong_file_has_its_own_sentence(tmp_path, case):
    make, sentence = WRONG[case]
    make(tmp_path / "m.okp")
    with pytest.raises(WeightsError, match=sentence):
        get_model(tmp_path / "m.okp")


def test_damage_in_a_graph_is_found_when_it_is_opened(tiny_okp, tmp_path):
    data = bytearray(tiny_okp.read_bytes())
    at = data.find(open_okp(tiny_okp).read("pose.onnx")[100:140])
    data[at + 5] ^= 0xFF
    path = tmp_path / "m.okp"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"m\.okp is not a whole"):
        get_model(path)


def test_the_catalogue_is_in_the_order_of_the_families():
    assert [v.family for v in list_models()] == sorted(
        (v.family for v in list_models()), key=[*FAMILIES].index
    )


def test_a_row_is_found_by_its_id():
    assert find_variant("person-19").skeleton == "person19"
