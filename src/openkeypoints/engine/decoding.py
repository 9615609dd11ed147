"""The decode pool: the bytes of a call become RGB pictures, in threads of their own."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from openkeypoints.engine.admission import Claim
from openkeypoints.engine.calls import Call
from openkeypoints.engine.limits import Limits
from openkeypoints.errors import InferenceError, InputError, OpenKeypointsError
from openkeypoints.images import read_image
from openkeypoints.results import Image
from openkeypoints.settings import Settings

Decoded = tuple[Image, float]
"""A picture, and the milliseconds that it took."""
CHANNELS = 3

logger = logging.getLogger(__name__)


class Decoder:
    """Decodes at most ``Limits.decode_threads`` pictures at once."""

    def __init__(self, limits: Limits) -> None:
        self._threads = ThreadPoolExecutor(limits.decode_threads, thread_name_prefix="okp-decode")
        self._settings = Settings(max_pixels=limits.max_pixels, offline=True)

    async def decode(self, call: Call, claim: Claim) -> list[Decoded]:
        """Return the pictures of a call in their order; one that is bad fails the call.

        Args:
            call: bytes are decoded, arrays are passed on.
            claim: gets the pixels of each picture before they are decoded, and may refuse.

        Raises:
            InputError: a picture cannot be read; of several, the message says which.
            OverloadedError: there is no memory for the pixels.
        """
        loop = asyncio.get_running_loop()
        pending = [
            loop.run_in_executor(self._threads, self._decode, image, (call, index), claim)
            for index, image in enumerate(call.images)
            if isinstance(image, bytes)
        ]
        try:
            decoded = iter(await asyncio.gather(*pending))
        except OpenKeypointsError:
            for other in pending:  # those that have not begun need not
                other.cancel()
            raise
        return [next(decoded) if isinstance(i, bytes) else (i, 0.0) for i in call.images]

    def close(self) -> None:
        """Drop what has not begun; what is being decoded finishes unheard."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _decode(self, data: bytes, place: tuple[Call, int], claim: Claim) -> Decoded:
        began = time.perf_counter()
        call, index = place
        try:
            image = read_image(
                data,
                settings=self._settings,
                orient=call.orient,
                on_size=lambda width, height: claim.add(width * height * CHANNELS),
            )
        except OpenKeypointsError as error:
            raise numbered(error, index, len(call.images)) from None
        except Exception:
            logger.exception("A picture could not be decoded.")
            raise numbered(
                InferenceError("The picture could not be decoded; the log has the reason."),
                index,
                len(call.images),
            ) from None
        return image, (time.perf_counter() - began) * 1e3


def numbered(error: OpenKeypointsError, index: int, count: int) -> OpenKeypointsError:
    """Return an error whose message says which of several images it is about."""
    if count > 1:
        error.args = (f"images[{index}]: {error}",)
    return error


def memory_of(call: Call) -> int:
    """Return the bytes of a call's images as they arrived.

    Raises:
        InputError: an image is neither bytes nor an array.
    """
    total = 0
    for index, image in enumerate(call.images):
        if isinstance(image, np.ndarray):
            total += image.nbytes
        elif isinstance(image, bytes):
            total += len(image)
        else:  # text could name a file or an address of the machine that serves
            raise InputError(
                f"images[{index}] is a {type(image).__name__}: pass encoded bytes or an RGB array."
            )
    return total
