"""Where results are written: never over an input, and over other files only when asked.

A folder that a command wrote into holds ``.okp-outputs.json``, which says for each file what it was
made from. A file that is there already is replaced when that record names the same inputs, or with
``--overwrite``; a file that is an input of the run (also by a link) is never replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any, Protocol, TypeVar

from openkeypoints.errors import InputError, OutputExistsError
from openkeypoints.images import FORMATS_BY_ENDING

RECORD = ".okp-outputs.json"
SAME_FOLDER = "_keypoints"


class Input(Protocol):
    """What a result is made from: see ``sources.Source``.

    Attributes:
        name: as the user wrote it, or found in a folder.
        path: the file; None where the name is an address.
        root: the folder that was named, or the one of the named file.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def path(self) -> Path | None: ...  # noqa: D102
    @property
    def root(self) -> Path | None: ...  # noqa: D102


AnyInput = TypeVar("AnyInput", bound=Input)


class OutputFolder:
    """The files that one run writes into one folder. Claim all of them first, then write.

    Args:
        folder: made with the first file.
        inputs: files that the run reads.
        overwrite: replace files whatever they were made from, unless they are inputs.
    """

    def __init__(self, folder: Path, *, inputs: Iterable[Path], overwrite: bool) -> None:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"'{folder}' is no folder: name one, or a new one.")
        self.folder = folder
        self._overwrite = overwrite
        self._inputs = {identity for path in inputs if (identity := _identity(path)) is not None}
        self._known = _read_record(folder)
        self._claimed: dict[str, list[str]] = {}

    def is_input(self, name: str | PurePath) -> bool:
        """Tell whether a file of this folder is an input of the run, itself or by a link."""
        return _identity(self.folder / name) in self._inputs

    def claim(self, name: str | PurePath, made_from: Sequence[Input | Path]) -> Path:
        """Return the path of a file that the run will write.

        Args:
            name: way from the folder to the file.
            made_from: the inputs of this one file.

        Raises:
            OutputExistsError: it is an input, or is there and was made from something else.
        """
        path, key = self.folder / name, PurePath(name).as_posix()
        origin = sorted(_origin(source, self.folder) for source in made_from)
        if self.is_input(name):
            raise OutputExistsError(
                f"'{path}' is an input of this run and is never written over: leave it out, or "
                "save into another folder."
            )
        if path.is_dir():
            raise OutputExistsError(f"'{path}' is a folder: save into another one.")
        if os.path.lexists(path) and not self._overwrite and self._known.get(key) != origin:
            raise OutputExistsError(
                f"'{path}' is there and was not made from the same input: add --overwrite to "
                "replace it, or save into another folder."
            )
        self._claimed[key] = origin
        return path

    def write(self, path: Path, data: bytes) -> None:
        """Write a claimed file as a whole; a link in its place is replaced, not followed.

        Raises:
            InputError: the folder cannot be written.
        """
        if any(self._known.get(key) != origin for key, origin in self._claimed.items()):
            # Before the first file, so that a run that is killed can be repeated.
            self._record(self._known | self._claimed)
        _replace(path, data)

    def finish(self) -> None:
        """Forget what was claimed and not written."""
        kept = {key: o for key, o in self._known.items() if os.path.lexists(self.folder / key)}
        if kept != self._known:
            self._record(kept)

    def _record(self, made_from: dict[str, list[str]]) -> None:
        self._known = made_from
        text = json.dumps({"made_from": made_from}, indent=1, ensure_ascii=False)
        _replace(self.folder / RECORD, text.encode())


def written_before(folder: Path) -> set[Path]:
    """Return the resolved paths of what runs wrote into a folder and kept a record of."""
    return {(folder / name).resolve() for name in _read_record(folder)}


def output_names(sources: Sequence[AnyInput]) -> dict[AnyInput, PurePath]:
    """Return for each source the way from the output folder to its files, without an ending.

    Files keep their way from the deepest folder that holds everything that was named, so that
    pictures of the same name stay apart. Where two differ by their ending alone, the ending becomes
    part of the name: ``a_jpg`` and ``a_png``.
    """
    ways = _ways(sources)
    counts = Counter(way.with_name(way.stem).as_posix().casefold() for way in ways.values())
    names: dict[AnyInput, PurePath] = {}
    used: set[str] = set()
    for source, way in ways.items():
        bare = way.with_name(way.stem)
        if counts[bare.as_posix().casefold()] > 1:
            bare = way.with_name(way.name.replace(".", "_"))
        name, number = bare, 1
        while name.as_posix().casefold() in used:
            number += 1
            name = bare.with_name(f"{bare.name}_{number}")
        used.add(name.as_posix().casefold())
        names[source] = name
    return names


def beside_inputs(name: PurePath, source: Input, ending: str, output: OutputFolder) -> PurePath:
    """Return the name, with ``_keypoints`` where it would else stand beside, or be, an input."""
    target = output.folder / name
    beside = source.path is not None and target.parent.resolve() == source.path.resolve().parent
    if beside or output.is_input(f"{name.as_posix()}{ending}"):
        return name.with_name(name.name + SAME_FOLDER)
    return name


def picture_ending(source: Input) -> str:
    """Return the ending of the drawn picture of a source: its own, or ``.jpg``."""
    ending = _file_name(source).suffix
    return ending if ending.lower() in FORMATS_BY_ENDING else ".jpg"


def _ways(sources: Sequence[AnyInput]) -> dict[AnyInput, PurePath]:
    roots = {os.path.abspath(s.root) for s in sources if s.root is not None}  # noqa: PTH100
    try:
        top = os.path.commonpath(roots) if roots else ""
    except ValueError:  # two drives
        top = ""
    ways: dict[AnyInput, PurePath] = {}
    for source in sources:
        if source.path is not None and top:
            way = os.path.relpath(os.path.abspath(source.path), top)  # noqa: PTH100
            ways[source] = PurePath(way)
        else:
            ways[source] = _file_name(source)
    return ways


def _file_name(source: Input) -> PurePath:
    if source.path is not None:
        return PurePath(source.path.name)
    last = source.name.partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2]
    return PurePath(re.sub(r"[^\w.-]", "_", last).strip(".-") or "picture")


def _origin(source: Input | Path, folder: Path) -> str:
    """Return what the record calls an input; addresses as a hash, for they may hold secrets."""
    path = source if isinstance(source, Path) else source.path
    if path is None:
        name = str(getattr(source, "name", ""))
        if "://" not in name:  # standard input: another time it is another picture
            return f"once:{uuid.uuid4()}"
        return f"address:{hashlib.sha256(name.encode()).hexdigest()}"
    # Relative, so that folders can move together.
    real, base = os.path.realpath(path), os.path.realpath(folder)
    try:
        return PurePath(os.path.relpath(real, base)).as_posix()
    except ValueError:  # another drive
        return PurePath(real).as_posix()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _read_record(folder: Path) -> dict[str, list[str]]:
    """Return file -> inputs; a record that is missing or damaged vouches for nothing."""
    try:
        data: Any = json.loads((folder / RECORD).read_bytes())["made_from"]
        return {str(name): [str(entry) for entry in origin] for name, origin in data.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _replace(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("xb") as file:
            file.write(data)
        new.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise InputError(
            f"'{path}' cannot be written ({error.strerror}): choose another folder."
        ) from error
