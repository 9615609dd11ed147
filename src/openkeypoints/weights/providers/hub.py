"""Files of a repository on the hub; the user's token goes there and nowhere else."""

from __future__ import annotations

from openkeypoints.settings import Settings
from openkeypoints.weights.cache import Entry
from openkeypoints.weights.downloads import Progress
from openkeypoints.weights.providers.http import Host, save_file
from openkeypoints.weights.refs import WeightRef

_CLOSED = "accept the model's terms on its page and set HF_TOKEN to a token that may read it"
_SENTENCES = {401: _CLOSED, 403: _CLOSED, 404: "or it is closed, and HF_TOKEN may not read it"}


def fetch(
    ref: WeightRef, entry: Entry, settings: Settings, *, progress: Progress | None = None
) -> None:
    """Bring a file of a repository into the cache.

    Raises:
        DownloadError, NotFoundError: the hub does not deliver, or not to this token.
        HashMismatchError: the content is not what its hash says, ours or the hub's.
        WeightsError: it is too large, or the cache cannot take it.
    """
    host = Host(settings.hub_url, settings.timeout_s, settings.hub_token, _SENTENCES)
    save_file(ref, entry, settings, host=host, progress=progress)
