"""The folder of each model in the cache: which files it has, and whether they are what they were.

``<cache>/weights/<id>/`` holds the files and ``record.json``; a slash in the id is ``@`` there.
Files that a person put there count as well: their hash is recorded when they are first seen.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openkeypoints.errors import HashMismatchError
from openkeypoints.settings import Settings
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
from openkeypoints.weights.refs import PACKAGE_GRAPH, WeightRef, check_model_id

RECORD = "record.json"
BY_HAND = "put there by hand"
_UNFINISHED = (".part", ".part.json", ".new")

_log = logging.getLogger(__name__)


def root(settings: Settings) -> Path:
    """Return the folder that holds the folders of all models."""
    return settings.cache_dir / "weights"


@dataclass(frozen=True, slots=True)
class Entry:
    """The folder of one model in the cache."""

    model_id: str
    folder: Path

    @classmethod
    def of(cls, model_id: str, settings: Settings) -> Entry:
        """Return the entry of an id, whether it is there or not.

        Raises:
            InputError: the id may not name a folder.
        """
        return cls(model_id, root(settings) / check_model_id(model_id).replace("/", "@"))

    def place(self, ref: WeightRef) -> Path:
        """Return where the file of a reference lies, or would lie; a folder for a package."""
        return self.folder / ref.name if ref.name else self.folder

    def has(self, ref: WeightRef) -> bool:
        """Tell whether the file of a reference is here, whatever its content."""
        return (self.folder / (ref.name or PACKAGE_GRAPH)).is_file()

    def check(self, ref: WeightRef) -> FileFacts:
        """Hold what is here against what is known of it, and remember what is new.

        Returns:
            The facts of the file, or of the network of a package.

        Raises:
            HashMismatchError: a file changed, or is not the one that the reference names.
        """
        names = [ref.name] if ref.name else self._files()
        known = self.facts()
        found = {name: self._check_file(name, known.get(name)) for name in names}
        if any(known.get(name) != facts for name, facts in found.items()):
            self._remember({**known, **found})
        main = found[ref.name or PACKAGE_GRAPH]
        if ref.name and ref.sha256 and main.sha256 != ref.sha256.lower():
            raise HashMismatchError(
                f"{self.folder / ref.name} has the SHA-256 {main.sha256}, and the known one is "
                f"{ref.sha256.lower()}: run `okp models remove {self.model_id}` and fetch it again."
            )
        return main

    def _check_file(self, name: str, known: FileFacts | None) -> FileFacts:
        path = self.folder / name
        if known is None:
            return measure(path, BY_HAND)
        if (facts := compare(path, known)) is None:
            raise HashMismatchError(
                f"{path} changed since {known.date}: run `okp models remove {self.model_id}` and "
                "fetch it again."
            )
        return facts

    def _files(self) -> list[str]:
        """Return the names of the finished files of a package."""
        return sorted(
            path.name
            for path in self.folder.iterdir()
            if path.is_file() and path.name != RECORD and not path.name.endswith(_UNFINISHED)
        )

    def facts(self) -> dict[str, FileFacts]:
        """Return what is remembered of the files."""
        return facts_from(read_json(self.folder / RECORD).get("files"))

    def forget(self, name: str) -> None:
        """Forget what was known of a file that is about to be replaced."""
        known = self.facts()
        if known.pop(name, None) is not None:
            self._remember(known)

    def remember(self, name: str, source: str, sha256: str) -> None:
        """Record a file that has just been fetched."""
        self._remember({**self.facts(), name: measure(self.folder / name, source, sha256)})

    def _remember(self, files: dict[str, FileFacts]) -> None:
        try:
            write_json(self.folder / RECORD, {"id": self.model_id, "files": plain(files)})
        except OSError as error:  # a cache that may only be read serves as well
            _log.debug("The record in %s was not written: %s", self.folder, error)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the entry against other processes and threads.

        Raises:
            WeightsError: the cache cannot be written.
        """
        lock = self.folder.with_name(self.folder.name + ".lock")
        with contextlib.ExitStack() as held:
            with writing(lock):
                held.enter_context(locked(lock))
            yield

    def remove(self) -> bool:
        """Delete the files; tell whether there were any."""
        with writing(self.folder):
            if not self.folder.is_dir():
                return False
            shutil.rmtree(self.folder)
        return True


def entries(settings: Settings) -> list[Entry]:
    """Return the models that have a folder in the cache."""
    folder = root(settings)
    if not folder.is_dir():
        return []
    return [
        Entry(path.name.replace("@", "/"), path)
        for path in sorted(folder.iterdir())
        if path.is_dir()
    ]
