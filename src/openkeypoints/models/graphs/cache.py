"""Graphs that were made from other files and are kept, so that they need not be made again.

Each entry has its checksum beside it, in ``<entry>.crc32``. What does not agree with it (cut short,
empty, a byte changed, written by half) counts as absent: it is made anew and never used.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKSUM = ".crc32"
"""Ending of the file beside an entry. CRC-32 finds what disks and broken runs do; against people a
hash would help no better, as whoever can write an entry can write what stands beside it. It costs
the same on every CPU, SHA-256 four times as much on those without units for it."""
_CHUNK = 1 << 20

_log = logging.getLogger(__name__)
_noticed: set[Path] = set()


@dataclass(frozen=True, slots=True)
class Entries:
    """The graphs that one writer makes from one source.

    Attributes:
        cache_dir: of the settings; the entries lie in ``graphs`` in it.
        sha256: of the source.
        writer: a number that changes whenever the writer gives something else: entries of older
            numbers are passed by.
    """

    cache_dir: Path
    sha256: str
    writer: int

    def place(self, name: str) -> Path:
        """Return where an entry lies, or would lie."""
        return self.cache_dir / "graphs" / f"{self.sha256}-{self.writer}-{name}"

    def find(self, name: str) -> Path | None:
        """Return the file of an entry, None where it is not here whole."""
        file = self.place(name)
        return file if whole(file) else None

    def keep(self, name: str, data: bytes) -> Path | None:
        """Write an entry and return its file; None where the folder cannot be written."""
        file = self.place(name)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            _write(file, data)
            _write(_beside(file), _checksum(file.name, [data]))
        except OSError as error:
            notice(self.cache_dir, error)
            return None
        return file


def seal(file: Path) -> None:
    """Write the checksum of a file that others made beside it.

    Raises:
        OSError: it cannot be read, or the folder cannot be written.
    """
    _write(_beside(file), _checksum(file.name, _chunks(file)))


def whole(file: Path) -> bool:
    """Tell whether an entry is there and agrees with its checksum."""
    try:
        agrees = _beside(file).read_bytes() == _checksum(file.name, _chunks(file))
    except OSError:
        return False
    if not agrees:
        _log.info("%s is damaged: it is made anew.", file)
    return agrees


def notice(cache_dir: Path, error: OSError) -> None:
    """Say once in a process that a cache folder cannot be used."""
    if cache_dir not in _noticed:
        _noticed.add(cache_dir)
        _log.warning(
            "The cache folder %s cannot be used (%s): models are opened without it, which takes "
            "longer. OKP_CACHE_DIR names another one.",
            cache_dir,
            error.strerror or error,
        )


def _beside(file: Path) -> Path:
    return file.with_name(file.name + CHECKSUM)


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb", buffering=0) as content:
        while chunk := content.read(_CHUNK):
            yield chunk


def _checksum(name: str, chunks: Iterable[bytes]) -> bytes:
    # Of the name too: an entry that was moved to another's place is not whole there.
    number = zlib.crc32(name.encode())
    for chunk in chunks:
        number = zlib.crc32(chunk, number)
    return f"{number:08x}".encode()


def _write(file: Path, data: bytes) -> None:
    # Several may do so at once: each writes its own file, and all have the same content.
    new = file.with_name(f"{file.name}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        new.write_bytes(data)
        new.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
