"""The zip that torch writes: one pickle and the raw numbers of its tensors, read as they lie there.

Everything that could make the file mean two things, or a small file a large one, is refused:
compressed, encrypted, doubled or overlapping members, and bytes before or after the archive.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import NotFoundError, WeightsError

MAX_PICKLE_BYTES = 32 << 20
MAX_CONTENTS_BYTES = 4 << 20
"""Size of the zip's table of contents: 50 000 tensors, where large networks have a few thousand."""
STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",  # numpy has no such type: widened to float32, which is exact
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
"""Type of a storage, by its name in torch -> type of its numbers in the file."""
FETCH_AGAIN = "fetch or copy it again"

_ENCRYPTED = 0x1 | 0x40 | 0x2000
_DAMAGED = (
    zipfile.BadZipFile, EOFError, struct.error, ValueError, NotImplementedError, OverflowError,
)  # fmt: skip
_START = b"PK\x03\x04"
_END, _END_BYTES = b"PK\x05\x06", 22
_END64, _END64_BYTES = b"PK\x06\x06", 56
_LOCATOR, _LOCATOR_BYTES = b"PK\x06\x07", 20
_OLD_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")


class Archive:
    """An opened checkpoint: its pickle and its storages.

    Attributes:
        pickle: bytes of the pickle.
        storage_bytes: what has been read of the storages, in bytes of their arrays.
    """

    def __init__(self, members: zipfile.ZipFile) -> None:
        self._zip = members
        self._prefix = _check_members(members)
        self.pickle = members.read(self._prefix + "data.pkl")
        self.storage_bytes = 0
        self._storages: dict[str, tuple[str, NDArray[Any]]] = {}
        order = self._prefix + "byteorder"  # files of before 2023 have none
        if order in members.NameToInfo:
            _check_byte_order(members.read(order))

    def storage(self, key: str, kind: str, count: int) -> NDArray[Any]:
        """Return the numbers of a storage as a flat read-only array; each is read once.

        Args:
            key: its number, as text.
            kind: one of :data:`STORAGES`; bfloat16 becomes float32.
            count: how many numbers the pickle says it has.

        Raises:
            WeightsError: it is missing or damaged, or its size or type are not what is said.
        """
        if key not in self._storages:
            self._storages[key] = kind, self._read(key, kind)
        known, array = self._storages[key]
        if known != kind:
            raise WeightsError(
                f"The storage {key} is called {known} in one place and {kind} in another."
            )
        if array.size != count:
            fault = "truncated" if array.size < count else "padded"
            raise WeightsError(
                f"The storage {key} is {fault}: it has {array.size} numbers in place of {count}; "
                f"{FETCH_AGAIN}."
            )
        return array

    def _read(self, key: str, kind: str) -> NDArray[Any]:
        name = f"{self._prefix}data/{key}"
        if name not in self._zip.NameToInfo:
            raise WeightsError(f"The storage {key} is missing; {FETCH_AGAIN}.")
        with _whole():
            data = self._zip.read(name)
        dtype = np.dtype(STORAGES[kind])
        if len(data) % dtype.itemsize:
            raise WeightsError(f"The storage {key} ends within a number; {FETCH_AGAIN}.")
        array = np.frombuffer(data, dtype)
        if kind == "BFloat16Storage":
            array = (array.astype(np.uint32) << 16).view(np.float32)
            array.flags.writeable = False
        elif kind == "BoolStorage":
            # Any other byte than 0 and 1 is undefined in a bool array.
            array = np.frombuffer(data, np.uint8) != 0
            array.flags.writeable = False
        self.storage_bytes += array.nbytes
        return array


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a checkpoint for as long as its storages are read.

    Raises:
        NotFoundError: there is no such file.
        WeightsError: it is no checkpoint of today's kind, damaged, or not plainly stored.
    """
    if not path.is_file():
        raise NotFoundError(f"No model file at {path}.")
    with contextlib.ExitStack() as stack:
        with _whole():
            file = stack.enter_context(path.open("rb"))
            _check_ends(file)
            archive = Archive(stack.enter_context(zipfile.ZipFile(file)))
        yield archive


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """Turn everything that a damaged zip brings forth into one error."""
    try:
        yield
    except OSError as error:
        raise WeightsError(f"The file cannot be read ({error.strerror}).") from error
    except _DAMAGED as error:
        raise WeightsError(
            f"The archive is damaged ({str(error)[:200]}); {FETCH_AGAIN}."
        ) from error


def _check_ends(file: BinaryIO) -> None:
    """Refuse what is no zip from its first byte to its last one."""
    head = file.read(512)
    size = file.seek(0, os.SEEK_END)
    if not head.startswith(_START):
        raise WeightsError(_what_else(head))
    file.seek(max(0, size - _END_BYTES - _LOCATOR_BYTES - _END64_BYTES))
    tail = file.read()
    if tail[-_END_BYTES : -_END_BYTES + 4] != _END:
        raise WeightsError(_no_end(file, size))
    contents, start, comment = struct.unpack("<IIH", tail[-10:])
    end = size - _END_BYTES
    if tail[-_END_BYTES - _LOCATOR_BYTES :][:4] == _LOCATOR and tail[:4] == _END64:
        contents, start = struct.unpack("<QQ", tail[40:56])
        end -= _LOCATOR_BYTES + _END64_BYTES
    if contents > MAX_CONTENTS_BYTES:
        raise WeightsError(
            f"The archive is oversized: its table of contents has {contents} bytes, at most "
            f"{MAX_CONTENTS_BYTES} are read."
        )
    if comment or start + contents != end:
        raise WeightsError(
            "The archive is padded or has a part missing: its table of contents is not where the "
            f"end of the file says; {FETCH_AGAIN}."
        )
    file.seek(0)


def _no_end(file: BinaryIO, size: int) -> str:
    file.seek(max(0, size - (1 << 16)))
    tail = file.read()
    if 0 <= tail.rfind(_END) <= len(tail) - _END_BYTES:
        return f"The archive is padded: bytes follow its end; {FETCH_AGAIN}."
    return (
        f"The archive is truncated: its table of contents, which is the end of the file, is "
        f"missing after {size} bytes; {FETCH_AGAIN}."
    )


def _what_else(head: bytes) -> str:
    save_anew = (
        "load it with the program that made it and save it again with PyTorch 1.6 or later, or "
        "export it to ONNX"
    )
    if not head:
        return f"The file is empty; {FETCH_AGAIN}."
    if head[2:].startswith(_OLD_MAGIC) or head[257:262] == b"ustar":
        return (
            f"The file was written before PyTorch 1.6, in a format that is not read: {save_anew}."
        )
    if head[:1] == b"\x80":
        return f"The file is a bare pickle and no checkpoint of PyTorch: {save_anew}."
    return "The file is no checkpoint of PyTorch: it does not begin as a zip."


def _check_members(archive: zipfile.ZipFile) -> str:
    """Return what the names of all members begin with, once every member is found plain."""
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if any("/code/" in f"/{name}" or name.endswith("constants.pkl") for name in names):
        raise WeightsError(
            "The file is a TorchScript program, which is code and is not run: load the checkpoint "
            "that it was made from, or its ONNX export."
        )
    if len(set(names)) < len(names):
        raise WeightsError("Two members of the archive have one name: which is meant is unknown.")
    for info in infos:
        if info.flag_bits & _ENCRYPTED:
            raise WeightsError(f"The member {info.filename[:80]!r} is encrypted: decrypt the file.")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise WeightsError(
                f"The member {info.filename[:80]!r} is compressed, which PyTorch never does: save "
                "the checkpoint again with torch.save, or zip it with the level 'store'."
            )
    if sum(info.file_size for info in infos) > archive.start_dir:
        raise WeightsError(
            "The members of the archive overlap: it would unpack to more than it is."
        )
    return _prefix(archive, names)


def _prefix(archive: zipfile.ZipFile, names: list[str]) -> str:
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise WeightsError(
            "The file is a zip but no checkpoint of PyTorch: it holds "
            + ("no data.pkl." if not pickles else "more than one data.pkl.")
        )
    size = archive.getinfo(pickles[0]).file_size
    if size > MAX_PICKLE_BYTES:
        raise WeightsError(
            f"The pickle is oversized: {size} bytes, at most {MAX_PICKLE_BYTES} are read."
        )
    return pickles[0].removesuffix("data.pkl")


def _check_byte_order(order: bytes) -> None:
    if order.strip() != b"little":
        raise WeightsError(
            f"The numbers are stored in the byte order {order[:20].decode('latin1')!r}, only "
            "'little' is read: save the checkpoint again on an ordinary machine."
        )
