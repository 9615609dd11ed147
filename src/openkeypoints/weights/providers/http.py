"""Files and JSON over http(s): redirects, retries and refusals as every provider wants them.

A token goes to the provider's own host and to no other that a redirect names. Nothing here logs or
quotes an address with its query, which can hold a key or a signature.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import httpx

from openkeypoints.errors import (
    DownloadError,
    ForbiddenAddressError,
    NotFoundError,
    RefusedError,
)
from openkeypoints.settings import Settings
from openkeypoints.urls import shown_url
from openkeypoints.weights.cache import Entry
from openkeypoints.weights.downloads import Download, Opener, Progress, Stream, save
from openkeypoints.weights.refs import WeightRef

MAX_REDIRECTS = 5
PAUSES_S = (0.5, 1.0, 2.0)
"""Before each further try of an answer that says "later"."""
LONGEST_PAUSE_S = 10.0
_LATER = {408, 429, 502, 503, 504}
_MISSING = {404, 410}
_REFUSED = {401, 402, 403, 423}
_REDIRECTS = {301, 302, 303, 307, 308}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_MAX_JSON_BYTES = 16 << 20
_HEADERS = {"User-Agent": "openkeypoints", "Accept-Encoding": "identity"}
_SHA256 = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)

_asking: ContextVar[bool] = ContextVar("okp_asking", default=False)


@dataclass(frozen=True, slots=True)
class Host:
    """The server of a provider, and how to speak to it.

    Attributes:
        base: its address, from the settings. Where it is http, itself and loopback may be http.
        timeout_s: longest wait for a connection, and for the next bytes.
        token: sent as ``Authorization: Bearer`` to this host alone.
        sentences: status -> what it means here, as the end of a sentence.
    """

    base: str
    timeout_s: float
    token: str | None = field(default=None, repr=False)
    sentences: Mapping[int, str] = field(default_factory=dict)


def get_json(url: str, host: Host, *, secret: Mapping[str, str] | None = None) -> Any:
    """Return the JSON at an address.

    Args:
        url: the address.
        host: the provider's server.
        secret: further fields of the query, which no message shows.

    Raises:
        NotFoundError: the server answers that there is nothing.
        DownloadError: it cannot be reached, refuses, or answers no JSON.
    """
    shown = shown_url(url)
    with _errors(shown):
        full = str(httpx.URL(url, params={**httpx.URL(url).params, **(secret or {})}))
    body = bytearray()
    with _answer("GET", full, host) as (response, _):
        for chunk in _chunks(response, shown):
            body += chunk
            if len(body) > _MAX_JSON_BYTES:
                raise DownloadError(f"{shown} answered with more than {_MAX_JSON_BYTES} bytes.")
    try:
        return json.loads(body)
    except ValueError:
        raise DownloadError(f"{shown} answered with something that is not JSON.") from None


def size_of(url: str, host: Host) -> int | None:
    """Return the size that the server states for a file, None where it does not."""
    try:
        with _answer("HEAD", url, host) as (response, _):
            return _number(response.headers.get("content-length"))
    except (DownloadError, NotFoundError):
        return None  # addresses signed for GET refuse HEAD


def opener(url: str, host: Host) -> Opener:
    """Return what opens a file from any place on."""

    @contextlib.contextmanager
    def _open(start: int, validator: str | None, /) -> Iterator[Stream]:
        headers = {"Range": f"bytes={start}-"} if start else {}
        if start and validator:
            headers["If-Range"] = validator
        with _answer("GET", url, host, headers) as (response, stated):
            yield _stream(response, stated, shown_url(url))

    return _open


def save_file(
    ref: WeightRef,
    entry: Entry,
    settings: Settings,
    *,
    host: Host,
    progress: Progress | None = None,
) -> None:
    """Bring the file of a reference into the cache and record it.

    Raises:
        DownloadError, NotFoundError: the host does not deliver.
        HashMismatchError: the content is not what its hash says.
        WeightsError: it is too large, or the cache cannot take it.
    """
    url = ref.url(settings)
    source = shown_url(url)
    entry.forget(ref.name)
    download = Download(entry.place(ref), source, opener(url, host), ref.sha256, ref.md5)
    sha256 = save(download, limit=settings.max_weights_bytes, progress=progress)
    entry.remember(ref.name, source, sha256)


def _stream(response: httpx.Response, stated: str | None, shown: str) -> Stream:
    headers = response.headers
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise DownloadError(f"{shown} was sent compressed, which was not asked for.")
    start, total = 0, _number(headers.get("content-length"))
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        found = re.match(r"bytes (\d+)-\d+/(\d+|\*)$", headers.get("content-range", ""))
        if found is None:
            raise DownloadError(f"{shown} sent a part without saying which.")
        start, total = int(found[1]), _number(found[2])
    etag = headers.get("etag", "")
    # A weak name stands for several contents, so nothing may be resumed by it.
    strong = etag if etag and not etag.startswith("W/") else None
    validator = strong or headers.get("last-modified")
    return Stream(start, total, validator, stated, _chunks(response, shown))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


@contextlib.contextmanager
def _answer(
    method: str, url: str, host: Host, headers: Mapping[str, str] | None = None
) -> Iterator[tuple[httpx.Response, str | None]]:
    """Ask until the answer is final, and give it with the hash that the provider states."""
    shown = shown_url(url)
    headers = dict(headers or {})
    with _errors(shown), _client(host) as client:
        for pause in (*PAUSES_S, None):
            response, stated = _follow(client, method, url, host, headers)
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and headers:
                response.close()
                headers = {}  # there is no such part (any more): all of it, then
                response, stated = _follow(client, method, url, host, headers)
            if response.status_code not in _LATER or pause is None:
                break
            response.close()
            time.sleep(_pause(response, pause))
        try:
            _check(response, shown, host)
            yield response, stated
        finally:
            response.close()


def _client(host: Host) -> httpx.Client:
    try:
        return httpx.Client(verify=_tls(), timeout=host.timeout_s)
    except (ImportError, ValueError):
        raise DownloadError(
            "The proxy that the environment names is of a kind that cannot be used here; name one "
            "with http://."
        ) from None


def _follow(
    client: httpx.Client, method: str, url: str, host: Host, headers: Mapping[str, str]
) -> tuple[httpx.Response, str | None]:
    """Follow redirects; the token and the stated hash belong to the provider's host alone."""
    base, target, stated = httpx.URL(host.base), httpx.URL(url), None
    for _ in range(MAX_REDIRECTS + 1):
        _check_address(target, base)
        own = _origin(target) == _origin(base)
        key = {"Authorization": f"Bearer {host.token}"} if own and host.token else {}
        request = client.build_request(method, target, headers={**_HEADERS, **headers, **key})
        token = _asking.set(True)
        try:
            response = client.send(request, stream=True)
        finally:
            _asking.reset(token)
        if own and _SHA256.fullmatch(
            linked := response.headers.get("x-linked-etag", "").strip('"')
        ):
            stated = linked
        if response.status_code not in _REDIRECTS or "location" not in response.headers:
            return response, stated
        response.close()
        target = target.join(response.headers["location"])
    raise DownloadError(f"{shown_url(url)} redirects more than {MAX_REDIRECTS} times.")


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _check_address(target: httpx.URL, base: httpx.URL) -> None:
    shown = shown_url(str(target))
    if target.scheme not in ("http", "https") or not target.host:
        raise ForbiddenAddressError(f"{shown} is no http(s) address with a host.")
    local = target.host in _LOOPBACK or _origin(target) == _origin(base)
    if target.scheme == "http" and not (base.scheme == "http" and local):
        raise ForbiddenAddressError(f"{shown} is http; models are fetched over https.")


def _check(response: httpx.Response, shown: str, host: Host) -> None:
    status = response.status_code
    if status in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        return
    meaning = f": {host.sentences[status]}" if status in host.sentences else ""
    if status in _MISSING:
        raise NotFoundError(f"{shown} does not exist (status {status}){meaning}.")
    kind = RefusedError if status in _REFUSED else DownloadError
    raise kind(f"{shown} answered with the status {status}{meaning}.")


def _pause(response: httpx.Response, pause: float) -> float:
    asked = _number(response.headers.get("retry-after"))
    return min(LONGEST_PAUSE_S, pause if asked is None else float(asked))


def _chunks(response: httpx.Response, shown: str) -> Iterator[bytes]:
    with _errors(shown):
        yield from response.iter_raw()


@contextlib.contextmanager
def _errors(shown: str) -> Iterator[None]:
    """Turn what the network can do into one error, whose text holds no query."""
    try:
        yield
    except httpx.TimeoutException:
        raise DownloadError(f"{shown} did not answer in time (OKP_TIMEOUT).") from None
    except UnicodeEncodeError:
        raise DownloadError(f"{shown} was not asked: the key has signs that no key has.") from None
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
        raise DownloadError(f"{shown} could not be fetched ({type(error).__name__}).") from None


@functools.cache
def _tls() -> ssl.SSLContext:
    """Read the certificates once: it takes longer than many an answer."""
    return httpx.create_ssl_context()


def _is_of_others(_record: logging.LogRecord) -> bool:
    return not _asking.get()


# httpx logs each address with its query. Its lines about our requests are dropped, no others.
logging.getLogger("httpx").addFilter(_is_of_others)
