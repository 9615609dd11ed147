"""From what a person names (files, folders, patterns, lists, addresses) to the pictures behind."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from openkeypoints.errors import ImageTooLargeError, InputError, NotFoundError, OpenKeypointsError
from openkeypoints.image_files import decode, film_format
from openkeypoints.images import read_image
from openkeypoints.outputs import written_before
from openkeypoints.results import Image
from openkeypoints.settings import Settings

PICTURE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".bmp",
        ".dib",
        ".gif",
        ".tif",
        ".tiff",
        ".avif",
        ".heic",
        ".heif",
        ".jp2",
        ".j2k",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".mpo",
    ]
)
VIDEO_SUFFIXES = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".wmv",
        ".flv",
        ".ogv",
        ".3gp",
    ]
)
STDIN, LIST, COMMENT = "-", "@", "#"
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Source:
    """One picture to read.

    Attributes:
        name: as it was given, or the folder as it was given and the way from there.
        path: the file; None where the name is an address or ``-``.
        root: the folder that was named, or the one of the named file.
    """

    name: str
    path: Path | None = None
    root: Path | None = None

    @property
    def label(self) -> str:
        """The name as files may keep it: an address without what may be secret in it."""
        if not is_web_address(self.name):
            return self.name
        from openkeypoints.urls import shown_url  # noqa: PLC0415

        return shown_url(self.name)

    def read(self, settings: Settings) -> Image:
        """Return the picture as RGB uint8 (H, W, 3).

        Raises:
            InputError, NotFoundError, DownloadError: it cannot be read, or is a video.
        """
        if self.path is not None:
            if film_format(_head(self.path)):
                raise _is_video(self.name)
            return read_image(self.path, settings=settings)
        if self.name == STDIN:
            data = sys.stdin.buffer.read(settings.max_download_bytes + 1)
            if len(data) > settings.max_download_bytes:
                raise ImageTooLargeError(
                    f"Standard input has more than {settings.max_download_bytes} bytes."
                )
            return _decoded(data, "standard input", settings)
        if not is_web_address(self.name):
            return read_image(self.name, settings=settings)  # refused there, with the reason
        from openkeypoints.urls import Guard, fetch  # noqa: PLC0415

        data = fetch(self.name, guard=Guard.own(), settings=settings)
        return _decoded(data, self.label, settings)


def _decoded(data: bytes, label: str, settings: Settings) -> Image:
    if film_format(data[:_HEAD_BYTES]):
        raise _is_video(label)
    return decode(data, label, settings.max_pixels)


@dataclass(frozen=True, slots=True)
class Found:
    """What stands behind the names.

    Attributes:
        sources: the pictures, each once, in the order of the names, folders sorted.
        faults: names with nothing behind them.
        notes: what was passed over.
    """

    sources: tuple[Source, ...]
    faults: tuple[OpenKeypointsError, ...]
    notes: tuple[str, ...]


class Finder(Protocol):
    """Finds what this room cannot: the frames of videos, the files of remote folders.

    Rooms above hand theirs in, so that the libraries for it stay at home there.
    """

    def __call__(self, name: str, /) -> Sequence[Source] | None:
        """Return the sources behind a name in their order, None where it is none of its own."""
        ...


def find_sources(names: Sequence[str], *, finders: Sequence[Finder] = ()) -> Found:
    """Return the pictures that names stand for.

    A name is a file; a folder, searched through without what is hidden and what we ourselves wrote
    there (see ``outputs``); a pattern such as ``shots/*.jpg``; ``@list.txt``, a file with a name
    in each line, from its own folder on; ``-``, the bytes of one picture on standard input; or an
    address. A file that does not exist is returned too: reading it says so.

    Args:
        names: in the order in which they are taken.
        finders: of other names; the first that knows one has it.
    """
    search = _Search(finders)
    for name in names:
        search.take(name)
    return Found(tuple(search.sources.values()), tuple(search.faults), tuple(search.notes))


class _Search:
    """Collects sources, each once."""

    def __init__(self, finders: Sequence[Finder]) -> None:
        self.sources: dict[str, Source] = {}
        self.faults: list[OpenKeypointsError] = []
        self.notes: list[str] = []
        self._finders = finders

    def take(self, name: str) -> None:
        """Take what a name stands for."""
        found = next((f for finder in self._finders if (f := finder(name)) is not None), None)
        if found is not None:
            for source in found:
                self.sources.setdefault(source.name, source)
        elif name == STDIN or "://" in name:
            self.sources.setdefault(name, Source(name))
        elif os.path.lexists(name):
            self._take_path(Path(name))
        elif name.startswith(LIST):
            self._take_list(Path(name.removeprefix(LIST)))
        elif glob.has_magic(name):
            self._take_pattern(name)
        else:
            self._take_path(Path(name))

    def _take_path(self, path: Path) -> None:
        if path.is_dir():
            self._take_folder(path)
        else:
            self.sources.setdefault(os.path.realpath(path), Source(str(path), path, path.parent))

    def _take_pattern(self, pattern: str) -> None:
        paths = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # absolute ones too
        if not paths:
            self.faults.append(NotFoundError(f"nothing fits the pattern '{pattern}'."))
        for path in paths:
            self._take_path(Path(path))

    def _take_list(self, file: Path) -> None:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()  # Windows writes the mark
        except FileNotFoundError:
            self.faults.append(NotFoundError(f"there is no list '{file}'."))
            return
        except (OSError, ValueError) as error:
            self.faults.append(InputError(f"the list '{file}' cannot be read: {error}."))
            return
        for line in map(str.strip, lines):
            if not line or line.startswith(COMMENT):
                continue
            if line == STDIN or line.startswith(LIST):
                self.faults.append(InputError(f"the list '{file}' names '{line}': name files."))
                continue
            self.take(line if "://" in line else str(file.parent / line))

    def _take_folder(self, folder: Path) -> None:
        files = list(_walk(folder))
        pictures = [path for path in files if path.suffix.lower() in PICTURE_SUFFIXES]
        ours = _our_own(folder, {path.parent for path in pictures})
        taken = [path for path in pictures if path.resolve() not in ours]
        if left := len(pictures) - len(taken):
            self.notes.append(f"{left} pictures in '{folder}' passed over: okp wrote them.")
        if not taken:
            self.faults.append(
                InputError(
                    f"the folder '{folder}' holds no pictures; files ending in .jpg, .png, .webp, "
                    ".tif, ... are taken."
                )
            )
        if videos := sum(path.suffix.lower() in VIDEO_SUFFIXES for path in files):
            self.notes.append(f"{videos} videos in '{folder}' passed over: {_LATER}.")
        for path in taken:
            self.sources.setdefault(os.path.realpath(path), Source(str(path), path, folder))


def is_web_address(name: str) -> bool:
    """Tell whether a name is an address that is fetched."""
    return name[:8].lower().startswith(("http://", "https://"))


def _our_own(folder: Path, below: Iterable[Path]) -> set[Path]:
    """Return what runs wrote into folders, as the records in them, and above them, say."""
    top = folder.resolve()
    inside = {up for path in below for up in (path, *path.parents) if folder in (up, *up.parents)}
    return {path for place in (top, *top.parents, *inside) for path in written_before(place)}


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):  # follows no links to folders, so it ends
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except (OSError, ValueError):
        return b""  # reading the picture says what is wrong


_LATER = "videos will be read by `okp stream`, which a later version brings"


def _is_video(name: str) -> InputError:
    return InputError(f"'{name}' is a video; `okp predict` reads pictures, and {_LATER}.")
