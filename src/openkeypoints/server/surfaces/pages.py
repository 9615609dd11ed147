"""The pages for people: the playground at ``/``, and the routes of the server at ``/docs``."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from openkeypoints.errors import OpenKeypointsError
from openkeypoints.samples import sample
from openkeypoints.server.answers import json_bytes
from openkeypoints.server.routing import surface_route

FOLDER = Path(__file__).parent.parent / "playground"
PAGES = {"/": "index.html", "/docs": "docs.html"}
OPENAPI = "/openapi.json"
ASSETS = "/docs/assets"
"""Below ``docs``, because no model id may begin so: a page never hides a model."""
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
_HEADERS = {
    "content-security-policy": POLICY,
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    # Every file is asked for again and answered with 304: a new version shows at once, and the
    # modules, which name each other, always belong together.
    "cache-control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that is served as it is.

    Attributes:
        content: its bytes.
        media_type: by its ending.
        etag: strong, of the content.
    """

    content: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> Asset:
        """Return some bytes with their tag."""
        digest = hashlib.sha256(content).hexdigest()[:32]
        return cls(content, media_type, f'"{digest}"')

    @classmethod
    def read(cls, path: Path) -> Asset:
        """Read a file of the package."""
        return cls.of(path.read_bytes(), _TYPES[path.suffix])

    def answer(self, request: Request) -> Response:
        """Return the file, or 304 where the browser has it."""
        headers = {**_HEADERS, "etag": self.etag}
        known = request.headers.get("if-none-match", "")
        if self.etag in {tag.strip().removeprefix("W/") for tag in known.split(",")}:
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def router() -> APIRouter:
    """Return the routes of the pages and of the files that they need."""
    routes = APIRouter(route_class=surface_route(render_error, public=True), tags=["pages"])
    for address, name in PAGES.items():
        routes.add_api_route(
            address,
            _handler(Asset.read(FOLDER / name)),
            methods=["GET"],
            response_class=Response,
            include_in_schema=False,
        )
    routes.add_api_route(
        OPENAPI, _document(), methods=["GET"], response_class=Response, include_in_schema=False
    )
    assets = [path for path in sorted(FOLDER.iterdir()) if path.suffix in _TYPES]
    for path in (*assets, sample("people")):
        if path.suffix != ".html":
            routes.add_api_route(
                f"{ASSETS}/{path.name}",
                _handler(Asset.read(path)),
                methods=["GET"],
                response_class=Response,
                include_in_schema=False,
            )
    return routes


def render_error(error: OpenKeypointsError, request: Request) -> Response:  # noqa: ARG001
    """Return an error as these routes show it."""
    return JSONResponse({"message": str(error)}, error.http_status)


def _document() -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of the OpenAPI document, which is made once: it has 200 kB."""
    made: list[Asset] = []

    async def document(request: Request) -> Response:
        if not made:
            made.append(Asset.of(json_bytes(request.app.openapi()), "application/json"))
        return made[0].answer(request)

    return document


def _handler(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        return asset.answer(request)

    return page
