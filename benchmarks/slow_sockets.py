"""Opens many sockets to a server that take their time, and tells when it closed them.

Four modes: silent, dripping headers, dripping a body, and never taking the answers that were asked
for. A process of its own, so that what it does troubles no measurement beside it. It prints JSON:
mode -> seconds after which each of its sockets was closed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

PEERS = tuple(f"127.0.0.{n}" for n in range(2, 10))
MODES = ("silent", "headers", "body", "unread")
ASSET = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
ASSETS = 3
"""Half a megabyte of answers; more would measure how fast they are made."""
PER_S = 1000
"""New sockets a second."""


@dataclass
class Slow:
    """A socket that takes its time."""

    mode: str
    connection: socket.socket
    began: float
    closed_s: float | None = None
    seen: bool = False

    @property
    def name(self) -> tuple[str, int]:
        """Address and port at this end."""
        own: tuple[str, int] = self.connection.getsockname()
        return own

    def begin(self, path: str) -> None:
        """Say as much as its mode wants."""
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\n".encode()
        first = {
            "silent": b"",
            "headers": head,
            "body": head + b"Content-Length: 100000\r\n\r\n",
            "unread": ASSET * ASSETS,
        }[self.mode]
        self.connection.setblocking(False)
        with contextlib.suppress(OSError):
            self.connection.send(first)

    def drip(self) -> None:
        """Say a little more."""
        more = {"headers": b"X-A: b\r\n", "body": b"x"}.get(self.mode)
        if more:
            with contextlib.suppress(OSError):
                self.connection.send(more)


def open_at(port: int) -> set[tuple[str, int]]:
    """Return the far ends of the connections that the server still holds."""
    found = set()
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        cells = line.split()
        own, far, state, inode = cells[1], cells[2], cells[3], cells[9]
        if int(own.rpartition(":")[2], 16) == port and state in ("01", "08") and inode != "0":
            address, _, far_port = far.partition(":")
            found.add((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(far_port, 16)))
    return found


def opened(address: tuple[str, int], path: str, count: int) -> list[Slow]:
    """Return so many sockets that have said their first words, the modes in turns."""
    sockets = []
    for number in range(count):
        connection = socket.socket()
        mode = MODES[number % len(MODES)]
        if mode == "unread":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.bind((PEERS[number // len(MODES) % len(PEERS)], 0))
        connection.connect(address)
        sockets.append(Slow(mode, connection, time.perf_counter()))
        sockets[-1].begin(path)
        time.sleep(1 / PER_S)
    return sockets


def watch(sockets: list[Slow], port: int, seconds: float) -> None:
    """Let them drip until all are closed or the time is over."""
    ends = time.perf_counter() + seconds
    dripped = 0.0
    while time.perf_counter() < ends and any(slow.closed_s is None for slow in sockets):
        held = open_at(port)
        now = time.perf_counter()
        for slow in sockets:
            slow.seen = slow.seen or slow.name in held
            # One that the server has not taken from its queue yet is not there either.
            over = slow.name not in held and (slow.seen or now - slow.began > 3)
            if slow.closed_s is None and over:
                slow.closed_s = now - slow.began
            elif slow.closed_s is None and now - dripped > 1:
                slow.drip()
        dripped = now if now - dripped > 1 else dripped
        time.sleep(0.25)


def main() -> None:
    """Open, watch, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="http://127.0.0.1:PORT")
    parser.add_argument("path", help="that takes a POST")
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=50.0)
    arguments = parser.parse_args()
    parts = urlsplit(arguments.url)
    if parts.hostname != "127.0.0.1" or parts.port is None:
        parser.error("this is for a server on 127.0.0.1 alone")
    sockets = opened((parts.hostname, parts.port), arguments.path, arguments.sockets)
    watch(sockets, parts.port, arguments.seconds)
    closed = {
        mode: [slow.closed_s for slow in sockets if slow.mode == mode and slow.closed_s]
        for mode in MODES
    }
    print(json.dumps(closed))


if __name__ == "__main__":
    main()
