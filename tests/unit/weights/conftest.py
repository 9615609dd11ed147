"""What the tests of weights share: a server of files, settings that know it, quick retries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openkeypoints.settings import Settings
from openkeypoints.weights import downloads
from openkeypoints.weights.providers import http
from tests.servers import FileServer, serving


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer()) as running:
        yield running


@pytest.fixture
def settings(server: FileServer, tmp_path: Path) -> Settings:
    """Return settings whose every source is the server, or a folder of the test."""
    return Settings(
        cache_dir=tmp_path / "cache",
        releases_url=f"{server.url}/releases/download",
        hub_url=server.url,
        roboflow_url=server.url,
        hub_cache=tmp_path / "hub",
        roboflow_caches=(tmp_path / "theirs",),
        timeout_s=5.0,
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the pauses between tries out."""
    monkeypatch.setattr(downloads, "PAUSE_S", 0.0)
    monkeypatch.setattr(http, "PAUSES_S", (0.0, 0.0, 0.0))
