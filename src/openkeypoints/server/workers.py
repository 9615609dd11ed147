"""Several processes at one port: starts them, replaces those that die, and ends them together."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from multiprocessing.process import BaseProcess
from types import FrameType

from openkeypoints.errors import OpenKeypointsError, RuntimeUnavailableError
from openkeypoints.server.config import ServerConfig
from openkeypoints.server.logs import start_logging
from openkeypoints.server.running import run

FAILED = 70
"""Exit code of a worker that cannot serve what it was told to: another would not either."""
_LOOK_S = 0.2
_QUICK_S = 2.0
_SLOWEST_S = 10.0
_log = logging.getLogger(__name__)


class Workers:
    """The processes of one server.

    Args:
        config: the options; ``workers`` says how many.
        listening: a bound socket, which all of them accept from.
    """

    def __init__(self, config: ServerConfig, listening: socket.socket) -> None:
        self._config = config
        self._listening = listening
        self._spawn = multiprocessing.get_context("spawn")
        self._running: dict[BaseProcess, float] = {}
        self._pause_s = 0.0
        self._stop = threading.Event()
        self._now = False

    def run(self) -> None:
        """Serve until a signal comes.

        Raises:
            RuntimeUnavailableError: the workers cannot serve; their logs say why.
        """
        self._handle_signals()
        for _ in range(self._config.workers):
            self._start()
        failed = False
        while not self._stop.wait(_LOOK_S):
            if failed := self._replace_dead():
                break
        self._end()
        if failed:
            raise RuntimeUnavailableError("The workers cannot serve; the log says why.")

    def _start(self) -> None:
        process = self._spawn.Process(
            target=_work, args=(self._config, self._listening), name="okp-worker"
        )
        process.start()
        self._running[process] = time.monotonic()

    def _replace_dead(self) -> bool:
        """Start a worker for each that died; tell whether it would be of no use."""
        for process, began in list(self._running.items()):
            if process.is_alive():
                continue
            del self._running[process]
            if process.exitcode == FAILED:
                return True
            quick = time.monotonic() - began < _QUICK_S
            self._pause_s = min(_SLOWEST_S, max(0.2, 2 * self._pause_s)) if quick else 0.0
            _log.error("Worker %s ended with %s; starting another.", process.pid, process.exitcode)
            if not self._stop.wait(self._pause_s):
                self._start()
        return False

    def _end(self) -> None:
        for process in self._running:
            process.terminate()
        end = time.monotonic() + self._config.drain_s + 5
        for process in self._running:
            while process.is_alive() and time.monotonic() < end and not self._now:
                process.join(_LOOK_S)
            if process.is_alive():
                process.kill()
                process.join()

    def _handle_signals(self) -> None:
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._on_reload)

    def _on_stop(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._now = self._stop.is_set()
        self._stop.set()

    def _on_reload(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        for process in self._running:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, sig)


def _work(config: ServerConfig, listening: socket.socket) -> None:
    """Be one worker."""
    start_logging()
    threading.Thread(target=_end_with_parent, daemon=True, name="okp-parent").start()
    try:
        run(config, listening, interrupt=False)
    except OpenKeypointsError as error:
        _log.error("This worker cannot serve: %s", error)
        sys.exit(FAILED)


def _end_with_parent() -> None:
    """End this worker gently when its parent is gone, which then can end nobody."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
