"""Stands between a client and a server, passes everything on, and keeps the pictures answered."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server"}


@dataclass(frozen=True)
class PictureAnswer:
    """A picture that the server answered, and what was asked."""

    path: str
    jpeg: bytes
    sent: bytes
    """The body of the request."""


class Recorder(ThreadingHTTPServer):
    """Passes requests on to ``target``; ``pictures`` and ``lines`` say what went through."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.target = urlsplit(target)
        self.pictures: list[PictureAnswer] = []
        self.lines: list[str] = []

    def keep(self, path: str, sent: bytes, kind: str, body: bytes) -> None:
        if kind.startswith("image/"):
            self.pictures.append(PictureAnswer(path, body, sent))
        elif kind.startswith("application/json") and b'"visualization"' in body:
            found: Any = json.loads(body)
            for answer in found if isinstance(found, list) else [found]:
                jpeg = base64.b64decode(answer["visualization"], validate=True)
                self.pictures.append(PictureAnswer(path, jpeg, sent))


class _Handler(BaseHTTPRequestHandler):
    server: Recorder
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def _pass_on(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        target = self.server.target
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
            connection.request(self.command, self.path, sent, headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        self.server.lines.append(f"{self.command} {self.path.partition('?')[0]} {answer.status}")
        self.server.keep(self.path, sent, answer.getheader("content-type") or "", body)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP | {"content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        self._pass_on()

    def do_HEAD(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()


@contextlib.contextmanager
def recording(target: str) -> Iterator[Recorder]:
    """Run a recorder in a thread."""
    with Recorder(target) as recorder:
        thread = threading.Thread(target=recorder.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield recorder
        recorder.shutdown()
        thread.join()
