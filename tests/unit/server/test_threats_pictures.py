"""What pictures and models bring along (S8 to S14, S25): no files, code, bombs or escapes."""

from __future__ import annotations

import base64
import io
import os
import pickle
import resource
import socket
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from openkeypoints.errors import UnsafeCheckpointError, WeightsError
from openkeypoints.models import ModelSpec
from openkeypoints.server.config import Limits, NamedModel, ServerConfig
from tests.live_server import live_server
from tests.pickled import Call, Global, write_checkpoint
from tests.unit.server.surfaces_of_pictures import BYTES, MODEL, TEXTS, others
from tests.unit.server.watched import CONNECTS, OPENS, RUNS, watched

MEDIA = Path(__file__).parents[2] / "data" / "media"
CANARY = "canary-in-a-file"


@pytest.fixture(scope="module")
def server(settings, tiny_pt):
    config = ServerConfig(port=0, models=(NamedModel(MODEL, ModelSpec(str(tiny_pt))),))
    with live_server(config, settings=settings) as running:
        yield running


# ------------------------------------------------------------------------------------- S8: files


@pytest.mark.parametrize("way", TEXTS)
def test_no_text_is_ever_the_name_of_a_file(server, tmp_path, way):
    file = tmp_path / "secret.png"
    file.write_bytes((MEDIA / "plain.png").read_bytes())
    names = [str(file), f"file://{file}", f"FILE://localhost{file}", "/etc/passwd"]
    names += ["file:///etc/passwd", r"\\127.0.0.1\share\a.png", "//127.0.0.1/share/a.png"]
    names += [os.path.relpath(file), "~/.ssh/id_rsa", "C:\\a.png", f"data:{file}", f"@{file}"]
    with watched(OPENS, CONNECTS) as seen:
        answers = [TEXTS[way](server.client, name) for name in names]
    assert {answer.status_code for answer in answers} == {400}
    opened = [what for event, what in others(seen, server) if event in OPENS]
    assert [w for w in opened if "secret" in w or "passwd" in w or "id_rsa" in w] == []
    assert [entry for entry in others(seen, server) if entry[0] in CONNECTS] == []


@pytest.mark.parametrize("kind", ["file", "path", "pil", "multipart", "FILE"])
def test_no_type_of_picture_reads_a_file(server, tmp_path, kind):
    file = tmp_path / "secret.png"
    file.write_bytes((MEDIA / "plain.png").read_bytes())
    body = {"model_id": MODEL, "image": {"type": kind, "value": str(file)}}
    with watched(OPENS) as seen:
        answer = server.client.post("/infer/keypoints_detection", json=body)
    assert answer.status_code == 400
    assert not any("secret" in what for _, what in seen)


# ------------------------------------------------------------------------------------- S9: code


class Bomb:
    def __reduce__(self):
        return os.system, ('touch "$TRACE"',)


def bombs() -> list[bytes]:
    array = io.BytesIO()
    np.save(array, np.array([Bomb()], dtype=object), allow_pickle=True)
    header = io.BytesIO()
    np.save(header, np.zeros((4, 4, 3), np.uint8))
    evaluated = header.getvalue().replace(b"(4, 4, 3), }", b"exit(1),   }")
    return [pickle.dumps(Bomb()), array.getvalue(), evaluated]


def test_no_array_runs_code(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACE", str(tmp_path / "ran"))
    with watched(RUNS) as seen:
        for data in bombs():
            text = base64.b64encode(data).decode()
            for kind in ("numpy", "numpy_object", "npy", "base64"):
                body = {"model_id": MODEL, "image": {"type": kind, "value": text}}
                answer = server.client.post("/infer/keypoints_detection", json=body)
                assert answer.status_code == 400, kind
                answer = server.client.post(
                    f"/{MODEL}/1",
                    params={"image_type": kind},
                    content=data,
                    headers={"content-type": "application/octet-stream"},
                )
                assert answer.status_code == 400, kind
            assert BYTES["native"](server.client, data).status_code == 400
    assert seen == []
    assert not (tmp_path / "ran").exists()


def test_an_array_that_says_more_than_it_has_is_not_allocated(server):
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, "
    data = header + b"'shape': (99999, 99999, 3), } \n" + b"\0" * 48
    before = peak_mb()
    answer = server.client.post(
        f"/{MODEL}/1",
        params={"image_type": "npy"},
        content=data,
        headers={"content-type": "application/octet-stream"},
    )
    assert answer.status_code == 400
    assert peak_mb() - before < 100


# ------------------------------------------------------------------------------------- S10: bombs


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def png(width: int, height: int, body: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + crc

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def large_jpeg_header() -> bytes:
    data = bytearray((MEDIA / "gray.jpg").read_bytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"  # 65535 x 65535
    return bytes(data)


def packed_zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(10**6)) for _ in range(count // 10**6)) + packer.flush()


def test_a_bomb_is_refused_from_its_header(server):
    large = png(20_000, 20_000, packed_zeros(60_000_000))
    files = [large, large_jpeg_header(), (MEDIA / "bomb.png").read_bytes()]
    files += [png(8001, 8000, b""), png(2**31 - 1, 2**31 - 1, b""), png(1, 64_000_001, b"")]
    for way, send in BYTES.items():
        for data in files:
            memory, work = peak_mb(), time.process_time()
            answer = send(server.client, data)
            assert answer.status_code == 413, way
            assert time.process_time() - work < 0.2 + len(data) / 1e6, way  # sending it included
            assert peak_mb() - memory < 300, way


@pytest.mark.parametrize("name", ["anim.gif", "anim.webp", "anim.png", "pages.tif", "stereo.mpo"])
def test_of_many_frames_the_first_is_read(server, name):
    answer = BYTES["native"](server.client, (MEDIA / name).read_bytes())
    assert answer.status_code == 200
    assert answer.json()["image"] == {"width": 160, "height": 120}


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF"])
def test_many_frames_cost_what_one_costs(server, format):
    frames = [PilImage.new("RGB", (400, 400), (i, 0, 0)) for i in range(30)]
    file = io.BytesIO()
    frames[0].save(file, format, save_all=True, append_images=frames[1:])
    memory, work = peak_mb(), time.process_time()
    assert BYTES["native"](server.client, file.getvalue()).status_code == 200
    assert time.process_time() - work < 0.5
    assert peak_mb() - memory < 60


def test_pictures_of_one_request_share_one_budget(server):
    data = png(8000, 8000, b"")  # 64 megapixels: allowed, alone
    entry = {"type": "base64", "value": base64.b64encode(data).decode()}
    memory = peak_mb()
    body = {"model_id": MODEL, "image": [entry] * 16}
    answer = server.client.post("/infer/keypoints_detection", json=body)
    assert answer.status_code in (400, 413, 503)
    assert peak_mb() - memory < 300


# ------------------------------------------------------------------------------------- S11: types


def written(format: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    PilImage.new(mode, (16, 12)).save(file, format)
    return file.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
PAGE = b"<!doctype html><script>alert(1)</script>"
READ = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "MPO")
FOREIGN: dict[str, bytes] = {
    "svg": SVG,
    "svg-xml": b'<?xml version="1.0"?>' + SVG,
    "svg-bom": b"\xef\xbb\xbf" + SVG,
    "svgz": b"\x1f\x8b\x08\x00" + SVG,
    "xxe": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
    "html": PAGE,
    "xhtml": b"<html><body><img src=x></body></html>",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(cat /etc/passwd) run\n",
    "eps-dos": b"\xc5\xd0\xd3\xc6" + bytes(60),
    "pdf": b"%PDF-1.7\n1 0 obj\n",
    "psd": b"8BPS\x00\x01" + bytes(40),
    "ico": written("ICO"),
    "icns": b"icns" + bytes(40),
    "tga": written("TGA"),
    "pcx": written("PCX"),
    "sgi": written("SGI"),
    "dds": written("DDS"),
    "xbm": written("XBM", "1"),
    "xpm": b"/* XPM */ static char *a[] = {",
    "im": b"Image type: RGB image\r\n" + bytes(500),
    "msp": written("MSP", "1"),
    "spider": b"\0" * 2000,
    "fits": b"SIMPLE  =                    T" + b" " * 80,
    "wmf": b"\xd7\xcd\xc6\x9a" + bytes(60),
    "emf": b"\x01\0\0\0" + bytes(36) + b" EMF" + bytes(40),
    "flc": bytes(4) + b"\x12\xaf" + bytes(140),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(60),
    "grib": b"GRIB" + bytes(60),
    "jxl": b"\xff\x0a" + bytes(60),
    "jxl-box": b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(60),
    "heic": b"\x00\x00\x00\x18ftypheic" + bytes(60),
    "exr": b"\x76\x2f\x31\x01" + bytes(60),
    "hdr": b"#?RADIANCE\n" + bytes(60),
    "ras": b"\x59\xa6\x6a\x95" + bytes(60),
    "webp-lie": b"RIFF\x10\0\0\0WEBPXXXX" + bytes(20),
    "wav": b"RIFF\x10\0\0\0WAVEfmt " + bytes(40),
    "zip": b"PK\x03\x04" + bytes(60),
    "gzip": b"\x1f\x8b\x08" + bytes(60),
    "xz": b"\xfd7zXZ\0" + bytes(60),
    "tar": b"a.png" + bytes(252) + b"ustar" + bytes(250),
    "elf": b"\x7fELF" + bytes(60),
    "exe": b"MZ" + bytes(60),
    "script": b"#!/bin/sh\ntouch /tmp/x\n",
    "pickle": pickle.dumps({"a": 1}),
    "npz": b"PK\x03\x04" + b"arr_0.npy",
    "json": b'{"image": "x"}',
    "text": b"picture",
    "mvg": b"push graphic-context\nimage over 0,0 0,0 'label:@/etc/passwd'\n",
    "msl": b'<?xml version="1.0"?><image><read filename="/etc/passwd"/></image>',
    "zeros": bytes(500),
    "png-then-page": b"\x89PNG\r\n\x1a\n" + PAGE,
    "jpeg-then-page": b"\xff\xd8\xff\xe0" + PAGE,
    "gif-then-script": b"GIF89a/*" + PAGE,
    "bmp-then-script": b"BM/*" + PAGE,
    "tiff-loop": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "page-then-jpeg": PAGE + written("JPEG"),
    "zip-then-png": b"PK\x03\x04" + written("PNG"),
    "comment-then-gif": b"/**/" + written("GIF"),
}


def test_files_of_other_types_are_refused_and_handed_to_no_program(server):
    assert len(FOREIGN) + len(READ) >= 60
    with watched(RUNS, CONNECTS) as seen:
        for name, data in FOREIGN.items():
            answer = server.client.post(
                f"/v1/models/{MODEL}/predict", content=data, headers={"content-type": "image/jpeg"}
            )
            assert answer.status_code in (400, 415), name
    assert others(seen, server) == []


@pytest.mark.parametrize("format", READ)
def test_pictures_are_told_by_their_bytes_and_not_by_what_is_said(server, format):
    answer = server.client.post(
        f"/v1/models/{MODEL}/predict",
        content=written(format),
        headers={"content-type": "text/html"},
    )
    assert answer.status_code == 200
    assert answer.json()["image"] == {"width": 16, "height": 12}


# ------------------------------------------------------------------------------- S12: damaged files


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_damaged_picture_shows_nothing_of_the_one_before(server, format):
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    file = io.BytesIO()
    PilImage.fromarray(noise).save(file, format)
    whole = file.getvalue()
    params = {"format": "image"}
    for _ in range(2):
        assert BYTES["native"](server.client, whole).status_code == 200
        for share in (0.3, 0.9):
            cut = whole[: int(len(whole) * share)]
            answer = server.client.post(
                f"/{MODEL}/1", params=params, content=cut, headers={"content-type": "image/x"}
            )
            assert answer.status_code == 400
            assert answer.headers["content-type"] == "application/json"
            assert len(answer.content) < 1000


# ------------------------------------------------------------------------------------ S13: models


def test_a_hostile_checkpoint_of_the_operator_runs_nothing(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACE", str(tmp_path / "ran"))
    call = Call(Global("os", "system"), ('touch "$TRACE"',))
    file = write_checkpoint(tmp_path / "evil.pt", {"model": call})
    config = ServerConfig(port=0, models=(NamedModel("mine", ModelSpec(str(file))),))
    with watched(RUNS) as seen, live_server(config, settings=settings) as server:
        failure = server.context.condition.failure
    assert isinstance(failure, WeightsError)
    assert isinstance(failure.__cause__, UnsafeCheckpointError)
    assert seen == []
    assert not (tmp_path / "ran").exists()


def test_a_plain_checkpoint_of_the_operator_is_served(settings, tiny_pt):
    config = ServerConfig(port=0, models=(NamedModel("mine", ModelSpec(str(tiny_pt))),))
    with watched(RUNS) as seen, live_server(config, settings=settings) as server:
        answer = server.client.get("/v1/models/mine")
    assert answer.status_code == 200
    assert [entry for entry in seen if entry[0] == "pickle.find_class"] == []


def test_a_graph_with_weights_elsewhere_is_not_served(settings, tmp_path):
    import onnx

    (tmp_path / "secret").write_bytes(bytes(4))
    (tmp_path / "folder").mkdir()
    tensor = onnx.TensorProto(
        name="far",
        data_type=onnx.TensorProto.FLOAT,
        dims=[1],
        data_location=onnx.TensorProto.EXTERNAL,
    )
    tensor.external_data.add(key="location", value="../secret")
    value = onnx.helper.make_tensor_value_info("far", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([], "graph", [], [value], [tensor])
    file = tmp_path / "folder" / "evil.onnx"
    file.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    config = ServerConfig(port=0, models=(NamedModel("mine", ModelSpec(str(file))),))
    with watched(OPENS) as seen, live_server(config, settings=settings) as server:
        failure = server.context.condition.failure
    assert isinstance(failure, WeightsError)
    assert "outside its own folder" in str(failure.__cause__)
    assert not any("secret" in what for _, what in seen)


@pytest.mark.parametrize("way", ["legacy", "add", "native", "shared"])
def test_no_client_names_a_file_of_the_server(server, tiny_pt, way):
    name = str(tiny_pt)
    client = server.client
    with watched(OPENS) as seen:
        answer = {
            "legacy": lambda: client.post(name, content=b"x", headers={"content-type": "a/b"}),
            "add": lambda: client.post("/model/add", json={"model_id": name}),
            "native": lambda: client.get(f"/v1/models/{name}"),
            "shared": lambda: client.post(
                "/predict", data={"model": name}, files={"file": written("PNG")}
            ),
        }[way]()
    assert answer.status_code in (400, 404)
    assert not any(str(tiny_pt.parent) in what for _, what in seen)


# --------------------------------------------------------------------------------------- S14: ids


IDS = [
    *("..", "../..", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e", "%2e%2e%2f%2e%2e"),
    *("%252e%252e%252f", "..%5c..%5c", "..%c0%af", "a%00", "a%00.pt", "%00", "a%0ab", "a;b", "a b"),
    *(
        "%E2%80%A4%E2%80%A4/x",
        "%EF%BC%8E%EF%BC%8E",
        "a" * 10_000,
        "~",
        "$HOME",
        "a|b",
        "*",
        "a/b/c",
    ),
    *("C:%5ca", "%5c%5chost%5ca", "file:%2f%2f%2fetc%2fpasswd", "%2fetc%2fpasswd", "-", "..."),
]
ROUTES = [
    "/{}",
    "/{}/1",
    "/start/{}",
    "/v1/models/{}",
    "/v1/predict/{}",
    "/api/models/a/b/{}/health",
]


@pytest.mark.parametrize("route", ROUTES)
def test_no_id_of_an_address_leads_anywhere(server, route):
    verb = "POST" if "predict" in route else "GET"
    with watched(OPENS) as seen:
        for name in IDS:
            status, answer = raw(server.address, f"{verb} {route.format(name)} HTTP/1.1")
            assert status in (400, 404, 405), name
            assert b"root:" not in answer
            assert len(answer) < 3000
    assert not any("passwd" in what or ".." in what for _, what in seen)


def test_no_id_of_a_body_leads_anywhere(server):
    names = [
        "../../etc/passwd",
        "..",
        "a\0b",
        "a" * 10_000,
        "．．",
        "\u2024\u2024/x",
        "a\nb",
        "/etc",
    ]
    with watched(OPENS) as seen:
        for name in names:
            for path in ("/model/add", "/infer/keypoints_detection"):
                body = {"model_id": name, "image": {"type": "base64", "value": "AAAA"}}
                answer = server.client.post(path, json=body)
                assert answer.status_code in (400, 404), name
                assert len(answer.content) < 1000
    assert not any("passwd" in what or "/etc" in what for _, what in seen)


def raw(address, line: str) -> tuple[int, bytes]:
    with socket.create_connection(address, 10) as connection:
        head = f"{line}\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split()[1]), answer


# ---------------------------------------------------------------------------------- S25: too much


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        (f"/v1/models/{MODEL}/predict", {"max_detections": "301"}),
        (f"/v1/models/{MODEL}/predict", {"max_detections": "9" * 30}),
        (f"/v1/models/{MODEL}/predict", {"confidence": "nan"}),
        (f"/v1/models/{MODEL}/predict", {"iou_threshold": "inf"}),
        (f"/v1/predict/{MODEL}", {"imgsz": "1281"}),
        (f"/v1/predict/{MODEL}", {"size": "1e9"}),
        (f"/v1/predict/{MODEL}", {"conf": "-1"}),
        ("/predict", {"decimals": "1000"}),
    ],
)
def test_nobody_asks_for_more_than_there_is(server, path, arguments):
    answer = server.client.post(path, params=arguments, files={"image": written("PNG")})
    assert answer.status_code == 400
    assert next(iter(arguments)) in answer.text


def test_a_list_has_sixteen_pictures_at_most(server):
    entry = {"type": "base64", "value": base64.b64encode(written("PNG")).decode()}
    body = {"model_id": MODEL, "image": [entry] * 17}
    answer = server.client.post("/infer/keypoints_detection", json=body)
    assert (answer.status_code, "at most 16" in answer.text) == (400, True)


def test_more_detections_than_the_limit_are_cut_to_it():
    from openkeypoints.server.surfaces.roboflow_params import from_body, from_query

    assert from_query({"max_detections": "100000"}).request.max_detections == 300
    assert from_body({"max_detections": 100_000}).request.max_detections == 300


def test_a_picture_may_have_so_many_bytes(serve):
    data = written("BMP") + bytes(2000)
    with serve(ServerConfig(port=0, limits=Limits(picture_bytes=1000))) as small:
        assert {send(small.client, data).status_code for send in BYTES.values()} == {413}
