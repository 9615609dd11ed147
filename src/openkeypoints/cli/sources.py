"""From what a person names (files, folders, addresses) to the pictures behind it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from openkeypoints.errors import InputError
from openkeypoints.image_files import decode, film_format
from openkeypoints.images import read_image
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
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Source:
    """One picture to read.

    Attributes:
        name: as it was given, or the folder as it was given and the way from there.
        path: the file; None where the name is an address.
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
        if not is_web_address(self.name):
            return read_image(self.name, settings=settings)  # refused there, with the reason
        from openkeypoints.urls import Guard, fetch  # noqa: PLC0415

        data = fetch(self.name, guard=Guard.own(), settings=settings)
        if film_format(data[:_HEAD_BYTES]):
            raise _is_video(self.label)
        return decode(data, self.label, settings.max_pixels)


@dataclass(frozen=True, slots=True)
class Found:
    """What stands behind the names.

    Attributes:
        sources: the pictures, each once, in the order of the names, folders sorted.
        faults: names with nothing behind them.
        notes: what was passed over.
    """

    sources: tuple[Source, ...]
    faults: tuple[InputError, ...]
    notes: tuple[str, ...]


def find_sources(names: Sequence[str], *, leave_out: Collection[Path] = ()) -> Found:
    """Return the pictures that names stand for.

    Args:
        names: files, folders (searched through, hidden things left out) and addresses. A file
            that does not exist is returned too: reading it says so.
        leave_out: resolved paths that are not taken from folders.
    """
    sources: dict[str, Source] = {}
    faults, notes = [], []
    for name in names:
        if "://" in name:
            sources.setdefault(name, Source(name))
            continue
        path = Path(name)
        if not path.is_dir():
            sources.setdefault(os.path.realpath(path), Source(name, path, path.parent))
            continue
        pictures, videos = _in_folder(path)
        taken = [p for p in pictures if p.resolve() not in leave_out]
        if not taken:
            faults.append(
                InputError(
                    f"the folder '{path}' holds no pictures; files ending in .jpg, .png, .webp, "
                    ".tif, ... are taken."
                )
            )
        if videos:
            notes.append(f"{videos} videos in '{path}' passed over: {_LATER}.")
        for found in taken:
            sources.setdefault(os.path.realpath(found), Source(str(found), found, path))
    return Found(tuple(sources.values()), tuple(faults), tuple(notes))


def is_web_address(name: str) -> bool:
    """Tell whether a name is an address that is fetched."""
    return name[:8].lower().startswith(("http://", "https://"))


def _in_folder(folder: Path) -> tuple[list[Path], int]:
    """Return the pictures below a folder, sorted, and the number of videos."""
    files = list(_walk(folder))
    pictures = [p for p in files if p.suffix.lower() in PICTURE_SUFFIXES]
    return pictures, sum(p.suffix.lower() in VIDEO_SUFFIXES for p in files)


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
