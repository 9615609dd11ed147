"""How much the engine takes on: one checked record."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from openkeypoints.engine.machine import cores, memory_limit
from openkeypoints.errors import InputError

_MIN_QUEUE = 16
_QUEUE_PER_SLOT = 4
_INFLIGHT_BYTES = 256_000_000
_INFLIGHT_PER_STREAM = 48_000_000  # a phone's picture, encoded and decoded


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the whole engine. 0 means the default that is named.

    Attributes:
        streams: images that one model computes at once on a CPU; 0 = the cores. The models must
            be opened with as many (``Settings.streams``).
        decode_threads: pictures decoded at once for models on GPUs; 0 = the cores, at most 4. For
            models on a CPU each stream decodes its own.
        queue: images that may wait for one model; 0 = 4 for each that it computes at once, at
            least 16. A call may exceed it alone where nothing else waits.
        max_images: of one call.
        max_wait_s: a call that would wait longer for its turn is refused.
        deadline_s: longest deadline of a call, and the one of calls that name none.
        grace_s: how long after its deadline a call still gets an answer that has begun. A run
            that takes longer than ``deadline_s + grace_s`` hangs: its model is replaced.
        max_pixels: of one picture.
        inflight_bytes: of the encoded and decoded pictures of all calls; 0 = 256 MB, more with
            more than five streams.
        memory_bytes: of all models together; 0 = six tenths of the machine's or container's.
        pinned: ids that are never evicted.
        max_loading: models loaded at once.
        backoff_s: after a failed load the same error is given for so long, then twice as long,
            up to ``max_backoff_s``.
        max_batch: images in one run on a GPU.
        batch_delay_s: how long a run on a GPU waits for more images.
        warmup: run each model once before it is called ready.
    """

    streams: int = 0
    decode_threads: int = 0
    queue: int = 0
    max_images: int = 16
    max_wait_s: float = 2.0
    deadline_s: float = 30.0
    grace_s: float = 2.0
    max_pixels: int = 64_000_000
    inflight_bytes: int = 0
    memory_bytes: int = 0
    pinned: frozenset[str] = field(default_factory=frozenset)
    max_loading: int = 4
    backoff_s: float = 1.0
    max_backoff_s: float = 4.0
    max_batch: int = 8
    batch_delay_s: float = 0.002
    warmup: bool = True

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, int | float) and value < 0:
                raise InputError(f"{entry.name} is {value}: give a number of at least 0.")
        streams = self.streams or cores()
        defaults = {
            "streams": streams,
            "decode_threads": min(4, cores()),
            "inflight_bytes": max(_INFLIGHT_BYTES, _INFLIGHT_PER_STREAM * streams),
            "memory_bytes": memory_limit() * 6 // 10,
        }
        for name, value in defaults.items():
            if not getattr(self, name):
                object.__setattr__(self, name, value)

    @property
    def hang_s(self) -> float:
        """Seconds after which a run counts as hanging: nobody can wait for it any more."""
        return self.deadline_s + self.grace_s

    def room(self, slots: int) -> int:
        """Return how many images may wait for a model that computes ``slots`` at once."""
        return self.queue or max(_MIN_QUEUE, _QUEUE_PER_SLOT * slots)
