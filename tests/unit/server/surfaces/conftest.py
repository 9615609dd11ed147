"""Servers with small real models, and pictures to send to them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from openkeypoints.images import encode_image, read_image, resize
from openkeypoints.models import ModelSpec
from openkeypoints.samples import sample
from openkeypoints.server.config import NamedModel, ServerConfig
from openkeypoints.settings import Settings
from tests.live_server import LiveServer, live_server
from tests.openapi import Documented
from tests.synthetic import synthetic_server, write_package
from tests.tiny_yolo import tiny_yolo

SIZE = (80, 60)


@pytest.fixture(scope="session")
def picture() -> bytes:
    """Return a PNG of two people, 80 x 60, in which the small models find something too."""
    people = read_image(sample("people"), settings=Settings())[140:380, :420]
    return encode_image(resize(people, SIZE), "png")


@pytest.fixture(scope="session")
def yolo_files(tmp_path_factory) -> dict[str, Path]:
    """Return a checkpoint for each id."""
    folder = tmp_path_factory.mktemp("served")
    tasks = {"my-pose/3": "pose", "detect": "detect", "segment": "segment"}
    return {
        model_id: tiny_yolo(folder / f"{task}.pt", task=task, nc=2)
        for model_id, task in tasks.items()
    }


@pytest.fixture(scope="session")
def yolo_server(yolo_files, settings) -> LiveServer:
    """Return a server with a model of each task, and the packaged one."""
    named = [NamedModel(model_id, ModelSpec(str(path))) for model_id, path in yolo_files.items()]
    config = ServerConfig(port=0, models=(*named, NamedModel("person", ModelSpec("person"))))
    with live_server(config, settings=settings, ready=False) as server:
        while not server.context.condition.ready:  # the time limit of the first test ends this
            assert server.context.condition.failure is None
            time.sleep(0.02)
        yield server


@pytest.fixture(scope="session")
def ask(yolo_server) -> Documented:
    """Return a client of that server whose answers are held against the OpenAPI document."""
    return documented(yolo_server)


@pytest.fixture(scope="session")
def infer(yolo_server):
    """Return a function that calls a model of that server as the library does."""

    def call(model_id, picture, **arguments):
        loaded = yolo_server.context.engine.loaded()
        return loaded[model_id].model.infer(picture, **arguments)[0]

    return call


@pytest.fixture
def small_server(yolo_files, settings):
    """Return a function that runs a server with one model and other options."""

    @contextlib.contextmanager
    def start(model_id="detect", **options):
        named = (NamedModel(model_id, ModelSpec(str(yolo_files[model_id]))),)
        with live_server(
            ServerConfig(port=0, models=named, **options), settings=settings
        ) as server:
            yield documented(server), server.context

    return start


def documented(server: LiveServer) -> Documented:
    return Documented(server.client, server.client.get("/openapi.json").json())


@pytest.fixture(scope="session")
def synthetic_package(tmp_path_factory) -> Path:
    """Return the package of the model that finds the same three people on every picture."""
    return write_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def synthetic(synthetic_package, tmp_path_factory) -> Iterator[LiveServer]:
    """Return a server with that model under two names, one of them fetched as from Roboflow."""
    with synthetic_server(synthetic_package, tmp_path_factory.mktemp("synthetic")) as server:
        yield server


@pytest.fixture(scope="session")
def roboflow(synthetic) -> Documented:
    """Return a client of that server whose answers are held against the OpenAPI document."""
    return documented(synthetic)
