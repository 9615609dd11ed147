"""Routes that tests of the server's parts ask: they answer what the parts made of a request."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from openkeypoints.engine import Call
from openkeypoints.errors import OpenKeypointsError
from openkeypoints.server.context import (
    authorise,
    infer,
    read_body,
    read_form,
    read_json,
    timing,
    unless_gone,
)
from openkeypoints.server.routing import surface_route
from tests.unit.engine.stubs import picture


def render(error: OpenKeypointsError, request: Request) -> Response:
    kind = type(error).__name__
    return JSONResponse({"kind": kind, "message": str(error)}, error.http_status)


class Probes:
    """The routes, and what happened in them."""

    def __init__(self) -> None:
        self.cancelled = False
        self.began = False
        self.scopes: list[dict[str, Any]] = []
        routes = APIRouter(
            prefix="/probe", route_class=surface_route(render), include_in_schema=False
        )
        for name in (
            "who",
            "admin",
            "body",
            "digest",
            "json",
            "form",
            "slow",
            "broken",
            "infer",
            "big",
        ):
            methods = ["GET", "POST"] if name in ("who", "admin", "slow") else ["POST"]
            routes.add_api_route(f"/{name}", getattr(self, name), methods=methods)
        routes.add_api_route("/forgotten", self.forgotten, methods=["GET"])
        self.routes = routes

    async def who(self, request: Request) -> Response:
        caller = await authorise(request, "infer")
        self.scopes.append(dict(request.scope))
        timing(request, "work", 1.25)
        return JSONResponse(
            {
                "key_id": caller.key_id,
                "scopes": sorted(caller.scopes),
                "roboflow_key": caller.roboflow_key,
                "query": request.url.query,
                "client": request.client.host if request.client else None,
                "scheme": request.url.scheme,
                "headers": dict(request.headers),
            }
        )

    async def admin(self, request: Request) -> Response:
        await authorise(request, "admin")
        return Response("yes")

    async def body(self, request: Request) -> Response:
        await authorise(request, "infer")
        return JSONResponse(len(await read_body(request)))

    async def digest(self, request: Request) -> Response:
        await authorise(request, "infer")
        return JSONResponse(sha256(await read_body(request)).hexdigest())

    async def json(self, request: Request) -> Response:
        sent = await read_json(request)
        key = sent.get("api_key") if isinstance(sent, dict) else None
        caller = await authorise(request, "infer", body_key=key)
        return JSONResponse({"key_id": caller.key_id, "roboflow_key": caller.roboflow_key})

    async def form(self, request: Request) -> Response:
        await authorise(request, "infer")
        form = await read_form(request)
        files = [[f.name, f.filename, len(f.content)] for f in form.files]
        return JSONResponse({"fields": form.fields, "files": files})

    async def slow(self, request: Request) -> Response:
        await authorise(request, "infer")
        return await unless_gone(request, self._sleep(float(request.query_params["s"])))

    async def _sleep(self, seconds: float) -> Response:
        self.began = True
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return Response("slept")

    async def broken(self, request: Request) -> Response:
        await authorise(request, "infer")
        raise ZeroDivisionError("the api_key=canary-in-an-error was wrong")

    async def infer(self, request: Request) -> Response:
        await authorise(request, "infer")
        sent = await read_json(request)
        answer = await infer(request, Call(sent["model"], (picture(7),)))
        return JSONResponse(len(answer.predictions))

    async def big(self, request: Request) -> Response:
        await authorise(request, "infer")
        return Response(b"x" * 30_000_000)

    async def forgotten(self, request: Request) -> Response:
        return Response("a secret")
