"""Sees what this process does while a test runs: connections, files, programs, unpickled names."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

RUNS = {
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "pickle.find_class",
    "subprocess.Popen",
}
CONNECTS = {"socket.connect", "socket.sendto", "urllib.Request"}
OPENS = {"open", "os.listdir", "os.scandir"}

_listening: list[tuple[frozenset[str], list[tuple[str, str]]]] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    for events, seen in tuple(_listening):
        if event in events:
            what = args[1] if event.startswith("socket.") else args[0] if args else ""
            seen.append((event, repr(what)))


sys.addaudithook(_hook)


@contextlib.contextmanager
def watched(*groups: set[str]) -> Iterator[list[tuple[str, str]]]:
    """Give the list in which the events of some groups appear, as (event, what it is about)."""
    entry = (frozenset[str]().union(*groups), list[tuple[str, str]]())
    _listening.append(entry)
    try:
        yield entry[1]
    finally:
        _listening.remove(entry)
