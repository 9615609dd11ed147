"""What this process may use of the machine, and what it uses now; containers are respected."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import os
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_STATM = Path("/proc/self/statm")
_UNKNOWN_MEMORY = 8 << 30  # where the system does not tell


def cores(cgroup: Path = _CGROUP) -> int:
    """Return how many cores this process may use, at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # "max 100000" where there is no quota
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        count = min(count, math.ceil(int(quota) / int(period)))
    return max(1, count)


def memory_limit(cgroup: Path = _CGROUP) -> int:
    """Return how many bytes of main memory this process may use."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        total = _UNKNOWN_MEMORY
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        total = min(total, int((cgroup / "memory.max").read_text(encoding="ascii")))
    return total


def resident_bytes() -> int:
    """Return how many bytes of main memory this process holds; 0 where the system hides it."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def give_back_memory() -> None:
    """Collect garbage, and let the C library return what it keeps for later.

    Where objects have been set aside for good (``gc.freeze``), those that are garbage by now are
    collected too, and the others set aside again.
    """
    frozen = gc.get_freeze_count() > 0
    if frozen:
        gc.unfreeze()
    gc.collect()
    if frozen:
        gc.freeze()
    trim_memory()


def trim_memory() -> None:
    """Let the C library return the memory that it keeps for later (glibc only)."""
    if sys.platform.startswith("linux"):
        # musl has no such function.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
