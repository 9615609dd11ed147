"""Speaks as much HTTP/1.1 as it takes to send one request many times, at little cost to itself."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from openkeypoints import __version__
from openkeypoints.errors import InputError

MAX_ANSWER = 200_000_000
_LINE = 1 << 16


class BrokenAnswerError(Exception):
    """What came is no HTTP answer, or ended before it was complete."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        status: of HTTP.
        headers: by their name in lower case; of several the last.
        body: with the chunks put together.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(slots=True)
class _Connection:
    """``stale``: it had an answer before, and none has begun for the request that it has now."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    stale: bool = False


class Wire:
    """Connections to one server, kept open between requests. For one event loop."""

    def __init__(self, url: str, *, source: str | None = None) -> None:
        """Connect to nothing yet.

        Args:
            url: ``http(s)://HOST[:PORT][/BASE]``.
            source: address of this machine that the connections come from.

        Raises:
            InputError: it is no such address.
        """
        try:
            parts = urlsplit(url)
            self._port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise InputError(f"{url[:80]!r} is no address of a server: give http://HOST:PORT.")
        self._host, self._base = parts.hostname, parts.path.rstrip("/")
        self._named = parts.netloc.rpartition("@")[2]
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._local = None if source is None else (source, 0)
        self._idle: list[_Connection] = []

    def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Return the bytes of a request, to be sent as often as wanted.

        Args:
            method: of HTTP.
            path: behind the base of the address, with its query.
            body: may be empty.
            headers: beside those that every request has.
        """
        lines = [
            f"{method} {self._base}{path} HTTP/1.1",
            f"Host: {self._named}",
            f"User-Agent: okp-bench/{__version__}",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        if any("\r" in line or "\n" in line for line in lines):
            raise InputError("A model id or key with a line break cannot be sent.")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    async def send(self, request: bytes, timeout_s: float) -> Reply:
        """Send a request and return the answer.

        Raises:
            TimeoutError: there was none in time.
            OSError: the server cannot be reached, or closed the connection.
            BrokenAnswerError: it answered something else than HTTP.
        """
        async with asyncio.timeout(timeout_s):
            while True:
                connection = self._idle.pop() if self._idle else await self._connect()
                try:
                    return await self._exchange(connection, request)
                except (ConnectionError, asyncio.IncompleteReadError):
                    connection.writer.transport.abort()
                    # A server may close a connection on which nothing is asked; once more then.
                    if not connection.stale:
                        raise ConnectionResetError("closed before the answer was there") from None
                except asyncio.LimitOverrunError:
                    connection.writer.transport.abort()
                    raise BrokenAnswerError("a line of an answer that has no end") from None
                except BaseException:
                    connection.writer.transport.abort()
                    raise

    async def _connect(self) -> _Connection:
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=self._tls, local_addr=self._local, limit=_LINE
        )
        return _Connection(reader, writer)

    async def _exchange(self, connection: _Connection, request: bytes) -> Reply:
        connection.writer.write(request)
        await connection.writer.drain()
        reader = connection.reader
        first = await reader.readuntil(b"\n")
        connection.stale = False
        status, headers = await _head(reader, first)
        body, ended = await _body(reader, status, headers)
        if ended or headers.get("connection", "").lower() == "close":
            connection.writer.close()
        else:
            connection.stale = True
            self._idle.append(connection)
        return Reply(status, headers, body)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for connection in self._idle:
            connection.writer.close()
        for connection in self._idle:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await connection.writer.wait_closed()
        self._idle.clear()


async def _head(reader: asyncio.StreamReader, first: bytes) -> tuple[int, dict[str, str]]:
    try:
        protocol, status = first.split(None, 2)[:2]
        if not protocol.startswith(b"HTTP/1."):
            raise ValueError
        code = int(status)
    except ValueError:
        raise BrokenAnswerError("no HTTP answer") from None
    headers: dict[str, str] = {}
    while line := (await reader.readuntil(b"\n")).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return code, headers


async def _body(
    reader: asyncio.StreamReader, status: int, headers: Mapping[str, str]
) -> tuple[bytes, bool]:
    """Return a body, and whether the connection ends with it."""
    if status in (204, 304):
        return b"", False
    try:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await _chunks(reader), False
        if (length := headers.get("content-length")) is None:
            return await reader.read(MAX_ANSWER), True
        if not 0 <= (size := int(length)) <= MAX_ANSWER:
            raise ValueError(length)
    except ValueError:
        raise BrokenAnswerError("a body of no readable length") from None
    return await reader.readexactly(size), False


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts, total = [], 0
    while size := int((await reader.readuntil(b"\n")).partition(b";")[0], 16):
        total += size
        if size < 0 or total > MAX_ANSWER:
            raise ValueError(size)
        parts.append((await reader.readexactly(size + 2))[:-2])
    while (await reader.readuntil(b"\n")).strip():
        pass  # trailers
    return b"".join(parts)
