"""The three generations of Ultralytics' API: envelopes, defaults, words, errors."""

from __future__ import annotations

import base64
import json
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from openkeypoints.formats.ultralytics import dump
from openkeypoints.models import InferOptions
from openkeypoints.server.config import Limits
from openkeypoints.server.keys import KeyRecord, sha256_of
from openkeypoints.server.pictures import REFUSED
from tests.servers import FileServer, serving

CLOSED = json.loads(
    (Path(__file__).parents[3] / "data" / "ultralytics_g3.schema.json").read_text("utf-8")
)
KEY = "okp_tests_" + "k" * 40
G1 = "/v1/predict/detect"
G2 = "/predict"
G3 = "/api/models/somebody/project/detect/predict"
DEPLOYED = "/api/deployments/somebody/detect/predict"
ALL = (G1, G2, G3, DEPLOYED)
AVI = b"RIFF\x00\x10\x00\x00AVI LIST" + bytes(200)


def rows_of(path: str, answer: dict) -> list[dict]:
    return answer["data"] if path.startswith("/v1/") else answer["images"][0]["results"]


def message_of(path: str, answer: dict) -> str:
    return answer["message"] if path.startswith("/v1/") else answer["error"]


def default_iou(path: str) -> float:
    return 0.45 if path.startswith("/v1/") else 0.7


# ------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("model_id", ["my-pose/3", "detect", "segment"])
def test_the_first_generation_answers_with_the_rows_of_the_library(ask, infer, picture, model_id):
    answer = ask.post(f"/v1/predict/{model_id}", files={"image": picture})
    found = infer(model_id, picture, confidence=0.25, iou_threshold=0.45)
    assert len(found) > 0
    assert answer.json() == {
        "success": True, "message": "Inference complete.", "data": dump(found),
    }  # fmt: skip


@pytest.mark.parametrize("model_id", ["detect", "segment", "person"])
def test_the_latest_generation_answers_with_the_pictures_of_the_library(
    ask, infer, picture, model_id
):
    path = f"/api/models/somebody/project/{model_id}/predict"
    answer = ask.post(path, files={"file": picture}, data={"conf": "0.34"}).json()
    image = answer["images"][0]
    found = infer(model_id, picture, confidence=0.34, iou_threshold=0.7)
    assert len(found) > 0
    assert image["shape"] == [60, 80]
    assert image["results"] == dump(found)
    assert answer["metadata"]["model"] == model_id


@pytest.mark.parametrize("model_id", ["detect", "segment", "person"])
def test_answers_of_the_latest_generation_are_of_the_closed_schema(ask, picture, model_id):
    path = f"/api/models/somebody/project/{model_id}/predict"
    answer = ask.post(path, files={"file": picture}, data={"conf": "0.34"}).json()
    Draft202012Validator(CLOSED).validate(answer)


def test_the_two_defaults_of_iou_give_different_rows(infer, picture):
    counts = [len(infer("detect", picture, iou_threshold=iou)) for iou in (0.45, 0.7)]
    assert counts[0] < counts[1]


@pytest.mark.parametrize("path", ALL)
def test_the_address_decides_the_default_of_iou(ask, infer, picture, path):
    answer = ask.post(path, files={"file": picture}, data={"model": "detect"}).json()
    found = infer("detect", picture, confidence=0.25, iou_threshold=default_iou(path))
    assert rows_of(path, answer) == dump(found)


def test_the_numbers_of_a_box_keep_their_order(ask, picture):
    answer = ask.post(G3, files={"file": picture}).json()
    assert list(answer["images"][0]["results"][0]["box"]) == ["x1", "y1", "x2", "y2"]


@pytest.mark.parametrize("path", ALL)
def test_nothing_found_is_an_empty_list(ask, picture, path):
    answer = ask.post(path, files={"file": picture}, data={"model": "detect", "conf": "1"})
    assert rows_of(path, answer.json()) == []


# ------------------------------------------------------------------------------- the shared service


@pytest.mark.parametrize("path", ["/", "/predict"])
@pytest.mark.parametrize(
    "model", ["segment", "https://hub.example.com/models/segment?tab=preview", "ul://me/p/segment"]
)
def test_the_shared_service_takes_the_model_from_the_form(ask, picture, path, model):
    answer = ask.post(path, files={"file": picture}, data={"model": model}).json()
    assert answer["metadata"]["model"] == "segment"


def test_an_id_with_a_slash_is_no_address_of_a_page(ask, picture):
    answer = ask.post("/predict", files={"file": picture}, data={"model": "my-pose/3"}).json()
    assert answer["metadata"]["model"] == "my-pose/3"


def test_without_a_model_the_shared_service_takes_the_first(ask, picture, yolo_server):
    answer = ask.post("/predict", files={"file": picture}).json()
    assert answer["metadata"]["model"] == yolo_server.context.catalogue.pinned[0]


def test_the_root_without_a_body_is_the_look_up_of_the_workspace(ask):
    assert ask.post("/").json()["workspace"] == "openkeypoints"


# ------------------------------------------------------------------------------- arguments

WORDS = [
    {"size": "64", "confidence": "0.5", "iou": "0.3", "normalize": "True", "decimals": "3"},
    {"imgsz": "64", "conf": "0.5", "iou": "0.3", "normalize": "1", "decimals": "3.0"},
    {"size": '"64"', "confidence": "'.5'", "iou": " 3e-1 ", "normalize": "'yes'", "decimals": "+3"},
]


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("place", ["data", "params"])
def test_arguments_are_read_in_all_words_from_form_and_query(
    ask, infer, picture, path, words, place
):
    named = {"model": "detect"} if path == G2 else {}
    options = {place: {**words, **named}}
    answer = ask.post(path, files={"image": picture}, **options).json()
    found = infer(
        "detect",
        picture,
        confidence=0.5,
        iou_threshold=0.3,
        options=InferOptions(input_size=(64, 64)),
    )
    assert rows_of(path, answer) == dump(found, normalize=True, decimals=3)


def test_the_form_goes_before_the_query(ask, infer, picture):
    answer = ask.post(G1, files={"image": picture}, data={"conf": "0.5"}, params={"confidence": 1})
    assert answer.json()["data"] == dump(
        infer("detect", picture, confidence=0.5, iou_threshold=0.45)
    )


def test_false_is_false(ask, picture):
    plain = ask.post(G1, files={"image": picture}).json()
    asked = ask.post(G1, files={"image": picture}, data={"normalize": "False"}).json()
    assert plain == asked


def test_a_size_is_rounded_up_to_the_stride(ask, infer, picture):
    answer = ask.post(G1, files={"image": picture}, data={"size": "65"}).json()
    options = InferOptions(input_size=(96, 96))
    found = infer("detect", picture, confidence=0.25, iou_threshold=0.45, options=options)
    assert answer["data"] == dump(found)
    assert answer != ask.post(G1, files={"image": picture}).json()


def test_a_model_of_a_fixed_size_leaves_a_size_out_of_account(
    ask, yolo_server, picture, monkeypatch
):
    predictor = yolo_server.context.engine.loaded()["detect"].model.predictor
    monkeypatch.setattr(predictor, "honours", predictor.honours - {"input_size"})
    sized = ask.post(G1, files={"image": picture}, data={"size": "96"}).json()
    assert sized == ask.post(G1, files={"image": picture}).json()


@pytest.mark.parametrize("path", [G1, G3])
@pytest.mark.parametrize(
    ("name", "value", "range_"),
    [
        ("size", "31", "from 32 to 1280"),
        ("imgsz", "1281", "from 32 to 1280"),
        ("size", "64.5", "from 32 to 1280"),
        ("confidence", "0.001", "from 0.01 to 1"),
        ("conf", "1.01", "from 0.01 to 1"),
        ("conf", "nan", "from 0.01 to 1"),
        ("conf", "1e999", "from 0.01 to 1"),
        ("conf", "", "from 0.01 to 1"),
        ("conf", "0_1", "from 0.01 to 1"),
        ("conf", "0." + "1" * 100_000, "from 0.01 to 1"),
        ("conf", "٠٫٥", "from 0.01 to 1"),
        ("iou", "-0.1", "from 0 to 0.95"),
        ("iou", "0.96", "from 0 to 0.95"),
        ("decimals", "11", "from 0 to 10"),
        ("decimals", "-1", "from 0 to 10"),
        ("vid_stride", "0", "from 1 to 10000"),
        ("normalize", "maybe", "true or false"),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name_and_range(
    ask, picture, path, name, value, range_
):
    place = "data" if len(value) < 1000 else "params"
    value = value[:9000]
    answer = ask.post(path, files={"file": picture}, **{place: {name: value}})
    message = message_of(path, answer.json())
    assert answer.status_code == 400
    assert message.startswith(f"{name} is ")
    assert range_ in message
    assert len(message) < 150


# ------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize("word", ["url", "source"])
@pytest.mark.parametrize("before", ["", "data:image/png;base64,"])
def test_a_picture_may_come_as_base64(ask, infer, picture, path, word, before):
    text = before + base64.b64encode(picture).decode()
    answer = ask.post(path, data={word: text, "model": "detect"})
    found = infer("detect", picture, confidence=0.25, iou_threshold=default_iou(path))
    assert rows_of(path, answer.json()) == dump(found)


def test_a_plus_that_nobody_escaped_is_mended(ask, infer, picture):
    body = b"source=" + base64.b64encode(picture)
    assert b"+" in body
    kind = {"content-type": "application/x-www-form-urlencoded"}
    answer = ask.post(G3, content=body, headers=kind).json()
    assert rows_of(G3, answer) == dump(infer("detect", picture, confidence=0.25, iou_threshold=0.7))


@pytest.mark.parametrize("path", ALL)
def test_an_address_is_refused_with_the_one_text(ask, path):
    for address in ("https://example.com/a.png", "http://127.0.0.1/", "file:///etc/passwd"):
        answer = ask.post(path, data={"url": address, "model": "detect"})
        assert (answer.status_code, message_of(path, answer.json())) == (400, REFUSED)


def test_an_address_that_the_operator_allows_is_fetched(small_server, picture):
    server = FileServer()
    server.files = {"/a.png": picture, "/film.avi": AVI}
    with (
        serving(server) as files,
        small_server(allow_url_hosts=("127.0.0.1",)) as (ask, _),
    ):
        for path, word in ((G1, "url"), (G2, "source"), (G3, "source"), ("/", "source")):
            by_file = ask.post(path, files={"file": picture}).json()
            fetched = ask.post(path, data={word: f"{files.url}/a.png"}).json()
            assert rows_of(path, fetched) == rows_of(path, by_file) != []
        assert ask.post(G1, data={"url": f"{files.url}/film.avi"}).status_code == 415


@pytest.mark.parametrize("url", ["", "''"])
def test_an_empty_address_is_none(ask, picture, url):
    assert ask.post(G1, files={"image": picture}, data={"url": url}).json()["success"]


@pytest.mark.parametrize(
    "options",
    [
        {"data": {"size": "64"}},
        {"files": {"picture": b"x"}},
        {"data": {"url": ""}},
        {"content": b"{}", "headers": {"content-type": "application/json"}},
        {},
    ],
)
def test_no_picture_is_said_as_the_first_generation_says_it(ask, options):
    answer = ask.post(G1, **options)
    assert answer.status_code == 400
    assert answer.json() == {
        "success": False, "message": "An image file or URL must be submitted.", "data": {},
    }  # fmt: skip


@pytest.mark.parametrize("path", ALL)
def test_two_pictures_are_refused(ask, picture, path):
    for extra in ({"source": "https://example.com"}, {}):
        files = [("file", picture)] + ([] if extra else [("image", picture)])
        answer = ask.post(path, files=files, data={"model": "detect", **extra})
        assert answer.status_code == 400
        assert "one picture" in message_of(path, answer.json())


@pytest.mark.parametrize("path", ALL)
def test_a_video_is_415_with_the_command_to_use(ask, path):
    encoded = base64.b64encode(AVI).decode()
    for options in ({"files": {"file": AVI}}, {"data": {"source": encoded, "model": "detect"}}):
        answer = ask.post(path, **options)
        assert answer.status_code == 415
        assert "`okp predict`" in message_of(path, answer.json())


@pytest.mark.parametrize("sent", ["hello", "/etc/passwd", "data:image/png,abc", "aGVsbG8gd29ybGQ="])
def test_a_text_that_is_no_picture_is_never_a_file(ask, sent):
    answer = ask.post(G3, data={"source": sent})
    assert answer.status_code == 400
    assert "neither" in answer.json()["error"]


def test_bytes_that_are_no_picture_are_400(ask):
    assert ask.post(G1, files={"image": b"hello"}).status_code == 400


# ------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "path",
    [
        "/v1/predict/nobody",
        "/v1/predict/nobody/1",
        "/v1/predict/..%2f..%2fetc",
        "/v1/predict/a/b/c",
        "/api/models/somebody/project/nobody/predict",
        "/api/deployments/somebody/nobody/predict",
    ],
)
def test_an_unknown_model_is_404(ask, picture, path):
    answer = ask.post(path, files={"file": picture})
    assert answer.status_code == 404
    assert "nobody" in message_of(path, answer.json()) or "nobody" not in path


def test_an_unknown_model_of_the_form_is_404(ask, picture):
    answer = ask.post(G2, files={"file": picture}, data={"model": "nobody"})
    assert answer.status_code == 404


def test_a_broken_form_is_400(ask):
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert ask.post(G1, content=b"--x\r\nbroken", headers=kind).status_code == 400
    assert ask.post(G3, content=b"--x\r\nbroken", headers=kind).status_code == 400


def test_callers_without_a_key_get_401(small_server, picture):
    with small_server(api_key=KEY) as (ask, _):
        for path in ALL:
            files = {"file": picture}
            assert ask.post(path, files=files).status_code == 401
            for headers in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}):
                assert ask.post(path, files=files, headers=headers).status_code == 200


def test_what_is_too_large_is_413(small_server, picture):
    limits = Limits(picture_bytes=2000, body_bytes=6000)
    assert 2000 < len(picture) < 30_000
    with small_server(limits=limits) as (ask, _):
        for path in ALL:
            for file in (picture[:5000], bytes(7000)):
                assert ask.post(path, files={"file": file}).status_code == 413


def test_a_key_that_asks_too_often_gets_429_and_when_to_come_back(small_server, picture, tmp_path):
    record = KeyRecord("tests", sha256_of(KEY), frozenset({"infer"}), rate=0.1)
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"version": 1, "keys": [record.to_json()]}), encoding="utf-8")
    file.chmod(0o600)
    with small_server(api_keys=file) as (ask, _):
        headers = {"x-api-key": KEY}
        assert ask.post(G3, files={"file": picture}, headers=headers).status_code == 200
        limited = ask.post(G3, files={"file": picture}, headers=headers)
        assert limited.status_code == 429
        assert int(limited.headers["retry-after"]) >= 1
        assert datetime.fromisoformat(limited.headers["x-ratelimit-reset"]) > datetime.now(UTC)
        first = ask.post(G1, files={"file": picture}, headers=headers)
        assert (first.status_code, first.json()["success"]) == (429, False)
        assert "retry-after" in first.headers


def test_a_server_without_room_answers_503_and_when_to_come_back(small_server, picture):
    with small_server() as (ask, context):
        context.engine.start_draining()
        for path in ALL:
            for words in ({}, {"size": "64"}):
                answer = ask.post(path, files={"file": picture}, data=words)
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) >= 1
                assert message_of(path, answer.json())
        health = ask.get("/api/models/a/b/detect/health").json()
        assert (health["healthy"], health["status"]) == (False, 503)


@pytest.mark.parametrize("path", [G1, G3, DEPLOYED, "/v1/models/detect/predict", "/detect/1"])
def test_a_server_without_room_says_so_before_the_picture_is_sent(small_server, path):
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    with small_server() as (ask, context):
        context.engine.start_draining()
        address = ask.client.base_url
        with socket.create_connection((address.host, address.port), timeout=5) as connection:
            connection.sendall(head.encode())
            answer = connection.recv(65536).lower()
    assert answer.startswith(b"http/1.1 503")
    assert b"\r\nretry-after: " in answer


# ------------------------------------------------------------------------------- health


@pytest.mark.parametrize(
    "path", ["/api/models/a/b/detect/health", "/api/deployments/a/detect/health"]
)
def test_a_model_that_is_there_is_healthy(ask, path):
    answer = ask.get(path).json()
    assert answer["healthy"] is True
    assert answer["latencyMs"] >= 0


def test_the_health_of_an_unknown_model_is_404(ask):
    assert ask.get("/api/deployments/a/nobody/health").status_code == 404


# ------------------------------------------------------------------------------- documents


@pytest.mark.parametrize("path", ALL)
def test_every_word_is_documented_with_the_default_of_the_route(ask, path):
    operation = ask.operation("post", path)
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    query = {p["name"]: p["schema"] for p in operation["parameters"] if p["in"] == "query"}
    words = {"size", "imgsz", "confidence", "conf", "iou", "normalize", "decimals", "url", "source"}
    assert words <= query.keys() <= form.keys()
    assert form["iou"]["default"] == default_iou(path)
    assert ("model" in form) == (path == G2)
