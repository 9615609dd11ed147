"""The edge of the server: what every request and every answer goes through, whatever the route."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable, MutableMapping
from itertools import chain
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openkeypoints.server.auth import CALLER, take_keys
from openkeypoints.server.context import STAGES
from openkeypoints.server.logs import log_request, log_traceback
from openkeypoints.server.state import CONTEXT, RELEASE, Context

REQUEST_ID = "okp.request_id"
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_UNROUTED = "none"
COMMON_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
SECURITY_HEADERS = (*COMMON_HEADERS, (b"cross-origin-resource-policy", b"same-origin"))
SHARED_HEADERS = (*COMMON_HEADERS, (b"cross-origin-resource-policy", b"cross-origin"))
OWN_HEADERS = frozenset({b"x-request-id", b"server-timing", *dict(SECURITY_HEADERS)})


class Edge:
    """Pure ASGI: takes the keys away, names the request, refuses what is too long, and counts.

    Args:
        app: the routes.
        context: the parts of the server.
    """

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context
        self._proxies = context.config.proxy_networks()
        self._cors = bool(context.config.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)

    async def _serve(self, original: Scope, receive: Receive, send: Send) -> None:
        # A copy: the protocol keeps the method as it was, and so sends no body to a HEAD.
        scope = dict(original)
        if scope["method"] == "HEAD":
            scope["method"] = "GET"
        take_keys(scope)
        request_id = _request_id(scope["headers"])
        scope[REQUEST_ID] = request_id
        scope[CONTEXT] = self._context
        # Here and not in uvicorn, so that a path with and one without it are both understood.
        scope["root_path"] = self._context.config.root_path
        if self._proxies:
            _believe_proxy(scope, self._proxies)
        answer = _Answer(scope, send, request_id, cors=self._cors)
        metrics, clock = self._context.metrics, self._context.clock
        began = clock()
        metrics.running += 1
        try:
            refusal = self._refusal(scope)
            await (refusal or self._app)(scope, receive, answer.send)
        except Exception as error:  # noqa: BLE001  # arch: the client gets an answer, the log the cause
            log_traceback(error, request_id)
            if not answer.status:
                await JSONResponse({"detail": "Internal Server Error"}, 500)(
                    scope, receive, answer.send
                )
        finally:
            metrics.running -= 1
            for release in scope.get(RELEASE, ()):
                release()
            seconds = clock() - began
            route = getattr(scope.get("route"), "path", _UNROUTED)
            metrics.request(route, original["method"], answer.status or 499, seconds)
            metrics.size("response", answer.bytes)
            caller = scope.get(CALLER)
            log_request(
                scope,
                method=original["method"],
                route=route,
                status=answer.status or 499,
                milliseconds=seconds * 1e3,
                key_id=None if caller is None else caller.key_id,
            )

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        """Return the answer to what no route has to see."""
        limits = self._context.config.limits
        headers = scope["headers"]
        target = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
        if target > limits.target_bytes:
            return JSONResponse({"detail": "The address is too long."}, 414)
        size = sum(map(len, chain.from_iterable(headers)))
        if len(headers) > limits.headers or size > limits.header_bytes:
            return JSONResponse({"detail": "The headers are too long."}, 431)
        if scope["method"] == "OPTIONS" and not self._cors:
            return JSONResponse(
                {"detail": "Method Not Allowed"}, 405, headers={"allow": "GET, HEAD, POST"}
            )
        return None


class _Answer:
    """Adds to an answer what all have, and remembers its status and size."""

    def __init__(self, scope: Scope, send: Send, request_id: str, *, cors: bool) -> None:
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self._cors = cors
        self.status = 0
        self.bytes = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"]
            if not OWN_HEADERS.isdisjoint(dict(headers)):
                headers = [header for header in headers if header[0] not in OWN_HEADERS]
            own = [
                *(SHARED_HEADERS if self._cors else SECURITY_HEADERS),
                (b"x-request-id", self._request_id.encode()),
            ]
            if stages := self._scope.get(STAGES):
                told = [f"{name};dur={milliseconds:.2f}" for name, milliseconds in stages.items()]
                own.append((b"server-timing", ", ".join(told).encode()))
            message["headers"] = [*headers, *own]
        elif message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))
        await self._send(message)


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    sent = dict(headers).get(b"x-request-id", b"").decode("latin-1")
    return sent if _ID.fullmatch(sent) else secrets.token_hex(16)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _believe_proxy(scope: MutableMapping[str, Any], proxies: Iterable[Network]) -> None:
    """Take client and scheme from the headers of a proxy, where a trusted one is the peer.

    ``X-Forwarded-For`` is read from the right: the first address that is no trusted proxy is the
    client, whatever a client itself wrote before it.
    """
    networks = tuple(proxies)
    if not scope.get("client") or not _within(scope["client"][0], networks):
        return
    sent = {
        name: value.decode("latin-1")
        for name, value in scope["headers"]
        if name in (b"x-forwarded-for", b"x-forwarded-proto")
    }
    hops = [hop.strip() for hop in sent.get(b"x-forwarded-for", "").split(",") if hop.strip()]
    for hop in reversed(hops):
        if not _is_ip(hop):
            break
        scope["client"] = (hop, 0)
        if not _within(hop, networks):
            break
    if sent.get(b"x-forwarded-proto") in ("http", "https"):
        scope["scheme"] = sent[b"x-forwarded-proto"]


def _within(address: str, networks: Iterable[Network]) -> bool:
    return _is_ip(address) and any(ipaddress.ip_address(address) in net for net in networks)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
