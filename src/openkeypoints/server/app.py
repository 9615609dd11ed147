"""Makes the application: the parts of the server, its routes, its beginning and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from openkeypoints import __version__
from openkeypoints.engine import Engine
from openkeypoints.engine import Limits as EngineLimits
from openkeypoints.errors import OpenKeypointsError
from openkeypoints.models import Model
from openkeypoints.server import health
from openkeypoints.server.config import ServerConfig
from openkeypoints.server.edge import Edge
from openkeypoints.server.keys import KeyStore
from openkeypoints.server.metrics import Metrics
from openkeypoints.server.opening import Opener
from openkeypoints.server.pictures import PictureFetcher
from openkeypoints.server.routing import Dispatch
from openkeypoints.server.served import Served
from openkeypoints.server.state import Context
from openkeypoints.server.surfaces import (
    native,
    pages,
    roboflow,
    roboflow_platform,
    ultralytics,
)
from openkeypoints.settings import Settings

CORS_HEADERS = ("authorization", "content-type", "x-api-key", "x-request-id")
EXPOSED_HEADERS = ("x-request-id", "server-timing", "retry-after", "x-processing-time")
_log = logging.getLogger(__name__)


def make_app(
    config: ServerConfig,
    engine: Engine | None = None,
    *,
    open_model: Callable[[str], Model] | None = None,
    settings: Settings | None = None,
) -> FastAPI:
    """Return the application of a server; ``app.state.context`` has its parts.

    Args:
        config: the options.
        engine: default: one of its own, which opens what the catalogue says.
        open_model: opens an id for the engine in the catalogue's place.
        settings: of the library; default: the environment's.

    Raises:
        UnknownModelError: a named model cannot exist.
        NotFoundError, InputError: the key file is not there or cannot be read.
    """
    settings = Settings.from_env() if settings is None else settings
    catalogue = Served(config, settings)
    opener = Opener(catalogue, settings, workers=config.workers)
    if engine is None:
        engine = Engine(
            open_model or opener.open,
            _engine_limits(config, catalogue, opener, settings.max_pixels),
            predict_bytes=opener.predict_bytes,
        )
    context = Context(
        config=config,
        settings=settings,
        engine=engine,
        catalogue=catalogue,
        pictures=PictureFetcher(config, settings),
        keys=KeyStore.of(api_key=config.api_key, path=config.api_keys),
        metrics=Metrics(),
    )
    app = _Application(
        title="OpenKeypoints",
        version=__version__,
        servers=[{"url": config.root_path}] if config.root_path else None,
        openapi_url=None,  # a page like the others, see `pages`
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    app.state.context = context
    for router in _routers(config):
        # Taken over as they are: routes of an included router are matched twice.
        app.router.routes.extend(router.routes)
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=list(CORS_HEADERS),
            expose_headers=list(EXPOSED_HEADERS),
        )
    app.add_middleware(Edge, context=context)  # the last one is the outermost
    return app


class _Application(FastAPI):
    """FastAPI without what our routes have no use for: telemetry, dependencies, body models.

    Each layer between connection and handler costs a request some hundredths of a millisecond.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Starlette.__call__(self, scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        otherwise = ExceptionMiddleware(self.router, handlers=self.exception_handlers)
        app: ASGIApp = Dispatch(self.routes, otherwise)
        for layer, arguments, options in reversed(self.user_middleware):
            app = layer(app, *arguments, **options)
        return app


def _routers(config: ServerConfig) -> tuple[APIRouter, ...]:
    """Return all routes in their order: fixed ones before those that take any path for a model."""
    return (
        native.router(),
        *health.routers(),
        pages.router(),
        roboflow_platform.router(config),
        ultralytics.router(),
        roboflow.router(config),
    )


def _engine_limits(
    config: ServerConfig, catalogue: Served, opener: Opener, max_pixels: int
) -> EngineLimits:
    """Return the engine's share of the machine: all of it, or what falls to one of the workers."""
    usual = EngineLimits()
    return EngineLimits(
        streams=opener.streams,
        memory_bytes=usual.memory_bytes // config.workers,
        pinned=frozenset(catalogue.pinned),
        max_pixels=max_pixels,
    )


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    loading = asyncio.create_task(_load_named(context))
    try:
        yield
    finally:
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading
        context.condition.stopping = True
        context.engine.start_draining()
        await context.engine.drain(context.config.drain_s)
        context.pictures.close()


async def _load_named(context: Context) -> None:
    """Load what the operator named; the server is ready when all of it is there."""
    for model_id in context.catalogue.pinned:
        try:
            await context.engine.load(model_id)
        except OpenKeypointsError as error:
            _log.error("The model %s cannot be loaded: %s", model_id, error)
            context.condition.failure = error
            return
        context.metrics.serve(model_id)
    context.condition.ready = True
    _log.info("Ready: %s.", ", ".join(context.catalogue.pinned))
