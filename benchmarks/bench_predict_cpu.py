"""CPU time of `okp predict` on one picture, with a warm and with an empty compile cache.

Every run is a process of its own, timed from its start to its end by the operating system: user
and system time of all its threads. Writes the table between the markers of docs/benchmarks.md.
Arguments are handed on to `okp predict` and stand in the table. Where nothing is found, half of the
model has not run: then nothing is written.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from openkeypoints import __version__
from openkeypoints.cli.machine import CPU_FLAGS, cpu
from openkeypoints.models import find_variant
from openkeypoints.samples import sample
from openkeypoints.weights.okp import sha256_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
RUNS = 5
LIMIT_S = 1.5
START, END = "<!-- predict-cpu -->", "<!-- /predict-cpu -->"


def seconds(cache: Path, *arguments: str) -> tuple[float, float]:
    """Return the CPU and wall seconds of one process of ``okp``."""
    env = {**os.environ, "OKP_CACHE_DIR": str(cache)}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "openkeypoints.cli", *arguments],
        env=env, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def medians(cache: Path, *arguments: str, empty: bool = False) -> tuple[float, float]:
    """Return the medians of CPU and wall seconds of several runs."""
    if not empty:
        seconds(cache, *arguments)  # fills the cache
    timed = []
    for _ in range(RUNS):
        if empty:
            shutil.rmtree(cache, ignore_errors=True)
        timed.append(seconds(cache, *arguments))
    cpu_s, wall_s = zip(*timed, strict=True)
    return statistics.median(cpu_s), statistics.median(wall_s)


def instances(*arguments: str) -> int:
    """Return how many instances ``okp predict`` finds with these arguments."""
    done = subprocess.run(
        [sys.executable, "-m", "openkeypoints.cli", *arguments, "--json"],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return len(json.loads(done.stdout)["predictions"])


def table(*options: str) -> str:
    """Measure, and return the rows as Markdown."""
    predict = ("predict", str(sample("people")), *options)
    name = " ".join(("okp predict", *options))
    if not (found := instances(*predict)):
        sys.exit(f"`{name}` finds nothing, so its keypoint network does not run: not measured.")
    with tempfile.TemporaryDirectory() as folder:
        cache, out = Path(folder, "cache"), str(Path(folder, "out"))
        rows = [
            (f"`{name}`, warm compile cache", medians(cache, *predict)),
            ("the same with `--save`", medians(cache, *predict, "--save", out)),
            ("the first, with an empty compile cache", medians(cache, *predict, empty=True)),
            ("`okp --help`", medians(cache, "--help")),
        ]
    weights = find_variant("person").file
    lines = ["| command | CPU-seconds | wall seconds |", "| --- | --: | --: |"]
    lines += [f"| {name} | {cpu_s:.2f} | {wall_s:.2f} |" for name, (cpu_s, wall_s) in rows]
    facts = cpu()
    absent = [flag for flag in CPU_FLAGS if flag not in facts["flags"]]
    note = (
        f"Medians of {RUNS} processes, openkeypoints {__version__}, one picture of 640 x 425 px "
        f"with {found} instances kept, model `person` (sha256 {sha256_of(weights)[:12]}). "
        f"{facts['cores']} cores, {facts['architecture']}, with "
        f"{', '.join(facts['flags']) or 'no flag that matters'}; without {', '.join(absent)}. "
        f"The limit with a warm cache is {LIMIT_S} CPU-seconds."
    )
    lines += ["", note]
    return "\n".join(lines)


def main() -> None:
    """Measure, write the page, and fail where the limit does not hold."""
    rows = table(*sys.argv[1:])
    print(rows)
    page = PAGE.read_text(encoding="utf-8")
    new = f"{START}\n{rows}\n{END}"
    PAGE.write_text(
        re.sub(f"{START}.*?{END}", lambda _: new, page, flags=re.DOTALL), encoding="utf-8"
    )
    warm = float(rows.splitlines()[2].split("|")[2])
    if warm > LIMIT_S:
        sys.exit(f"A warm run takes {warm} CPU-seconds, more than {LIMIT_S}.")


if __name__ == "__main__":
    main()
