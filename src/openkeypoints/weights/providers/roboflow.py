"""Packages of Roboflow's models: the current endpoint, and the older one where it knows more.

The key goes to Roboflow's own host alone; the files themselves lie at addresses that need none.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from openkeypoints.errors import DownloadError, NotFoundError
from openkeypoints.settings import Settings
from openkeypoints.weights.cache import RECORD, Entry
from openkeypoints.weights.downloads import Download, Progress, save, writing
from openkeypoints.weights.providers.http import Host, get_json, opener, size_of
from openkeypoints.weights.refs import PACKAGE_GRAPH, WeightRef

MAX_PAGES = 10
MAX_FILES = 32
ONNX_PACKAGE = "onnx-model-package-v1"
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_NUMBERED = re.compile(r"[^/]+/\d+")
_SENTENCES = {
    401: "the key is not one of Roboflow's, check ROBOFLOW_API_KEY or api_key=",
    402: "the plan of the key's workspace does not cover it, or its credits are used up",
    403: "the key may not use this model, use one of the workspace that owns it",
    404: "Roboflow has no such model, or not for this key",
    423: "the workspace or the model is locked, see its page at Roboflow",
}


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a package: where it lies, or what it says."""

    name: str
    url: str = ""
    md5: str = ""
    text: str = ""


def fetch(
    ref: WeightRef, entry: Entry, settings: Settings, *, progress: Progress | None = None
) -> None:
    """Bring the package of a model into the cache: a folder with ``weights.onnx`` and its cards.

    Raises:
        NotFoundError: Roboflow knows no such model, or offers no package that runs here.
        DownloadError: there is no key, it is refused, or something cannot be reached.
        HashMismatchError: a file is not what its MD5 says.
        WeightsError: it is too large, or the cache cannot take it.
    """
    if not settings.api_key:
        raise DownloadError(
            f"{settings.roboflow_url} is not asked without a key (ROBOFLOW_API_KEY or api_key=)"
        )
    api = Host(settings.roboflow_url, settings.timeout_s, settings.api_key, _SENTENCES)
    try:
        files = _current(ref, api, settings)
    except NotFoundError:
        if not _NUMBERED.fullmatch(ref.location):
            raise
        files = _older(ref, api)
    _save_all(files, entry, settings, progress)


def _current(ref: WeightRef, api: Host, settings: Settings) -> list[_File]:
    """Return the files of the first ONNX package that Roboflow itself made."""
    kinds = []
    for package in _packages(ref, api, settings):
        manifest = _mapping(package.get("packageManifest"))
        kinds.append(str(manifest.get("backendType") or manifest.get("type")))
        if package.get("trustedSource") is True and manifest.get("type") == ONNX_PACKAGE:
            return _listed(package, ref)
    raise NotFoundError(
        f"Roboflow offers no ONNX package of its own making for {ref.location!r}; it offers "
        f"{', '.join(kinds) or 'nothing'}."
    )


def _packages(ref: WeightRef, api: Host, settings: Settings) -> Iterator[Mapping[str, Any]]:
    after: dict[str, str] = {}
    for _ in range(MAX_PAGES):
        # The place of the next page is as secret as the rest of what only a key shows.
        answer = _mapping(get_json(ref.url(settings), api, secret=after))
        metadata = _mapping(answer.get("modelMetadata"))
        packages = metadata.get("modelPackages")
        yield from map(_mapping, packages if isinstance(packages, list) else [])
        if not metadata.get("nextPage"):
            return
        after = {"startAfter": str(metadata["nextPage"])}


def _listed(package: Mapping[str, Any], ref: WeightRef) -> list[_File]:
    listed = package.get("packageFiles")
    entries = [_mapping(entry) for entry in listed] if isinstance(listed, list) else []
    files = [
        _File(str(e.get("fileHandle")), str(e.get("downloadUrl")), str(e.get("md5Hash") or ""))
        for e in entries[:MAX_FILES]
    ]
    return _whole(files, ref)


def _older(ref: WeightRef, api: Host) -> list[_File]:
    """Return the files that the older endpoint has: a network, and cards inside its answer."""
    url = f"{api.base}/ort/{ref.location}?nocache=true&device=openkeypoints&dynamic=true"
    answer = get_json(url, api, secret={"api_key": api.token or ""})
    ort = _mapping(_mapping(answer).get("ort"))
    files = [_File(PACKAGE_GRAPH, str(ort.get("model")))]
    if ort.get("environment"):
        files.append(_File("environment.json", str(ort["environment"])))
    if isinstance(classes := ort.get("classes"), list):
        files.append(_File("class_names.txt", text="".join(f"{name}\n" for name in classes)))
    if keypoints := ort.get("keypoints_metadata"):
        text = keypoints if isinstance(keypoints, str) else json.dumps(keypoints)
        files.append(_File("keypoints_metadata.json", text=text))
    return _whole(files, ref)


def _whole(files: list[_File], ref: WeightRef) -> list[_File]:
    """Return the files with the network last, whose presence says that all of them are there."""
    names = [file.name for file in files]
    strange = [n for n in names if not _FILE_NAME.fullmatch(n) or n == RECORD]
    if strange or PACKAGE_GRAPH not in names or len(set(names)) < len(names):
        raise DownloadError(
            f"Roboflow's package of {ref.location!r} holds {', '.join(map(repr, names))[:200]}: a "
            f"package of ours has {PACKAGE_GRAPH} and plain file names."
        )
    return sorted(files, key=lambda file: file.name == PACKAGE_GRAPH)


def _save_all(
    files: list[_File], entry: Entry, settings: Settings, progress: Progress | None
) -> None:
    # Not the API: no key goes where the files lie. Its http, where the operator chose it, does.
    store = Host(settings.roboflow_url, settings.timeout_s)
    sizes = [size_of(file.url, store) or 0 for file in files if file.url]
    before = 0
    for file in files:
        path = entry.folder / file.name
        source = f"{settings.roboflow_url} ({file.name})"
        entry.forget(file.name)
        if not file.url:
            content = file.text.encode()
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            entry.remember(file.name, source, hashlib.sha256(content).hexdigest())
            continue
        told = _after(before, sum(sizes), progress)
        download = Download(path, source, opener(file.url, store), md5=file.md5 or None)
        sha256 = save(download, limit=settings.max_weights_bytes - before, progress=told)
        entry.remember(file.name, source, sha256)
        before += path.stat().st_size


def _after(before: int, total: int, progress: Progress | None) -> Progress | None:
    """Return what tells the progress of one file as that of the package."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done, max(total, before + done))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
