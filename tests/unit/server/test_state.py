"""What all requests share: their headers and parameters, looked up quickly."""

from __future__ import annotations

from starlette.requests import Request

from openkeypoints.server.state import header, query_of


def request(*headers: tuple[bytes, bytes], query: bytes = b"") -> Request:
    return Request({"type": "http", "headers": list(headers), "query_string": query})


def test_of_a_header_that_was_sent_twice_the_first_counts_as_for_starlette():
    sent = request((b"host", b"one"), (b"x", b"y"), (b"host", b"two"))
    assert header(sent, b"host") == sent.headers["host"] == "one"
    assert header(sent, b"content-type") is None


def test_a_header_is_read_as_latin_1():
    assert header(request((b"x", b"\xe4")), b"x") == "ä"


def test_an_address_without_a_query_has_no_parameters():
    assert dict(query_of(request())) == {}
    assert query_of(request(query=b"a=1&a=2")).getlist("a") == ["1", "2"]
