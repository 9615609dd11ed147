"""Runs the application on uvicorn in this process, until a signal or a model that cannot load."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import threading
from collections.abc import Generator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from openkeypoints.engine.machine import trim_memory
from openkeypoints.errors import InputError, OpenKeypointsError
from openkeypoints.server.app import make_app
from openkeypoints.server.config import ServerConfig
from openkeypoints.server.protocol import guarded_protocol
from openkeypoints.server.state import Context
from openkeypoints.settings import Settings

_TRIM_TICKS = 300
"""Of a tenth of a second each."""
_COLLECTIONS = (2000, 10, 10)
"""An answer of many keypoints has some hundred lists and dicts, none of them garbage."""


class Server(uvicorn.Server):
    """Uvicorn that stops gently at the first signal, at once at the second, and re-reads its keys.

    Args:
        app: made by ``make_app``.
        config: the options.
        interrupt: whether SIGINT ends it; not in a worker, whose parent passes it on.
        alone: whether nothing else lives in this process, whose garbage collector is set then.
    """

    def __init__(
        self, app: FastAPI, config: ServerConfig, *, interrupt: bool = True, alone: bool = False
    ) -> None:
        super().__init__(_uvicorn_config(app, config))
        self.context: Context = app.state.context
        self._interrupt = interrupt
        self._alone = self._unsettled = alone
        self._trimmed_at = 0

    async def on_tick(self, counter: int) -> bool:
        """Tell uvicorn whether to end: a signal came, or a named model cannot be loaded."""
        stop = await super().on_tick(counter)
        if self._unsettled and self.context.condition.ready:
            self._unsettled = False
            settle()
        if self._alone and counter % _TRIM_TICKS == 0:
            await self._trim()
        return stop or self.context.condition.failure is not None

    async def _trim(self) -> None:
        """Give back what lies free between the pieces in use, after some work.

        Bodies of all sizes leave such gaps, and without this each unlucky moment makes the process
        larger for good.
        """
        answered = self.server_state.total_requests
        if answered != self._trimmed_at:
            self._trimmed_at = answered
            await asyncio.to_thread(trim_memory)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """End gently; the second time at once."""
        self.context.condition.stopping = True
        self.force_exit = self.should_exit
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle signals while the server runs. Its exit code is 0 where one ended it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {signal.SIGTERM: self.handle_exit, signal.SIGINT: self.handle_exit}
        if not self._interrupt:
            handlers[signal.SIGINT] = _ignore
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = self._reload
        before = {number: signal.signal(number, act) for number, act in handlers.items()}
        try:
            yield
        finally:
            for number, act in before.items():
                signal.signal(number, act)

    def _reload(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.context.keys.reload()


def settle() -> None:
    """Spare the garbage collector what stays: modules, routes, the models that were named.

    It would go through all of it every few hundred requests, which is a tenth of what they cost.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTIONS)


def _ignore(sig: int, frame: FrameType | None) -> None:
    """Leave it to the parent."""


def run(
    config: ServerConfig,
    listening: socket.socket,
    *,
    settings: Settings | None = None,
    interrupt: bool = True,
) -> None:
    """Serve at a bound socket until a signal comes.

    Raises:
        OpenKeypointsError: a model that the operator named cannot be loaded, or see ``make_app``.
    """
    app = make_app(config, settings=settings)
    server = Server(app, config, interrupt=interrupt, alone=True)
    server.run(sockets=[listening])
    if (failure := server.context.condition.failure) is not None:
        # What clients are told is less than what the operator may know.
        raise failure.__cause__ if isinstance(failure.__cause__, OpenKeypointsError) else failure


def bind(config: ServerConfig) -> socket.socket:
    """Return a socket at the address of the options, so that the port is known.

    Raises:
        InputError: the address cannot be had.
    """
    host = config.host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with contextlib.ExitStack() as closing:
            listening = closing.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            closing.pop_all()
    except OSError as error:
        raise InputError(
            f"Nothing can listen at {config.host}:{config.port} ({error.strerror}); give another "
            "--host or --port."
        ) from None
    listening.set_inheritable(True)
    return listening


def _uvicorn_config(app: FastAPI, config: ServerConfig) -> uvicorn.Config:
    """Return uvicorn's options: our protocol, and none of its own logs, headers and beliefs."""
    limits = config.limits
    return uvicorn.Config(
        app,
        http=guarded_protocol(limits),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=max(1, round(limits.keep_alive_s)),
        timeout_graceful_shutdown=max(1, round(config.drain_s)),
        ssl_certfile=config.tls_cert,
        ssl_keyfile=None if config.tls_key is None else str(config.tls_key),
        backlog=limits.connections,
    )
