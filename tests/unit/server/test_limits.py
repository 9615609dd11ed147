"""What a request may hold: bytes, values, parts, depth; what is too much is refused, not held."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from openkeypoints.server.config import Limits, ServerConfig

SMALL = Limits(body_bytes=100_000, text_bytes=1000, json_marks=1000)


@pytest.fixture(scope="module")
def server(serve):
    with serve(ServerConfig(port=0, limits=SMALL)) as running:
        yield running


def test_a_body_up_to_the_limit_is_taken(server):
    answer = server.client.post("/probe/body", content=b"x" * 100_000)
    assert answer.json() == 100_000


def test_a_body_that_says_it_is_larger_is_refused(server):
    answer = server.client.post("/probe/body", content=b"x" * 100_001)
    assert (answer.status_code, answer.json()["kind"]) == (413, "PayloadTooLargeError")


def test_a_body_that_turns_out_larger_is_refused(server):
    answer = server.client.post("/probe/body", content=(b"x" * 10_000 for _ in range(11)))
    assert answer.status_code == 413


def test_all_bodies_together_have_a_limit(serve):
    limits = replace(SMALL, inflight_bytes=50_000)
    with serve(ServerConfig(port=0, limits=limits)) as server:
        answer = server.client.post("/probe/body", content=b"x" * 60_000)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert server.client.post("/probe/body", content=b"x" * 40_000).status_code == 200
        assert server.client.post("/probe/body", content=b"x" * 40_000).status_code == 200
        assert server.context.condition.body_bytes == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"a": [1, 2.5, "x", null, true]}', 200),
        (b"[" * 32 + b"]" * 32, 200),
        (b"[" * 33 + b"]" * 33, 422),
        (b'{"a":' * 33 + b"1" + b"}" * 33, 422),
        (b"[" * 900 + b"]" * 900, 422),
        (b"[" * 90_000, 413),
        (b"[" + b"0," * 2000 + b"0]", 413),
        (b'{"a": NaN}', 422),
        (b'{"a": -Infinity}', 422),
        (b'{"a": ' + b"9" * 5000 + b"}", 422),
        (b'{"a": 1', 422),
        (b'"\xff"', 422),
        (b"", 422),
    ],
    ids=[
        "plain",
        "deep",
        "too-deep",
        "too-deep-objects",
        "much-too-deep",
        "many-brackets",
        "many-values",
        "nan",
        "infinity",
        "huge-number",
        "cut-off",
        "no-utf8",
        "empty",
    ],
)
def test_json_is_read_within_limits(server, body, status):
    answer = server.client.post("/probe/json", content=body)
    assert answer.status_code == status


def test_a_refused_body_is_echoed_nowhere(server):
    answer = server.client.post("/probe/json", content=b'{"api_key": "canary", "x": NaN}')
    assert "canary" not in answer.text


def test_a_form_has_fields_and_files(server):
    files = {"image": ("a.jpg", b"\xff\xd8" * 5000, "image/jpeg")}
    answer = server.client.post("/probe/form", data={"conf": "0.5", "ü": "ä"}, files=files)
    assert answer.json() == {
        "fields": {"conf": "0.5", "ü": "ä"},
        "files": [["image", "a.jpg", 10_000]],
    }


def test_a_form_may_be_url_encoded(server):
    answer = server.client.post("/probe/form", data={"a": "1", "b": ""})
    assert answer.json() == {"fields": {"a": "1", "b": ""}, "files": []}


def test_a_body_of_another_type_is_an_empty_form(server):
    headers = {"content-type": "text/plain"}
    answer = server.client.post("/probe/form", content=b"x", headers=headers)
    assert answer.json() == {"fields": {}, "files": []}


def multipart(*parts: bytes, end: bytes = b"--B--\r\n") -> dict:
    body = b"".join(b"--B\r\n" + part + b"\r\n" for part in parts) + end
    return {"content": body, "headers": {"content-type": "multipart/form-data; boundary=B"}}


FIELD = b'Content-Disposition: form-data; name="a"\r\n\r\n1'


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (multipart(*[FIELD] * 64), 200),
        (multipart(*[FIELD] * 65), 413),
        (multipart(FIELD + b"1" * 2000), 413),
        (multipart(FIELD, end=b""), 422),
        (multipart(b"\r\n1"), 422),
        (multipart(b"Content-Disposition: attachment\r\n\r\n1"), 422),
        (multipart(b"X: y\r\n" * 20 + FIELD), 422),
        (multipart(b"X" * 20_000), 422),
        (multipart(FIELD + b"\xff"), 422),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 422),
        (
            {
                "content": b"x",
                "headers": {"content-type": "multipart/form-data; boundary=" + "B" * 5000},
            },
            422,
        ),
        ({"data": {str(i): "1" for i in range(65)}}, 413),
        ({"data": {"a": "1" * 2000}}, 413),
    ],
    ids=[
        "parts",
        "too-many-parts",
        "long-text",
        "cut-off",
        "no-name",
        "no-form-data",
        "many-headers",
        "long-header",
        "no-utf8",
        "no-boundary",
        "long-boundary",
        "too-many-fields",
        "long-field",
    ],
)
def test_a_form_is_read_within_limits(server, sent, status):
    assert server.client.post("/probe/form", **sent).status_code == status


def test_names_of_a_form_that_are_no_utf8_are_read_as_far_as_they_go(server):
    part = b'Content-Disposition: form-data; name="image"; filename="\xe4.jpg"\r\n\r\nabc'
    answer = server.client.post("/probe/form", **multipart(part))
    assert answer.json() == {"fields": {}, "files": [["image", "\ufffd.jpg", 3]]}


def test_parts_of_a_form_may_be_empty(server):
    parts = [b'Content-Disposition: form-data; name="a"\r\n\r\n']
    parts.append(b'Content-Disposition: form-data; name="f"; filename=""\r\n\r\n')
    answer = server.client.post("/probe/form", **multipart(*parts))
    assert answer.json() == {"fields": {"a": ""}, "files": [["f", "", 0]]}


def test_a_file_of_a_form_is_no_text_field_and_may_be_large(server):
    answer = server.client.post("/probe/form", files={"f": ("x", b"\0" * 50_000)})
    assert answer.json()["files"] == [["f", "x", 50_000]]


def test_many_headers_and_long_addresses_are_refused(server):
    many = server.client.get("/probe/who", headers={f"x-{i}": "1" for i in range(120)})
    large = server.client.get("/probe/who", headers={"x-large": "1" * 33_000})
    long = server.client.get("/probe/who", params={"x": "1" * 17_000})
    assert (many.status_code, large.status_code, long.status_code) == (431, 431, 414)


def test_values_that_mean_nothing_here_do_no_harm(server):
    body = json.dumps({"api_key": ["no", "text"], "x": {"y": 1e308}})
    assert server.client.post("/probe/json", content=body).status_code == 200
