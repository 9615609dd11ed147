"""The figures of benchmarks/yolo_cpu.py as Markdown, in their place in docs/benchmarks.md."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openkeypoints import __version__
from openkeypoints.cli.machine import CPU_FLAGS, cpu

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
START, END = "<!-- yolo-cpu -->", "<!-- /yolo-cpu -->"
STAGES = ("decode", "prepare", "run", "finish")
Rounds = Sequence[Mapping[str, float]]
"""For each round what one call took: ``cpu``, ``wall`` and the stages, in milliseconds."""


def ratio(slow: Rounds, fast: Rounds) -> float:
    """Return how many times the CPU time of another a runner needs: the median over the rounds."""
    return statistics.median(a["cpu"] / b["cpu"] for a, b in zip(slow, fast, strict=True))


@dataclass(frozen=True)
class Line:
    """One line of the table: what ran, how, and its rounds or in a word why there are none."""

    name: str
    precision: str
    padding: str
    rounds: Rounds | str


def table(lines: Sequence[Line], base: Rounds, base_name: str) -> str:
    """Return the lines as Markdown; the last column compares their CPU time with a base."""
    heads = ("runner", "precision", "padding", "CPU-ms", "quartiles", "wall-ms", *STAGES)
    text = [f"| {' | '.join(heads)} | {base_name} : this |"]
    text.append("| --- | --- | --- |" + " --: |" * (len(heads) - 2))
    for line in lines:
        cells = [line.name, line.precision, line.padding]
        if isinstance(line.rounds, str):
            cells += [line.rounds, *[""] * (len(heads) - 3)]
        else:
            times = [r["cpu"] for r in line.rounds]
            low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
            cells += [f"{middle:.1f}", f"{low:.1f} to {high:.1f}"]
            cells += [
                f"{statistics.median(r[part] for r in line.rounds):.1f}"
                for part in ("wall", *STAGES)
            ]
            cells.append(f"{ratio(base, line.rounds):.2f}")
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def machine() -> str:
    """Return what of the CPU matters, as a sentence."""
    facts = cpu()
    absent = [flag for flag in CPU_FLAGS if flag not in facts["flags"]]
    return (
        f"openkeypoints {__version__} on {facts['cores']} cores, {facts['architecture']}, with "
        f"{', '.join(facts['flags']) or 'no flag that matters'}; "
        f"without {', '.join(absent) or 'none'}."
    )


def write(text: str) -> None:
    """Put the text between the markers of the page."""
    page = PAGE.read_text(encoding="utf-8")
    if START not in page:
        raise SystemExit(f"{PAGE.name} has no {START} to write behind.")
    new = f"{START}\n{text}\n{END}"
    pattern = f"{START}.*?{END}"
    PAGE.write_text(re.sub(pattern, lambda _: new, page, flags=re.DOTALL), encoding="utf-8")


def spread(values: Sequence[float], digits: int) -> str:
    """Return median, 95th percentile and maximum as text."""
    ordered = sorted(values)
    high = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    figures: list[Any] = [statistics.median(ordered), high, ordered[-1]]
    return " / ".join(f"{value:.{digits}f}" for value in figures)
