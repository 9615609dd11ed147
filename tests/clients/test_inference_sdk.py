"""The real ``inference-sdk`` against ``okp serve``: all its calls, and the pictures it gets."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.clients.environments import python_of, run
from tests.clients.recorder import PictureAnswer, recording
from tests.synthetic import DATA, encoded, gradient, shows_people

pytestmark = pytest.mark.client
CASES = 47
PICTURES = 10
"""Three of JSON routes, three of `format=image`, its asynchronous twin, three with JSON beside."""


@pytest.fixture(scope="module")
def driven(server: str):
    """Run the driver once, with everything that it gets kept."""
    driver = (python_of("inference-sdk"), DATA / "drive_sdk.py", "--url")
    with recording(server) as recorder:
        ended = run([*driver, recorder.url])
    return ended, recorder.pictures


@pytest.mark.slow
def test_every_call_of_the_sdk_works(driven) -> None:
    ended, _ = driven
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]
    assert len(re.findall(r"^\w+ +ok ", ended.stdout, re.MULTILINE)) == CASES


@pytest.mark.slow
def test_every_picture_shows_both_people_and_nobody_else(driven) -> None:
    _, pictures = driven
    assert len(pictures) == PICTURES
    assert [shows_people(sent_picture(p), p.jpeg) for p in pictures] == [True] * PICTURES


PROGRAM = """
import json, sys
from inference_sdk import InferenceHTTPClient
client = InferenceHTTPClient(api_url=sys.argv[1], api_key="anything")
answers = [client.infer(sys.argv[2], model_id="yolov8x-pose-640") for _ in range(2)]
print(json.dumps([len(answer["predictions"]) for answer in answers]))
"""


@pytest.mark.slow
def test_server_without_a_model_fetches_the_one_that_a_client_names(okp_serve, tmp_path) -> None:
    picture = tmp_path / "people.jpg"
    picture.write_bytes(encoded(gradient()))
    with okp_serve() as url:
        ended = run([python_of("inference-sdk"), "-c", PROGRAM, url, picture])
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert json.loads(ended.stdout.splitlines()[-1]) == [2, 2]


def sent_picture(answer: PictureAnswer) -> np.ndarray:
    """Return the picture that a request of the SDK held."""
    text = answer.sent
    if text.startswith(b"{"):
        text = json.loads(text)["image"]["value"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
