from __future__ import annotations

import json
import logging

import numpy as np
import pytest

import openkeypoints as okp
from openkeypoints.models.graphs.cache import CHECKSUM, Entries
from openkeypoints.models.yolo.conversion import RECORD, WRITER, Conversion
from openkeypoints.samples import sample
from openkeypoints.settings import Settings

HEAD = "one2many"


@pytest.fixture
def settings(tmp_path):
    return Settings(cache_dir=tmp_path / "cache")


@pytest.fixture
def entries(settings, tiny_pt):
    return Entries(settings.cache_dir, Conversion(tiny_pt, settings).sha256, WRITER)


@pytest.fixture
def written(tiny_pt, settings, entries):
    return Conversion(tiny_pt, settings).graph(HEAD)


def test_a_second_opening_does_not_read_the_checkpoint(tiny_pt, settings, written, monkeypatch):
    monkeypatch.setattr("openkeypoints.models.yolo.conversion.read_checkpoint", None)
    again = Conversion(tiny_pt, settings)
    assert again.graph(HEAD) == written
    assert again.spec.class_names == ("thing0",)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_a_damaged_graph_is_written_anew(tiny_pt, settings, written, part):
    whole = written.read_bytes()
    written.write_bytes(whole[: int(part * len(whole))])
    assert Conversion(tiny_pt, settings).graph(HEAD).read_bytes() == whole


def test_a_graph_with_a_changed_byte_is_written_anew(tiny_pt, settings, written):
    whole = written.read_bytes()
    middle = len(whole) // 2
    written.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    assert Conversion(tiny_pt, settings).graph(HEAD).read_bytes() == whole


@pytest.mark.parametrize("cut", [b"", b'{"family": "yo', b"[]", b"\xff"])
def test_a_damaged_record_is_written_anew(tiny_pt, settings, entries, cut):
    record = entries.find(RECORD)
    whole = record.read_bytes()
    record.write_bytes(cut)
    assert Conversion(tiny_pt, settings).spec.class_names == ("thing0",)
    assert record.read_bytes() == whole


def test_a_record_that_is_whole_and_means_nothing_here_is_written_anew(tiny_pt, settings, entries):
    whole = entries.find(RECORD).read_bytes()
    entries.keep(RECORD, json.dumps(json.loads(whole) | {"version": 99}).encode())
    assert Conversion(tiny_pt, settings).spec.class_names == ("thing0",)
    assert entries.find(RECORD).read_bytes() == whole


def test_graphs_of_another_writer_are_passed_by(tiny_pt, settings, entries, written):
    entries.place(f"{HEAD}.onnx").unlink()
    other = Entries(entries.cache_dir, entries.sha256, WRITER - 1).keep(f"{HEAD}.onnx", b"older")
    assert Conversion(tiny_pt, settings).graph(HEAD) == written
    assert other.read_bytes() == b"older"


def test_without_a_cache_the_graph_is_given_as_bytes(tiny_pt, tmp_path, written):
    (tmp_path / "file").write_bytes(b"")
    without = Conversion(tiny_pt, Settings(cache_dir=tmp_path / "file" / "cache"))
    assert without.graph(HEAD) == written.read_bytes()


@pytest.mark.parametrize("place", ["file", "file/cache"])
def test_a_model_without_a_cache_says_so_once_and_answers(tiny_pt, tmp_path, caplog, place):
    (tmp_path / "file").write_bytes(b"")
    with caplog.at_level(logging.WARNING, "openkeypoints"):
        without = okp.get_model(tiny_pt, settings=Settings(cache_dir=tmp_path / place))
        found = without.infer(sample("people"))[0]
    (said,) = caplog.messages
    assert "cannot be used" in said
    expected = okp.get_model(tiny_pt, settings=Settings(cache_dir=tmp_path / "cache"))
    np.testing.assert_array_equal(found.boxes, expected.infer(sample("people"))[0].boxes)


def test_every_file_of_the_cache_has_its_checksum(tiny_pt, settings):
    okp.get_model(tiny_pt, settings=settings).infer(sample("people"))
    files = [path for path in settings.cache_dir.rglob("*") if path.is_file()]
    kept = [path for path in files if path.suffix != CHECKSUM and path.name != "lock"]
    assert len(kept) == 3  # record, graph, compiled network
    assert all(path.with_name(path.name + CHECKSUM) in files for path in kept)
