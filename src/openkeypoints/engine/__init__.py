"""Many calls on several models at once: queues, deadlines and memory, without a word of HTTP."""

from __future__ import annotations

from openkeypoints.engine.calls import Answer, Call, Loaded, ModelStats, Stats
from openkeypoints.engine.engine import Engine
from openkeypoints.engine.limits import Limits
from openkeypoints.engine.machine import cores

__all__ = ["Answer", "Call", "Engine", "Limits", "Loaded", "ModelStats", "Stats", "cores"]
