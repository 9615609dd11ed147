"""Fetches one file whole or not at all: resumed after breaks, within limits, hash checked."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from openkeypoints.errors import DownloadError, HashMismatchError, WeightsError
from openkeypoints.weights.okp import sha256_of
from openkeypoints.weights.records import read_json, write_json

Progress = Callable[[int, int | None], None]
"""Is told how many bytes are here, of how many (None where nobody says)."""

TRIES = 5
"""Breaks in a row, each with less than ``_GAIN`` bytes between, that end a download."""
PAUSE_S = 0.5
"""Before the second try; doubled before each further one."""
_GAIN = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stream:
    """What a provider opens: the bytes of a file from some place on.

    Attributes:
        start: place in the file of the first byte; 0 where the server does not resume.
        total: size of the whole file, None where the server does not say.
        validator: what the server calls this version of the file, None where it has no name.
        sha256: hash of the whole file that its publisher states with it, None where it does not.
        chunks: the bytes; raises ``DownloadError`` where the connection breaks.
    """

    start: int
    total: int | None
    validator: str | None
    sha256: str | None
    chunks: Iterator[bytes]


Opener = Callable[[int, str | None], AbstractContextManager[Stream]]
"""Opens a file of a provider from a place on, or from 0 where its version is no longer the one of
the validator."""


@dataclass(frozen=True, slots=True)
class Download:
    """A file to be fetched.

    Attributes:
        target: where it shall lie.
        source: where it comes from, as messages may show it.
        opener: opens it.
        sha256: what it must have; ``md5`` likewise. None where nobody knows.
    """

    target: Path
    source: str
    opener: Opener
    sha256: str | None = None
    md5: str | None = None


def save(download: Download, *, limit: int, progress: Progress | None = None) -> str:
    """Bring a file to its place; what lies there is always whole.

    What an earlier run left half done is taken up where the server still has the same version of
    the file.

    Args:
        download: what, from where, to where.
        limit: largest size in bytes.
        progress: is told how far it is.

    Returns:
        Its SHA-256.

    Raises:
        DownloadError, NotFoundError: the provider's, when it does not deliver.
        HashMismatchError: the content is not what it has to be; nothing is kept.
        WeightsError: it is too large, the disk is full, or the folder cannot be written.
    """
    part = _Part(download, limit, progress)
    with writing(download.target):
        download.target.parent.mkdir(parents=True, exist_ok=True)
        resumed = part.receive()
        sha256 = sha256_of(part.path)
        if (wrong := part.wrong(sha256)) and resumed:
            # Half of it came earlier: perhaps from another version of the file.
            part.discard()
            part.receive()
            sha256 = sha256_of(part.path)
            wrong = part.wrong(sha256)
        if wrong:
            part.discard()
            raise HashMismatchError(
                f"{download.target.name} from {download.source} has {wrong}; nothing was kept. Try "
                "again, and do not use a file that keeps failing."
            )
        part.path.replace(download.target)
        part.discard()
    return sha256


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says against writing a file into one clear sentence.

    Raises:
        WeightsError: the disk is full or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise WeightsError(
                f"There is no space left for {path.name} in {path.parent}: free some, or choose "
                "another folder with OKP_CACHE_DIR."
            ) from error
        raise WeightsError(
            f"{path.name} cannot be written into {path.parent} ({error.strerror}): allow it, or "
            "choose another folder with OKP_CACHE_DIR."
        ) from error


class _Part:
    """The half-done file of a download, and what is known of it."""

    def __init__(self, download: Download, limit: int, progress: Progress | None) -> None:
        self.download, self.limit, self.progress = download, limit, progress
        target = download.target
        self.path = target.with_name(target.name + ".part")
        self._note_path = target.with_name(target.name + ".part.json")
        self._stated: str | None = None

    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)

    def receive(self) -> bool:
        """Fetch until all is here; tell whether some of it was here before."""
        note = read_json(self._note_path)
        # Without any name of the version, an old half fits no new one for certain.
        checked = bool(self.download.sha256 or self.download.md5 or note.get("validator"))
        if not note or not checked or not self.size():
            self.discard()
        resumed = self.size() > 0
        begun, tries, pause = False, TRIES, PAUSE_S
        while True:
            before = self.size()
            note = read_json(self._note_path)
            try:
                with self.download.opener(before, note.get("validator")) as stream:
                    begun = True
                    self._append(stream, before, note)
                    return resumed
            except DownloadError as error:
                tries -= self.size() - before < _GAIN
                if not begun or not tries:
                    raise
                _log.info("Trying again in %g s: %s", pause, error)
            time.sleep(pause)
            pause *= 2
            resumed = resumed or self.size() > 0

    def _append(self, stream: Stream, before: int, note: dict[str, object]) -> None:
        self._stated = stream.sha256 or self._stated
        if stream.start not in (0, before):
            raise DownloadError(f"{self.download.source} sent another part than it was asked for.")
        if stream.start and stream.total != note.get("total"):
            self.discard()
            raise DownloadError(f"{self.download.source} changed while it was fetched.")
        self._check_room(stream)
        if not stream.start:
            write_json(self._note_path, {"validator": stream.validator, "total": stream.total})
        done = stream.start
        try:
            with self.path.open("ab" if stream.start else "wb") as file:
                for chunk in stream.chunks:
                    done += len(chunk)
                    if done > self.limit:
                        raise self._too_large()
                    file.write(chunk)
                    if self.progress is not None:
                        self.progress(done, stream.total)
        except WeightsError:
            self.discard()
            raise
        except OSError as error:
            if error.errno in _FULL:
                self.discard()
            raise

    def _check_room(self, stream: Stream) -> None:
        """Refuse before the first byte what cannot end well."""
        if stream.total is None:
            return
        if stream.total > self.limit:
            self.discard()
            raise self._too_large()
        if shutil.disk_usage(self.path.parent).free < stream.total - stream.start:
            raise OSError(errno.ENOSPC, "no space left")

    def _too_large(self) -> WeightsError:
        return WeightsError(
            f"{self.download.source} has more bytes than the limit leaves ({self.limit}): raise "
            "OKP_MAX_WEIGHTS_BYTES if you trust it."
        )

    def wrong(self, sha256: str) -> str | None:
        """Return what is wrong with the content of this hash, None where nothing is."""
        for expected, who in ((self.download.sha256, "known"), (self._stated, "stated")):
            if expected and sha256 != expected.lower():
                return f"the SHA-256 {sha256}, and the {who} one is {expected.lower()}"
        if (md5 := self.download.md5) and (found := _md5_of(self.path)) != md5.lower():
            return f"the MD5 {found}, and the stated one is {md5.lower()}"
        return None


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
