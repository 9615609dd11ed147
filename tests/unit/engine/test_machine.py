"""Memory is given back, also where objects were set aside for good."""

from __future__ import annotations

import subprocess
import sys
import weakref

from openkeypoints.engine.machine import give_back_memory


class Ring:
    """Holds itself: only the collector frees it."""

    def __init__(self) -> None:
        self.own = self


def test_garbage_is_collected() -> None:
    ring = weakref.ref(Ring())
    give_back_memory()
    assert ring() is None


def test_garbage_among_what_was_set_aside_is_collected_too() -> None:
    # In a process of its own: the tests' objects stay where they are.
    code = (
        "import gc, weakref\n"
        "from openkeypoints.engine.machine import give_back_memory\n"
        "class Ring: pass\n"
        "kept = Ring(); kept.own = kept; ring = weakref.ref(kept)\n"
        "gc.freeze(); del kept; gc.collect()\n"
        "assert ring() is not None\n"
        "give_back_memory()\n"
        "assert ring() is None and gc.get_freeze_count() > 0\n"
    )
    subprocess.run((sys.executable, "-c", code), check=True, timeout=60)
