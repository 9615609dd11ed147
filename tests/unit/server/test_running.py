"""What a server in a process of its own does for the process."""

from __future__ import annotations

import asyncio

from openkeypoints.server import running
from openkeypoints.server.app import make_app
from openkeypoints.server.config import ServerConfig
from openkeypoints.server.running import Server
from tests.unit.engine.stubs import Shop


def ticks(settings, monkeypatch, *, alone: bool) -> list[int]:
    """Return after how many answers memory was given back, with ticks in between."""
    config = ServerConfig(port=0)
    app = make_app(config, open_model=Shop().open, settings=settings)
    server = Server(app, config, alone=alone)
    trimmed: list[int] = []
    monkeypatch.setattr(running, "trim_memory", lambda: trimmed.append(answered))

    async def tick(times: int) -> None:
        if not server.config.loaded:
            server.config.load()
        for counter in range(times):
            await server.on_tick(counter)

    for answered in (0, 3, 3, 4):
        server.server_state.total_requests = answered
        asyncio.run(tick(running._TRIM_TICKS + 1))
    return trimmed


def test_memory_is_given_back_now_and_then_where_there_was_work(settings, monkeypatch):
    assert ticks(settings, monkeypatch, alone=True) == [3, 4]


def test_the_memory_of_somebody_elses_process_is_left_alone(settings, monkeypatch):
    assert ticks(settings, monkeypatch, alone=False) == []
