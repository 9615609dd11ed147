"""A server of files on this machine that can break, redirect, refuse and be slow, as asked."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FileServer(ThreadingHTTPServer):
    """Serves ``files`` and keeps what it was asked."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.statuses: dict[str, list[int]] = {}
        """Path -> what to answer to the next requests, before the file."""
        self.breaks: list[int] = []
        """After how many bytes of a body to hang up, one per request."""
        self.ranges = True
        self.etag: str | None = '"one"'
        self.pause_s = 0.0
        self.asked: list[tuple[str, str, dict[str, str]]] = []

    def asked_for(self, path: str, method: str = "GET") -> list[dict[str, str]]:
        """Return the headers of the requests for a path."""
        return [h for m, p, h in self.asked if m == method and p.partition("?")[0] == path]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up early are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        server, path = self.server, self.path.partition("?")[0]
        headers = {name.lower(): value for name, value in self.headers.items()}
        server.asked.append((self.command, self.path, headers))
        if waiting := server.statuses.get(path):
            self.answer(waiting.pop(0), b"")
        elif path in server.redirects:
            self.answer(302, b"", Location=server.redirects[path])
        elif path not in server.files:
            self.answer(404, b"")
        else:
            self.send_file(server.files[path], headers)

    def send_file(self, body: bytes, headers: dict[str, str]) -> None:
        server, more = self.server, {}
        same = headers.get("if-range") in (None, server.etag)
        wanted = headers.get("range") if server.ranges and same else None
        if server.etag:
            more["ETag"] = server.etag
        if wanted is None:
            self.answer(200, body, **more)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            self.answer(416, b"")
            return
        more["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.answer(206, body[start:], **more)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        extra = self.server.headers.get(self.path.partition("?")[0], {})
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers, **extra}.items():
            if value:  # a header made empty is left out
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD" or not body:
            return
        time.sleep(self.server.pause_s)
        if self.server.breaks:
            self.wfile.write(body[: self.server.breaks.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(body)


@contextlib.contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    """Run a server in a thread."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
