"""The real ``roboflow`` package against ``okp serve``: look-ups, predictions and pictures."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openkeypoints.models import get_model
from tests.clients.environments import python_of, run
from tests.clients.recorder import recording
from tests.servers import FileServer, serving
from tests.synthetic import DATA, KEY, PEOPLE, SIDE, encoded, gradient, shows_people

pytestmark = [pytest.mark.client, pytest.mark.slow]
BASES = ("API_URL", "SERVERLESS_URL", "OBJECT_DETECTION_URL", "INSTANCE_SEGMENTATION_URL")


@pytest.fixture(scope="module")
def driven(server: str):
    driver = (python_of("roboflow"), DATA / "drive_roboflow.py", "--url")
    with recording(server) as recorder:
        ended = run([*driver, recorder.url])
    return ended, recorder.pictures


def test_every_call_of_the_package_works(driven) -> None:
    ended, _ = driven
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]
    assert re.search(r"^\d+ cases, FAILED: \[\]$", ended.stdout, re.MULTILINE)


def test_the_picture_shows_both_people_and_nobody_else(driven) -> None:
    _, pictures = driven
    y, x = np.mgrid[0:240, 0:320]
    sent = np.stack([x % 256, y % 256, (x + y) % 256], -1).astype(np.uint8)
    assert [shows_people(sent, p.jpeg) for p in pictures] == [True]


def asked(url: str, tmp_path: Path, program: str) -> dict:
    """Run a few lines with the package, which print a JSON object last."""
    config = str(tmp_path / "none.json")
    command = [python_of("roboflow"), "-c", program]
    ended = run(command, **dict.fromkeys(BASES, url), ROBOFLOW_CONFIG_DIR=config)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout.strip().splitlines()[-1])


def test_picture_at_an_address_is_fetched_where_its_host_is_allowed(
    okp_serve, package, tmp_path
) -> None:
    with serving(FileServer()) as files:
        files.files["/people.jpg"] = encoded(gradient())
        program = f"""
import json
from roboflow.models.keypoint_detection import KeypointDetectionModel
model = KeypointDetectionModel({KEY!r}, "ws/my-pose/3", version="3")
print(json.dumps(model.predict({files.url + "/people.jpg"!r}, hosted=True).json()))
"""
        options = ("--model", f"my-pose/3={package}", "--allow-url-host", "127.0.0.1")
        with okp_serve(*options) as url:
            rows = asked(url, tmp_path, program)["predictions"]
    boxes = [[row[name] for name in ("x", "y", "width", "height")] for row in rows]
    scale = np.array([320, 240, 320, 240]) / SIDE
    np.testing.assert_allclose(boxes, np.array(PEOPLE)[:, :4] * scale, atol=0.01)


def test_packaged_model_answers_as_version_1_of_its_project(okp_serve, tmp_path) -> None:
    from openkeypoints import sample

    photo = sample("people")
    program = f"""
import json, roboflow
model = roboflow.Roboflow({KEY!r}).workspace().project("person").version(1).model
print(json.dumps(model.predict({str(photo)!r}, confidence=40).json()))
"""
    with okp_serve() as url:
        rows = asked(url, tmp_path, program)["predictions"]
    # The package writes the picture anew before it sends it, as a JPEG of quality 90.
    buffer = io.BytesIO()
    Image.open(photo).convert("RGB").save(buffer, "JPEG", quality=90)
    with get_model("person") as model:
        mine = model.infer(buffer.getvalue(), confidence=0.4, iou_threshold=0.3)[0].dict()
    assert len(rows) == len(mine["predictions"]) > 0
    for row, own in zip(rows, mine["predictions"], strict=True):
        assert row["class"] == own["class"]
        assert [p["class"] for p in row["keypoints"]] == [p["class"] for p in own["keypoints"]]
        assert abs(row["x"] - own["x"]) < 2
        assert abs(row["y"] - own["y"]) < 2
