"""What all requests share: the parts of one server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from openkeypoints.engine import Engine
from openkeypoints.errors import OpenKeypointsError
from openkeypoints.server.config import ServerConfig
from openkeypoints.server.keys import KeyStore
from openkeypoints.server.metrics import Metrics
from openkeypoints.server.pictures import PictureFetcher
from openkeypoints.server.served import Served
from openkeypoints.settings import Settings

CONTEXT = "okp.context"
"""Entry of a request's scope: the parts of the server that got it."""
RELEASE = "okp.release"
"""Entry of a request's scope: what is called when the request is over."""


@dataclass(slots=True)
class Condition:
    """What changes while a server runs.

    Attributes:
        ready: the models that the operator named are loaded.
        stopping: the server takes no new connections.
        failure: why a named model could not be loaded.
        body_bytes: of all request bodies that are held now.
    """

    ready: bool = False
    stopping: bool = False
    failure: OpenKeypointsError | None = None
    body_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of one server.

    Attributes:
        config: the options.
        settings: of the library.
        engine: loads and runs the models.
        catalogue: which models there are and for whom.
        pictures: fetches pictures at addresses.
        keys: who may call.
        metrics: what is counted.
        clock: monotonic seconds.
        condition: what changes.
    """

    config: ServerConfig
    settings: Settings
    engine: Engine
    catalogue: Served
    pictures: PictureFetcher
    keys: KeyStore
    metrics: Metrics
    clock: Callable[[], float] = time.monotonic
    condition: Condition = field(default_factory=Condition)


def context_of(request: Request) -> Context:
    """Return the parts of the server that got a request."""
    context: Context = request.scope[CONTEXT]
    return context
