"""Measures a model stage by stage: wall time, CPU time and memory of one picture."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from openkeypoints.models import InferOptions, Model

STAGES = ("decode", "prepare", "run", "finish")
WARMUP_ROUNDS = 3


def measure(
    model: Model, picture: bytes, *, rounds: int, options: InferOptions | None = None
) -> dict[str, Any]:
    """Return how long a model takes for a picture, from the bytes of the file to the result.

    Args:
        model: loaded.
        picture: bytes of a picture file.
        rounds: measured runs, after the first one and a few that are thrown away.
        options: what the model is asked.

    Returns:
        ``first_ms``; ``stages`` and ``total``, each with ``p50`` and ``p95`` in ms of wall time;
        ``cpu_ms`` per picture, of all threads; ``peak_memory_mb`` of the process so far;
        ``instances`` that were found.
    """
    began = time.perf_counter()
    result = model.infer(picture, options=options)[0]
    first_ms = (time.perf_counter() - began) * 1e3
    for _ in range(WARMUP_ROUNDS):
        model.infer(picture, options=options)
    walls: list[float] = []
    stages: dict[str, list[float]] = {name: [] for name in STAGES}
    cpu_began = time.process_time()
    for _ in range(rounds):
        began = time.perf_counter()
        result = model.infer(picture, options=options)[0]
        walls.append((time.perf_counter() - began) * 1e3)
        for name, values in stages.items():
            values.append(result.timings.get(name, 0.0))
    cpu_ms = (time.process_time() - cpu_began) * 1e3 / rounds
    return {
        "model": model.id,
        "runtime": model.runtime,
        "device": model.device,
        "precision": model.precision,
        "image_size": list(result.image_size),
        "instances": len(result),
        "rounds": rounds,
        "first_ms": round(first_ms, 2),
        "stages": {name: percentiles(values) for name, values in stages.items()},
        "total": percentiles(walls),
        "cpu_ms": round(cpu_ms, 2),
        "peak_memory_mb": peak_memory_mb(),
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the 95th percentile."""
    p50, p95 = np.percentile(values, (50, 95))
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}


def peak_memory_mb() -> float | None:
    """Return the largest memory of the process so far in MB, None where the system hides it."""
    try:
        import resource  # noqa: PLC0415  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
