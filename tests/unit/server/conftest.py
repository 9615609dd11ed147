"""What the tests of the server share: settings of their own, stub models, a running server."""

from __future__ import annotations

from pathlib import Path

import pytest

from openkeypoints.settings import Settings
from tests.live_server import live_server
from tests.unit.engine.stubs import Shop
from tests.unit.server.probes import Probes


@pytest.fixture(scope="session")
def settings(tmp_path_factory) -> Settings:
    folder: Path = tmp_path_factory.mktemp("cache")
    return Settings(cache_dir=folder, hub_cache=folder / "hub", roboflow_caches=(folder / "rf",))


@pytest.fixture(scope="session")
def serve(settings):
    """Return a function that runs a server with stub models and the probes' routes."""

    def start(config=None, probes=None, **options):
        options.setdefault("settings", settings)
        options.setdefault("open_model", Shop().open)
        return live_server(config, routes=(probes or Probes()).routes, **options)

    return start
