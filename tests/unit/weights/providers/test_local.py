"""The user's own files under an id, where they lie."""

from __future__ import annotations

import os

import pytest

from openkeypoints.errors import HashMismatchError, InputError, NotFoundError
from openkeypoints.weights.providers import local


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "best.onnx"
    path.write_bytes(b"own")
    return path


def test_a_file_is_found_under_its_id_where_it_lies(settings, own, monkeypatch):
    monkeypatch.chdir(own.parent)
    local.add("mine/1", own.relative_to(own.parent), settings)
    assert local.find("mine/1", settings).path == own
    assert local.find("mine", settings) is None


def test_a_file_can_be_replaced_by_another(settings, own, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(b"other")
    local.add("mine", own, settings)
    local.add("mine", other, settings)
    assert local.find("mine", settings).path == other


def test_a_file_that_changed_has_to_be_added_again(settings, own):
    local.add("mine", own, settings)
    own.write_bytes(b"changed")
    with pytest.raises(HashMismatchError, match="okp models add mine FILE"):
        local.find("mine", settings)
    local.add("mine", own, settings)
    assert local.find("mine", settings).path == own


def test_a_file_that_was_only_touched_is_the_same(settings, own):
    local.add("mine", own, settings)
    os.utime(own, ns=(1, 1))
    assert local.find("mine", settings).path == own


def test_a_file_that_is_gone_is_named(settings, own):
    local.add("mine", own, settings)
    own.unlink()
    with pytest.raises(NotFoundError, match=r"best\.onnx.*'mine', is gone"):
        local.find("mine", settings)


def test_what_is_not_there_cannot_be_added(settings, tmp_path):
    with pytest.raises(NotFoundError, match="No model file or folder"):
        local.add("mine", tmp_path / "none.pt", settings)


def test_a_folder_is_one_model_with_all_its_files(settings, tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "weights.onnx").write_bytes(b"graph")
    (folder / "class_names.txt").write_text("a name that is longer than the graph\n")
    added = local.add("mine", folder, settings)
    assert added.path == folder
    assert added.main.size == len(b"graph")
    (folder / "class_names.txt").write_text("b\n")
    with pytest.raises(HashMismatchError, match="class_names"):
        local.find("mine", settings)


@pytest.mark.parametrize("count", [0, local.MAX_FILES + 1])
def test_a_folder_that_is_no_model_is_refused(settings, tmp_path, count):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.jpg").touch()
    with pytest.raises(InputError, match=f"holds {count} files"):
        local.add("mine", folder, settings)


def test_the_numbers_of_an_openvino_graph_belong_to_it(settings, tmp_path):
    graph = tmp_path / "model.xml"
    graph.write_text("<net/>")
    graph.with_suffix(".bin").write_bytes(b"numbers")
    assert set(local.add("mine", graph, settings).files) == {"model.xml", "model.bin"}


def test_forgetting_leaves_the_file(settings, own):
    local.add("mine", own, settings)
    assert local.forget("mine", settings)
    assert not local.forget("mine", settings)
    assert own.exists()
    assert local.registered(settings) == {}
