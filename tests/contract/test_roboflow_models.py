"""A model of somebody at Roboflow: fetched with the key, checked, run, and run offline after."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from openkeypoints.errors import DownloadError, LicenceError, OfflineError
from openkeypoints.models import get_model
from openkeypoints.settings import Settings
from tests.data.roboflow import fake_weights_api
from tests.synthetic import PEOPLE, SIDE, write_package

ID, KEY = "my-pose/3", "the-owners-key"
PICTURE = np.zeros((SIDE, SIDE, 3), np.uint8)


@pytest.fixture
def settings(tmp_path):
    server, url = fake_weights_api.serve(str(write_package(tmp_path / "package")))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield Settings(
        cache_dir=tmp_path / "cache",
        releases_url=f"{url}/nowhere",
        roboflow_url=url,
        hub_cache=tmp_path / "hub",
        roboflow_caches=(tmp_path / "theirs",),
    )
    server.shutdown()
    thread.join()
    server.server_close()


def people(model):
    (found,) = model.infer(PICTURE, confidence=0.4)
    middles = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    return np.column_stack([middles, found.boxes[:, 2:] - found.boxes[:, :2], found.scores])


def test_it_comes_with_the_key_and_runs_offline_from_then_on(settings):
    with get_model(ID, api_key=KEY, settings=settings) as model:
        assert (model.id, model.licence) == (ID, "the owner's")
        assert np.allclose(people(model), PEOPLE, atol=1e-3)
    away = replace(settings, offline=True, roboflow_url="http://127.0.0.1:9")
    with get_model(ID, settings=away) as model:
        assert np.allclose(people(model), PEOPLE, atol=1e-3)


def test_a_name_of_the_catalogue_comes_from_there_where_its_publisher_does_not_answer(settings):
    with get_model("yolov8x-pose-640", api_key=KEY, settings=settings) as model:
        assert (model.id, model.licence) == ("yolov8x-pose-640", "AGPL-3.0")
        assert np.allclose(people(model), PEOPLE, atol=1e-3)


def test_a_wrong_key_is_said_and_nothing_is_kept(settings):
    with pytest.raises(DownloadError, match="key"):
        get_model(ID, api_key="badkey", settings=settings)
    with pytest.raises(OfflineError):
        get_model(ID, settings=replace(settings, offline=True))


def test_only_allowed_licences_are_run(settings):
    strict = replace(settings, allowed_licences=("Apache-2.0",))
    with pytest.raises(LicenceError):
        get_model(ID, api_key=KEY, settings=strict)
    owners = replace(settings, allowed_licences=("the owner's",))
    with get_model(ID, api_key=KEY, settings=owners) as model:
        assert len(people(model)) == 2
