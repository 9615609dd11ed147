from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from openkeypoints.models.graphs.cache import CHECKSUM, Entries, seal, whole

DATA = bytes(range(256)) * 20
SOURCE = "ab" * 32
DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "first byte": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "one bit": lambda data: data[:1000] + bytes([data[1000] ^ 4]) + data[1001:],
    "last byte": lambda data: data[:-1] + b"x",
    "longer": lambda data: data + b"\0",
    "a page of zeros": lambda data: b"\0" * 4096 + data[4096:],
}


@pytest.fixture
def entries(tmp_path):
    return Entries(tmp_path / "cache", SOURCE, 3)


@pytest.fixture
def file(entries):
    return entries.keep("head.onnx", DATA)


def test_an_entry_comes_back_as_it_was_written(entries, file):
    assert entries.find("head.onnx") == file
    assert file.read_bytes() == DATA


def test_what_nobody_wrote_is_not_there(entries, file):
    assert entries.find("other.onnx") is None


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_is_not_there_until_it_is_written_again(entries, file, damage):
    file.write_bytes(damage(DATA))
    assert entries.find("head.onnx") is None
    entries.keep("head.onnx", DATA)
    assert entries.find("head.onnx").read_bytes() == DATA


@pytest.mark.parametrize("text", [None, b"", b"00000000", b"\xff\xfe"])
def test_an_entry_without_its_checksum_is_not_there(entries, file, text):
    beside = file.with_name(file.name + CHECKSUM)
    beside.unlink() if text is None else beside.write_bytes(text)
    assert entries.find("head.onnx") is None


@pytest.mark.parametrize(
    "other", [{"writer": 2}, {"writer": 4}, {"sha256": "cd" * 32}], ids=["older", "newer", "source"]
)
def test_entries_of_another_writer_or_source_are_passed_by(entries, file, other):
    changed = Entries(**({"cache_dir": entries.cache_dir, "sha256": SOURCE, "writer": 3} | other))
    assert changed.find("head.onnx") is None
    # Neither when somebody moves them there, checksum and all.
    place = changed.place("head.onnx")
    file.rename(place)
    file.with_name(file.name + CHECKSUM).rename(place.with_name(place.name + CHECKSUM))
    assert changed.find("head.onnx") is None


def test_nothing_half_written_is_left(entries, file):
    assert sorted(path.name for path in file.parent.iterdir()) == [
        f"{SOURCE}-3-head.onnx",
        f"{SOURCE}-3-head.onnx{CHECKSUM}",
    ]


def test_a_sealed_file_of_others_is_whole_until_it_changes(tmp_path):
    blob = tmp_path / "1.blob"
    blob.write_bytes(DATA)
    assert not whole(blob)
    seal(blob)
    assert whole(blob)
    blob.write_bytes(DATA[::-1])
    assert not whole(blob)


# Folders that cannot be used


@pytest.fixture
def a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    return tmp_path / "file"


@pytest.fixture
def below_a_file(a_file):
    return a_file / "cache"


@pytest.fixture
def read_only(tmp_path):
    folder = tmp_path / "read_only"
    (folder / "graphs").mkdir(parents=True)
    (folder / "graphs").chmod(0o555)
    user = os.geteuid()
    if user == 0:  # who may do everything
        os.seteuid(65534)
    yield folder
    os.seteuid(user)


@pytest.fixture
def full(tmp_path, monkeypatch):
    """Return a folder on a disk on which half of everything fits."""

    def write_half(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # A real limit (RLIMIT_FSIZE) would end pytest itself where its output goes to a long file.
    monkeypatch.setattr(Path, "write_bytes", write_half)
    return tmp_path / "full"


@pytest.mark.parametrize("place", ["a_file", "below_a_file", "read_only", "full"])
def test_a_folder_that_cannot_be_used_is_one_notice_and_no_end(request, caplog, place):
    folder = request.getfixturevalue(place)
    with caplog.at_level(logging.WARNING, "openkeypoints"):
        for name in ("one.onnx", "other.onnx"):
            entries = Entries(folder, SOURCE, 3)
            assert entries.keep(name, DATA) is None
            assert entries.find(name) is None
    (said,) = caplog.messages
    assert str(folder) in said
    assert "OKP_CACHE_DIR" in said


def test_a_full_disk_keeps_no_half_of_an_entry(full):
    Entries(full, SOURCE, 3).keep("head.onnx", DATA)
    assert list((full / "graphs").iterdir()) == []
