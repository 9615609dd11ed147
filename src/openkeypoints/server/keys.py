"""The keys of the server: a file with their hashes, and the limits of each."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from openkeypoints.errors import InputError, NotFoundError, RateLimitError
from openkeypoints.server.callers import SCOPES

PREFIX = "okp"
ID = re.compile(r"[a-z0-9-]{1,32}")
_KEY = re.compile(r"okp_([a-z0-9-]{1,32})_[A-Za-z0-9_-]{20,100}")
_HASH = re.compile(r"[0-9a-f]{64}")
_DUMMY = hashlib.sha256(b"no key").hexdigest()
OPERATOR = "operator"
"""Id of the one key of ``--api-key``."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What the file knows of a key; the key itself is known to its holder alone.

    Attributes:
        id: names it in logs and lists.
        sha256: of the whole key.
        scopes: what its holder may do.
        rate: requests per second, None = any; up to one second's worth, and at least one, at once.
        concurrency: requests at the same time, None = any.
        expires: moment from which it is refused, None = never.
        created: day on which it was made.
    """

    id: str
    sha256: str
    scopes: frozenset[str]
    rate: float | None = None
    concurrency: int | None = None
    expires: datetime | None = None
    created: str = ""

    def __post_init__(self) -> None:
        if not ID.fullmatch(self.id):
            raise InputError(
                f"{self.id[:40]!r} is no id of a key: it has a-z, 0-9 and '-', at most 32."
            )
        if not _HASH.fullmatch(self.sha256):
            raise InputError(f"The key {self.id!r} has no SHA-256 of 64 hexadecimal digits.")
        if not self.scopes or not self.scopes <= set(SCOPES):
            raise InputError(f"The key {self.id!r} needs scopes among {', '.join(SCOPES)}.")
        if self.rate is not None and not 0 < self.rate < float("inf"):
            raise InputError(f"The key {self.id!r} has the rate {self.rate}: give more than 0.")
        if self.concurrency is not None and self.concurrency < 1:
            raise InputError(f"The key {self.id!r} needs a concurrency of at least 1.")
        if self.expires is not None and self.expires.tzinfo is None:
            object.__setattr__(self, "expires", self.expires.replace(tzinfo=UTC))

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the file."""
        return {
            "id": self.id,
            "sha256": self.sha256,
            "scopes": [scope for scope in SCOPES if scope in self.scopes],
            "rate": self.rate,
            "concurrency": self.concurrency,
            "expires": None if self.expires is None else self.expires.isoformat(),
            "created": self.created,
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> KeyRecord:
        """Read an entry of the file.

        Raises:
            InputError: it is none.
        """
        try:
            expires = entry.get("expires")
            return cls(
                id=str(entry["id"]),
                sha256=str(entry["sha256"]),
                scopes=frozenset(map(str, entry["scopes"])),
                rate=None if entry.get("rate") is None else float(entry["rate"]),
                concurrency=_whole(entry.get("concurrency")),
                expires=None if expires is None else datetime.fromisoformat(expires),
                created=str(entry.get("created", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"An entry of the key file cannot be read ({type(error).__name__}): make it with "
                "`okp keys add`."
            ) from None


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def new_key(key_id: str) -> str:
    """Return a new key of an id: 32 random bytes behind ``okp_<id>_``."""
    return f"{PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"


def sha256_of(key: str) -> str:
    """Return the hash that the file keeps of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def read_keys(path: Path) -> list[KeyRecord]:
    """Return the keys of a file.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is no file of keys.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFoundError(
            f"No key file at {path}: `okp keys add NAME --file {path}` makes it."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"The key file {path} cannot be read ({type(error).__name__}).") from None
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise InputError(f"{path} is no key file: it has no list 'keys'.")
    records = [KeyRecord.from_json(entry) for entry in entries]
    if len({record.id for record in records}) < len(records):
        raise InputError(f"{path} has two keys of one id: revoke one of them.")
    return records


def write_keys(path: Path, records: Sequence[KeyRecord]) -> None:
    """Put keys into a file that only its owner can read, in place of what it held.

    Raises:
        InputError: it cannot be written.
    """
    text = json.dumps({"version": 1, "keys": [r.to_json() for r in records]}, indent=1)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.touch(mode=0o600)
        new.write_text(text + "\n", encoding="utf-8")
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise InputError(f"The key file {path} cannot be written: {error.strerror}.") from None


class Usage:
    """How much a key is used: a token bucket, and a count of what runs."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tokens: float | None = None
        self._at = clock()
        self.running = 0

    def take(self, record: KeyRecord) -> None:
        """Count a request that begins.

        Raises:
            RateLimitError: it is one too many; ``retry_after_s`` says when there is room.
        """
        if record.concurrency is not None and self.running >= record.concurrency:
            raise RateLimitError(
                f"This key has {record.concurrency} requests running, which is all it may.", 1.0
            )
        if record.rate is not None:
            self._spend(record.rate)
        self.running += 1

    def give_back(self) -> None:
        """Count a request that ended."""
        self.running -= 1

    def _spend(self, rate: float) -> None:
        now, most = self._clock(), max(1.0, rate)
        before = most if self._tokens is None else self._tokens
        tokens = min(most, before + (now - self._at) * rate)
        self._at = now
        if tokens < 1:
            self._tokens = tokens
            raise RateLimitError(
                f"This key may ask {rate:g} times a second; wait a little.", (1 - tokens) / rate
            )
        self._tokens = tokens - 1


class KeyStore:
    """The keys that the server knows now.

    Args:
        records: the keys.
        path: the file that :meth:`reload` reads again.
        clock: monotonic seconds.
        now: the time of day.
    """

    def __init__(
        self,
        records: Sequence[KeyRecord] = (),
        *,
        path: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._records = {record.id: record for record in records}
        self._path = path
        self._clock = clock
        self._now = now
        self._usage: dict[str, Usage] = {}

    @classmethod
    def of(cls, *, api_key: str | None, path: Path | None) -> KeyStore:
        """Return the keys of ``--api-key`` or ``--api-keys``.

        Raises:
            NotFoundError, InputError: see :func:`read_keys`.
        """
        if api_key is not None:
            return cls([KeyRecord(OPERATOR, sha256_of(api_key), frozenset(SCOPES))])
        return cls([] if path is None else read_keys(path), path=path)

    def __len__(self) -> int:
        return len(self._records)

    def reload(self) -> None:
        """Read the file again. A file that cannot be read changes nothing, and is logged."""
        if self._path is None:
            return
        try:
            records = read_keys(self._path)
        except (InputError, NotFoundError) as error:
            _log.error("The keys stay as they were: %s", error)
            return
        self._records = {record.id: record for record in records}
        self._usage = {i: usage for i, usage in self._usage.items() if i in self._records}
        _log.warning("Read the key file again: %d keys.", len(records))

    def find(self, key: str) -> KeyRecord | Literal["unknown", "expired"]:
        """Return the record of a key.

        As much is compared for an id that does not exist as for one that does.
        """
        match = _KEY.fullmatch(key)
        record = self._records.get(match[1] if match else OPERATOR)
        # Of --api-key, whatever it looks like.
        record = record or self._records.get(OPERATOR)
        known = _DUMMY if record is None else record.sha256
        same = hmac.compare_digest(sha256_of(key), known)
        if record is None or not same:
            return "unknown"
        if record.expires is not None and record.expires <= self._now():
            return "expired"
        return record

    def usage(self, record: KeyRecord) -> Usage:
        """Return what is counted for a key."""
        return self._usage.setdefault(record.id, Usage(self._clock))


def add_key(path: Path, record: KeyRecord) -> str:
    """Make a key, keep its hash in a file, and return it: nobody can see it again.

    Args:
        path: the file; it is made where there is none.
        record: everything but the hash.

    Raises:
        InputError: the id is taken, or the file cannot be used.
    """
    records = read_keys(path) if path.exists() else []
    if any(known.id == record.id for known in records):
        raise InputError(f"{path} has a key {record.id!r}: revoke it first, or take another name.")
    key = new_key(record.id)
    created = datetime.now(UTC).date().isoformat()
    write_keys(path, [*records, replace(record, sha256=sha256_of(key), created=created)])
    return key


def revoke_key(path: Path, key_id: str) -> None:
    """Take a key out of a file.

    Raises:
        NotFoundError: there is no such key or file.
        InputError: the file cannot be used.
    """
    records = read_keys(path)
    kept = [record for record in records if record.id != key_id]
    if len(kept) == len(records):
        names = ", ".join(record.id for record in records) or "none"
        raise NotFoundError(f"{path} has no key {key_id!r}; it has {names}.")
    write_keys(path, kept)
