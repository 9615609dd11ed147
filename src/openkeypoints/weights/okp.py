"""The ``.okp`` file: one stored zip that holds a model and what is needed to run and train it.

Members: ``model.json`` (family, views, networks, thresholds, licence), graphs as ``*.onnx`` and the
same weights as ``*.safetensors``. Nothing is compressed and nothing in it is executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openkeypoints.errors import NotFoundError, WeightsError

FORMAT = "openkeypoints-model"
VERSION = 1
MAX_MEMBER_BYTES = 4 << 30
ENCRYPTED = 1
"""Bit of a zip member's flags."""
_EPOCH = (2026, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class OkpFile:
    """An opened ``.okp`` file.

    Attributes:
        path: where it is.
        model: the content of ``model.json``.
    """

    path: Path
    model: Mapping[str, Any]

    def read(self, member: str) -> bytes:
        """Return the bytes of a member.

        Raises:
            WeightsError: there is no such member, or its checksum is wrong.
        """
        with _whole(self.path), zipfile.ZipFile(self.path) as archive:
            if member not in archive.namelist():
                raise WeightsError(f"{self.path.name} holds no {member!r}.")
            return archive.read(member)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Turn everything that a damaged zip brings forth into one error."""
    try:
        yield
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, struct.error) as error:
        raise WeightsError(
            f"{path.name} is not a whole .okp file ({error}): fetch or write it again."
        ) from error


def open_okp(path: Path) -> OkpFile:
    """Open a ``.okp`` file and read its ``model.json``.

    Raises:
        NotFoundError: there is no such file.
        WeightsError: it is no ``.okp`` file, damaged, compressed, or of a later version.
    """
    if not path.is_file():
        raise NotFoundError(f"No model file at {path}.")
    with _whole(path), zipfile.ZipFile(path) as archive:
        _check_members(path, archive)
        text = archive.read("model.json") if "model.json" in archive.namelist() else None
    if text is None:
        raise WeightsError(f"{path.name} is no .okp file: it holds no model.json.")
    try:
        model = json.loads(text)
    except ValueError as error:
        raise WeightsError(f"model.json in {path.name} is not JSON ({error}).") from error
    if not isinstance(model, dict) or model.get("format") != FORMAT:
        raise WeightsError(f"{path.name} is no .okp file: model.json does not say {FORMAT!r}.")
    if model.get("version") != VERSION:
        raise WeightsError(
            f"{path.name} has version {model.get('version')!r}, this library reads {VERSION}: "
            "install a newer openkeypoints."
        )
    return OkpFile(path, model)


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    for info in archive.infolist():
        plain = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & ENCRYPTED
        if not plain or info.file_size > MAX_MEMBER_BYTES:
            raise WeightsError(
                f"{path.name} is no .okp file: {info.filename!r} is compressed, encrypted or "
                "too large."
            )


def write_okp(path: Path, model: Mapping[str, Any], members: Mapping[str, bytes]) -> None:
    """Write a ``.okp`` file; the same content always gives the same bytes.

    Args:
        path: the file, replaced as a whole.
        model: content of ``model.json`` beside ``format`` and ``version``.
        members: name -> bytes of the other members.
    """
    text = json.dumps({"format": FORMAT, "version": VERSION, **model}, indent=1)
    new = path.with_name(path.name + ".new")
    with zipfile.ZipFile(new, "w", zipfile.ZIP_STORED) as archive:
        for name, data in {"model.json": text.encode(), **members}.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    new.replace(path)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
