"""Logs for machines: one JSON object a line, without secrets and signs that fool a reader."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

MAX_TEXT = 2000
MAX_TRACE = 8000
_SECRETS = (
    (
        re.compile(
            r"(?i)((?:api(?:[_-]|%5f)?key|token|secret|password)[\"']?\s*[=:]\s*[\"']?)[^\s&\"',;}]+"
        ),
        r"\1***",
    ),
    (re.compile(r"(?i)(\bbearer\s+)[^\s\"',;]+"), r"\1***"),
    (re.compile(r"\bokp_[a-z0-9-]{1,32}_[A-Za-z0-9_-]{8,}"), "okp_***"),
    (re.compile(r"(?i)(\b[a-z][a-z0-9+.-]{0,30}://)[^/\s@\"']+@"), r"\1***@"),
)
_SECRET_WORDS = re.compile(r"api|token|secret|password|bearer|okp_|@|\\")
"""Every text with a secret has one of these; an escape in JSON begins with the last."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_access = logging.getLogger("openkeypoints.server.access")
_log = logging.getLogger("openkeypoints.server")


def redact(text: str) -> str:
    """Return a text without keys: those of queries, headers and addresses, and ours anywhere."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def clean(text: str, most: int = MAX_TEXT) -> str:
    """Return a text that a log can hold: redacted, in one line, of bounded length."""
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", redact(text[: most * 2]))
    return text if len(text) <= most else text[:most] + "..."


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object; fields of ours come with ``extra={"okp": {...}}``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        fields = dict(getattr(record, "okp", {}))
        if record.exc_info and record.exc_info[0] is not None:
            lines = traceback.format_exception(*record.exc_info)
            fields["trace"] = [clean(part) for part in "".join(lines)[-MAX_TRACE:].splitlines()]
        level = record.levelname.lower()
        return _line(record.created, level, record.name, record.getMessage(), fields)


class JsonHandler(logging.StreamHandler[TextIO]):
    """Writes records as JSON, and the line of a request without making a record of it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.setFormatter(JsonFormatter())

    def write_request(self, fields: Mapping[str, Any]) -> None:
        """Write the line of a request."""
        line = _line(time.time(), "info", _access.name, "request", fields)
        self.acquire()
        try:
            # As with records: that a log is full or closed is no fault of the request.
            with contextlib.suppress(OSError, ValueError):
                self.stream.write(line + self.terminator)
                self.flush()
        finally:
            self.release()


def _line(created: float, level: str, logger: str, message: str, fields: Mapping[str, Any]) -> str:
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds"),
        "level": level,
        "logger": logger,
        "message": message,
        **fields,
    }
    with contextlib.suppress(TypeError):  # a name of a file may have signs that UTF-8 has not
        if _is_harmless(text := orjson.dumps(line).decode()):
            return text
    line = {name: clean(v) if isinstance(v, str) else v for name, v in line.items()}
    return json.dumps(line, ensure_ascii=True, separators=(",", ":"))


def _is_harmless(line: str) -> bool:
    """Tell quickly that a line of JSON needs no cleaning, as nearly all of them do not."""
    if len(line) > MAX_TEXT or not (line.isascii() and line.isprintable()):
        return False
    return _SECRET_WORDS.search(line.lower()) is None


def start_logging(stream: TextIO | None = None, *, level: int = logging.INFO) -> None:
    """Let everything that is logged go to a stream as JSON, in place of what was set up before.

    Args:
        stream: default: standard error.
        level: of our own loggers; others show warnings and worse.
    """
    # What no line of ours has need not be looked up for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = JsonHandler(sys.stderr if stream is None else stream)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("openkeypoints").setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.ERROR)  # its warnings are a line for each broken request


def log_request(
    scope: Mapping[str, Any],
    *,
    method: str,
    route: str,
    status: int,
    milliseconds: float,
    key_id: str | None,
) -> None:
    """Write the line of one request; its query and body are never written.

    Args:
        scope: of ASGI, without keys.
        method: as the client sent it.
        route: pattern of the route, not what the client wrote.
        status: of the answer.
        milliseconds: that it took.
        key_id: of the caller's key.
    """
    if not _access.isEnabledFor(logging.INFO):
        return
    client = scope.get("client")
    fields = {
        "request_id": scope.get("okp.request_id"),
        "client": client[0] if client else None,
        "method": method,
        "path": scope["path"],
        "route": route,
        "status": status,
        "ms": round(milliseconds, 2),
        "key_id": key_id,
    }
    handlers = logging.root.handlers
    if len(handlers) == 1 and isinstance(handlers[0], JsonHandler) and not _access.handlers:
        handlers[0].write_request(fields)
    else:  # somebody listens in another way
        _access.info("request", extra={"okp": fields})


def log_traceback(error: BaseException, request_id: str) -> None:
    """Write what broke, under the id of the request that it broke."""
    _log.error("A request broke down.", exc_info=error, extra={"okp": {"request_id": request_id}})
