"""A model is opened with the streams and threads that the settings say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import openkeypoints as okp
from openkeypoints.models.graphs import compiled
from openkeypoints.runtimes import open_session
from openkeypoints.settings import Settings


@pytest.mark.parametrize("file", ["tiny_okp", "tiny_pt"])
def test_every_session_has_the_streams_of_the_settings(
    file: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def watched(*artifact: Any, **options: Any) -> Any:
        asked.append((options["streams"], options["threads"]))
        return open_session(*artifact, **options)

    monkeypatch.setattr(compiled, "open_session", watched)
    path = request.getfixturevalue(file)
    settings = Settings(cache_dir=tmp_path, streams=2, threads=4)
    okp.get_model(path, settings=settings).close()
    assert set(asked) == {(2, 4)}
