"""What all requests share: the parts of one server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.datastructures import QueryParams
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


_HEADERS = "okp.headers"
_NO_QUERY = QueryParams()


def header(request: Request, name: bytes) -> str | None:
    """Return the first value of a header of a request, None where it was not sent.

    Starlette's own way goes through all of them each time.

    Args:
        request: whose keys were taken away.
        name: in small letters.
    """
    scope = request.scope
    table: dict[bytes, bytes] | None = scope.get(_HEADERS)
    if table is None:
        table = scope[_HEADERS] = dict(reversed(scope["headers"]))
    value = table.get(name)
    return None if value is None else value.decode("latin-1")


def query_of(request: Request) -> QueryParams:
    """Return the parameters in the address of a request, which most have none of."""
    return request.query_params if request.scope["query_string"] else _NO_QUERY


def context_of(request: Request) -> Context:
    """Return the parts of the server that got a request."""
    context: Context = request.scope[CONTEXT]
    return context
