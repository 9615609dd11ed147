"""Two families that nobody here knows: two files each, and a line in the table."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from openkeypoints.errors import InputError, WeightsError
from openkeypoints.models import InferOptions, ModelSpec, get_model, open_model
from openkeypoints.models.catalogue import FAMILIES
from openkeypoints.models.facts import read_facts
from openkeypoints.models.opening import family_of
from openkeypoints.results import Boxes
from openkeypoints.samples import sample
from openkeypoints.server.config import NamedModel, ServerConfig
from openkeypoints.settings import Settings
from tests.contract.conftest import ADDED, SOURCES
from tests.live_server import live_server
from tests.tiny_crops import KEYPOINTS, tiny_heat
from tests.tiny_yolo import tiny_yolo
from tests.yolo_graphs import columns, write_onnx

PICTURE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
BOX = np.array([[5, 5, 40, 55], [30, 2, 78, 50]], np.float32)
HORSE = {"class_names": ["horse"]}

pytestmark = pytest.mark.usefixtures("added_families")


@pytest.fixture(params=ADDED)
def crop_network(request, tiny_models) -> Path:
    return tiny_models[request.param].path


@pytest.fixture(scope="module")
def horses(tmp_path_factory) -> Path:
    """Return a YOLO checkpoint that finds one class, whose name a card says."""
    return tiny_yolo(tmp_path_factory.mktemp("yolo") / "horses.pt", task="detect")


def test_a_family_is_two_files():
    for name in ADDED:
        assert sorted(p.name for p in (SOURCES / name).glob("*.py")) == ["__init__.py", "reader.py"]


def test_every_file_is_of_the_same_family_in_every_order(tiny_models, tmp_path, monkeypatch):
    table = dict(FAMILIES)
    files = {name: tiny_models[name].path for name in table}
    bare = write_onnx(tmp_path / "bare.onnx", columns(11))
    facts = {name: read_facts(path) for name, path in {**files, "bare": bare}.items()}
    for order in permutations(table):
        FAMILIES.clear()
        FAMILIES.update({name: table[name] for name in order})
        for name, found in facts.items():
            assert family_of(found, {}).name == ("yolo" if name == "bare" else name), order
    FAMILIES.clear()
    FAMILIES.update(table)


def test_they_run_behind_the_person_model(crop_network):
    with get_model(crop_network, detector="person") as model:
        (found,) = model.infer(sample("people"))
    assert len(found) == 2
    assert found.class_names == ("person",)
    assert found.keypoints.shape == (2, KEYPOINTS, 2)
    assert found.covariances is None


def test_they_run_behind_a_yolo_detector_of_horses(crop_network, horses):
    spec = ModelSpec(str(crop_network), HORSE, ModelSpec(str(horses), HORSE))
    with open_model(spec, Settings.from_env()) as model:
        (found,) = model.infer(PICTURE, confidence=0.3, max_detections=3)
    assert len(found) == 3
    assert found.class_names == ("horse",)
    with get_model(horses, card=HORSE) as detector:
        (boxes,) = detector.infer(PICTURE, confidence=0.3, max_detections=3)
        assert np.array_equal(found.boxes, boxes.boxes)
        assert np.array_equal(found.scores, boxes.scores)
        with get_model(crop_network, card=HORSE, detector=detector) as joined:
            (same,) = joined.infer(PICTURE, confidence=0.3, max_detections=3)
    assert np.array_equal(same.keypoints, found.keypoints)


def test_a_detector_of_other_things_is_refused(crop_network, horses):
    with pytest.raises(InputError, match="finds thing0, the keypoint model reads person"):
        get_model(crop_network, detector=horses)


def test_they_read_given_boxes_and_keep_what_these_bring(crop_network):
    with get_model(crop_network) as model:
        model.warmup()
        with pytest.raises(InputError, match="has no detector"):
            model.infer(PICTURE)
        bare, brought = (
            model.infer(PICTURE, options=InferOptions(boxes=[boxes]))[0]
            for boxes in (BOX, Boxes(BOX, [0.2, 0.7]))
        )
    assert brought.scores.tolist() == pytest.approx([0.7, 0.2])
    assert brought.extras["box_index"].tolist() == [1, 0]
    order = bare.extras["box_index"].argsort(), brought.extras["box_index"].argsort()
    assert np.array_equal(bare.keypoints[order[0]], brought.keypoints[order[1]])


def test_a_graph_that_takes_one_crop_gets_one_at_a_time(tmp_path, tiny_models):
    fixed = tiny_heat(tmp_path / "fixed.onnx", batch=1)
    free = tiny_models["tiny_heat"].path
    options = InferOptions(boxes=[BOX])
    with get_model(fixed) as one, get_model(free) as many:
        (a,), (b,) = one.infer(PICTURE, options=options), many.infer(PICTURE, options=options)
    np.testing.assert_array_equal(a.keypoints, b.keypoints)


def test_the_server_answers_for_them(crop_network, horses):
    behind = ModelSpec(str(crop_network), HORSE, ModelSpec(str(horses), HORSE))
    named = (NamedModel("horses", behind), NamedModel("alone", ModelSpec(str(crop_network))))
    picture = sample("people").read_bytes()
    with live_server(ServerConfig(port=0, models=named)) as server:
        answer = server.client.post("/v1/models/horses/predict", content=picture)
        assert answer.status_code == 200
        alone = server.client.post("/v1/models/alone/predict", content=picture)
        assert alone.status_code == 400
        assert "has no detector" in alone.text


def test_two_equally_sure_families_are_an_error_that_names_both(tmp_path, monkeypatch):
    graph = tiny_heat(tmp_path / "heat.onnx")
    monkeypatch.setitem(FAMILIES, "other_heat", "tiny_heat")
    with pytest.raises(WeightsError, match=r"other_heat .* and tiny_heat .* say which in a card"):
        get_model(graph)
    with get_model(graph, card={"family": "tiny_heat"}) as model:
        assert model.class_names == ("person",)


def test_a_graph_of_nobody_is_told_with_its_ports_and_what_a_card_may_say(tmp_path, monkeypatch):
    graph = tiny_heat(tmp_path / "heat.onnx")
    monkeypatch.delitem(FAMILIES, "tiny_heat")
    sentence = r"takes input float32 \(any, 3, 32, 24\) and gives output float32 .*card: family"
    with pytest.raises(WeightsError, match=sentence):
        get_model(graph)


def test_a_card_that_names_no_family_of_ours_is_refused(crop_network):
    with pytest.raises(InputError, match="family 'giant', which this version does not know"):
        get_model(crop_network, card={"family": "giant"})


def test_a_card_that_names_a_family_in_another_form_is_refused(crop_network):
    with pytest.raises(InputError, match=r"family \['yolo'\], which this version does not know"):
        get_model(crop_network, card={"family": ["yolo"]})


def test_a_card_cannot_make_another_family_of_what_we_wrote():
    with pytest.raises(InputError, match=r"family 'yolo', but person\.okp was written as 'pico'"):
        get_model("person", card={"family": "yolo"})
