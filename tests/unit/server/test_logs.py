"""The log: one JSON object a line, whatever a client sends, and never a key."""

from __future__ import annotations

import io
import json
import logging
import socket

import pytest

from openkeypoints.server.logs import JsonHandler, clean, redact, start_logging
from tests.unit.server.test_auth import raw

CANARY = "canary" + "x" * 20


@pytest.fixture
def log():
    names = ("", "openkeypoints", "uvicorn", "uvicorn.error", "uvicorn.access")
    before = {n: (logging.getLogger(n).handlers[:], logging.getLogger(n).level) for n in names}
    stream = io.StringIO()
    start_logging(stream)
    yield stream
    for name, (handlers, level) in before.items():
        logging.getLogger(name).handlers = handlers
        logging.getLogger(name).setLevel(level)


def lines(log: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


@pytest.mark.parametrize(
    "text",
    [
        f"GET /a/1?api_key={CANARY}&x=1",
        f"api%5Fkey={CANARY} and api-key: {CANARY}",
        f"Authorization: Bearer {CANARY}",
        f'{{"api_key": "{CANARY}", "image": 1}}',
        f"https://user:{CANARY}@example.com/x",
        f"the key okp_one_{CANARY} is wrong",
        f"token={CANARY}",
    ],
)
def test_a_secret_is_hidden_wherever_it_stands(text):
    assert CANARY not in redact(text)


def test_other_text_stays():
    text = "The model my-pose/3 was loaded in 0.5 s from https://example.com/a?b=c"
    assert redact(text) == text


@pytest.mark.parametrize("sign", ["\r\n", "\x1b[31m", "\0", "\x9b", "\u2028", "\x7f"])
def test_a_log_line_stays_one_line_without_signs_for_terminals(sign):
    assert sign not in clean(f"a{sign}b")
    assert len(clean("a" * 100_000)) < 3000


def test_every_request_has_a_line_with_its_id(serve, log):
    with serve() as server:
        answer = server.client.get("/healthz", headers={"x-request-id": "abc-1"})
    (line,) = [entry for entry in lines(log) if entry["message"] == "request"]
    assert answer.headers["x-request-id"] == line["request_id"] == "abc-1"
    assert (line["method"], line["path"], line["status"]) == ("GET", "/healthz", 200)


def test_of_two_ids_the_log_has_the_one_of_the_answer(serve, log):
    with serve() as server:
        sent = "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: one\r\nX-Request-Id: two\r\n"
        _, answer = raw(server.address, sent)
    (line,) = [entry for entry in lines(log) if entry["message"] == "request"]
    assert f"x-request-id: {line['request_id']}\r\n".encode() in answer


def test_whoever_else_listens_gets_the_requests_too(serve, caplog):
    with caplog.at_level(logging.INFO, "openkeypoints.server.access"), serve() as server:
        server.client.get("/healthz")
    (record,) = [r for r in caplog.records if r.name == "openkeypoints.server.access"]
    assert record.getMessage() == "request"
    assert record.okp["path"] == "/healthz"


@pytest.mark.parametrize("sent", ["a" * 65, "a b", "ä", "<x>", "", "a\tb"])
def test_an_id_that_could_fool_a_reader_is_replaced(serve, log, sent):
    with serve() as server:
        answer = server.client.get("/healthz", headers={"x-request-id": sent.encode()})
    assert answer.headers["x-request-id"] != sent
    assert len(answer.headers["x-request-id"]) == 32


def test_no_key_reaches_the_log_by_any_way(serve, log):
    with serve() as server:
        client = server.client
        client.get(f"/probe/who?api_key={CANARY}")
        client.get(f"/probe/who?api%5fkey={CANARY}&API_KEY={CANARY}")
        client.get("/probe/who", headers={"Authorization": f"Bearer {CANARY}"})
        client.get("/probe/who", headers={"x-api-key": CANARY})
        client.post("/probe/json", json={"api_key": CANARY})
        client.post("/probe/broken", params={"api_key": CANARY})
        client.get(f"/nowhere/1?api_key={CANARY}")
        raw(server.address, f"GET /healthz?api_key={CANARY} HTTP/1.1\r\nHost: x\r\n")
        raw(server.address, f"NONSENSE api_key={CANARY}\r\n")
    text = log.getvalue()
    assert len(text.splitlines()) > 6
    assert CANARY not in text


def test_what_broke_is_logged_under_the_requests_id_and_not_told(serve, log):
    with serve() as server:
        answer = server.client.post("/probe/broken")
    assert answer.status_code == 500
    assert "canary" not in answer.text
    (line,) = [entry for entry in lines(log) if "trace" in entry]
    assert any("ZeroDivisionError" in part for part in line["trace"])
    assert "canary" not in log.getvalue()


def test_a_path_cannot_forge_a_line(serve, log):
    with serve() as server:
        raw(
            server.address, "GET /a%0d%0a%7b%22level%22%3a1%7d/%1b%5b31m%00 HTTP/1.1\r\nHost: x\r\n"
        )
    (line,) = [entry for entry in lines(log) if entry["message"] == "request"]
    assert not {"\r", "\n", "\x1b", "\0"} & set(line["path"])


class Full(io.StringIO):
    """A log on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def alone(monkeypatch) -> JsonHandler:
    """Take pytest's own handlers away, so that requests are written the quick way."""
    (handler,) = (h for h in logging.root.handlers if isinstance(h, JsonHandler))
    monkeypatch.setattr(logging.root, "handlers", [handler])
    return handler


def test_the_quick_way_writes_what_a_record_would(serve, log, monkeypatch):
    alone(monkeypatch)
    with serve() as server:
        server.client.get(f"/healthz?api_key={CANARY}")
        server.client.get(f"/okp_one_{CANARY}/1")
    first, second = (entry for entry in lines(log) if entry["message"] == "request")
    assert (first["level"], first["logger"]) == ("info", "openkeypoints.server.access")
    assert (first["path"], first["status"]) == ("/healthz", 200)
    assert second["path"] == "/okp_***/1"
    assert CANARY not in log.getvalue()


def test_a_log_that_cannot_be_written_breaks_no_connection(serve, log, monkeypatch):
    alone(monkeypatch).setStream(Full())
    with serve() as server, socket.create_connection(server.address, 10) as connection:
        for _ in range(2):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_name_that_is_no_utf_8_is_logged(log):
    logging.getLogger("openkeypoints.x").warning("The file %s is gone.", "a\udcff.okp")
    (line,) = lines(log)
    assert line["message"] == "The file a\udcff.okp is gone."
