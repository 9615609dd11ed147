"""The stored zip: what is written is read back, and nothing but a whole file is opened."""

from __future__ import annotations

import hashlib
import json
import zipfile

import numpy as np
import pytest

from openkeypoints.errors import NotFoundError, WeightsError
from openkeypoints.weights.okp import open_okp, sha256_of, write_okp

MODEL = {"family": "pico", "card": {"name": "Jürg"}}
MEMBERS = {"a.onnx": b"\x00\x01" * 400, "b.safetensors": b"weights"}


@pytest.fixture
def path(tmp_path):
    write_okp(tmp_path / "m.okp", MODEL, MEMBERS)
    return tmp_path / "m.okp"


def test_a_file_holds_what_was_written(path):
    file = open_okp(path)
    assert file.model == {"format": "openkeypoints-model", "version": 1, **MODEL}
    assert {name: file.read(name) for name in MEMBERS} == MEMBERS


def test_the_same_content_gives_the_same_bytes(path, tmp_path):
    write_okp(tmp_path / "again.okp", MODEL, MEMBERS)
    assert (tmp_path / "again.okp").read_bytes() == path.read_bytes()


def test_any_zip_program_can_read_it(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {i.compress_type for i in archive.infolist()} == {zipfile.ZIP_STORED}


def test_writing_replaces_the_file_as_a_whole(path):
    write_okp(path, {"family": "other"}, {})
    assert open_okp(path).model["family"] == "other"
    assert [p.name for p in path.parent.iterdir()] == ["m.okp"]


def test_a_failed_write_leaves_the_former_file(path):
    with pytest.raises(TypeError):
        write_okp(path, {"family": object()}, {})
    assert open_okp(path).model["family"] == "pico"


def test_a_member_that_is_not_there_is_named(path):
    with pytest.raises(WeightsError, match=r"m\.okp holds no 'c'"):
        open_okp(path).read("c")


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match=r"no\.okp"):
        open_okp(tmp_path / "no.okp")


def test_damage_in_a_member_is_found(path):
    data = bytearray(path.read_bytes())
    data[data.find(b"\x00\x01" * 20) + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="not a whole"):
        open_okp(path).read("a.onnx")


def test_whatever_byte_is_damaged_the_error_is_ours_or_the_content_right(path):
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    places = rng.choice(len(whole), 300, replace=False)
    for place in [*places, *range(len(whole) - 60, len(whole))]:
        data = bytearray(whole)
        data[place] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        try:
            file = open_okp(path)
            content = {name: file.read(name) for name in MEMBERS}
        except WeightsError:
            continue
        assert content == MEMBERS


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.99])
def test_a_cut_file_is_refused(path, part):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(WeightsError, match="not a whole"):
        open_okp(path)


def test_a_compressed_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.okp", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", "{}")
    with pytest.raises(WeightsError, match=r"'model\.json' is compressed"):
        open_okp(tmp_path / "m.okp")


def test_an_encrypted_file_is_refused(path):
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        data[at + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="encrypted"):
        open_okp(path)


@pytest.mark.parametrize("version", [2, 0, None, "1"])
def test_another_version_says_what_this_library_reads(tmp_path, version):
    head = {"format": "openkeypoints-model", "version": version}
    with zipfile.ZipFile(tmp_path / "m.okp", "w") as archive:
        archive.writestr("model.json", json.dumps(head))
    with pytest.raises(WeightsError, match="this library reads 1"):
        open_okp(tmp_path / "m.okp")


def test_the_hash_is_that_of_the_bytes(path):
    assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()
