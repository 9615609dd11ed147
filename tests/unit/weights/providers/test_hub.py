"""Files of the hub, and the token that goes there and nowhere else."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace

import pytest

from openkeypoints.errors import DownloadError, HashMismatchError
from openkeypoints.weights import WeightRef, fetch
from tests.servers import FileServer, serving

BODY = b"weights" * 100
REF = WeightRef("hub", "owner/model@abc", "sub/n.safetensors")
PATH = "/owner/model/resolve/abc/sub/n.safetensors"


@pytest.fixture
def store():
    with serving(FileServer()) as running:
        running.files["/blob"] = BODY
        yield running


def get(settings, ref=REF):
    return fetch("m", (ref,), replace(settings, hub_token="canary"), licence="MIT")


def test_the_token_goes_to_the_hub_and_not_where_it_sends_us(settings, server, store):
    server.redirects[PATH] = f"{store.url}/blob"
    assert get(settings).read_bytes() == BODY
    assert server.asked_for(PATH)[0]["authorization"] == "Bearer canary"
    assert "canary" not in str(store.asked)


def test_a_file_lies_under_its_last_name(settings, server):
    server.files[PATH] = BODY
    assert get(settings).name == "n.safetensors"


def test_the_hash_that_the_hub_states_is_checked(settings, server, store):
    server.redirects[PATH] = f"{store.url}/blob"
    server.headers[PATH] = {"X-Linked-ETag": f'"{hashlib.sha256(BODY).hexdigest()}"'}
    get(settings)
    server.headers[PATH] = {"X-Linked-ETag": '"' + "0" * 64 + '"'}
    with pytest.raises(HashMismatchError, match="stated"):
        fetch("other", (REF,), settings, licence="MIT")


@pytest.mark.parametrize("status", [401, 403])
def test_a_closed_model_says_what_to_do(settings, server, status):
    server.statuses[PATH] = [status]
    with pytest.raises(DownloadError, match=r"accept the model's terms.*HF_TOKEN") as caught:
        get(settings)
    assert "canary" not in str(caught.value)


def test_the_token_is_in_no_log(settings, server, caplog):
    caplog.set_level(logging.DEBUG)
    server.files[PATH] = BODY
    get(settings)
    assert "canary" not in caplog.text
