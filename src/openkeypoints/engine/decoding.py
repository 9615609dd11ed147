"""The bytes of a call become RGB pictures: at their turn, or ahead of it in a pool of threads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from openkeypoints.engine.admission import Claim
from openkeypoints.engine.calls import Call
from openkeypoints.engine.limits import Limits
from openkeypoints.errors import InferenceError, InputError, OpenKeypointsError, numbered
from openkeypoints.images import read_image
from openkeypoints.results import Image
from openkeypoints.settings import Settings

Decoded = tuple[Image, float]
"""A picture, and the milliseconds that it took."""
Done = Callable[[list[Decoded] | OpenKeypointsError], None]
"""Gets the pictures of a call in their order, or the first error."""
CHANNELS = 3

logger = logging.getLogger(__name__)


def read_picture(call: Call, index: int, claim: Claim, settings: Settings) -> Decoded:
    """Return one encoded picture of a call, and how long that took.

    Args:
        call: that it is of.
        index: which it is.
        claim: gets the pixels before they are decoded, and may refuse.
        settings: with the most pixels that are decoded.

    Raises:
        InputError: the picture cannot be read.
        OverloadedError: there is no memory for the pixels.
        InferenceError: the decoder broke down.
    """
    began = time.perf_counter()
    try:
        image = read_image(
            call.images[index],
            settings=settings,
            orient=call.orient,
            on_size=lambda width, height: claim.add(width * height * CHANNELS),
        )
    except OpenKeypointsError:
        raise
    except Exception:
        logger.exception("A picture could not be decoded.")
        message = "The picture could not be decoded; the log has the reason."
        raise InferenceError(message) from None
    return image, (time.perf_counter() - began) * 1e3


def picture_settings(limits: Limits) -> Settings:
    """Return the settings of reading pictures that strangers sent."""
    return Settings(max_pixels=limits.max_pixels, offline=True)


class Decoder:
    """The decode pool: at most ``Limits.decode_threads`` pictures at once, ahead of their turns.

    For models whose pictures run in one thread, together: on a GPU. On a CPU as many threads run
    as there are cores, and each decodes its own picture at its turn; a pool before them would take
    the cores from them, and the picture from the cache.
    """

    def __init__(self, limits: Limits) -> None:
        self._threads = ThreadPoolExecutor(limits.decode_threads, thread_name_prefix="okp-decode")
        self._settings = picture_settings(limits)

    def start(self, call: Call, claim: Claim, done: Done) -> Decoding:
        """Begin with the pictures of a call; one that is bad fails the call.

        Args:
            call: bytes are decoded, arrays are passed on.
            claim: gets the pixels of each picture before they are decoded, and may refuse.
            done: is called once, in a thread of the pool, or here if there is nothing to decode.
        """
        decoding = Decoding(call, claim, done, self._settings)
        decoding.begin(self._threads)
        return decoding

    def close(self) -> None:
        """Drop what has not begun; what is being decoded finishes unheard."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Decoding:
    """The pictures of one call on their way through the pool."""

    def __init__(self, call: Call, claim: Claim, done: Done, settings: Settings) -> None:
        self._call, self._claim, self._done, self._settings = call, claim, done, settings
        self._lock = threading.Lock()
        self._ended = False
        self._pending: list[Future[None]] = []
        self._found: dict[int, Decoded] = {
            index: (image, 0.0)
            for index, image in enumerate(call.images)
            if not isinstance(image, bytes)
        }

    def begin(self, threads: ThreadPoolExecutor) -> None:
        """Give the pictures to the threads of a pool."""
        waiting = [i for i, image in enumerate(self._call.images) if isinstance(image, bytes)]
        if not waiting:
            self._done([self._found[index] for index in range(len(self._found))])
            return
        self._pending = [threads.submit(self._decode, index) for index in waiting]

    def cancel(self) -> None:
        """Decode no more of them: nobody waits. After the end it does nothing."""
        with self._lock:
            self._ended = True
        for future in self._pending:
            future.cancel()

    def _decode(self, index: int) -> None:
        if self._ended:
            return
        try:
            decoded = read_picture(self._call, index, self._claim, self._settings)
        except OpenKeypointsError as error:
            # The frames of its traceback hold the picture.
            self._fail(numbered(error.with_traceback(None), index, len(self._call.images)))
        else:
            self._keep(index, decoded)

    def _keep(self, index: int, decoded: Decoded) -> None:
        with self._lock:
            self._found[index] = decoded
            if self._ended or len(self._found) < len(self._call.images):
                return
            self._ended = True
        self._done([self._found[index] for index in range(len(self._found))])

    def _fail(self, error: OpenKeypointsError) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
        self._done(error)


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
