"""Opens the models of the catalogue for the engine, and tells clients little of what went wrong."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from openkeypoints.engine import cores
from openkeypoints.errors import (
    DownloadError,
    LicenceError,
    NotFoundError,
    OpenKeypointsError,
    RefusedError,
    UnknownModelError,
    WeightsError,
)
from openkeypoints.models import Model, ModelSpec, open_model
from openkeypoints.server.served import Served
from openkeypoints.settings import Settings

_MEMORY_PER_BYTE = 4
"""What a loaded model takes, per byte of its file."""
_log = logging.getLogger(__name__)


class Opener:
    """Opens models by the ids of a catalogue; its methods may be called from any thread.

    Args:
        catalogue: knows the operator's files, and the keys that clients sent for Roboflow.
        settings: cache folder, keys and addresses of the sources.
        workers: how many processes share this machine.
    """

    def __init__(self, catalogue: Served, settings: Settings, *, workers: int = 1) -> None:
        self._catalogue = catalogue
        self._settings = settings
        self.streams = max(1, (settings.threads or cores()) // workers)
        """Pictures that one model computes at once, on one thread each."""

    def open(self, model_id: str) -> Model:
        """Open a model for the engine.

        The messages may go to clients: they tell nothing of the files and addresses here, which
        the log and ``__cause__`` do.

        Raises:
            UnknownModelError: its weights are nowhere, or not for the key that was tried.
            DownloadError: its source does not answer.
            WeightsError: its weights cannot be used.
            OpenKeypointsError: see ``get_model``.
        """
        try:
            return self._open(model_id)
        except (NotFoundError, DownloadError, WeightsError) as error:
            _log.warning("The model %s was not opened: %s", model_id, error)
            raise _public(model_id, error) from error

    def predict_bytes(self, model_id: str) -> int:
        """Return how much memory a model will take, as far as its file tells; 0 if it does not."""
        row = self._catalogue.row(model_id)
        named = self._catalogue.specs.get(model_id)
        path = row.file if row is not None else Path(named.model) if named is not None else None
        if path is not None and path.is_file():
            return _MEMORY_PER_BYTE * path.stat().st_size
        return _MEMORY_PER_BYTE * ((row and row.size_bytes) or 0)

    def _open(self, model_id: str) -> Model:
        settings = replace(self._settings, threads=self.streams, streams=self.streams)
        named = self._catalogue.specs.get(model_id)
        key = self._catalogue.forwarded_keys.get(model_id)
        if named is None and key is not None:
            settings = replace(settings, api_key=key)
        spec = ModelSpec(model_id) if named is None else named
        return open_model(spec, settings, name=model_id, files=named is not None)


def _public(model_id: str, error: OpenKeypointsError) -> OpenKeypointsError:
    """Return an error as clients may read it."""
    if isinstance(error, LicenceError):
        return LicenceError(f"The licence of {model_id!r} is not allowed on this server.")
    if isinstance(error, WeightsError):
        return WeightsError(f"The weights of {model_id!r} cannot be used; the log says why.")
    if isinstance(error, NotFoundError | RefusedError):
        return UnknownModelError(f"There is no model {model_id!r}, or not for this server's key.")
    return DownloadError(f"The weights of {model_id!r} do not come; the log says why.")
