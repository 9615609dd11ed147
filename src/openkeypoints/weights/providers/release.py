"""Files of a publisher's release, and the digest that the release states beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from openkeypoints.errors import DownloadError, NotFoundError
from openkeypoints.settings import Settings
from openkeypoints.weights.cache import Entry
from openkeypoints.weights.downloads import Progress
from openkeypoints.weights.providers.http import Host, get_json, save_file
from openkeypoints.weights.refs import WeightRef

_DOWNLOADS = "/releases/download"
_GITHUB = re.compile(r"https://github\.com/([^/]+/[^/]+)/releases")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.IGNORECASE)


def fetch(
    ref: WeightRef, entry: Entry, settings: Settings, *, progress: Progress | None = None
) -> None:
    """Bring a file of a release into the cache.

    Raises:
        DownloadError, NotFoundError: the publisher does not deliver.
        HashMismatchError: the content is not what its hash, or the release's digest, says.
        WeightsError: it is too large, or the cache cannot take it.
    """
    if ref.sha256 is None:
        ref = replace(ref, sha256=_stated_digest(ref, settings))
    host = Host(settings.releases_url, settings.timeout_s)
    save_file(ref, entry, settings, host=host, progress=progress)


def _stated_digest(ref: WeightRef, settings: Settings) -> str | None:
    """Return the SHA-256 that the release states for a file, None where it states none."""
    base = settings.releases_url
    if not base.endswith(_DOWNLOADS):
        return None
    releases = base.removesuffix("/download")
    github = _GITHUB.fullmatch(releases)
    api = f"https://api.github.com/repos/{github[1]}/releases" if github else releases
    try:
        release = get_json(f"{api}/tags/{ref.location}", Host(api, settings.timeout_s))
    except (DownloadError, NotFoundError):
        return None
    assets = release.get("assets") if isinstance(release, Mapping) else None
    for asset in assets if isinstance(assets, list) else []:
        if isinstance(asset, Mapping) and asset.get("name") == ref.file:
            return _sha256(asset)
    return None


def _sha256(asset: Mapping[str, Any]) -> str | None:
    found = _DIGEST.fullmatch(str(asset.get("digest")))
    return found[1].lower() if found else None
