"""The decode pool: the bytes of a call become RGB pictures, in threads of their own."""

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
from openkeypoints.errors import InferenceError, InputError, OpenKeypointsError
from openkeypoints.images import read_image
from openkeypoints.results import Image
from openkeypoints.settings import Settings

Decoded = tuple[Image, float]
"""A picture, and the milliseconds that it took."""
Done = Callable[[list[Decoded] | OpenKeypointsError], None]
"""Gets the pictures of a call in their order, or the first error."""
CHANNELS = 3

logger = logging.getLogger(__name__)


class Decoder:
    """Decodes at most ``Limits.decode_threads`` pictures at once."""

    def __init__(self, limits: Limits) -> None:
        self._threads = ThreadPoolExecutor(limits.decode_threads, thread_name_prefix="okp-decode")
        self._settings = Settings(max_pixels=limits.max_pixels, offline=True)

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
        waiting = [
            (index, image)
            for index, image in enumerate(self._call.images)
            if isinstance(image, bytes)
        ]
        if not waiting:
            self._done([self._found[index] for index in range(len(self._found))])
            return
        self._pending = [threads.submit(self._decode, index, data) for index, data in waiting]

    def cancel(self) -> None:
        """Decode no more of them: nobody waits. After the end it does nothing."""
        with self._lock:
            self._ended = True
        for future in self._pending:
            future.cancel()

    def _decode(self, index: int, data: bytes) -> None:
        if self._ended:
            return
        began = time.perf_counter()
        try:
            image = read_image(
                data,
                settings=self._settings,
                orient=self._call.orient,
                on_size=lambda width, height: self._claim.add(width * height * CHANNELS),
            )
        except OpenKeypointsError as error:
            # The frames of its traceback hold the picture.
            self._fail(numbered(error.with_traceback(None), index, len(self._call.images)))
        except Exception:
            logger.exception("A picture could not be decoded.")
            broken = InferenceError("The picture could not be decoded; the log has the reason.")
            self._fail(numbered(broken, index, len(self._call.images)))
        else:
            self._keep(index, (image, (time.perf_counter() - began) * 1e3))

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
