"""Model files: where they are, how they come here, and what they hold."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from openkeypoints.errors import (
    DownloadError,
    LicenceError,
    NotFoundError,
    OfflineError,
    OpenKeypointsError,
    RefusedError,
)
from openkeypoints.settings import Settings
from openkeypoints.weights.cache import Entry, entries
from openkeypoints.weights.downloads import Progress
from openkeypoints.weights.providers import copies, local
from openkeypoints.weights.refs import PACKAGE_GRAPH, WeightRef

__all__ = [
    "OWNERS_LICENCE",
    "UNKNOWN_LICENCE",
    "Progress",
    "Stored",
    "WeightRef",
    "cached",
    "check_licence",
    "fetch",
    "here",
    "known_ids",
    "place",
    "recorded",
    "remove",
]

UNKNOWN_LICENCE = "unknown"
OWNERS_LICENCE = "the owner's"
"""Licence of a model that somebody trained at Roboflow."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """The weights of a model that are here.

    Attributes:
        path: the file, or the folder of a package.
        sha256: of the file, or of a folder's network; None where only others remember it.
        size_bytes: of the file, or of a folder's network.
        source: where it came from, for people to read.
        date: the day on which it was first seen; None where only others remember it.
    """

    path: Path
    sha256: str | None
    size_bytes: int
    source: str
    date: str | None


class _Provider(Protocol):
    """What every provider's module offers that fetches something."""

    def fetch(
        self, ref: WeightRef, entry: Entry, settings: Settings, *, progress: Progress | None = None
    ) -> None: ...


def fetch(
    model_id: str,
    refs: Sequence[WeightRef],
    settings: Settings,
    *,
    licence: str,
    progress: Progress | None = None,
) -> Path:
    """Return the weights of a model, from here or from the first source that delivers.

    Asked in this order: the cache, what ``okp models add`` registered, what other software has
    fetched, then each reference. The licence is logged, as a warning, when a download begins.

    Args:
        model_id: id of the model; names its folder in the cache.
        refs: where it can be fetched.
        settings: cache folder, key and token, limits, offline mode, allowed licences.
        licence: of the weights.
        progress: is told how far the download is.

    Returns:
        The file, or the folder of a package.

    Raises:
        LicenceError: the licence is not among the allowed ones.
        OfflineError: it is not here, and nothing may be fetched.
        NotFoundError: no source has it.
        DownloadError: no source delivers; the message names each with its reason.
        HashMismatchError: what is here, or what came, is not what it should be.
        WeightsError: it is too large, or the cache cannot take it.
    """
    check_licence(model_id, licence, settings)
    if (path := cached(model_id, refs, settings)) is not None:
        return path
    if not refs:
        raise NotFoundError(
            f"Nobody publishes the weights of {model_id!r}: name your own file with "
            f"`okp models add {model_id} FILE`."
        )
    if settings.offline:
        raise OfflineError(_offline(model_id, refs, settings, licence))
    entry = Entry.of(model_id, settings)
    with entry.locked():
        # Whoever held the lock before may have brought it.
        if (path := cached(model_id, refs, settings)) is not None:
            return path
        _log.warning("Fetching the weights of %s; their licence: %s.", model_id, licence)
        return _ask_each(refs, entry, settings, progress)


def _ask_each(
    refs: Sequence[WeightRef], entry: Entry, settings: Settings, progress: Progress | None
) -> Path:
    failures: list[DownloadError | NotFoundError] = []
    for ref in refs:
        name = f"{__name__}.providers.{ref.provider}"
        provider = cast(_Provider, importlib.import_module(name))
        try:
            provider.fetch(ref, entry, settings, progress=progress)
        except (DownloadError, NotFoundError) as error:
            failures.append(error)
            _log.info("Passed over %s: %s", ref.provider, error)
            continue
        entry.check(ref)
        return entry.place(ref)
    reasons = " ".join(f"{str(error).removesuffix('.')}." for error in failures)
    raise _kind_of(failures)(
        f"No source delivers the weights of {entry.model_id!r}: {reasons} You can put the file at "
        f"{_by_hand(entry, refs[0])}, or run `okp models add {entry.model_id} FILE`."
    )


def _kind_of(failures: Sequence[DownloadError | NotFoundError]) -> type[OpenKeypointsError]:
    """Return what several failures are together: the mildest that all of them are."""
    if all(isinstance(error, NotFoundError) for error in failures):
        return NotFoundError
    refused = all(isinstance(error, NotFoundError | RefusedError) for error in failures)
    return RefusedError if refused else DownloadError


def _offline(model_id: str, refs: Sequence[WeightRef], settings: Settings, licence: str) -> str:
    ref, entry = refs[0], Entry.of(model_id, settings)
    return (
        f"The weights of {model_id!r} are not here, and OKP_OFFLINE is set: fetch "
        f"{ref.name or 'the package'} from {ref.url(settings)} (licence: {licence}) and put it at "
        f"{_by_hand(entry, ref)}, or run `okp models add {model_id} FILE`."
    )


def _by_hand(entry: Entry, ref: WeightRef) -> str:
    return str(entry.place(ref)) if ref.name else f"{entry.folder}/ (a package folder)"


def cached(model_id: str, refs: Sequence[WeightRef], settings: Settings) -> Path | None:
    """Return the weights of a model as far as they are here, None if they are not.

    Raises:
        HashMismatchError: they are here and are not what they were.
        NotFoundError: a file that the user registered is gone.
    """
    stored = recorded(model_id, refs, settings)
    return None if stored is None else stored.path


def recorded(model_id: str, refs: Sequence[WeightRef], settings: Settings) -> Stored | None:
    """Return what is known of a model's weights as far as they are here, None if they are not.

    Raises:
        HashMismatchError: they are here and are not what they were.
        NotFoundError: a file that the user registered is gone.
    """
    entry = Entry.of(model_id, settings)
    for ref in refs:
        if entry.has(ref):
            facts = entry.check(ref)
            return Stored(entry.place(ref), facts.sha256, facts.size, facts.source, facts.date)
    if (added := local.find(model_id, settings)) is not None:
        facts = added.main
        return Stored(added.path, facts.sha256, facts.size, facts.source, facts.date)
    for ref in refs:
        if (copy := copies.find_copy(ref, settings)) is not None:
            network = copy / PACKAGE_GRAPH if copy.is_dir() else copy
            return Stored(copy, None, network.stat().st_size, "fetched by other software", None)
    return None


def here(model_id: str, refs: Sequence[WeightRef], settings: Settings) -> bool:
    """Tell whether the weights of a model are here, without reading them."""
    entry = Entry.of(model_id, settings)
    return (
        any(map(entry.has, refs))
        or model_id in local.registered(settings)
        or any(copies.find_copy(ref, settings) for ref in refs)
    )


def known_ids(settings: Settings) -> list[str]:
    """Return the ids under which something was fetched or registered, sorted."""
    fetched = (entry.model_id for entry in entries(settings) if entry.facts())
    return sorted({*fetched, *local.registered(settings)})


def place(model_id: str, refs: Sequence[WeightRef], settings: Settings) -> Path:
    """Return where a download of the weights would lie."""
    entry = Entry.of(model_id, settings)
    return entry.place(refs[0]) if refs else entry.folder


def remove(model_id: str, settings: Settings) -> None:
    """Delete what was fetched of a model, and forget the file that the user registered.

    Raises:
        NotFoundError: there is neither.
        WeightsError: the cache cannot be written.
    """
    entry = Entry.of(model_id, settings)
    forgotten = local.forget(model_id, settings)
    if entry.folder.is_dir():
        with entry.locked():
            entry.remove()
    elif not forgotten:
        raise NotFoundError(f"Nothing of {model_id!r} is in {entry.folder.parent}.")


def check_licence(model_id: str, licence: str, settings: Settings) -> None:
    """Refuse a model whose licence is not allowed.

    Raises:
        LicenceError: ``allowed_licences`` does not name it, whole or by its first word (files write
            addresses behind the name); upper and lower case are the same.
    """
    allowed = settings.allowed_licences
    names = {licence.casefold(), licence.partition(" ")[0].casefold()}
    if allowed is not None and names.isdisjoint(name.casefold() for name in allowed):
        raise LicenceError(
            f"The licence of {model_id!r} is {licence!r}, and OKP_ALLOWED_LICENCES allows "
            f"{', '.join(allowed) or 'none'}."
        )
