"""Work for a client ends when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from starlette.requests import ClientDisconnect, Request

DEPARTURE = "okp.departure"
"""Entry of a request's scope, where the connection tells when its client leaves."""
Result = TypeVar("Result")


class Departure:
    """That a client leaves: one that looks for it is told once, at once where it has left."""

    __slots__ = ("_tell", "happened")

    def __init__(self) -> None:
        self.happened = False
        self._tell: Callable[[], object] | None = None

    def happen(self) -> None:
        """Tell whoever looks for it; the client has left."""
        self.happened = True
        if self._tell is not None:
            self._tell()

    def watch(self, tell: Callable[[], object] | None) -> None:
        """Call a function when the client leaves, at once where it has left; None: no more."""
        self._tell = tell
        if tell is not None and self.happened:
            tell()


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of work, or cancel it when the client leaves.

    Args:
        request: whose body was read to its end.
        work: what takes its time.

    Raises:
        ClientDisconnect: the client is gone.
    """
    own = cast("asyncio.Task[Any]", asyncio.current_task())
    departure = request.scope.get(DEPARTURE)
    listening = None
    if departure is None:  # another server than ours: the only way to know is to listen
        departure = Departure()
        listening = asyncio.ensure_future(_listen(request, departure))
    try:
        departure.watch(own.cancel)
        return await work
    except asyncio.CancelledError:
        if departure.happened and not own.uncancel():  # nobody else cancelled it
            raise ClientDisconnect from None
        raise
    finally:
        departure.watch(None)
        if listening is not None:
            listening.cancel()


async def _listen(request: Request, departure: Departure) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    departure.happen()
