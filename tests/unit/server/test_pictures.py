"""Pictures at addresses in requests: off by default, and one text whatever lies behind one."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import replace

import pytest

from openkeypoints.errors import ForbiddenAddressError, ImageTooLargeError
from openkeypoints.server.config import Limits, ServerConfig
from openkeypoints.server.pictures import FAILED, REFUSED, PictureFetcher
from tests.servers import FileServer, serving


@pytest.fixture
def source():
    with serving(FileServer()) as running:
        running.files["/a.jpg"] = b"picture"
        yield running


@pytest.fixture
def fetch(settings):
    def ask(url: str, settings=settings, **options) -> bytes:
        fetcher = PictureFetcher(ServerConfig(**options), settings)
        try:
            return asyncio.run(fetcher.fetch(url))
        finally:
            fetcher.close()

    return ask


def refusal(fetch, url: str, **options) -> str:
    with pytest.raises(ForbiddenAddressError) as caught:
        fetch(url, **options)
    assert caught.value.http_status == 400
    return str(caught.value)


def test_no_address_is_fetched_by_default(fetch, source):
    assert refusal(fetch, f"{source.url}/a.jpg") == REFUSED
    assert source.asked == []
    assert "--allow-urls" in REFUSED


def test_a_host_that_the_operator_names_may_be_private_and_http(fetch, source):
    assert fetch(f"{source.url}/a.jpg", allow_url_hosts=("127.0.0.1",)) == b"picture"


def test_other_hosts_stay_closed_when_only_some_are_named(fetch, source, monkeypatch):
    opened = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: opened.append(a) or [])
    assert refusal(fetch, "https://example.com/a.jpg", allow_url_hosts=("127.0.0.1",)) == REFUSED
    assert opened == []


def test_a_redirect_may_not_leave_the_hosts_that_are_named(fetch, source):
    source.redirects["/away"] = "https://example.com/a.jpg"
    source.redirects["/home"] = "/a.jpg"
    named = {"allow_url_hosts": ("127.0.0.1",)}
    assert refusal(fetch, f"{source.url}/away", **named) == REFUSED
    assert fetch(f"{source.url}/home", **named) == b"picture"


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:{port}/a.jpg",
        "https://127.0.0.1:{port}/a.jpg",
        "https://localhost:{port}/a.jpg",
        "https://[::1]:{port}/a.jpg",
        "https://2130706433:{port}/a.jpg",
        "https://169.254.169.254/latest",
        "https://[64:ff9b::7f00:1]/a.jpg",
        "https://[2002:7f00:1::]/a.jpg",
        "https://user@127.0.0.1/a.jpg",
        "https://example.com\\@127.0.0.1/",
        "file:///etc/passwd",
        "ftp://example.com/a.jpg",
        "/etc/passwd",
        "a.jpg",
        "",
    ],
)
def test_open_to_the_public_means_public_https_alone_with_one_text(fetch, source, address):
    url = address.format(port=source.server_address[1])
    assert refusal(fetch, url, allow_urls=True) == REFUSED
    assert source.asked == []


def test_what_does_not_deliver_is_told_with_one_text(fetch, source):
    named = {"allow_url_hosts": ("127.0.0.1",)}
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        source.statuses["/error"] = [500]
        texts = {
            refusal(fetch, f"http://127.0.0.1:{port}/", **named),
            refusal(fetch, f"{source.url}/missing", **named),
            refusal(fetch, f"{source.url}/error", **named),
        }
    assert texts == {FAILED}


def test_a_picture_that_is_too_large_is_told_so(fetch, source):
    source.files["/large"] = b"x" * 2000
    with pytest.raises(ImageTooLargeError) as caught:
        fetch(
            f"{source.url}/large",
            allow_url_hosts=("127.0.0.1",),
            limits=Limits(picture_bytes=1000),
        )
    assert source.url not in str(caught.value)


def test_the_environments_proxy_is_not_asked(fetch, source, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert os.environ["http_proxy"]
    assert fetch(f"{source.url}/a.jpg", allow_url_hosts=("127.0.0.1",)) == b"picture"


def test_offline_fetches_nothing(fetch, source, settings):
    offline = replace(settings, offline=True)
    named = {"allow_url_hosts": ("127.0.0.1",)}
    assert refusal(fetch, f"{source.url}/a.jpg", settings=offline, **named) == FAILED
