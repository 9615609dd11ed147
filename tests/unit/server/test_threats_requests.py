"""Requests that mean harm (S15 to S24, S26), over raw sockets: keys, bodies, logs, headers."""

from __future__ import annotations

import io
import logging
import re
import socket
import time

import pytest

from openkeypoints.server.callers import SCOPES
from openkeypoints.server.config import Limits, ServerConfig
from openkeypoints.server.logs import clean, start_logging

KEY = "a-canary-key-of-32-characters-ok"
MANAGING = [
    ("POST", "/model/clear"),
    ("POST", "/model/remove"),
    ("GET", "/metrics"),
]
CLOSED = [
    *MANAGING,
    ("POST", "/model/add"),
    ("GET", "/model/registry"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/person"),
    ("POST", "/v1/models/person/predict"),
    ("POST", "/v1/predict/person"),
    ("POST", "/predict"),
    ("POST", "/person/1"),
    ("POST", "/infer/keypoints_detection"),
    ("GET", "/start/person"),
    ("GET", "/openkeypoints"),
    ("GET", "/openkeypoints/person"),
    ("GET", "/api/models/a/b/person/health"),
]


@pytest.fixture(scope="module")
def closed(serve):
    with serve(ServerConfig(port=0, api_key=KEY)) as server:
        yield server


@pytest.fixture(scope="module")
def small(serve):
    limits = Limits(body_bytes=200_000, text_bytes=1000, json_marks=1000, body_s=2.0)
    with serve(ServerConfig(port=0, limits=limits)) as server:
        yield server


@pytest.fixture
def log():
    root = logging.getLogger()
    names = ("", "openkeypoints", "uvicorn", "uvicorn.error", "uvicorn.access")
    before = {name: logging.getLogger(name).level for name in names}
    handlers, stream = list(root.handlers), io.StringIO()
    start_logging(stream)
    yield stream
    root.handlers[:] = handlers
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def talk(server, *pieces: bytes) -> bytes:
    """Send bytes as they are, and return what comes until the server closes."""
    with socket.create_connection(server.address, 10) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has answered and closed
        found = b""
        try:
            while part := connection.recv(65536):
                found += part
        except ConnectionResetError:
            pass
    return found


def post(path: str, headers: str, body: bytes = b"") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n\r\n"
    return head.encode() + body


# -------------------------------------------------------------------------------- S15 to S17: keys


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_no_route_answers_without_a_key(closed, method, path):
    body = {"model_id": "person"}  # may hold the key, and so is read before
    answer = closed.client.request(method, path, json=body)
    assert answer.status_code == 401, answer.text
    wrong = closed.client.request(method, path, json=body, headers={"x-api-key": KEY[:-1] + "x"})
    assert wrong.status_code == 401


@pytest.mark.parametrize(("method", "path"), MANAGING)
def test_nobody_without_a_key_manages_an_open_server(serve, method, path):
    config = ServerConfig(port=0, allow_anonymous=True, trusted_proxies=("10.0.0.0/8",))
    with serve(config) as server:
        assert server.client.request(method, path, json={"model_id": "person"}).status_code == 403


def test_a_key_is_compared_in_constant_time_and_nowhere_else(monkeypatch):
    from openkeypoints.server import keys

    store = keys.KeyStore.of(api_key=KEY, path=None)
    compared = []
    monkeypatch.setattr(keys.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or True)
    found = store.find("anything else")  # the answer is that comparison's alone
    assert isinstance(found, keys.KeyRecord)
    assert [(len(a), len(b)) for a, b in compared] == [(64, 64)]
    assert found.scopes == set(SCOPES)


@pytest.mark.parametrize("path", ["/healthz/../v1/models", "//v1/models", "/v1//models"])
@pytest.mark.parametrize("host", ["x/healthz?", "x#", "healthz", "x\\healthz", "user:pw@x"])
def test_no_spelling_opens_a_closed_route(closed, path, host):
    answer = talk(
        closed, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.split()[1] in (b"400", b"401", b"404", b"405")
    assert b'"models"' not in answer


# ------------------------------------------------------------------------------------- S19: bodies


FIELD = b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
FORM = "Content-Type: multipart/form-data; boundary=B"
URL_ENCODED = "Content-Type: application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("headers", "pieces", "statuses"),
    [
        ("Content-Length: 100000000", [b"x"], {b"413"}),
        ("Content-Length: 99999999999999999999", [b"x"], {b"400", b"413"}),
        ("Content-Length: -1", [b"x"], {b"400"}),
        ("Content-Length: 1\r\nContent-Length: 2", [b"xx"], {b"400"}),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", [b"0\r\n\r\n"], {b"400"}),
        ("Transfer-Encoding: chunked", [b"zz\r\n"], {b"400"}),
        ("Transfer-Encoding: chunked", [b"1\r\nx\r\n" * 5000], {b"413"}),
        ("Transfer-Encoding: chunked", [b"ffffffffffffffffff\r\n"], {b"400", b"413"}),
        ("Content-Length: 10", [b"x"], {b"408"}),
    ],
    ids=[
        *("100-mb", "huge-length", "negative", "two-lengths", "length-and-chunks", "no-chunk"),
        *("tiny-chunks", "huge-chunk", "short"),
    ],
)
def test_a_body_that_lies_about_itself_is_refused(small, headers, pieces, statuses):
    began = time.monotonic()
    answer = talk(small, post("/probe/body", headers), *pieces)
    assert answer.split()[1] in statuses
    assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("/probe/form", FORM, FIELD * 3000 + b"--B--", b"413"),
        ("/probe/form", FORM, FIELD[:-2] + b"1" * 5000 + b"\r\n--B--", b"413"),
        ("/probe/form", URL_ENCODED, b"a=1&" * 10_000, b"413"),
        ("/probe/form", URL_ENCODED, b"a=" + b"%" * 150_000, b"413"),
        ("/probe/json", "A: b", b"[" * 90_000, b"413"),
        ("/probe/json", "A: b", b"[" * 500 + b"]" * 500, b"422"),
        ("/probe/json", "A: b", b"[" + b"1," * 5000 + b"1]", b"413"),
        ("/probe/json", "A: b", b'{"a": NaN}', b"422"),
        ("/probe/json", "A: b", b"9" * 100_000, b"422"),
    ],
    ids=[
        *("parts", "long-field", "fields", "escapes", "brackets", "deep", "values", "nan"),
        "big-number",
    ],
)
def test_a_body_of_too_much_is_refused(small, path, headers, body, status):
    answer = talk(small, post(path, f"{headers}\r\nContent-Length: {len(body)}", body))
    assert answer.split()[1] == status


def test_a_form_full_of_escapes_costs_nothing(serve):
    body = b"a=" + b"%" * 5_000_000
    with serve() as server:
        work = time.process_time()
        answer = talk(
            server, post("/probe/form", f"{URL_ENCODED}\r\nContent-Length: {len(body)}", body)
        )
        assert time.process_time() - work < 0.6
    assert answer.split()[1] == b"413"


# ------------------------------------------------------------------------------ S21, S22: the logs


def test_a_key_is_in_no_sink(closed, log):
    client = closed.client
    answers = []
    for method, path in CLOSED:
        answers.append(client.request(method, path, params={"api_key": KEY}, json={"api_key": KEY}))
        answers.append(client.request(method, path, headers={"authorization": f"Bearer {KEY}"}))
        answers.append(client.request(method, f"{path}?API_KEY={KEY}&x=1"))
        answers.append(
            client.request(method, path, headers={"x-request-id": KEY, "x-api-key": KEY})
        )
    answers.append(client.get(f"/nowhere/{'a' * 70}?api%5Fkey={KEY}"))
    for answer in answers:
        assert KEY not in answer.text
        headers = {k: v for k, v in answer.headers.items() if k != "x-request-id"}
        assert KEY not in str(headers)
    metrics = client.get("/metrics", headers={"x-api-key": KEY})
    assert metrics.status_code == 200
    assert KEY not in metrics.text
    for line in log.getvalue().splitlines():
        assert KEY not in re.sub(r'"request_id":"[^"]*"', "", line)


def test_what_a_client_writes_forges_no_log_line(closed, log):
    evil = "%0d%0a%7B%22level%22:%22error%22%7D%1b%5B2J%00"
    for line in (
        f"GET /{evil} HTTP/1.1\r\nHost: x\r\n",
        f"GET /v1/models/{evil} HTTP/1.1\r\nHost: x\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\x1b[31m\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: \x1b]0;x\x07\r\n",
    ):
        talk(closed, line.encode() + b"Connection: close\r\n\r\n")
    lines = log.getvalue().splitlines()
    assert len(lines) >= 2  # control signs in headers are refused before there is a request
    assert all(line.startswith('{"time"') and line.isprintable() for line in lines)
    assert "\\u001b" not in log.getvalue()


@pytest.mark.parametrize(
    "piece", ["-a", "a.", "a+", "://", "a:", "api_key=", "token ", "okp_a_", "bearer "]
)
def test_no_text_takes_long_to_write_down(piece):
    text = piece * (16_000 // len(piece))
    work = time.process_time()
    for _ in range(5):
        clean(text)
    assert time.process_time() - work < 0.1


# --------------------------------------------------------------------------------- S23: the metrics


def test_ten_thousand_ids_make_no_series(serve):
    from openkeypoints.server.metrics import Metrics

    metrics = Metrics()
    before = None
    for number in range(10_000):
        metrics.request("none", f"VERB-{number}", 404, 0.1)
        metrics.error(f"model-{number}")
        if number == 1:
            before = len(metrics.text().splitlines())
    assert len(metrics.text().splitlines()) == before


# --------------------------------------------------------------------------- S18, S26: the answers


def test_no_answer_is_guessed_at_framed_or_shared(closed):
    for method, path in [*CLOSED, ("GET", "/"), ("GET", "/docs"), ("GET", "/nowhere/at/all/x")]:
        headers = closed.client.request(
            method, path, headers={"Origin": "https://evil.example"}
        ).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        kind = headers["content-type"].partition(";")[0]
        assert kind in ("application/json", "text/html", "text/plain")
        assert kind != "text/html" or path in ("/", "/docs")
        assert not any(name.startswith("access-control-") for name in headers)


@pytest.mark.parametrize(
    "target",
    [
        "/a%0d%0aX-Evil:%20yes/1",
        "/v1/models/a%0d%0aX-Evil:%20yes",
        "/start/a%0d%0aX-Evil:%20yes",
        "/person/1?format=image%0d%0aX-Evil:%20yes",
        "/openkeypoints/%0d%0aX-Evil:%20yes",
        "/docs%0d%0aX-Evil:%20yes",
    ],
)
def test_nothing_that_was_sent_splits_an_answer(small, target):
    head = f"GET {target} HTTP/1.1\r\nHost: x\r\nX-Request-Id: a%0d%0aX-Evil\r\n"
    head += "Execution_Id: a%0d%0aX-Evil: yes\r\nConnection: close\r\n\r\n"
    answer = talk(small, head.encode())
    names = [
        line.partition(b":")[0].lower() for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
    ]
    assert b"x-evil" not in names
    assert names.count(b"content-type") == 1
