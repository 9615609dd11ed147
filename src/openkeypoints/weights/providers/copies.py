"""What other software has fetched to this machine already: read where it lies, never written."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from openkeypoints.settings import Settings
from openkeypoints.weights.okp import sha256_of
from openkeypoints.weights.refs import PACKAGE_GRAPH, WeightRef, check_model_id

_CARDS = ("class_names.txt", "environment.json")
"""One of these lies beside every network of Roboflow's."""


def find_copy(ref: WeightRef, settings: Settings) -> Path | None:
    """Return the file, or the folder of a package, that a reference means, None if absent.

    A copy whose known hash is wrong is none.
    """
    if ref.provider == "roboflow":
        return _roboflow_package(ref.location, settings)
    if ref.provider != "hub":
        return None
    repository, _, revision = ref.location.partition("@")
    folder = settings.hub_cache / f"models--{repository.replace('/', '--')}"
    path = hub_file(folder, ref.file, revision or "main")
    if path is not None and ref.sha256 and sha256_of(path) != ref.sha256.lower():
        return None
    return path


def hub_file(folder: Path, file: str, revision: str = "main") -> Path | None:
    """Return a file of a hub repository as downloaded, None if absent.

    Args:
        folder: plain files, or the hub software's ``refs/`` and ``snapshots/<revision>/``.
        file: its path inside the repository.
        revision: branch, tag or commit.
    """
    commit = folder / "refs" / revision
    named = commit.read_text(encoding="utf-8").strip() if commit.is_file() else revision
    places = (folder / "snapshots" / named / file, folder / file)
    return next((place for place in places if place.is_file()), None)


def _roboflow_package(model_id: str, settings: Settings) -> Path | None:
    check_model_id(model_id)
    for cache in settings.roboflow_caches or _temporary():
        for folder in _package_folders(cache, model_id):
            cards = any((folder / card).is_file() for card in _CARDS)
            if cards and (folder / PACKAGE_GRAPH).is_file():
                return folder
    return None


def _package_folders(cache: Path, model_id: str) -> Iterator[Path]:
    """Give the folders in which either generation of the software keeps a model."""
    yield cache / model_id
    digest = hashlib.blake2s(model_id.encode(), digest_size=16).hexdigest()
    yield from sorted((cache / "models-cache").glob(f"v2-*{digest}/*"))


def _temporary() -> tuple[Path, ...]:
    """Return the default folder of Roboflow's software, unless another user made it."""
    folder = Path(tempfile.gettempdir()) / "cache"
    # Everybody may write into the temporary folder, a folder of this name too.
    trusted = os.name == "nt" or (folder.is_dir() and folder.stat().st_uid in (0, os.getuid()))
    return (folder,) if trusted else ()
