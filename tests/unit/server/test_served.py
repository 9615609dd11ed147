"""Which names are models, and for whom; nobody reaches a file of the server by a name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openkeypoints.errors import (
    DownloadError,
    LicenceError,
    UnknownModelError,
    WeightsError,
)
from openkeypoints.models import get_model
from openkeypoints.server.callers import Caller
from openkeypoints.server.config import NamedModel, ServerConfig
from openkeypoints.server.opening import Opener
from openkeypoints.server.served import Served, skeletons_block, spellings
from openkeypoints.weights.providers import local
from tests.servers import FileServer, serving

ANYBODY = Caller(None, frozenset({"infer", "admin"}))
STRANGER = Caller(None, frozenset({"infer"}))
INFER = Caller("one", frozenset({"infer"}))
ADMIN = Caller("two", frozenset({"infer", "admin"}))
YOLO = "yolov8n-pose-640"


@pytest.fixture
def made(settings):
    def make(*models: str, settings=settings, **options) -> Served:
        named = tuple(NamedModel.parse(text) for text in models)
        return Served(ServerConfig(models=named, **options), settings)

    return make


@pytest.mark.parametrize("name", ["person", "person/1", "/person/1/"])
def test_the_person_model_is_there_under_all_its_names(made, name):
    assert made().resolve(name, STRANGER) == "person"


@pytest.mark.parametrize(
    "name", [YOLO, f"{YOLO}/1", "yolov8n-pose", "yolov8n-pose.pt", "coco-pose-detection/1"]
)
def test_without_named_models_clients_may_name_those_of_the_catalogue(made, name):
    assert made().resolve(name, STRANGER) == YOLO


@pytest.mark.parametrize("caller", [ANYBODY, STRANGER, INFER, ADMIN])
def test_with_no_load_nobody_may(made, caller):
    with pytest.raises(UnknownModelError):
        made(load=False).resolve(YOLO, caller)


@pytest.mark.parametrize(
    ("caller", "found"), [(ANYBODY, False), (STRANGER, False), (INFER, False), (ADMIN, True)]
)
def test_with_named_models_only_a_key_with_admin_may_name_others(made, caller, found):
    served = made("person")
    if found:
        assert served.resolve(YOLO, caller) == YOLO
    else:
        with pytest.raises(UnknownModelError, match="there is person"):
            served.resolve(YOLO, caller)


def test_a_named_model_has_its_aliases_and_a_file_of_ones_own(made, tmp_path):
    file = tmp_path / "own.onnx"
    file.touch()
    served = made(f"yolov8x-pose-640={file}", "my-pose/3")
    for name in ("yolov8x-pose-640", "yolov8x-pose", "coco-pose-detection/5", "yolov8x-pose-640/1"):
        assert served.resolve(name, INFER) == "yolov8x-pose-640"
    assert served.resolve("my-pose/3", INFER) == "my-pose/3"
    assert served.row("yolov8x-pose-640") is None
    assert served.pinned == ("yolov8x-pose-640", "my-pose/3")


def test_an_id_without_a_slash_is_listed_twice(made, tmp_path):
    (tmp_path / "best.okp").touch()
    assert made(str(tmp_path / "best.okp"), "my-pose/3").names() == ["best", "best/1", "my-pose/3"]
    assert spellings("a/2") == ("a/2",)


def test_what_was_named_stays_after_a_remove_and_a_clear(made):
    served = made("person")
    served.remove("person")
    served.clear()
    assert served.resolve("person/1", INFER) == "person"


def test_what_a_key_adds_is_for_everybody_until_it_is_removed(made):
    served = made("person")
    assert served.add(YOLO, ADMIN) == YOLO
    assert served.resolve(f"{YOLO}/1", INFER) == YOLO
    assert served.ids() == ["person", YOLO]
    served.remove(YOLO)
    with pytest.raises(UnknownModelError):
        served.resolve(YOLO, INFER)


def test_asking_adds_nothing(made):
    served = made("person")
    served.resolve(YOLO, ADMIN)
    with pytest.raises(UnknownModelError):
        served.resolve(YOLO, INFER)


def test_the_names_asked_for_are_remembered_in_their_order(made):
    served = made()
    for name in ("coco-pose-detection/1", YOLO, "coco-pose-detection/1"):
        served.resolve(name, ANYBODY)
    assert served.requested(YOLO) == ("coco-pose-detection/1", YOLO)
    assert served.known("yolov8n-pose") == "yolov8n-pose"
    assert served.known("coco-pose-detection/1") == YOLO
    served.clear()
    assert served.requested(YOLO) == ()


def test_a_model_that_the_user_registered_may_be_named(made, settings, tmp_path, tiny_okp):
    own = replace(settings, cache_dir=tmp_path)
    local.add("mine", tiny_okp, own)
    served = made(settings=own)
    assert served.resolve("mine/1", STRANGER) == "mine"
    assert "mine" in served.loadable()


def test_roboflow_is_asked_only_with_a_key(made, settings):
    with pytest.raises(UnknownModelError):
        made().resolve("a/1", STRANGER)
    keyed = made(settings=replace(settings, api_key="ours"))
    assert keyed.resolve("a/1", STRANGER) == "a/1"
    offline = made(settings=replace(settings, api_key="ours", offline=True))
    with pytest.raises(UnknownModelError):
        offline.resolve("a/1", STRANGER)


def test_a_clients_key_counts_only_if_the_operator_says_so(made):
    caller = Caller(None, frozenset({"infer"}), roboflow_key="theirs")
    with pytest.raises(UnknownModelError):
        made().resolve("a/1", caller)
    assert made(forward_roboflow_key=True).resolve("a/1", caller) == "a/1"


@pytest.mark.parametrize(
    ("options", "sent"), [({}, "ours"), ({"forward_roboflow_key": True}, "theirs")]
)
def test_roboflow_gets_the_key_that_it_should(made, settings, options, sent):
    caller = Caller(None, frozenset({"infer"}), roboflow_key="theirs")
    with serving(FileServer()) as source:
        own = replace(settings, api_key="ours", roboflow_url=source.url)
        served = made(settings=own, **options)
        with pytest.raises(UnknownModelError):
            Opener(served, own).open(served.resolve("a/1", caller))
    assert {headers.get("authorization") for _, _, headers in source.asked} == {f"Bearer {sent}"}


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../etc",
        "a/../b",
        "a/b/c",
        "etc/passwd",
        "tests/data",
        "a\\b",
        "a\0",
        "%2e%2e/a",
        "ａ",
        "a" * 10_000,
        "v1/a",
        "model/add",
        "\u2024\u2024/x",
    ],
)
def test_no_name_leads_out_of_the_catalogue(made, name):
    for caller in (ANYBODY, ADMIN):
        with pytest.raises(UnknownModelError) as caught:
            made().resolve(name, caller)
        assert len(str(caught.value)) < 300


def test_a_name_never_means_a_file_that_lies_there(made, settings, tmp_path, monkeypatch, tiny_okp):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    for place in ("a/1", "tiny", YOLO):
        (tmp_path / place).write_bytes(tiny_okp.read_bytes())
    nowhere = "http://127.0.0.1:9"
    own = replace(settings, api_key="k", roboflow_url=nowhere, releases_url=nowhere)
    served = made(settings=own)
    with pytest.raises(UnknownModelError):
        served.resolve("tiny", ADMIN)
    for name in ("a/1", YOLO):
        with pytest.raises(DownloadError):
            Opener(served, own).open(served.resolve(name, ADMIN))


def test_an_operators_file_is_opened_under_its_id(made, settings, tiny_okp):
    opener = Opener(made(f"mine={tiny_okp}"), settings)
    with opener.open("mine") as model:
        assert model.id == "mine"
    assert opener.predict_bytes("mine") == 4 * tiny_okp.stat().st_size


def test_a_broken_file_is_told_without_its_path(made, settings, tmp_path):
    file = tmp_path / "secret-place.onnx"
    file.write_bytes(b"nothing")
    with pytest.raises(WeightsError) as caught:
        Opener(made(f"mine={file}"), settings).open("mine")
    assert "secret-place" not in str(caught.value)
    assert "secret-place" in str(caught.value.__cause__)


def test_a_licence_that_is_not_allowed_is_told(made, settings, tiny_okp):
    own = replace(settings, allowed_licences=("None",))
    with pytest.raises(LicenceError, match="not allowed on this server"):
        Opener(made(f"mine={tiny_okp}", settings=own), own).open("mine")


def test_a_model_that_cannot_be_is_refused_at_the_start(made):
    with pytest.raises(UnknownModelError, match="yolov8n-pose"):
        made("yolov8n-poze")


def test_models_run_one_picture_on_each_core(made, settings):
    own = replace(settings, threads=4)
    assert Opener(made(), own).streams == 4
    assert Opener(made(), own, workers=3).streams == 1


def test_skeletons_are_told_with_names_and_colours(tiny_okp):
    with get_model(tiny_okp) as model:
        (block, *_) = skeletons_block(model)
    assert block["class"] == model.class_names[block["class_id"]]
    skeleton = model.skeletons[block["class_id"]]
    assert [point["name"] for point in block["keypoints"]] == list(skeleton.keypoints)
    assert [point["id"] for point in block["keypoints"]] == list(range(len(skeleton)))
    assert block["edges"] == [list(edge) for edge in skeleton.edges]
