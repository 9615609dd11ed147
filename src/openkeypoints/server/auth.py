"""Decides who calls: finds the key of a request, and what its holder may do."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from starlette.requests import Request

from openkeypoints.errors import PermissionDeniedError, UnauthorizedError
from openkeypoints.server.callers import Caller, Scope
from openkeypoints.server.config import is_loopback
from openkeypoints.server.state import RELEASE, Context, context_of, header

CALLER = "okp.caller"
KEYS = "okp.keys"
_NOBODY = {"", "none", "null", "undefined"}
"""What clients send for a key that they do not have."""


@dataclass(frozen=True, slots=True)
class SentKeys:
    """The keys that a request carried outside its body, in the order in which they count."""

    values: tuple[str, ...] = field(default=(), repr=False)


_NO_KEYS = SentKeys()
_KEY_HEADERS = frozenset({b"authorization", b"x-api-key"})


def take_keys(scope: MutableMapping[str, Any]) -> None:
    """Move the keys of a request out of its query and headers, before anybody can write them down.

    Args:
        scope: of ASGI; it gets the entry :data:`KEYS`.
    """
    found: dict[str, str] = {}
    query: bytes = scope["query_string"]
    if b"key" in query.lower() or b"%" in query:
        kept, key = _split_query(query)
        if key is not None:
            found["query"] = key
            scope["query_string"] = kept
    if not _KEY_HEADERS.isdisjoint(dict(scope["headers"])):
        scope["headers"] = _without_keys(scope["headers"], found)
    order = (found.get(name, "") for name in ("query", "bearer", "header"))
    scope[KEYS] = SentKeys(tuple(filter(is_key, order))) if found else _NO_KEYS


def _without_keys(
    headers: Iterable[tuple[bytes, bytes]], found: dict[str, str]
) -> list[tuple[bytes, bytes]]:
    """Return headers without those that carry keys, whose keys become entries of ``found``."""
    kept = []
    for name, value in headers:
        if name == b"authorization":
            kind, _, text = value.decode("latin-1").strip().partition(" ")
            if kind.lower() == "bearer":
                found["bearer"] = text.strip()
        elif name == b"x-api-key":
            found["header"] = value.decode("latin-1").strip()
        else:
            kept.append((name, value))
    return kept


def _split_query(query: bytes) -> tuple[bytes, str | None]:
    kept, key = [], None
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if unquote_plus(name.decode("latin-1")) == "api_key":
            sent = unquote_plus(value.decode("latin-1"))
            key = sent if not is_key(key) else key
        else:
            kept.append(part)
    return b"&".join(kept), key


def is_key(text: object) -> bool:
    """Tell whether a client means a key by what it sent."""
    return isinstance(text, str) and text.strip().lower() not in _NOBODY


async def authorise(request: Request, scope: Scope, *, body_key: str | None = None) -> Caller:
    """Return who calls, if it may do what a scope covers; count the request for its key.

    A second call for the same request counts nothing: it only checks the scope.

    Args:
        request: of the caller.
        scope: ``infer``, ``admin`` or ``metrics``.
        body_key: the key of a JSON body, which counts where no other was sent.

    Raises:
        UnauthorizedError: a key is needed, and none that is valid was sent.
        PermissionDeniedError: the caller may not do this.
        RateLimitError: the key asks too often.
    """
    context = context_of(request)
    caller: Caller | None = request.scope.get(CALLER)
    if caller is None:
        sent: SentKeys = request.scope.get(KEYS, _NO_KEYS)
        key = body_key if body_key and is_key(body_key) else None
        caller = _caller(context, request, sent.values[0] if sent.values else key)
        request.scope[CALLER] = caller
    if not caller.may(scope):
        raise PermissionDeniedError(_denied(caller, scope))
    return caller


def _caller(context: Context, request: Request, key: str | None) -> Caller:
    config = context.config
    if not config.has_keys:
        forwarded = key if config.forward_roboflow_key else None
        scopes = config.anonymous_scopes
        if not scopes:
            raise UnauthorizedError("This server answers nobody: it was started without keys.")
        return Caller(None, _anonymous(scopes, context, request), forwarded)
    if key is None:
        if config.allow_anonymous:
            return Caller(None, config.anonymous_scopes)
        raise UnauthorizedError(
            "A key is needed: send it as `Authorization: Bearer KEY`, `x-api-key` or `?api_key=`."
        )
    record = context.keys.find(key)
    if isinstance(record, str):
        raise UnauthorizedError(f"This key is {record}; ask the operator of the server for one.")
    usage = context.keys.usage(record)
    usage.take(record)
    request.scope.setdefault(RELEASE, []).append(usage.give_back)
    return Caller(record.id, record.scopes)


def _anonymous(scopes: frozenset[str], context: Context, request: Request) -> frozenset[str]:
    """Return what a caller without a key may do, less for what a web page made a browser send.

    The server of a single person is reached by every page that this person opens: one of another
    origin, or of a name that was bent to this address, may not manage the models.
    """
    if "admin" not in scopes:
        return scopes
    sent, origin = header(request, b"host"), header(request, b"origin")
    host = _host(sent or "")
    strange_host = bool(host) and not (is_loopback(host) or _is_address(host))
    foreign = origin is not None and urlsplit(origin).netloc != sent
    if strange_host or (foreign and origin not in context.config.cors_origins):
        return scopes - {"admin"}
    return scopes


def _host(value: str) -> str:
    return value.partition("]")[0] + "]" if value.startswith("[") else value.partition(":")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _denied(caller: Caller, scope: str) -> str:
    if caller.key_id is None:
        return f"Callers without a key may not do this: it needs the scope {scope!r}."
    return f"The key {caller.key_id!r} may not do this: it lacks the scope {scope!r}."
