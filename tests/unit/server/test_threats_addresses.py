"""Addresses of pictures over HTTP (S1 to S7): nothing private is reached, and nothing is told."""

from __future__ import annotations

import contextlib
import gzip
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpcore
import httpx
import pytest

from openkeypoints.errors import DownloadError, ForbiddenAddressError
from openkeypoints.server import pictures
from openkeypoints.server.config import Limits, ServerConfig
from openkeypoints.server.pictures import FAILED, REFUSED
from openkeypoints.settings import Settings
from openkeypoints.urls import Guard, fetch
from tests.servers import FileServer, serving
from tests.unit.server.surfaces_of_pictures import TEXTS, others, said
from tests.unit.server.watched import CONNECTS, watched

HERE = ("127.0.0.1",)
CLOSED_HOSTS = [
    *("127.0.0.1", "127.1", "127.0.0.2", "0", "0.0.0.0", "2130706433", "0x7f000001", "0177.0.0.1"),
    *("0x7f.1", "017700000001", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "0xa9fea9fe", "2852039166", "100.100.100.200", "100.64.0.1"),
    *("168.63.129.16", "192.0.0.192", "192.88.99.1", "198.18.0.1", "224.0.0.1", "255.255.255.255"),
    *("localhost", "localhost.", "LOCALHOST", "[::]", "[::1]", "[::127.0.0.1]"),
    *("[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[::ffff:0:7f00:1]", "[64:ff9b::7f00:1]"),
    *("[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]"),
    *("[fe80::1]", "[fe80::1%25eth0]", "[fec0::1]", "[fd00:ec2::254]", "[ff02::1]"),
    *("１２７.０.０.１", "①②⑦.⓪.⓪.①", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "127。0。0。1"),
]


@pytest.fixture(scope="module")
def source():
    with serving(FileServer()) as running:
        yield running


@pytest.fixture(scope="module")
def public(serve):
    """A server that fetches public addresses."""
    with serve(ServerConfig(port=0, allow_urls=True)) as server:
        yield server


@pytest.fixture(scope="module")
def near(serve):
    """A server that fetches from this machine, two at once, for a second at most."""
    limits = Limits(picture_bytes=100_000, fetches=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "TIMEOUT_S", 1.5)
        with serve(ServerConfig(port=0, allow_url_hosts=HERE, limits=limits)) as server:
            yield server


@pytest.fixture(scope="module")
def usual(serve):
    """A server that fetches nothing."""
    with serve() as server:
        yield server


def test_no_spelling_of_a_private_address_is_connected_to(public, source):
    ask = TEXTS["native"]
    assert len(CLOSED_HOSTS) >= 40
    with watched(CONNECTS) as seen:
        for host in CLOSED_HOSTS:
            for address in (f"https://{host}:{source.server_address[1]}/a", f"http://{host}/a"):
                answer = ask(public.client, address)
                assert answer.status_code == 400, address
                assert said(answer) in (REFUSED, FAILED), address
    assert others(seen, public) == []


@pytest.mark.parametrize("way", TEXTS)
def test_every_route_refuses_a_private_address(public, source, way):
    with watched(CONNECTS) as seen:
        answer = TEXTS[way](public.client, f"https://127.0.0.1:{source.server_address[1]}/a")
    assert (answer.status_code, said(answer)) == (400, REFUSED)
    assert others(seen, public) == []


@pytest.mark.parametrize("way", TEXTS)
def test_every_route_refuses_every_address_by_default(usual, source, way):
    with watched(CONNECTS) as seen:
        answer = TEXTS[way](usual.client, f"https://127.0.0.1:{source.server_address[1]}/a")
    assert (answer.status_code, said(answer)) == (400, REFUSED)
    assert others(seen, usual) == []


def test_a_name_is_resolved_once_and_that_address_is_dialled(public, monkeypatch):
    answers = iter([["93.184.215.14"], ["127.0.0.1"], ["127.0.0.1"]])
    dialled = []

    def resolve(host, port, *args, **options):
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (ip, port)) for ip in next(answers)]

    def dial(self, host, port, *args, **options):
        dialled.append((host, port))
        raise httpcore.ConnectError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", dial)
    url = public.url  # the test's own client connects by number
    with contextlib.closing(httpx.Client(base_url=url, trust_env=False)) as client:
        monkeypatch.undo()
        client.get("/healthz")  # the connection stays open
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", dial)
        answer = TEXTS["native"](client, "https://rebound.example/a")
    assert (answer.status_code, said(answer)) == (400, FAILED)
    assert dialled == [("93.184.215.14", 443)]


@pytest.mark.parametrize(
    "goal",
    ["http://169.254.169.254/latest", "https://[::1]/a", "file:///etc/passwd", "//10.0.0.1/a"],
)
def test_a_redirect_does_not_lead_past_the_policy(near, source, goal):
    source.redirects["/away"] = goal
    with watched(CONNECTS) as seen:
        answer = TEXTS["native"](near.client, f"{source.url}/away")
    assert (answer.status_code, said(answer)) == (400, REFUSED)
    home = repr(("127.0.0.1", source.server_address[1]))
    assert {entry[1] for entry in others(seen, near)} == {home}


def test_a_loop_of_redirects_ends_after_three(near, source):
    source.redirects["/loop"] = "/loop"
    before = len(source.asked)
    answer = TEXTS["native"](near.client, f"{source.url}/loop")
    assert (answer.status_code, said(answer)) == (400, FAILED)
    assert len(source.asked) - before == 4


PIECES = [
    *("https://", "https:/", "https:", "HTTPS://", "http://", "//", "/", "\\", "@", "#", "?", ":"),
    *("%00", "%5c", "%40", "%2f", "%23", "%0d%0a", "%", "\0", "\r\n", "\t", " ", ".", "..", "。"),
    *("good.example", "evil.example", "127.0.0.1", "[::1]", "[", "]", "xn--nxasmq6b", "ß", "ı"),
    *("ＥＶＩＬ", "℀", "user", "user:pw@", ":80", ":443", ":0", ":99999", "a", "-", "_", "\u200d"),
]


@pytest.mark.slow
def test_no_two_readers_of_an_address_see_two_hosts(monkeypatch):
    """10^5 strings of what confuses parsers: what is dialled is what the standard library reads."""
    dialled: list[str] = []

    class Spy:
        def getaddrinfo(self, host, *args, **options):
            dialled.append(host)
            raise OSError

        def __getattr__(self, name):
            return getattr(socket, name)

    from openkeypoints import urls

    monkeypatch.setattr(urls, "socket", Spy())
    chance = random.Random(4)
    guard, settings = Guard.others(), Settings()
    reached = set()
    for number in range(100_000):
        count = chance.randint(1, 6)
        text = ("https://" if number % 2 else "") + "".join(chance.choices(PIECES, k=count))
        try:
            target = urls._parse(text)
            urls._check(target, guard)
        except ForbiddenAddressError:
            continue
        seen = target.raw_host.decode()
        try:
            read = urlsplit(text).hostname or ""
        except ValueError:
            continue  # who does not read it does not see another host
        assert _same_host(seen, read), (text, seen, read)
        if seen in reached or len(reached) >= 150:
            continue
        reached.add(seen)
        with pytest.raises((DownloadError, ForbiddenAddressError)):
            fetch(text, guard=guard, settings=settings)
        assert dialled.pop() == seen, text
    assert len(reached) > 100


def _same_host(ours: str, read: str) -> bool:
    """Tell whether two readings are one name; IDNA folds what the standard library leaves."""
    ours, read = ours.lower().strip("[]"), read.lower().strip("[]")
    return ours == read or httpx.URL(f"https://{read}/").raw_host.decode().strip("[]") == ours


def test_a_proxy_of_the_environment_is_not_asked(near, source, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        with watched(CONNECTS) as seen:
            TEXTS["native"](near.client, f"{source.url}/missing")
    home = repr(("127.0.0.1", source.server_address[1]))
    assert {entry[1] for entry in others(seen, near)} == {home}


@contextlib.contextmanager
def answering(head: bytes, piece: bytes, pause_s: float = 0.0):
    """Run a server that answers with a head and then with a piece again and again."""
    ending = threading.Event()

    def serve_one(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.recv(65536)
            connection.sendall(head)
            while not ending.wait(pause_s) and piece:
                connection.sendall(piece)

    def accept(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not ending.is_set():
                connection, _ = listening.accept()
                threading.Thread(target=serve_one, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, args=(listening,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/a"
        finally:
            ending.set()


OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"


@pytest.mark.parametrize(
    ("head", "piece", "pause_s", "status"),
    [
        (OK + b"\r\n", b"x" * 4096, 0.0, 413),
        (OK + b"Content-Length: 100001\r\n\r\n", b"x" * 4096, 0.0, 413),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n", 0.0, 413),
        (OK + b"\r\n", b"x", 0.1, 400),
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", 0.1, 400),
    ],
    ids=["endless", "says-so", "chunks", "drips", "drips-headers"],
)
def test_an_endless_or_slow_download_is_given_up(near, head, piece, pause_s, status):
    with answering(head, piece, pause_s) as url:
        began = time.monotonic()
        answer = TEXTS["native"](near.client, url)
        assert time.monotonic() - began < 6
    assert answer.status_code == status


def test_a_compressed_download_is_not_unpacked(near, source):
    source.files["/bomb"] = gzip.compress(bytes(50_000_000), 1)[:90_000]
    source.headers["/bomb"] = {"Content-Encoding": "gzip"}
    answer = TEXTS["native"](near.client, f"{source.url}/bomb")
    assert (answer.status_code, said(answer)) == (400, FAILED)
    assert source.asked_for("/bomb")[0]["accept-encoding"] == "identity"


def test_only_so_many_pictures_are_fetched_at_once(near, source, monkeypatch):
    source.files["/slow"] = b"x"
    monkeypatch.setattr(source, "pause_s", 0.8)
    with ThreadPoolExecutor(6) as clients:
        asked = [clients.submit(TEXTS["native"], near.client, f"{source.url}/slow") for _ in "six"]
        asked += [clients.submit(TEXTS["native"], near.client, f"{source.url}/slow") for _ in "six"]
        time.sleep(0.5)
        assert len(source.asked_for("/slow")) == 2  # of six; the others wait for a thread
        assert {answer.result().status_code for answer in asked} == {400}


def test_no_answer_tells_what_lies_behind_an_address(near, source):
    """Closed, silent, talking nonsense, missing, broken: one text for all of them."""
    source.statuses["/error"] = [500]
    with contextlib.ExitStack() as servers:
        closed = socket.socket()
        servers.enter_context(closed)
        closed.bind(("127.0.0.1", 0))
        silent = servers.enter_context(answering(b"", b""))
        nonsense = servers.enter_context(answering(b"SSH-2.0-OpenSSH_9.2\r\n", b""))
        addresses = [
            f"http://127.0.0.1:{closed.getsockname()[1]}/",
            silent,
            nonsense,
            f"{source.url}/missing",
            f"{source.url}/error",
            f"https://127.0.0.1:{source.server_address[1]}/a",
        ]
        answers = [TEXTS["rows"](near.client, address) for address in addresses]
    assert {(answer.status_code, answer.text) for answer in answers} == {(400, answers[0].text)}
    assert said(answers[0]) == FAILED
