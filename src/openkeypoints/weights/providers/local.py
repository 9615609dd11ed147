"""The user's own files under an id: what ``okp models add`` registered.

A file is named by its path and is not copied; ``<cache>/weights/added.json`` remembers what it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from openkeypoints.errors import HashMismatchError, InputError, NotFoundError
from openkeypoints.settings import Settings
from openkeypoints.weights.cache import root
from openkeypoints.weights.downloads import writing
from openkeypoints.weights.locks import locked
from openkeypoints.weights.records import (
    FileFacts,
    compare,
    facts_from,
    measure,
    plain,
    read_json,
    write_json,
)
from openkeypoints.weights.refs import PACKAGE_GRAPH, check_model_id

SOURCE = "added by the user"
MAX_FILES = 100
"""A folder with more is no model: somebody named the wrong one."""


@dataclass(frozen=True, slots=True)
class Added:
    """A file or folder that a user registered under an id."""

    path: Path
    files: dict[str, FileFacts]

    @property
    def main(self) -> FileFacts:
        """The facts of the file, or of the one in a folder that holds the network."""
        largest = max(self.files.values(), key=lambda facts: facts.size)
        return self.files.get(self.path.name) or self.files.get(PACKAGE_GRAPH) or largest


def add(model_id: str, path: Path, settings: Settings) -> Added:
    """Register a file or folder under an id, in place of what was registered before.

    Raises:
        InputError: the id may not be one, or the folder is empty or too large to be a model.
        NotFoundError: there is nothing at the path.
        WeightsError: the cache cannot be written.
    """
    check_model_id(model_id)
    path = path.expanduser().absolute()
    folder = path if path.is_dir() else path.parent
    added = Added(path, {f.name: measure(f, SOURCE) for f in (folder / n for n in _names(path))})
    _change(model_id, added, settings)
    return added


def _names(path: Path) -> list[str]:
    """Return the names of the files that make up what lies at a path."""
    if path.is_file():
        # The numbers of an OpenVINO graph lie beside it.
        numbers = path.with_suffix(".bin")
        beside = path.suffix.lower() == ".xml" and numbers.is_file()
        return [path.name, numbers.name] if beside else [path.name]
    if not path.is_dir():
        raise NotFoundError(f"No model file or folder at {path}.")
    names = sorted(file.name for file in path.iterdir() if file.is_file())
    if not 0 < len(names) <= MAX_FILES:
        raise InputError(f"{path} holds {len(names)} files: name a model file or a model's folder.")
    return names


def find(model_id: str, settings: Settings) -> Added | None:
    """Return what is registered under an id, held against what it was.

    Raises:
        NotFoundError: the file is gone.
        HashMismatchError: it changed.
    """
    if (added := registered(settings).get(model_id)) is None:
        return None
    folder = added.path if added.path.is_dir() else added.path.parent
    found = {}
    for name, known in added.files.items():
        if not (folder / name).is_file():
            raise NotFoundError(
                f"{folder / name}, added as {model_id!r}, is gone: put it back, or run "
                f"`okp models remove {model_id}`."
            )
        if (facts := compare(folder / name, known)) is None:
            raise HashMismatchError(
                f"{folder / name} changed since it was added as {model_id!r}: run "
                f"`okp models add {model_id} FILE` again if you changed it."
            )
        found[name] = facts
    return Added(added.path, found)


def forget(model_id: str, settings: Settings) -> bool:
    """Forget what is registered under an id, not touching the file; tell whether there was any."""
    if model_id not in registered(settings):
        return False
    _change(model_id, None, settings)
    return True


def registered(settings: Settings) -> dict[str, Added]:
    """Return all that is registered, by id, without looking at the files."""
    found = {}
    for model_id, entry in read_json(_path(settings)).items():
        if isinstance(entry, dict) and (files := facts_from(entry.get("files"))):
            found[model_id] = Added(Path(str(entry.get("path"))), files)
    return found


def _change(model_id: str, added: Added | None, settings: Settings) -> None:
    path = _path(settings)
    with writing(path), locked(path.with_suffix(".lock")):
        entries = read_json(path)
        entries.pop(model_id, None)
        if added is not None:
            entries[model_id] = {"path": str(added.path), "files": plain(added.files)}
        write_json(path, entries)


def _path(settings: Settings) -> Path:
    return root(settings) / "added.json"
