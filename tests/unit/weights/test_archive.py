"""The zip of a checkpoint: whole, plain and of today's kind, or refused in its own sentence."""

from __future__ import annotations

import io
import re
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from openkeypoints.errors import UnsafeCheckpointError, WeightsError
from openkeypoints.weights import archive
from openkeypoints.weights.safe import read_pickle
from tests.pickled import (
    Storage,
    Tensor,
    dumps,
    module,
    parameter,
    program,
    tensor,
    write_archive,
    write_checkpoint,
)

TREE = {"w": tensor(np.arange(64, dtype=np.float32)), "b": tensor(np.arange(3))}
PICKLE, STORAGES = dumps(TREE)


@pytest.fixture
def path(tmp_path):
    return write_checkpoint(tmp_path / "best.pt", TREE)


def refused(path):
    with pytest.raises(WeightsError, match=r"^best\.pt: ") as caught:
        read_pickle(path)
    assert not isinstance(caught.value, UnsafeCheckpointError)  # damage is no attack
    return str(caught.value)


def test_the_whole_file_is_read(path):
    assert np.array_equal(read_pickle(path)["w"], np.arange(64))


def test_any_top_folder_is_read(path):
    write_archive(path, PICKLE, STORAGES, stem="best copy")
    assert read_pickle(path).keys() == {"w", "b"}


def test_the_additions_of_later_versions_are_read(path):
    more = {".format_version": b"1", ".storage_alignment": b"64", ".data/serialization_id": b"07"}
    write_archive(path, PICKLE, STORAGES, more=more)
    assert read_pickle(path).keys() == {"w", "b"}


# ---- truncated and padded


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_called_truncated(path, part):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    said = refused(path)
    assert "The archive is truncated" in said
    assert "fetch or copy it again" in said


@pytest.mark.parametrize("more", [b"\x00", b"\x00" * 512, b"trailing words"])
def test_bytes_after_the_end_are_called_padding(path, more):
    path.write_bytes(path.read_bytes() + more)
    assert "The archive is padded: bytes follow its end" in refused(path)


def test_a_comment_is_called_padding(path):
    with zipfile.ZipFile(path, "a") as file:
        file.comment = b"words"
    assert "padded" in refused(path)


def test_bytes_before_the_end_are_called_padding(path):
    content = path.read_bytes()
    at = content.rindex(b"PK\x05\x06")
    path.write_bytes(content[:at] + bytes(100) + content[at:])
    assert "The archive is padded or has a part missing" in refused(path)


def test_a_missing_middle_is_noticed(path):
    content = path.read_bytes()
    path.write_bytes(content[:300] + content[400:])
    assert "has a part missing" in refused(path)


def test_bytes_before_the_beginning_make_it_another_file(path):
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    assert "does not begin as a zip" in refused(path)


def test_a_changed_byte_is_noticed(path):
    content = bytearray(path.read_bytes())
    content[content.index(np.arange(64, dtype=np.float32).tobytes()) + 17] ^= 1
    path.write_bytes(content)
    assert re.search("damaged .*CRC", refused(path))


# ---- other kinds of files


@pytest.mark.parametrize("content", [b"<!doctype html>", b"\x89PNG", b"\x93NUMPY", bytes(600)])
def test_other_files_are_no_checkpoints(path, content):
    path.write_bytes(content)
    assert "no checkpoint of PyTorch: it does not begin as a zip" in refused(path)


def test_an_empty_file_is_called_empty(path):
    path.write_bytes(b"")
    assert "The file is empty" in refused(path)


def test_the_format_of_before_pytorch_1_6_is_named(path):
    magic = program(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")
    path.write_bytes(magic + program(b"M\xe9\x03") + program(b"}"))
    said = refused(path)
    assert "before PyTorch 1.6" in said
    assert "save it again" in said


def test_the_tar_of_before_pytorch_0_1_10_is_named(path):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as file:
        info = tarfile.TarInfo("sys_info")
        info.size = 3
        file.addfile(info, io.BytesIO(b"abc"))
    assert "before PyTorch 1.6" in refused(path)


def test_a_bare_pickle_is_named(path):
    path.write_bytes(program(b"}"))
    assert "bare pickle" in refused(path)


@pytest.mark.parametrize("member", ["code/__torch__.py", "constants.pkl"])
def test_a_torchscript_program_is_named(path, member):
    write_archive(path, PICKLE, STORAGES, more={member: b"x"})
    said = refused(path)
    assert "TorchScript program" in said
    assert "ONNX" in said


def test_another_zip_is_no_checkpoint(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model/readme.txt", "words")
    assert "holds no data.pkl" in refused(path)


def test_two_pickles_are_refused(path):
    write_archive(path, PICKLE, STORAGES, more={"more/data.pkl": program(b"N")})
    assert "more than one data.pkl" in refused(path)


# ---- members that are not plain


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_members_are_refused(path, method):
    write_archive(path, PICKLE, STORAGES, compression=method)
    said = refused(path)
    assert "'model/data.pkl' is compressed" in said
    assert "store" in said


def test_a_compressed_bomb_is_not_unpacked(path):
    write_archive(path, bytes(200 << 20), compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    assert "is compressed" in refused(path)


def set_flag(path, flag):
    content = bytearray(path.read_bytes())
    for found in re.finditer(b"PK\x01\x02", bytes(content)):
        content[found.start() + 8] |= flag
    path.write_bytes(content)


@pytest.mark.parametrize("flag", [0x01, 0x41])
def test_encrypted_members_are_refused(path, flag):
    set_flag(path, flag)
    assert "is encrypted" in refused(path)


def test_patches_are_refused(path):
    set_flag(path, 0x20)
    assert "damaged" in refused(path)


def test_two_members_of_one_name_are_refused(path):
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("model/data.pkl", program(b"N"))
    assert "have one name" in refused(path)


def overlapping(path, count):
    """Write an archive in which many names mean the same bytes."""
    data = bytes(1 << 16)
    write_archive(path, program(b"N"), {"0": data})
    with zipfile.ZipFile(path) as file:
        info = file.getinfo("model/data/0")
        start, entries = file.start_dir, len(file.infolist())
    content = path.read_bytes()
    at = content.index(b"PK\x01\x02", start)
    while not content[at + 46 :].startswith(b"model/data/0"):
        at = content.index(b"PK\x01\x02", at + 4)
    name = b"model/data/0"
    entry = content[at : at + 46 + len(name)]
    more = b"".join(entry[:46] + b"model/data/%c" % (65 + i) for i in range(count))
    end = content.rindex(b"PK\x05\x06")
    numbers = struct.pack("<HHIIH", *(entries + count,) * 2, end - start + len(more), start, 0)
    path.write_bytes(content[:end] + more + content[end : end + 8] + numbers)
    assert info.file_size == len(data)


def test_members_that_overlap_are_refused(path):
    overlapping(path, 20)
    said = refused(path)
    assert "overlap" in said.lower()


@pytest.mark.parametrize("offset", [0xFFFFFFF0, 7])
def test_members_that_lie_elsewhere_than_said_are_called_damage(path, offset):
    content = bytearray(path.read_bytes())
    for found in re.finditer(b"PK\x01\x02", bytes(content)):
        struct.pack_into("<I", content, found.start() + 42, offset)
    path.write_bytes(content)
    assert "damaged" in refused(path)


# ---- sizes


def test_a_pickle_over_32_mb_is_refused(path):
    write_archive(path, bytes((32 << 20) + 1))
    assert "The pickle is oversized" in refused(path)


def test_a_table_of_contents_over_its_limit_is_refused(path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_CONTENTS_BYTES", 100)
    assert "its table of contents has" in refused(path)


# ---- storages


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [
        (63, "truncated: it has 63 numbers in place of 64"),
        (65, "padded: it has 65"),
        (0, "truncat"),
    ],
)
def test_a_storage_of_another_size_than_said_is_refused(path, numbers, fault):
    write_archive(path, PICKLE, {**STORAGES, "0": bytes(4 * numbers)})
    assert f"The storage 0 is {fault}" in refused(path)


def test_a_storage_that_ends_within_a_number_is_refused(path):
    write_archive(path, PICKLE, {**STORAGES, "0": bytes(255)})
    assert "storage 0 ends within a number" in refused(path)


def test_a_missing_storage_is_named(path):
    write_archive(path, PICKLE, {"0": STORAGES["0"]})
    assert "storage 1 is missing" in refused(path)


def test_a_storage_of_two_types_is_refused(path):
    storage = Storage(bytes(16), "FloatStorage", 4)
    floats = dumps(Tensor(storage, (4,), (1,)))[0][2:-1]
    integers = floats.replace(b"FloatStorage", b"IntStorage")
    write_archive(path, program(b"(", floats, integers, b"t"), {"0": bytes(16)})
    assert "called FloatStorage in one place and IntStorage in another" in refused(path)


@pytest.mark.parametrize("order", [b"big", b"middle", b""])
def test_another_byte_order_is_refused(path, order):
    data, storages = dumps(module("torch.nn.modules.A", parameters={"w": parameter(np.ones(2))}))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/data.pkl", data)
        file.writestr("m/byteorder", order)
        for key, numbers in storages.items():
            file.writestr(f"m/data/{key}", numbers)
    assert f"byte order {order.decode()!r}, only 'little'" in refused(path)


def test_files_of_before_the_byte_order_was_written_are_read(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/data.pkl", PICKLE)
        for key, numbers in STORAGES.items():
            file.writestr(f"m/data/{key}", numbers)
    assert read_pickle(path)["b"].tolist() == [0, 1, 2]


def test_a_file_that_may_not_be_read_is_named(path, monkeypatch):
    def denied(*_args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", denied)
    assert "cannot be read (Permission denied)" in refused(path)
