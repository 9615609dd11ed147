"""One call on its way through an executor."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass

from openkeypoints.engine.admission import Claim
from openkeypoints.engine.calls import Call
from openkeypoints.engine.decoding import Decoded, read_picture
from openkeypoints.errors import OpenKeypointsError, numbered
from openkeypoints.models import Request
from openkeypoints.results import Image, Prediction
from openkeypoints.settings import Settings

Outcome = Prediction | OpenKeypointsError


class Job:
    """The images of one call, whose turns come one by one.

    ``done``, ``timer`` and what they take belong to the event loop, the rest to the executor's
    lock; a picture belongs to whoever has its turn.

    Attributes:
        call: what was asked.
        claim: the memory that it holds.
        deadline: on the monotonic clock.
        images: encoded until they are decoded, RGB arrays then.
        decode_ms: how long each of them took.
        done: the predictions, when all are there.
        timer: ends the call at its deadline.
        begun: how many images have had their turn.
        submitted: when it joined the queue, 0 before.
        last_turn: when the last of them had.
        dropped: nobody waits for it any more.
    """

    def __init__(self, call: Call, claim: Claim, deadline: float) -> None:
        self.call, self.claim, self.deadline = call, claim, deadline
        self.images: list[bytes | Image] = list(call.images)
        self.decode_ms = [0.0] * len(call.images)
        self.done: asyncio.Future[list[Prediction]] = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None
        self.begun = 0
        self.submitted = self.last_turn = 0.0
        self.dropped = False
        self._found: dict[int, Prediction] = {}

    def keep(self, index: int, decoded: Decoded) -> None:
        """Take a decoded picture in the place of the encoded one."""
        self.images[index], self.decode_ms[index] = decoded

    @property
    def waiting(self) -> int:
        """How many images have not had their turn."""
        return len(self.images) - self.begun

    def settle(self, index: int, outcome: Outcome) -> None:
        """Take what came of one image; the first error is the error of the call."""
        if self.done.done():
            return
        if isinstance(outcome, OpenKeypointsError):
            self.done.set_exception(numbered(outcome, index, len(self.images)))
            return
        self._found[index] = outcome
        if len(self._found) == len(self.images):
            self.done.set_result([self._found[i] for i in range(len(self.images))])

    def refuse(self, error: OpenKeypointsError) -> None:
        """Fail the call as a whole, unless it is done."""
        if not self.done.done():
            self.done.set_exception(error)

    def abandon(self) -> None:
        """Forget the outcome: nobody waits."""
        # An error that nobody asks for would be logged as one that was overlooked.
        if not self.done.cancel() and not self.done.cancelled():
            self.done.exception()


@dataclass(slots=True, eq=False)
class Turn:
    """One image of a job, whose turn has come."""

    job: Job
    index: int

    def image(self, settings: Settings) -> Image:
        """Return the picture, decoded now where nobody has done so yet.

        Raises:
            OpenKeypointsError: see ``read_picture``.
        """
        job, image = self.job, self.job.images[self.index]
        if isinstance(image, bytes):
            decoded = read_picture(job.call, self.index, job.claim, settings)
            job.keep(self.index, decoded)
            return decoded[0]
        return image

    @property
    def decode_ms(self) -> float:
        """How long the picture took to decode, 0 before."""
        return self.job.decode_ms[self.index]

    @property
    def request(self) -> Request:
        """What the call asks, with the boxes of this image alone."""
        return self.job.call.request.for_pictures([self.index])

    @property
    def key(self) -> Hashable:
        """What images that run together have in common; None runs alone."""
        call, image = self.job.call, self.job.images[self.index]
        if call.request.options.boxes is not None or isinstance(image, bytes):
            return None
        return call.request, image.shape
