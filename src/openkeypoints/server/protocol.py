"""Speaks HTTP with clients that may be slow or greedy: closes those that take what others need."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from openkeypoints.server.config import Limits
from openkeypoints.server.departure import DEPARTURE, Departure
from openkeypoints.server.gathering import Gathering

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_LONG_HEADERS = b"HTTP/1.1 431 Headers Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_MANY = b"HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_FREE_CHUNKS = 1024
_BYTES_PER_CHUNK = 256
"""A body may come in so many pieces, and in more where they have so many bytes on average."""
_FRAMING, _FRAMING_PER_CHUNK = 1_000_000, 32
"""Bytes beside the body itself: sizes of chunks, what may be written behind them, trailers."""
_READ_BYTES = 1 << 20
_FEW = 4
_HIGH_WATER = 1 << 19
"""Bytes of a body that wait for their handler before no more are read."""
_DISCARDED = 2
"""How many times the largest body a client may send behind an answer that it got early."""


def guarded_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Return what makes the connections of one server: a class, as far as uvicorn needs one.

    Args:
        limits: times, bytes and numbers of connections.
    """
    peers: Counter[str] = Counter()
    buffer = memoryview(bytearray(_READ_BYTES))

    class Guarded(_GuardedProtocol):
        """A connection of this server."""

    Guarded.limits = limits
    Guarded.peers = peers

    return cast(type[asyncio.Protocol], lambda **parts: _Reading(Guarded(**parts), buffer))


class _Reading(asyncio.BufferedProtocol):
    """Lets a connection read into one large buffer, which all of a server share.

    The loop would else make a new piece of each quarter of a megabyte, and most pictures would have
    to be put together of two.

    Args:
        protocol: gets what was read, which it has to copy; the next read overwrites it.
        buffer: of the server. Nothing is read between its filling and its use.
    """

    def __init__(self, protocol: asyncio.Protocol, buffer: memoryview) -> None:
        self._data_received: Callable[[Any], None] = protocol.data_received
        self._buffer = buffer
        self.connection_made = protocol.connection_made  # type: ignore[method-assign]
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return where to put what comes."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on what came."""
        self._data_received(self._buffer[:nbytes])


class _GuardedProtocol(HttpToolsProtocol):
    """One connection, with a clock for what it is doing."""

    limits: Limits
    peers: Counter[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._peer: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._in_headers = True
        self._header_bytes = 0
        self._body_began = 0.0
        self._body_bytes = 0
        self._raw_bytes = 0
        self._chunks = 0

    # ------------------------------------------------------------------------------ the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it where there are too many."""
        super().connection_made(transport)
        self.transport = cast(asyncio.Transport, Gathering(transport, self.loop))
        # A large answer is several packets, which must not wait for each other.
        if (connection := transport.get_extra_info("socket")) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer = self.client[0] if self.client else ""
        self.peers[self._peer] += 1
        crowded = self.peers[self._peer] > self.limits.connections_per_peer
        if crowded or len(self.connections) > self.limits.connections:
            transport.abort()
            return
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection, and tell whoever works for it."""
        super().connection_lost(exc)
        if self.cycle is not None and not self.cycle.response_complete:
            cast(dict[str, Any], self.cycle.scope)[DEPARTURE].happen()
        self._stop_clock()
        if self._writing is not None:
            self._writing.cancel()
        if self._peer is not None:
            self.peers[self._peer] -= 1
            if self.peers[self._peer] <= 0:
                del self.peers[self._peer]
            self._peer = None

    def data_received(self, data: bytes) -> None:
        """Read what came; more header bytes than allowed end the connection."""
        if self.transport.is_closing():
            return
        if self._in_headers:
            self._header_bytes += len(data)
        else:
            # What came before, as it is not known yet how much of this is body.
            if self._raw_bytes > self._body_bytes + _FRAMING + _FRAMING_PER_CHUNK * self._chunks:
                self._end(_TOO_LARGE)
                return
            self._raw_bytes += len(data)
        super().data_received(data)
        if self._in_headers and self._header_bytes > 2 * self.limits.header_bytes:
            self._end(_LONG_HEADERS)
        elif self._timer is None and not self.transport.is_closing():
            # Most requests come in one piece, and need no clock.
            if not self._in_headers:
                self._clock(self.limits.body_s, self._check_body)
            elif self._header_bytes:
                self._await_headers()

    # ------------------------------------------------------------------------------ one request

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what stands behind a body is none, whatever it is called."""
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin a request: from here on its body has to come."""
        self._in_headers = False
        self._header_bytes = 0
        self._body_began, self._body_bytes = self.loop.time(), 0
        self._raw_bytes, self._chunks = 0, 0
        self._stop_clock()
        cast(dict[str, Any], self.scope)[DEPARTURE] = Departure()
        super().on_headers_complete()
        if len(self.pipeline) > self.limits.pipelined:
            self._end(_TOO_MANY)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body, unless it is one of too many."""
        self._body_bytes += len(body)
        self._chunks += 1
        pieces = _FREE_CHUNKS + self._body_bytes / _BYTES_PER_CHUNK
        if self._chunks > pieces or self._body_bytes > _DISCARDED * self.limits.body_bytes:
            self._end(_TOO_LARGE)
            return
        cycle = self.cycle
        if cycle.response_complete:  # nobody reads it
            return
        # As uvicorn does, but that it is not copied on its way: the handler gets bytes anyway, and
        # only many pieces are put together quicker in an array. And reading stops later: at an
        # eighth of this it would for most pictures.
        if not cycle.body:
            cycle.body = body  # type: ignore[assignment]
        else:
            if self._chunks > _FEW and isinstance(cycle.body, bytes):
                cycle.body = bytearray(cycle.body)
            cycle.body += body
        if len(cycle.body) > _HIGH_WATER:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """End the reading of a request."""
        self._stop_clock()
        self._in_headers = True
        self._header_bytes = 0
        super().on_message_complete()

    def _await_headers(self) -> None:
        self._clock(self.limits.header_s, self._headers_late)

    def _headers_late(self) -> None:
        self._end(_TOO_SLOW if self._header_bytes else b"")

    def _check_body(self) -> None:
        """Close where the body fell behind; that the server reads slowly is no fault of its."""
        late = self._body_began + self.limits.body_s + self._body_bytes / self.limits.body_rate
        left = late - self.loop.time()
        if left <= 0 and not self.flow.read_paused:
            self._end(_TOO_SLOW)
            return
        self._clock(max(left, 0.1), self._check_body)

    # ------------------------------------------------------------------------------ the answer

    def pause_writing(self) -> None:
        """Give a client that does not take its answer some time to do so."""
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(self.limits.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on with a client that takes its answer."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also where the client never took the last answer."""
        super().timeout_keep_alive_handler()
        self._writing = self._writing or self.loop.call_later(
            self.limits.write_s, self.transport.abort
        )

    def _end(self, answer: bytes) -> None:
        """Close the connection, with an answer where none has begun."""
        if self.transport.is_closing():
            return
        begun = self.cycle is not None and (
            self.cycle.response_started and not self.cycle.response_complete
        )
        if answer and not begun:
            self.transport.write(answer)
        self.transport.close()
        self._stop_clock()
        self._writing = self._writing or self.loop.call_later(1.0, self.transport.abort)

    def _clock(self, seconds: float, act: Any) -> None:
        self._stop_clock()
        self._timer = self.loop.call_later(seconds, act)

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
