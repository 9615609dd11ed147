"""What is remembered of a model's files, and how a file is held against it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from openkeypoints.weights.okp import sha256_of


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is remembered of one file.

    Attributes:
        sha256: of its content when it was first seen.
        size: in bytes.
        mtime_ns: its time of change when its content was last read.
        source: where it came from, for people to read.
        date: the day on which it was first seen.
    """

    sha256: str
    size: int
    mtime_ns: int
    source: str
    date: str


def measure(path: Path, source: str, sha256: str | None = None) -> FileFacts:
    """Return the facts of a file that is here, reading all of it where its hash is not given."""
    # The time first: a change while we read is then seen the next time.
    stat = path.stat()
    today = datetime.now(UTC).date().isoformat()
    return FileFacts(sha256 or sha256_of(path), stat.st_size, stat.st_mtime_ns, source, today)


def compare(path: Path, facts: FileFacts) -> FileFacts | None:
    """Return the facts where a file still is what they say, None where it is not.

    The content is read only where size or time of change differ; the facts that come back have the
    new time.
    """
    stat = path.stat()
    if (stat.st_size, stat.st_mtime_ns) == (facts.size, facts.mtime_ns):
        return facts
    if stat.st_size != facts.size or sha256_of(path) != facts.sha256:
        return None
    return replace(facts, mtime_ns=stat.st_mtime_ns)


def facts_from(data: object) -> dict[str, FileFacts]:
    """Return the facts of files by name, as far as they are whole."""
    found = {}
    for name, entry in data.items() if isinstance(data, dict) else ():
        try:
            found[str(name)] = FileFacts(**entry)
        except TypeError:
            continue
    return found


def plain(facts: Mapping[str, FileFacts]) -> dict[str, Any]:
    """Return the facts of files as JSON has them."""
    return {name: asdict(entry) for name, entry in facts.items()}


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a file of ours; an absent or damaged one is empty."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a file of ours; a crash leaves the former one whole."""
    # Of one's own: a model may be opened for the first time by several at once.
    new = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    new.write_text(json.dumps(data, indent=1), encoding="utf-8")
    new.replace(path)
