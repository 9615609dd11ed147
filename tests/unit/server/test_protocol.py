"""Slow and greedy clients over raw sockets: each is closed in time, and the others are served."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256

import pytest
import uvicorn
from uvicorn.server import ServerState

from openkeypoints.server.config import Limits, ServerConfig
from openkeypoints.server.protocol import guarded_protocol
from tests.unit.server.probes import Probes

QUICK = Limits(
    header_s=0.5,
    body_s=0.5,
    write_s=0.6,
    keep_alive_s=1.0,
    connections=20,
    connections_per_peer=8,
    body_bytes=1_000_000,
)
PATIENCE_S = 8.0
POST = b"POST /probe/body HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def server(serve):
    with serve(ServerConfig(port=0, limits=QUICK)) as running:
        yield running


@pytest.fixture(scope="module")
def patient(serve):
    with serve(ServerConfig(port=0, limits=replace(QUICK, body_s=20.0))) as running:
        yield running


def connect(server, *, source: str = "127.0.0.1", buffer: int = 0) -> socket.socket:
    connection = socket.socket()
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.bind((source, 0))
    connection.settimeout(PATIENCE_S)
    connection.connect(server.address)
    return connection


def rest(connection: socket.socket) -> bytes:
    """Return what comes until the server closes; a reset is a close."""
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


def drip(connection: socket.socket, piece: bytes, pause_s: float) -> tuple[float, bytes]:
    """Send a piece again and again until the server closes; return how long that took."""
    began = time.monotonic()
    connection.settimeout(pause_s)
    found = b""
    while time.monotonic() - began < PATIENCE_S:
        try:
            connection.sendall(piece)
            if not (part := connection.recv(65536)):
                break
            found += part
        except TimeoutError:
            continue
        except (ConnectionResetError, BrokenPipeError):
            break
    return time.monotonic() - began, found


@pytest.mark.parametrize(
    "head", [b"", b"GET /healthz HTT", POST], ids=["silent", "line", "headers"]
)
def test_a_client_that_does_not_say_what_it_wants_is_closed(server, head):
    with connect(server) as connection:
        connection.sendall(head)
        began = time.monotonic()
        answer = rest(connection)
        assert time.monotonic() - began < PATIENCE_S / 2
    assert answer.startswith(b"HTTP/1.1 408") if head else answer == b""


def test_a_header_that_drips_is_closed(server):
    with connect(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        took, answer = drip(connection, b"X-A: b\r\n", 0.1)
    assert took < PATIENCE_S / 2
    assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("path", [b"/probe/body", b"/nowhere/at/all"], ids=["read", "unread"])
def test_a_body_that_stalls_is_closed_whether_it_is_read_or_not(server, path):
    with connect(server) as connection:
        connection.sendall(
            b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n1"
        )
        began = time.monotonic()
        rest(connection)
        assert time.monotonic() - began < PATIENCE_S / 2


def test_a_body_that_drips_is_closed(server):
    with connect(server) as connection:
        connection.sendall(POST + b"Content-Length: 100000\r\n\r\n")
        took, answer = drip(connection, b"x", 0.1)
    assert took < PATIENCE_S / 2
    assert answer.startswith(b"HTTP/1.1 408")


def test_a_slow_body_that_keeps_its_rate_is_taken(server):
    body = b"x" * 60_000
    with connect(server) as connection:
        connection.sendall(POST + b"Content-Length: 60000\r\nConnection: close\r\n\r\n")
        for start in range(0, len(body), 10_000):  # 1.2 s in all, more than the grace
            time.sleep(0.2)
            connection.sendall(body[start : start + 10_000])
        assert rest(connection).endswith(b"\r\n\r\n60000")


def test_an_answer_that_nobody_takes_is_given_up(server):
    with connect(server, buffer=4096) as connection:
        connection.sendall(b"POST /probe/big HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        time.sleep(2 * QUICK.write_s)
        waiting(lambda: not server.context.metrics.running)
        took, found = drip(connection, b"", 0.2)
    assert took < PATIENCE_S
    assert len(found) < 20_000_000  # of 30 million: the rest was given up before it was asked for


def test_requests_may_be_sent_ahead_of_their_answers(server):
    get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with connect(server) as connection:
        connection.sendall(QUICK.pipelined * get + last)
        assert rest(connection).count(b"HTTP/1.1 200") == QUICK.pipelined + 1


def test_too_many_requests_ahead_of_their_answers_end_the_connection(server):
    flood = 5000 * b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(server) as connection:
        connection.sendall(flood)
        answers = rest(connection)
    assert answers.count(b"HTTP/1.1 200") <= QUICK.pipelined
    assert answers.startswith(b"HTTP/1.1 429")


def test_a_connection_that_is_idle_between_requests_is_closed(server):
    with connect(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        began = time.monotonic()
        assert b"healthy" in rest(connection)
        assert 0.9 < time.monotonic() - began < PATIENCE_S / 2


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([b"1\r\nx\r\n"] * 5000 + [b"0\r\n\r\n"], b"413"),
        ([b"1;" + b"e" * 1000 + b"\r\nx\r\n"] * 1500, b"413"),
        ([b"0\r\n"] + [b"X-T: " + b"t" * 1000 + b"\r\n"] * 1500, b"413"),
        ([b"3e8\r\n" + b"x" * 1000 + b"\r\n"] * 200 + [b"0\r\n\r\n"], b"200"),
    ],
    ids=["tiny-chunks", "long-extensions", "trailers", "fair"],
)
def test_a_chunked_body_has_to_be_more_body_than_chunks(patient, pieces, status):
    with connect(patient) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        try:
            for start in range(0, len(pieces), 100):
                connection.sendall(b"".join(pieces[start : start + 100]))
        except (ConnectionResetError, BrokenPipeError):
            assert status == b"413"
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 " + status) or (answer == b"" and status == b"413")


def test_what_stands_behind_a_body_is_no_header(server):
    with connect(server) as connection:
        connection.sendall(
            b"POST /probe/who HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: close\r\n\r\n0\r\nX-Trailer: canary\r\n\r\n"
        )
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"canary" not in answer


def test_headers_without_end_are_refused(server):
    with connect(server) as connection:
        try:
            connection.sendall(b"GET / HTTP/1.1\r\n" + b"X-A: " + b"a" * 200_000)
        except (ConnectionResetError, BrokenPipeError):
            return
        assert rest(connection)[:12] in (b"HTTP/1.1 431", b"")


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
    ],
)
def test_a_body_of_two_lengths_is_refused(server, lengths):
    with connect(server) as connection:
        connection.sendall(POST + lengths + b"\r\n5\r\nhello\r\n0\r\n\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 400")


def test_one_peer_may_not_have_all_connections(server):
    greedy = [connect(server, source="127.0.0.2") for _ in range(12)]
    try:
        time.sleep(0.1)
        for connection in greedy:
            connection.setblocking(False)
        closed = sum(is_closed(connection) for connection in greedy)
        assert closed == 4
        assert server.client.get("/healthz").status_code == 200
    finally:
        for connection in greedy:
            connection.close()


def test_all_peers_together_have_so_many_connections(server):
    sources = [f"127.0.0.{n}" for n in (3, 4, 5, 6)]
    greedy = [connect(server, source=source) for source in sources for _ in range(7)]
    try:
        time.sleep(0.1)
        for connection in greedy:
            connection.setblocking(False)
        closed = sum(is_closed(connection) for connection in greedy)
        assert closed >= len(greedy) - QUICK.connections
    finally:
        for connection in greedy:
            connection.close()
    waiting(lambda: server.client.get("/healthz").status_code == 200)


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_work_stops_when_the_client_leaves(serve):
    probes = Probes()
    with serve(probes=probes) as server, connect(server) as connection:
        connection.sendall(b"GET /probe/slow?s=20 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        waiting(lambda: probes.began)
        connection.close()
        waiting(lambda: probes.cancelled)


def test_requests_in_one_go_are_answered_in_their_order(server):
    with connect(server) as connection:
        connection.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere/at/all HTTP/1.1\r\nHost: x\r\n"
            b"Connection: close\r\n\r\n"
        )
        answer = rest(connection)
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404"]


def test_bodies_that_come_at_the_same_time_stay_apart(serve):
    bodies = [random.Random(seed).randbytes(3_000_000 + seed) for seed in range(6)]
    limits = Limits(body_bytes=4_000_000)
    with serve(ServerConfig(port=0, limits=limits)) as running, ThreadPoolExecutor(6) as threads:

        def send(body: bytes) -> str:
            with connect(running) as connection:
                head = b"POST /probe/digest HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                return rest(connection).rpartition(b"\r\n")[2].decode().strip('"')

        found = list(threads.map(send, bodies))
    assert found == [sha256(body).hexdigest() for body in bodies]


class Wire(asyncio.Transport):
    """Keeps what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.closed = b"", False

    def write(self, data) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Whoever reads is the test."""

    resume_reading = pause_reading


async def length(scope, receive, send) -> None:
    """Answer with the length of the body."""
    count, more = 0, True
    while more:
        message = await receive()
        count, more = count + len(message["body"]), message["more_body"]
    text = str(count).encode()
    head = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": text})


def test_a_piece_of_a_body_may_fill_the_buffer():
    async def answer(pieces: int) -> bytes:
        config = uvicorn.Config(length, lifespan="off")
        config.load()
        make = guarded_protocol(Limits())
        protocol = make(config=config, server_state=ServerState(), app_state={})
        wire = Wire()
        protocol.connection_made(wire)
        buffer = protocol.get_buffer(-1)
        head = POST + b"Content-Length: %d\r\n\r\n" % (pieces * len(buffer))
        buffer[: len(head)] = head
        protocol.buffer_updated(len(head))
        for _ in range(pieces):
            buffer[:] = b"x" * len(buffer)
            protocol.buffer_updated(len(buffer))
        for _ in range(10):
            await asyncio.sleep(0)
        return wire.sent

    sent = asyncio.run(answer(5))
    assert sent.startswith(b"HTTP/1.1 200")
    assert sent.endswith(b"\r\n\r\n%d" % (5 << 20))


def waiting(fact, seconds: float = PATIENCE_S) -> None:
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.01)
