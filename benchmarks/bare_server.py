"""The least that a server in Python does, beside which benchmarks/server_overhead.py shows ours.

Uvicorn and Starlette take a body, a thread decodes it with the library, and a few bytes of JSON go
back: no limits, no keys, no queue, no log, no metrics. What this takes beyond decoding nobody who
serves pictures from Python can do without, and it tells how busy the machine was.
"""

from __future__ import annotations

import asyncio
import json
import socket

import uvicorn
from server_process import count_decoding
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from openkeypoints.engine import decoding
from openkeypoints.settings import Settings

SETTINGS = Settings()


async def predict(request: Request) -> Response:
    """Decode the picture in the body."""
    body = await request.body()
    image = await asyncio.to_thread(decoding.read_image, body, settings=SETTINGS)
    return JSONResponse({"width": image.shape[1], "height": image.shape[0]})


async def ready(request: Request) -> Response:  # noqa: ARG001
    """Say that it is there."""
    return Response()


def main() -> None:
    """Serve at a free port until a signal comes."""
    count_decoding()
    routes = [
        Route("/readiness", ready),
        Route("/{path:path}", predict, methods=["POST"]),
    ]
    config = uvicorn.Config(Starlette(routes=routes), log_level="error", access_log=False)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        print(json.dumps({"url": f"http://127.0.0.1:{listening.getsockname()[1]}"}), flush=True)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
