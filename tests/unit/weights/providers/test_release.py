"""Release files, and the digest that a release states beside them."""

from __future__ import annotations

import hashlib
import json

import pytest

from openkeypoints.errors import HashMismatchError
from openkeypoints.settings import Settings
from openkeypoints.weights import WeightRef, fetch
from openkeypoints.weights.providers import release

BODY = b"weights" * 100
SHA256 = hashlib.sha256(BODY).hexdigest()
REF = WeightRef("release", "v1", "n.pt")
STATED = "/releases/tags/v1"


@pytest.fixture(autouse=True)
def body(server):
    server.files["/releases/download/v1/n.pt"] = BODY


@pytest.fixture
def state(server):
    def put(answer):
        server.files[STATED] = answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    return put


def get(settings, ref=REF):
    return fetch("m", (ref,), settings, licence="MIT")


def test_a_stated_digest_that_is_right_is_accepted(settings, state):
    state({"assets": [{"name": "x.pt"}, {"name": "n.pt", "digest": f"sha256:{SHA256.upper()}"}]})
    assert get(settings).read_bytes() == BODY


def test_a_stated_digest_that_is_wrong_is_refused(settings, state):
    state({"assets": [{"name": "n.pt", "digest": "sha256:" + "0" * 64}]})
    with pytest.raises(HashMismatchError, match=SHA256):
        get(settings)


@pytest.mark.parametrize(
    "answer",
    [
        b"no JSON",
        [],
        {},
        {"assets": None},
        {"assets": ["n.pt"]},
        {"assets": [{"name": "n.pt", "digest": None}]},
        {"assets": [{"name": "n.pt", "digest": "sha512:00"}]},
    ],
)
def test_a_release_that_states_no_digest_is_no_obstacle(settings, state, answer):
    state(answer)
    assert get(settings).read_bytes() == BODY


def test_a_release_that_cannot_be_asked_is_no_obstacle(settings, server):
    server.statuses[STATED] = [403]
    assert get(settings).read_bytes() == BODY


def test_a_known_hash_needs_no_digest(settings, server):
    get(settings, WeightRef("release", "v1", "n.pt", sha256=SHA256))
    assert not server.asked_for(STATED)


def test_at_github_the_digest_is_asked_of_its_api(monkeypatch):
    asked = []
    monkeypatch.setattr(release, "get_json", lambda url, _host: asked.append(url))
    release._stated_digest(REF, Settings())
    assert asked == ["https://api.github.com/repos/ultralytics/assets/releases/tags/v1"]


def test_the_default_is_the_publishers_release():
    assert WeightRef("release", "v8.3.0", "yolov8n-pose.pt").url(Settings()) == (
        "https://github.com/ultralytics/assets/releases/download/v8.3.0/yolov8n-pose.pt"
    )
