"""A file at one http(s) address."""

from __future__ import annotations

from openkeypoints.settings import Settings
from openkeypoints.weights.cache import Entry
from openkeypoints.weights.downloads import Progress
from openkeypoints.weights.providers.http import Host, save_file
from openkeypoints.weights.refs import WeightRef


def fetch(
    ref: WeightRef, entry: Entry, settings: Settings, *, progress: Progress | None = None
) -> None:
    """Bring the file at an address into the cache.

    Raises:
        DownloadError, NotFoundError: the server does not deliver.
        HashMismatchError: the content is not what its hash says.
        WeightsError: it is too large, or the cache cannot take it.
    """
    host = Host(ref.location, settings.timeout_s)
    save_file(ref, entry, settings, host=host, progress=progress)
