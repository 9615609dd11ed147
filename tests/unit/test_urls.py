"""The guarded fetch, against a server on this machine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from openkeypoints.errors import (
    DownloadError,
    ForbiddenAddressError,
    ImageTooLargeError,
    NotFoundError,
)
from openkeypoints.settings import Settings
from openkeypoints.urls import Guard, fetch, is_public, shown_url

SETTINGS = Settings(timeout_s=5.0, max_download_bytes=100_000)
HASTY = Settings(timeout_s=0.4, max_download_bytes=100_000)
BODY = bytes(range(256)) * 4
# A network that is global, and never asked: every test that names it must stop before dialling.
PUBLIC = "93.184.215.14"


class Server(ThreadingHTTPServer):
    """Counts and keeps what it was asked."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.redirects: dict[str, str] = {}
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up early are what is tested."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def head(self, status: int = 200, **headers: Any) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def do_GET(self) -> None:
        self.server.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        path = self.path.partition("?")[0]
        if path in self.server.redirects:
            self.head(302, Location=self.server.redirects[path], Set_Cookie="s=1", Content_Length=0)
        else:
            getattr(self, path.strip("/"), self.missing)()

    def missing(self) -> None:
        self.head(404, Content_Length=0)

    def broken(self) -> None:
        self.head(500, Content_Length=0)

    def picture(self) -> None:
        self.head(Content_Length=len(BODY))
        self.wfile.write(BODY)

    def declared_large(self) -> None:
        self.head(Content_Length=10**12)

    def endless(self) -> None:
        self.head(Transfer_Encoding="chunked")
        while True:
            self.wfile.write(b"400\r\n" + BODY + b"\r\n")

    def cut(self) -> None:
        self.head(Content_Length=len(BODY) * 2)
        self.wfile.write(BODY)
        self.close_connection = True

    def zipped(self) -> None:
        self.head(Content_Encoding="gzip", Content_Length=len(BODY))
        self.wfile.write(BODY)

    def drip(self) -> None:
        self.head(Content_Length=len(BODY))
        for byte in BODY:
            self.wfile.write(bytes([byte]))
            time.sleep(0.05)

    def drip_head(self) -> None:
        for _ in range(200):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" if not _ else b"X-A: b\r\n")
            time.sleep(0.05)

    def silent(self) -> None:
        time.sleep(3)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """Name -> the answers of a resolver, in order; the last one stays."""
    answers: dict[str, list[list[str]]] = {}
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in answers:
            return real(host, port, *args, **kwargs)
        queue = answers[name]
        addresses = queue.pop(0) if len(queue) > 1 else queue[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return answers


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every address that a connection was opened to; no connection is."""
    seen: list[Any] = []

    def connect(address: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    return seen


def local(*hosts: str) -> Guard:
    return Guard.others(("127.0.0.1", *hosts))


BOTH = pytest.mark.parametrize("guard", [Guard.own(), local()], ids=["own", "others"])


# ---------------------------------------------------------------- what is delivered


@BOTH
def test_the_body_is_returned(server: Server, guard: Guard) -> None:
    assert fetch(f"{server.url}/picture", guard=guard, settings=SETTINGS) == BODY


@BOTH
def test_three_redirects_are_followed_and_not_a_fourth(server: Server, guard: Guard) -> None:
    server.redirects = {"/a": "/b", "/b": f"{server.url}/c", "/c": "picture", "/z": "a"}
    assert fetch(f"{server.url}/a", guard=guard, settings=SETTINGS) == BODY
    with pytest.raises(DownloadError, match="more than 3"):
        fetch(f"{server.url}/z", guard=guard, settings=SETTINGS)


@BOTH
def test_what_is_not_there_is_not_found(server: Server, guard: Guard) -> None:
    with pytest.raises(NotFoundError, match=r"/nothing.*404"):
        fetch(f"{server.url}/nothing", guard=guard, settings=SETTINGS)


@BOTH
@pytest.mark.parametrize(
    ("path", "sentence"),
    [("broken", "status 500"), ("cut", "could not be fetched"), ("zipped", "compressed")],
)
def test_a_broken_answer_is_a_download_error(
    server: Server, guard: Guard, path: str, sentence: str
) -> None:
    with pytest.raises(DownloadError, match=sentence):
        fetch(f"{server.url}/{path}", guard=guard, settings=SETTINGS)


@BOTH
@pytest.mark.parametrize("path", ["declared_large", "endless"])
def test_more_bytes_than_the_limit_are_refused(server: Server, guard: Guard, path: str) -> None:
    with pytest.raises(ImageTooLargeError, match="100000 bytes"):
        fetch(f"{server.url}/{path}", guard=guard, settings=SETTINGS)


@BOTH
@pytest.mark.parametrize("path", ["silent", "drip"])
def test_the_time_limit_is_for_everything_together(server: Server, guard: Guard, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(DownloadError, match=r"within 0\.4 s"):
        fetch(f"{server.url}/{path}", guard=guard, settings=HASTY)
    assert time.monotonic() - began < 2


def test_a_stranger_cannot_drip_headers_beyond_the_time_limit(server: Server) -> None:
    began = time.monotonic()
    with pytest.raises(DownloadError, match="within"):
        fetch(f"{server.url}/drip_head", guard=local(), settings=HASTY)
    assert time.monotonic() - began < 2


def test_a_slow_resolver_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: time.sleep(1) or [])
    with pytest.raises(DownloadError, match="within"):
        fetch("https://photos.example/a", guard=Guard.others(), settings=HASTY)


@BOTH
def test_a_closed_port_is_a_download_error(guard: Guard) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
        with pytest.raises(DownloadError, match="could not be fetched"):
            fetch(url, guard=guard, settings=SETTINGS)


def test_a_server_without_tls_is_a_download_error(server: Server) -> None:
    with pytest.raises(DownloadError, match="could not be fetched"):
        fetch(f"https://127.0.0.1:{server.port}/picture", guard=local(), settings=SETTINGS)


def test_an_unknown_name_is_a_download_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: Any, **_kwargs: Any) -> Any:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DownloadError, match="resolved"):
        fetch("https://photos.example/a", guard=Guard.others(), settings=SETTINGS)


@BOTH
def test_nothing_is_asked_offline(server: Server, guard: Guard) -> None:
    with pytest.raises(DownloadError, match="OKP_OFFLINE"):
        fetch(f"{server.url}/picture", guard=guard, settings=Settings(offline=True))
    assert server.asked == []


# ---------------------------------------------------------------- what strangers may reach


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.88.99.1",
        "192.0.0.192",
        "192.0.2.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "2002:7f00:1::",
        "2002:808:808::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "3fff::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fd00:ec2::254",
        "ff02::1",
        "100::1",
        "localhost",
        "",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [PUBLIC, "8.8.8.8", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "localhost.",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "0",
        "１２７.０.０.１",
        "①②⑦.⓪.⓪.①",
    ],
)
def test_no_spelling_of_a_closed_address_is_dialled(host: str, dialled: list[Any]) -> None:
    with pytest.raises(DownloadError):
        fetch(f"https://{host}/a", guard=Guard.others(), settings=SETTINGS)
    assert dialled == []


@pytest.mark.parametrize(
    "url",
    [
        "http://photos.example/a",
        "ftp://photos.example/a",
        "file:///etc/passwd",
        "//photos.example/a",
        "https:///a",
        "https://user:secret@photos.example/a",
        "https://user@photos.example/a",
        "https://photos.example\\@127.0.0.1/a",
        "https://photos.example\\.evil.example/a",
        "https://photos.example /a",
        "https://photos.example\t/a",
        "https://photos.example/a\r\nHost: b",
        "https://photos.example:99999/a",
        "https://xn--a/a",
        "https:////https://photos.example/a",
        "https://[::1/a",
    ],
)
def test_other_schemes_credentials_and_odd_spellings_are_refused(
    url: str, names: dict[str, list[list[str]]], dialled: list[Any]
) -> None:
    names["photos.example"] = [[PUBLIC]]
    with pytest.raises(ForbiddenAddressError) as caught:
        fetch(url, guard=Guard.others(), settings=SETTINGS)
    assert "secret" not in str(caught.value)
    assert dialled == []


def test_one_closed_address_among_several_closes_the_name(
    names: dict[str, list[list[str]]], dialled: list[Any]
) -> None:
    names["photos.example"] = [[PUBLIC, "127.0.0.1"]]
    with pytest.raises(ForbiddenAddressError, match=r"photos\.example.*allow it by name"):
        fetch("https://photos.example/a", guard=Guard.others(), settings=SETTINGS)
    assert dialled == []


def test_the_address_that_was_checked_is_the_one_dialled(
    names: dict[str, list[list[str]]], dialled: list[Any]
) -> None:
    names["photos.example"] = [[PUBLIC], ["127.0.0.1"]]
    with pytest.raises(DownloadError, match="could not be fetched"):
        fetch("https://photos.example/a", guard=Guard.others(), settings=SETTINGS)
    assert dialled == [(PUBLIC, 443)]


def test_the_next_address_is_tried_when_one_does_not_answer(
    server: Server, names: dict[str, list[list[str]]]
) -> None:
    names["photos.example"] = [["127.0.0.2", "127.0.0.1"]]  # the server listens on the second
    url = f"http://photos.example:{server.port}/picture"
    assert fetch(url, guard=local("photos.example"), settings=SETTINGS) == BODY


def test_a_pinned_connection_still_names_the_host(
    server: Server, names: dict[str, list[list[str]]]
) -> None:
    names["photos.example"] = [["127.0.0.1"], ["192.0.2.1"]]
    url = f"http://photos.example:{server.port}/picture"
    assert fetch(url, guard=local("Photos.Example."), settings=SETTINGS) == BODY
    assert server.asked[0][1]["host"] == f"photos.example:{server.port}"


def test_tls_asks_for_the_name_and_not_for_the_address(names: dict[str, list[list[str]]]) -> None:
    names["photos.example"] = [["127.0.0.1"]]
    hello: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                hello.append(connection.recv(4096))

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        url = f"https://photos.example:{listener.getsockname()[1]}/a"
        with pytest.raises(DownloadError):
            fetch(url, guard=local("photos.example"), settings=SETTINGS)
        thread.join()
    assert b"photos.example" in hello[0]


@pytest.mark.parametrize(
    "goal",
    [
        "https://localhost/a",
        "http://photos.example/a",
        "file:///etc/passwd",
        "//user:pw@127.0.0.1/",
    ],
)
def test_each_redirect_is_checked_again(
    server: Server, names: dict[str, list[list[str]]], goal: str
) -> None:
    names["photos.example"] = [[PUBLIC]]
    server.redirects = {"/a": goal}
    with pytest.raises(ForbiddenAddressError):
        fetch(f"{server.url}/a", guard=local(), settings=SETTINGS)
    assert len(server.asked) == 1


def test_http_can_be_allowed_for_every_host(
    names: dict[str, list[list[str]]], dialled: list[Any]
) -> None:
    names["photos.example"] = [[PUBLIC]]
    with pytest.raises(DownloadError, match="could not be fetched"):
        fetch("http://photos.example/a", guard=Guard.others(http=True), settings=SETTINGS)
    assert dialled == [(PUBLIC, 80)]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
def test_a_proxy_of_the_environment_does_not_see_what_strangers_ask(
    server: Server, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(f"{server.url}/picture", guard=local(), settings=SETTINGS) == BODY


# ---------------------------------------------------------------- credentials


def test_own_credentials_go_to_the_named_host_alone(server: Server) -> None:
    server.redirects = {"/a": f"http://localhost:{server.port}/picture"}
    url = f"http://me:secret@127.0.0.1:{server.port}/a"
    assert fetch(url, guard=Guard.own(), settings=SETTINGS) == BODY
    first, second = (headers for _, headers in server.asked)
    assert first["authorization"].startswith("Basic ")
    assert "authorization" not in second


@BOTH
def test_cookies_are_not_kept(server: Server, guard: Guard) -> None:
    server.redirects = {"/a": "/picture"}
    fetch(f"{server.url}/a", guard=guard, settings=SETTINGS)
    assert all("cookie" not in headers for _, headers in server.asked)


@pytest.mark.parametrize("path", ["broken", "cut", "nothing", "silent", "declared_large"])
def test_messages_hold_neither_credentials_nor_the_query(server: Server, path: str) -> None:
    url = f"http://me:secret@127.0.0.1:{server.port}/{path}?token=hidden#part"
    with pytest.raises((NotFoundError, ImageTooLargeError, DownloadError)) as caught:
        fetch(url, guard=Guard.own(), settings=HASTY)
    assert f"127.0.0.1:{server.port}/{path}" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pw@host.example:8443/a/b.jpg?key=1#x", "https://host.example:8443/a/b.jpg"),
        ("http://[::1", "the address (unreadable)"),
        ("nonsense", "the address (without a host)"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown
