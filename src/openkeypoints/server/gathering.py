"""A transport that sends what is written in one go of the event loop in one piece."""

from __future__ import annotations

import asyncio
from typing import Any


class Gathering:
    """Stands before a transport: the head and the body of an answer become one call of the system.

    What is not about writing and closing is the transport's own.

    Args:
        transport: that sends.
        loop: at whose next turn it does.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held: list[bytes] = []
        self.is_closing = transport.is_closing  # what is asked most often finds its way at once

    def write(self, data: bytes) -> None:
        """Keep some bytes until the running callback of the loop has ended."""
        if not self._held:
            self._loop.call_soon(self._send)
        self._held.append(data)

    def close(self) -> None:
        """Send what is kept, and close when it has been sent."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        held, self._held = self._held, []
        if held and not self._transport.is_closing():
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
