"""One run of a model over sources: what commands, jobs on many files, and agents share."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from openkeypoints.errors import OpenKeypointsError
from openkeypoints.models import Model, Request
from openkeypoints.results import Image, Prediction
from openkeypoints.settings import Settings
from openkeypoints.sources import Source


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """A source that was read: the picture, RGB uint8 (H, W, 3), and what the model found in it."""

    source: Source
    image: Image
    prediction: Prediction


@dataclass(frozen=True, slots=True, eq=False)
class Unread:
    """A source that cannot be read, and why."""

    source: Source
    error: OpenKeypointsError


def run(
    model: Model,
    sources: Iterable[Source],
    request: Request,
    *,
    settings: Settings | None = None,
) -> Iterator[Prediction | OpenKeypointsError]:
    """Yield what a model finds in each source, in their order.

    A source that cannot be read does not end the others: its place holds the error. A prediction
    says in ``source`` what it was read from.

    Args:
        model: loaded.
        sources: each is read when its turn comes.
        request: thresholds, classes and options.
        settings: limits of reading; default: the environment's.

    Raises:
        InputError: the request does not fit the model; nothing was read.
        OpenKeypointsError: the model broke down.
    """
    for answer in answers(model, sources, request, settings=settings):
        yield answer.error if isinstance(answer, Unread) else answer.prediction


def answers(
    model: Model,
    sources: Iterable[Source],
    request: Request,
    *,
    settings: Settings | None = None,
) -> Iterator[Answered | Unread]:
    """Yield the same as :func:`run` with the pictures, for those who draw on them."""
    asked = model.request(request)
    settings = settings or Settings.from_env()
    for source in sources:
        began = time.perf_counter()
        try:
            image = source.read(settings)
        except OpenKeypointsError as error:
            yield Unread(source, error)
            continue
        decode_ms = (time.perf_counter() - began) * 1e3
        (found,) = model.run([image], asked, [decode_ms])
        yield Answered(source, image, replace(found, source=source.label))
