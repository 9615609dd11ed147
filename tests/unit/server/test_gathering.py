"""What is written in one go of the loop is sent in one piece, in its order, before a close."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from openkeypoints.server.gathering import Gathering


class Wire:
    """A transport that keeps what is asked of it."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def close(self) -> None:
        self.done.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.done

    def abort(self) -> None:
        self.done.append("closed")


def run(*steps: str | bytes | None) -> list[Any]:
    """Return what the transport did; None lets the loop go on."""

    async def work() -> list[Any]:
        wire = Wire()
        gathering = Gathering(cast(asyncio.Transport, wire), asyncio.get_running_loop())
        for step in steps:
            if isinstance(step, bytes):
                gathering.write(step)
            elif step is None:
                await asyncio.sleep(0)
            else:
                getattr(gathering, step)()
        await asyncio.sleep(0)
        return wire.done

    return asyncio.run(work())


def test_head_and_body_are_one_piece() -> None:
    assert run(b"head", b"body") == [b"headbody"]


def test_what_comes_later_is_another_piece() -> None:
    assert run(b"one", None, b"two", b"three") == [b"one", b"twothree"]


def test_a_close_comes_after_what_was_written() -> None:
    assert run(b"head", b"body", "close") == [b"headbody", "closed"]


def test_nothing_is_written_after_an_abort() -> None:
    assert run(b"head", "abort") == ["closed"]


def test_everything_else_is_the_transports_own() -> None:
    assert run("is_closing", b"x", "close") == [b"x", "closed"]
