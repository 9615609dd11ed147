"""What it costs to name a detector: `person` behind `detector="person"`, beside `person` alone.

Only the detector half of a named model is opened and run, so that both do the same work. CPU time
of all threads per picture, median of interleaved rounds; exits 1 where the ratio is above a limit.

    .venv/bin/python benchmarks/bench_detector_before_pose.py
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import openkeypoints as okp
from openkeypoints.cli.machine import cpu
from openkeypoints.images import read_image

ROUNDS, PICTURES, LIMIT = 9, 20, 1.1
REPORT = Path(__file__).with_name("reports") / "detector_before_pose.json"


def cpu_ms(model: okp.Model, picture: object) -> float:
    """Return the CPU time of a picture in milliseconds, mean over some."""
    began = time.process_time()
    for _ in range(PICTURES):
        model.infer(picture, color="rgb")
    return (time.process_time() - began) * 1e3 / PICTURES


def main() -> int:
    """Measure, write the report, and return the exit code."""
    picture = read_image(okp.sample("people"), settings=okp.Settings.from_env())
    with okp.get_model("person") as alone, okp.get_model("person", detector="person") as joined:
        models = {"person": alone, "person behind person": joined}
        for model in models.values():
            model.warmup()
            cpu_ms(model, picture)
        rounds: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(ROUNDS):
            for name, model in models.items():
                rounds[name].append(cpu_ms(model, picture))
        precision = alone.precision
    one, two = (statistics.median(values) for values in rounds.values())
    ratios = [b / a for a, b in zip(*rounds.values(), strict=True)]
    report = {
        **cpu(),
        "precision": precision,
        "rounds": ROUNDS,
        "cpu_ms": {name: round(statistics.median(v), 2) for name, v in rounds.items()},
        "ratio": round(statistics.median(ratios), 3),
        "limit": LIMIT,
    }
    REPORT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"person {one:.1f} ms, behind person {two:.1f} ms of CPU: {report['ratio']} ({LIMIT})")
    return int(report["ratio"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
