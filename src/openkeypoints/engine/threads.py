"""Work in a thread of its own that a coroutine can wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(name: str, work: Callable[[], T]) -> asyncio.Future[T]:
    """Start a thread and return what it will have done.

    No pool: its size would be a limit, and a thread that hangs would keep the program from ending.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # whoever stops waiting does not cancel it

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001  # whoever waits gets it
            outcome.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return asyncio.wrap_future(outcome)
