"""The guarded fetch: the bytes at an address, within limits that fit who gave the address."""

from __future__ import annotations

import functools
import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from openkeypoints.errors import (
    DownloadError,
    ForbiddenAddressError,
    ImageTooLargeError,
    NotFoundError,
)
from openkeypoints.settings import Settings

MAX_REDIRECTS = 3
# One address may not use up the time of the others that a name has.
_CONNECT_S = 3.0
_REDIRECTS = {301, 302, 303, 307, 308}
_MISSING = {404, 410}
# Browsers read a backslash as a slash and other parsers do not; blanks and control signs likewise.
_AMBIGUOUS = re.compile(r"[\\\x00-\x20\x7f]")
_HEADERS = {
    "User-Agent": "openkeypoints",
    "Accept": "image/*, */*;q=0.5",
    "Accept-Encoding": "identity",
}

# Global by the registry, and yet not for strangers: the relay of 6to4, the cloud agent of Azure.
# Protocol assignments, with the metadata of Oracle's cloud: global for older Pythons.
_CLOSED_V4 = tuple(
    map(ipaddress.IPv4Network, ("192.88.99.0/24", "168.63.129.16/32", "192.0.0.0/24"))
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
# Inside 2000::/3: protocol assignments with Teredo and ORCHID, 6to4, documentation. The first two
# carry other addresses inside.
_CLOSED_V6 = tuple(
    map(ipaddress.IPv6Network, ("2001::/23", "2002::/16", "2001:db8::/32", "3fff::/20"))
)
# A network without IPv4 reaches IPv4 through this prefix; the last 32 bits are the true goal.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Guard:
    """What an address may reach. Use :meth:`own` or :meth:`others`.

    Attributes:
        strict: the address comes from other people: https, global addresses, no credentials, no
            proxy or other setting of the environment.
        allowed_hosts: names that a strict guard lets be private, and http; lower case, and
            international names as the network spells them (``xn--``).
        http: a strict guard lets every host be http.
        only: a strict guard lets no host be reached beside the allowed ones.
    """

    strict: bool
    allowed_hosts: frozenset[str] = frozenset()
    http: bool = False
    only: bool = False

    @classmethod
    def own(cls) -> Guard:
        """Return the guard for the caller's own addresses: http and private ones may be reached."""
        return cls(strict=False)

    @classmethod
    def others(
        cls, allowed_hosts: Iterable[str] = (), *, http: bool = False, only: bool = False
    ) -> Guard:
        """Return the guard for addresses that came in with a request or from an agent.

        Args:
            allowed_hosts: names or addresses that may be private and http.
            http: whether every host may be http.
            only: whether these hosts alone may be reached, the goals of redirects included.
        """
        hosts = frozenset(host.lower().strip("[].") for host in allowed_hosts)
        return cls(True, hosts, http, only)

    def allows_private(self, host: str) -> bool:
        """Tell whether this host may have private addresses and speak http."""
        return not self.strict or host.lower().strip("[].") in self.allowed_hosts


def fetch(url: str, *, guard: Guard, settings: Settings) -> bytes:
    """Return what lies at an address.

    At most 3 redirects are followed, and each goal is checked as the first one was. With a strict
    guard a name is resolved once, every address it has must be allowed, and the connection goes to
    an address that was checked. No cookies are kept and no credentials travel to a further host.

    Args:
        url: ``http`` or ``https`` address.
        guard: who gave the address.
        settings: ``timeout_s`` for everything together, ``max_download_bytes``, ``offline``.

    Raises:
        ForbiddenAddressError: the guard does not let this address, or a redirect's, be reached.
        NotFoundError: the server answers that there is nothing.
        ImageTooLargeError: more bytes than the limit.
        DownloadError: no connection, a time-out, an error status, a broken answer, offline mode.
    """
    if settings.offline:
        raise DownloadError(
            f"{shown_url(url)} is not fetched, as OKP_OFFLINE is set; unset it or pass a file."
        )
    deadline = time.monotonic() + settings.timeout_s
    target = _parse(url)
    for _ in range(MAX_REDIRECTS + 1):
        _check(target, guard)
        answer = _get(target, guard, settings, deadline)
        if isinstance(answer, bytes):
            return answer
        target = answer
    raise DownloadError(f"{shown_url(url)} redirects more than {MAX_REDIRECTS} times.")


def shown_url(url: str) -> str:
    """Return an address as messages may show it: without user, password, query and fragment."""
    try:
        parsed = httpx.URL(url)
        bare = parsed.copy_with(username=None, password=None, query=None, fragment=None)
    except (httpx.InvalidURL, ValueError):
        return "the address (unreadable)"
    return str(bare) if bare.raw_host else "the address (without a host)"


def is_public(address: str) -> bool:
    """Tell whether an IP address is one that everybody on the internet may reach.

    Stricter than ``ipaddress.is_global``, which lets multicast pass and addresses that carry a
    private IPv4 address inside (IPv4-mapped, NAT64, 6to4, Teredo), depending on the Python.

    Args:
        address: IPv4 or IPv6 address in the standard spelling, without a zone.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        else:
            closed = any(ip in network for network in _CLOSED_V6)
            return ip in _GLOBAL_V6 and ip.is_global and not closed
    closed = ip.is_multicast or ip.is_reserved or any(ip in network for network in _CLOSED_V4)
    return ip.is_global and not closed


def _parse(url: str) -> httpx.URL:
    if _AMBIGUOUS.search(url):
        raise ForbiddenAddressError(
            "the address holds a blank, a backslash or a control character; percent-encode it."
        )
    try:
        parsed = httpx.URL(url)
        _ = parsed.host  # reads the name, which fails where it is spelled as none can be (xn--)
        return parsed
    except (httpx.InvalidURL, ValueError):
        raise ForbiddenAddressError(
            "the address cannot be read; check its host and port."
        ) from None


def _check(target: httpx.URL, guard: Guard) -> None:
    """Refuse what can be told without asking the network."""
    shown = shown_url(str(target))
    if target.scheme not in ("http", "https") or not target.host:
        raise ForbiddenAddressError(f"{shown} is no http(s) address with a host.")
    if target.port is not None and not 0 < target.port < 65536:
        raise ForbiddenAddressError(f"{shown} has no possible port; it must be 1 to 65535.")
    if guard.strict and target.userinfo:
        raise ForbiddenAddressError(f"{shown} carries a user name; take it out of the address.")
    if guard.only and not guard.allows_private(target.raw_host.decode()):
        raise ForbiddenAddressError(f"{shown} lies at no host that the operator allowed.")
    may_be_http = guard.http or guard.allows_private(target.raw_host.decode())
    if target.scheme == "http" and not may_be_http:
        raise ForbiddenAddressError(f"{shown} is http; only https is fetched from this host.")


def _get(target: httpx.URL, guard: Guard, settings: Settings, deadline: float) -> bytes | httpx.URL:
    """Ask once; return the body, or the address that the server sends us to."""
    shown = shown_url(str(target))
    transport = _GuardedTransport(guard, deadline) if guard.strict else None
    try:
        with (
            httpx.Client(
                transport=transport,
                verify=_tls(trust_env=not guard.strict),
                trust_env=not guard.strict,
                timeout=_time_left(deadline),
                headers=_HEADERS,
            ) as client,
            client.stream("GET", target) as response,
        ):
            if response.status_code in _REDIRECTS and "location" in response.headers:
                return target.join(_parse(response.headers["location"]))
            _check_answer(response, shown)
            return _read_body(response, shown, settings.max_download_bytes, deadline)
    except (httpx.TimeoutException, httpcore.TimeoutException):
        raise DownloadError(
            f"{shown} did not deliver within {settings.timeout_s:g} s (OKP_TIMEOUT)."
        ) from None
    # The text of these can hold the address with its query; the type says enough.
    except (httpx.HTTPError, httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
        raise DownloadError(
            f"{shown} could not be fetched ({type(error).__name__}); check the address."
        ) from None


def _check_answer(response: httpx.Response, shown: str) -> None:
    status = response.status_code
    if status in _MISSING:
        raise NotFoundError(f"{shown} does not exist (status {status}).")
    if status != httpx.codes.OK:
        raise DownloadError(f"{shown} answered with the status {status}.")
    # A small compressed body can be a huge picture file; we asked for none.
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise DownloadError(f"{shown} was sent compressed, which was not asked for.")


def _read_body(response: httpx.Response, shown: str, limit: int, deadline: float) -> bytes:
    too_large = ImageTooLargeError(
        f"{shown} has more than {limit} bytes; make it smaller, or raise OKP_MAX_DOWNLOAD_BYTES."
    )
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > limit:
            raise too_large
        _time_left(deadline)
    return bytes(body)


def _time_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout
    return left


@functools.cache
def _tls(*, trust_env: bool) -> ssl.SSLContext:
    """Read the certificates once: it takes longer than many a fetch."""
    return httpx.create_ssl_context(trust_env=trust_env)


# ---------------------------------------------------------------- connections of a strict guard


def _checked_addresses(host: str, port: int, guard: Guard, deadline: float) -> list[str]:
    """Resolve a name once; refuse it when any of its addresses may not be reached."""
    answers: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put([str(entry[4][0]) for entry in found])
        except (OSError, UnicodeError):
            answers.put(None)

    # A thread, because the resolver has no time limit of its own.
    threading.Thread(target=ask, daemon=True, name="okp-resolve").start()
    try:
        addresses = answers.get(timeout=_time_left(deadline))
    except queue.Empty:
        raise httpcore.ConnectTimeout from None
    if not addresses:
        raise DownloadError(f"the name {host!r} cannot be resolved; check the address.")
    if not guard.allows_private(host) and not all(map(is_public, addresses)):
        raise ForbiddenAddressError(
            f"the host {host!r} is not on the public internet; the operator can allow it by name."
        )
    return list(dict.fromkeys(addresses))


class _GuardedBackend(httpcore.NetworkBackend):
    """Dials only addresses that it has checked, and gives every operation the time that is left."""

    def __init__(self, guard: Guard, deadline: float) -> None:
        self._guard = guard
        self._deadline = deadline
        self._dialler = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline replaces it
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError()
        for address in _checked_addresses(host, port, self._guard, self._deadline):
            seconds = min(_CONNECT_S, _time_left(self._deadline))
            try:
                stream = self._dialler.connect_tcp(
                    address, port, seconds, local_address, socket_options
                )
                return _DeadlineStream(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class _DeadlineStream(httpcore.NetworkStream):
    """A stream whose operations all end at one deadline, however slowly the other side drips."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, _time_left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, _time_left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        left = _time_left(self._deadline)
        stream = self._stream.start_tls(ssl_context, server_hostname, left)
        return _DeadlineStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _GuardedTransport(httpx.BaseTransport):
    """Carries the requests of an httpx client over the guarded connections."""

    def __init__(self, guard: Guard, deadline: float) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls(trust_env=False), network_backend=_GuardedBackend(guard, deadline)
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        response = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            response.status, headers=response.headers, stream=_Body(response), request=request
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    """The body of a response, for httpx."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self._response.iter_stream()

    def close(self) -> None:
        self._response.close()
