"""A client that leaves ends the work for it, on our connections and on those of other servers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from openkeypoints.server.departure import DEPARTURE, Departure, unless_gone


class Client:
    """A request whose client leaves when the test says so."""

    def __init__(self, *, ours: bool) -> None:
        self._left = asyncio.Event()
        self._departure = Departure()
        scope: dict[str, Any] = {"type": "http", "headers": []}
        if ours:
            scope[DEPARTURE] = self._departure
        self.request = Request(scope, self._receive)

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    def leave(self) -> None:
        self._departure.happen()
        self._left.set()


class Work:
    """Takes long, and knows whether it was ended."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended = False

    async def run(self) -> str:
        self.began.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.ended = True
            raise
        return "done"


@pytest.fixture(params=[True, False], ids=["our connection", "another server's"])
def ours(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_work_ends_when_the_client_leaves(ours: bool) -> None:
    async def check() -> None:
        client, work = Client(ours=ours), Work()
        task = asyncio.create_task(unless_gone(client.request, work.run()))
        await work.began.wait()
        client.leave()
        with pytest.raises(ClientDisconnect):
            await task
        assert work.ended

    began = time.monotonic()
    asyncio.run(check())
    assert time.monotonic() - began < 5


def test_a_client_that_has_left_is_noticed_at_once(ours: bool) -> None:
    async def check() -> None:
        client, work = Client(ours=ours), Work()
        client.leave()
        with pytest.raises(ClientDisconnect):
            await unless_gone(client.request, work.run())

    asyncio.run(check())


def test_a_client_that_leaves_afterwards_changes_nothing(ours: bool) -> None:
    async def check() -> str:
        client = Client(ours=ours)
        found = await unless_gone(client.request, asyncio.sleep(0, "done"))
        client.leave()
        await asyncio.sleep(0.01)  # where a cancellation that was left over would come
        return found

    assert asyncio.run(check()) == "done"


def test_what_others_cancel_is_cancelled(ours: bool) -> None:
    async def check() -> None:
        client, work = Client(ours=ours), Work()
        task = asyncio.create_task(unless_gone(client.request, work.run()))
        await work.began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.ended

    asyncio.run(check())


def test_an_error_of_the_work_comes_through(ours: bool) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    async def check() -> None:
        with pytest.raises(ZeroDivisionError):
            await unless_gone(Client(ours=ours).request, broken())

    asyncio.run(check())
