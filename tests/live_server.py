"""A real server on a free port of this machine, in a thread, for tests over HTTP."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import APIRouter

from openkeypoints.engine import Engine
from openkeypoints.models import Model
from openkeypoints.server.app import make_app
from openkeypoints.server.config import ServerConfig
from openkeypoints.server.running import Server
from openkeypoints.server.state import Context
from openkeypoints.settings import Settings

START_S = 20.0


@dataclass(frozen=True)
class LiveServer:
    """A server that runs.

    Attributes:
        url: ``http://127.0.0.1:PORT``.
        context: its parts.
        client: of httpx, with the address as its base.
    """

    url: str
    context: Context
    client: httpx.Client

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.rpartition("/")[2].rpartition(":")
        return host, int(port)


@contextlib.contextmanager
def live_server(
    config: ServerConfig | None = None,
    *,
    engine: Engine | None = None,
    open_model: Callable[[str], Model] | None = None,
    settings: Settings | None = None,
    ready: bool = True,
    routes: APIRouter | None = None,
) -> Iterator[LiveServer]:
    """Run a server in a thread.

    Args:
        config: its port is chosen by the system.
        engine: see ``make_app``.
        open_model: see ``make_app``; the usual double for tests without a real model.
        settings: see ``make_app``.
        ready: wait until the named models are loaded.
        routes: of the test, before all others.
    """
    config = config or ServerConfig(port=0)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        app = make_app(config, engine, open_model=open_model, settings=settings)
        if routes is not None:
            app.router.routes[:0] = routes.routes
        server = Server(app, config)
        failures: list[BaseException] = []

        def run() -> None:
            try:
                server.run(sockets=[listening])
            except BaseException as error:  # noqa: BLE001
                failures.append(error)

        thread = threading.Thread(target=run, name="live-server", daemon=True)
        thread.start()
        context: Context = app.state.context
        try:
            _wait(lambda: server.started or bool(failures))
            if ready:
                _wait(
                    lambda: context.condition.ready or bool(context.condition.failure or failures)
                )
            if failures:
                raise failures[0]
            with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
                yield LiveServer(url, context, client)
        finally:
            server.should_exit = True
            thread.join(START_S)
            assert not thread.is_alive(), "the server did not stop"


def _wait(done: Callable[[], Any]) -> None:
    end = time.monotonic() + START_S
    while not done():
        assert time.monotonic() < end, "the server did not start"
        time.sleep(0.01)
