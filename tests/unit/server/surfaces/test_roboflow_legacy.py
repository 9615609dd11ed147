"""The legacy route: every way to send a picture, filters, pictures of the answer, headers."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from openkeypoints.server.config import Limits
from openkeypoints.server.pictures import REFUSED
from tests.servers import FileServer, serving
from tests.synthetic import (
    PEOPLE,
    SIDE,
    as_base64,
    drawn_share,
    encoded,
    gradient,
    joints,
    shows_people,
    synthetic_server,
)

POSE = "/my-pose/3"
TEXT = {"content-type": "text/plain"}
JPEG = encoded(gradient())


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def boxes(answer: dict) -> np.ndarray:
    rows = [[p[name] for name in ("x", "y", "width", "height")] for p in answer["predictions"]]
    return np.array(rows)


def test_boxes_and_keypoints_are_sub_pixel_and_in_their_slots(roboflow):
    answer = roboflow.post(POSE, content=as_base64(JPEG), headers=TEXT).json()
    want = np.array(PEOPLE)[:, :4] * np.array([320, 240, 320, 240]) / SIDE
    np.testing.assert_allclose(boxes(answer), want, atol=1e-3)
    for person, row in zip(PEOPLE, answer["predictions"], strict=True):
        assert [point["class_id"] for point in row["keypoints"]] == list(range(17))
        assert all(point["class"] == point["class_name"] for point in row["keypoints"])
        places = [[point["x"], point["y"]] for point in row["keypoints"]]
        np.testing.assert_allclose(places, joints(person, 320, 240), atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", as_base64(JPEG)),
        ("application/x-www-form-urlencoded", as_base64(JPEG)),
        ("application/json", as_base64(JPEG)),
        ("application/json", json.dumps(as_base64(JPEG))),
        ("text/plain", base64.encodebytes(JPEG)),
        ("text/plain", base64.urlsafe_b64encode(JPEG).rstrip(b"=")),
        ("text/plain", "data:image/jpeg;base64," + as_base64(JPEG)),
        ("image/jpeg", JPEG),
        ("application/octet-stream", JPEG),
        ("image/gif", encoded(gradient(), "GIF")),
        ("image/bmp", encoded(gradient(), "BMP")),
    ],
    ids=["text", "form", "json", "quoted", "lines", "url", "uri", "raw", "octets", "gif", "bmp"],
)
def test_a_picture_is_read_however_it_is_sent(roboflow, kind, body):
    answer = roboflow.post(POSE, content=body, headers={"content-type": kind})
    assert answer.status_code == 200
    assert len(answer.json()["predictions"]) == 2


def test_base64_under_the_type_of_a_form_is_never_decoded_as_one(roboflow):
    # 0xFB 0xEF ... makes plus signs, which a form would turn into blanks.
    picture = next(
        data for data in (encoded(gradient(320 + i)) for i in range(9)) if "+" in as_base64(data)
    )
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert roboflow.post(POSE, content=as_base64(picture), headers=form).status_code == 200


def test_part_of_a_form_is_a_file_or_base64(roboflow):
    as_file = roboflow.post(POSE, files={"file": ("a.jpg", JPEG)})
    as_text = roboflow.post(POSE, files={"file": (None, as_base64(JPEG))})
    assert len(as_file.json()["predictions"]) == len(as_text.json()["predictions"]) == 2


def test_array_that_numpy_saved_is_read_as_bgr(roboflow):
    body = npy(np.ascontiguousarray(gradient()[..., ::-1]))
    options = {"params": {"image_type": "npy", "format": "image"}, "headers": TEXT}
    for content in (body, as_base64(body)):
        answer = roboflow.post(POSE, content=content, **options)
        shown = np.asarray(Image.open(io.BytesIO(answer.content)))
        np.testing.assert_allclose(shown[-20:, -20:], gradient()[-20:, -20:], atol=16)


@pytest.mark.parametrize(
    "body",
    [
        npy(np.zeros((4, 4), np.float32)),
        npy(np.zeros((4, 4, 4), np.uint8)),
        npy(np.zeros((0, 4), np.uint8)),
        npy(np.zeros((40, 40), np.uint8))[:-1],
        npy(np.zeros((4, 4), np.uint8)).replace(b"(4, 4)", b"(9**9,"),
        b"\x93NUMPY" + bytes(40),
        b"cposix\ngetpid\n(tR.",
    ],
)
def test_array_that_is_none_is_refused(roboflow, body):
    answer = roboflow.post(POSE, content=body, params={"image_type": "npy"}, headers=TEXT)
    assert answer.status_code == 400
    assert answer.json().keys() == {"message"}


@pytest.mark.parametrize("kind", ["numpy", "file", "url", "foo"])
def test_other_types_of_pictures_are_not_read(roboflow, kind):
    answer = roboflow.post(POSE, content=b"x", params={"image_type": kind}, headers=TEXT)
    assert answer.status_code == 400


@pytest.mark.parametrize("path", [POSE + "/", "/yolov8x-pose-640", "/yolov8x-pose-640/"])
def test_names_of_one_segment_and_trailing_slashes_lead_to_the_model(synthetic, path):
    answer = synthetic.client.post(path, content=JPEG, headers={"content-type": "image/jpeg"})
    assert len(answer.json()["predictions"]) == 2


def test_aliases_are_names_of_the_same_model(roboflow):
    for name in ("yolov8x-pose-640", "coco-pose-detection/5", "yolov8x-pose", "yolov8x-pose-640/1"):
        answer = roboflow.post(f"/{name}", content=as_base64(JPEG), headers=TEXT)
        assert answer.json()["resolved_model"]["model_id"] == "yolov8x-pose-640"
        assert answer.headers["x-model-id"] == name


@pytest.mark.parametrize(("sent", "kept"), [("0.5", 10), ("50", 10), ("0", 17)])
def test_keypoint_confidence_leaves_weaker_points_out(roboflow, sent, kept):
    query = {"keypoint_confidence": sent, "max_detections": 1}
    answer = roboflow.post(POSE, content=as_base64(JPEG), params=query, headers=TEXT)
    (row,) = answer.json()["predictions"]
    assert len(row["keypoints"]) == kept
    assert [point["class_id"] for point in row["keypoints"]] == list(range(kept))


@pytest.mark.parametrize("name", ["classes", "class_filter"])
def test_classes_filter_and_unknown_ones_are_never_found(roboflow, name):
    for sent, found in (("person,dog", 2), ("dog", 0)):
        answer = roboflow.post(POSE, content=as_base64(JPEG), params={name: sent}, headers=TEXT)
        assert len(answer.json()["predictions"]) == found


def test_orientation_is_applied_unless_it_is_switched_off(roboflow):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(gradient(), exif=exif)
    sizes = []
    for off in ("false", "true"):
        query = {"disable_preproc_auto_orient": off}
        answer = roboflow.post(POSE, content=turned, params=query, headers=TEXT)
        sizes.append((answer.json()["image"]["width"], answer.json()["image"]["height"]))
    assert sizes == [(240, 320), (320, 240)]


def test_picture_answer_shows_boxes_and_skeletons(roboflow):
    answer = roboflow.post(POSE, content=JPEG, params={"format": "image"}, headers=TEXT)
    assert answer.headers["content-type"] == "image/jpeg"
    assert shows_people(gradient(), answer.content)


def test_picture_beside_json_is_the_same_picture(roboflow):
    query = {"format": "image_and_json"}
    answer = roboflow.post(POSE, content=JPEG, params=query, headers=TEXT).json()
    assert shows_people(gradient(), base64.b64decode(answer["visualization"], validate=True))
    assert len(answer["predictions"]) == 2


def test_labels_and_stroke_change_the_picture(roboflow):
    def changed(**query: str) -> int:
        query["format"] = "image"
        answer = roboflow.post(POSE, content=JPEG, params=query, headers=TEXT)
        shown = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
        return int((np.abs(shown - gradient()).max(-1) > 60).sum())

    plain = changed()
    assert changed(labels="on") > 1.2 * plain
    assert changed(stroke="8") > 2 * plain


def test_keypoints_left_out_are_not_drawn(roboflow):
    query = {"format": "image", "keypoint_confidence": "0.5"}
    answer = roboflow.post(POSE, content=JPEG, params=query, headers=TEXT)
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    first = joints(PEOPLE[0], 320, 240)
    assert drawn_share(gradient(), shown, first[:10]) == 1
    assert drawn_share(gradient(), shown, first[11:16]) == 0


def test_answer_says_which_model_and_how_long(synthetic):
    headers = {**TEXT, "x-request-id": "mine-1", "execution_id": "run.7"}
    answer = synthetic.client.post(POSE, content=JPEG, headers=headers)
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["execution_id"] == "run.7"
    assert answer.headers["x-model-id"] == "my-pose/3"
    assert answer.headers["x-model-cold-start"] == "false"
    assert answer.headers["x-model-cold-start-count"] == "0"
    assert float(answer.headers["x-processing-time"]) == pytest.approx(
        answer.json()["time"], abs=1e-6
    )


def test_get_without_a_picture_is_400_for_a_model_and_404_for_none(roboflow):
    assert roboflow.get(POSE).status_code == 400
    assert roboflow.get("/yolov8x-pose-640").status_code == 400
    assert roboflow.get("/no-such/1").status_code == 404
    assert roboflow.get("/no-such").status_code == 404


@pytest.mark.parametrize(
    "path", ["/infer/classification", "/a/b/c", "/model/nothing", "/v1/x/y/z/0"]
)
def test_paths_of_nothing_are_404_in_the_words_of_the_router(synthetic, path):
    answer = synthetic.client.post(path, content=JPEG)
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize("path", ["/infer/keypoints_detection", "/model/clear", "/model/add"])
def test_get_on_a_route_that_is_posted_to_is_405(synthetic, path):
    assert synthetic.client.get(path).status_code == 405


def test_video_is_415(roboflow):
    film = b"\x1aE\xdf\xa3" + bytes(200)
    assert roboflow.post(POSE, content=film, headers=TEXT).status_code == 415
    assert roboflow.post(POSE, content=as_base64(film), headers=TEXT).status_code == 415


def test_error_repeats_neither_key_nor_picture(synthetic):
    body = json.dumps({"model_id": 7, "api_key": "rf_secret", "image": as_base64(JPEG)})
    answer = synthetic.client.post("/infer/keypoints_detection", content=body)
    assert answer.status_code == 422
    assert "rf_secret" not in answer.text
    assert len(answer.text) < 300


def test_picture_at_an_address_is_refused_with_the_one_text(roboflow):
    for url in ("http://127.0.0.1/a.jpg", "https://example.com/a.jpg", "file:///etc/hosts", "x"):
        for method in (roboflow.get, roboflow.post):
            answer = method(POSE, params={"image": url})
            assert (answer.status_code, answer.json()) == (400, {"message": REFUSED})


def test_picture_at_an_address_is_fetched_where_its_host_is_allowed(
    synthetic_package, tmp_path
) -> None:
    with (
        serving(FileServer()) as files,
        synthetic_server(synthetic_package, tmp_path, allow_url_hosts=("127.0.0.1",)) as server,
    ):
        files.files["/a.jpg"] = JPEG
        url = files.url + "/a.jpg"
        body = {"model_id": "my-pose/3", "image": {"type": "url", "value": url}}
        got = server.client.get(POSE, params={"image": url})
        posted = server.client.post(POSE, params={"image": url})
        as_json = server.client.post("/infer/keypoints_detection", json=body)
        missing = server.client.get(POSE, params={"image": files.url + "/b.jpg"})
    assert [len(a.json()["predictions"]) for a in (got, posted, as_json)] == [2, 2, 2]
    assert missing.status_code == 400


def test_picture_beyond_the_limit_is_413_as_bytes_and_as_base64(
    synthetic_package, tmp_path
) -> None:
    limits = Limits(picture_bytes=len(JPEG) - 1)
    with synthetic_server(synthetic_package, tmp_path, limits=limits) as server:
        raw = server.client.post(POSE, content=JPEG, headers=TEXT)
        text = server.client.post(POSE, content=as_base64(JPEG), headers=TEXT)
    assert (raw.status_code, text.status_code) == (413, 413)
    assert raw.json().keys() == {"message"}
