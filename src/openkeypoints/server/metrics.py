"""Counts what happens, and writes it as Prometheus reads it; the number of series is bounded."""

from __future__ import annotations

import sys
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

OTHER = "other"
MAX_MODELS = 64
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


class Histogram:
    """How often values fell below each bound."""

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def lines(self, name: str, labels: Labels) -> Iterable[str]:
        """Yield the lines of one series."""
        total = 0
        for bound, count in zip((*self._bounds, float("inf")), self.counts, strict=True):
            total += count
            text = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield f"{name}_bucket{_braces((*labels, ('le', text)))} {total}"
        yield f"{name}_sum{_braces(labels)} {_number(self.sum)}"
        yield f"{name}_count{_braces(labels)} {total}"


class Metrics:
    """The counts of one process.

    A model that was never served counts as ``other``, so that nobody can make series by asking.
    """

    def __init__(self) -> None:
        self._requests: dict[Labels, int] = defaultdict(int)
        self._seconds: dict[Labels, Histogram] = defaultdict(Histogram)
        self._bytes: dict[str, list[int]] = {"request": [0, 0], "response": [0, 0]}
        self._stages: dict[str, Histogram] = defaultdict(Histogram)
        self._inferences: dict[str, int] = defaultdict(int)
        self._errors: dict[str, int] = defaultdict(int)
        self._infer_seconds: dict[str, float] = defaultdict(float)
        self._rejected: dict[str, int] = defaultdict(int)
        self._models: set[str] = set()
        self._began = time.time()
        self.running = 0

    def request(self, handler: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request.

        Args:
            handler: the route's own pattern, never what a client wrote.
            method: any but the usual ones counts as ``other``.
            status: of the answer.
            seconds: from the first byte of the request to the last of the answer.
        """
        labels = (("handler", handler), ("method", method if method in METHODS else OTHER))
        self._requests[(*labels, ("status", f"{status // 100}xx"))] += 1
        self._seconds[labels].add(seconds)

    def size(self, which: str, count: int) -> None:
        """Count the bytes of a ``request`` or ``response`` body."""
        total = self._bytes[which]
        total[0] += 1
        total[1] += count

    def rejected(self, reason: str) -> None:
        """Count a request that was turned away; the reason is a word of ours."""
        self._rejected[reason] += 1

    def serve(self, model_id: str) -> None:
        """Let a model have series of its own, as long as there are not too many."""
        if len(self._models) < MAX_MODELS:
            self._models.add(model_id)

    def inference(
        self, model_id: str, seconds: float, pictures: int, stages: Mapping[str, float]
    ) -> None:
        """Count a finished inference.

        Args:
            model_id: that ran.
            seconds: that it took, waiting included.
            pictures: that it got.
            stages: name of a stage of ours -> milliseconds.
        """
        model = self._label(model_id)
        self._inferences[model] += pictures
        self._infer_seconds[model] += seconds
        for name, milliseconds in stages.items():
            self._stages[name].add(milliseconds / 1e3)

    def error(self, model_id: str) -> None:
        """Count an inference that failed."""
        self._errors[self._label(model_id)] += 1

    def text(self, gauges: Iterable[tuple[str, str, Mapping[str, float]]] = ()) -> str:
        """Return all counts, with gauges of other parts: name, label, value by label value."""
        lines: list[str] = []
        for block in (self._http(), self._models_block(), self._process(), _gauges(gauges)):
            lines += block
        return "\n".join(lines) + "\n"

    def _label(self, model_id: str) -> str:
        return model_id if model_id in self._models else OTHER

    def _http(self) -> Iterable[str]:
        yield from _head("http_requests_total", "counter", "Requests by route, method and status.")
        yield from (
            f"http_requests_total{_braces(labels)} {count}"
            for labels, count in self._requests.items()
        )
        name = "http_request_duration_seconds"
        yield from _head(name, "histogram", "Time of a request by route and method.")
        for labels, histogram in self._seconds.items():
            yield from histogram.lines(name, labels)
        for which, (count, total) in self._bytes.items():
            yield from _head(f"http_{which}_size_bytes", "summary", f"Bytes of {which} bodies.")
            yield f"http_{which}_size_bytes_count {count}"
            yield f"http_{which}_size_bytes_sum {total}"
        yield from _head("http_requests_inprogress", "gauge", "Requests that run now.")
        yield f"http_requests_inprogress {self.running}"
        yield from _head("okp_rejected_total", "counter", "Requests turned away, by reason.")
        yield from _labelled("okp_rejected_total", "reason", self._rejected)

    def _models_block(self) -> Iterable[str]:
        inferences, errors = sum(self._inferences.values()), sum(self._errors.values())
        seconds = sum(self._infer_seconds.values())
        yield from _head("num_inferences_total", "counter", "Pictures that were inferred.")
        yield f"num_inferences_total {inferences}"
        yield from _labelled("num_inferences", "model", self._inferences, "counter")
        yield from _head("num_errors_total", "counter", "Inferences that failed.")
        yield f"num_errors_total {errors}"
        yield from _labelled("num_errors", "model", self._errors, "counter")
        yield from _head("avg_inference_time_total", "gauge", "Mean seconds of an inference.")
        yield f"avg_inference_time_total {_number(seconds / inferences if inferences else 0)}"
        means = {
            model: seconds / max(1, self._inferences[model])
            for model, seconds in self._infer_seconds.items()
        }
        yield from _labelled("avg_inference_time", "model", means, "gauge")
        yield from _head("okp_stage_seconds", "histogram", "Time of each stage of an inference.")
        for stage, histogram in self._stages.items():
            yield from histogram.lines("okp_stage_seconds", (("stage", stage),))

    def _process(self) -> Iterable[str]:
        yield from _head("process_start_time_seconds", "gauge", "When this process began.")
        yield f"process_start_time_seconds {_number(self._began)}"
        for name, measure in (
            ("process_resident_memory_bytes", _resident_bytes),
            ("process_open_fds", _open_files),
            ("process_cpu_seconds_total", time.process_time),
        ):
            if (value := measure()) is not None:
                kind = "counter" if name.endswith("_total") else "gauge"
                yield from _head(name, kind, "Of this process.")
                yield f"{name} {_number(value)}"


def _gauges(gauges: Iterable[tuple[str, str, Mapping[str, float]]]) -> Iterable[str]:
    for name, label, values in gauges:
        yield from _labelled(name, label, values, "gauge")


def _labelled(
    name: str, label: str, values: Mapping[str, float], kind: str | None = None
) -> Iterable[str]:
    if kind is not None:
        yield from _head(name, kind, f"By {label}.")
    for value_of_label, value in values.items():
        yield f"{name}{_braces(((label, value_of_label),))} {_number(value)}"


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _braces(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return f"{value:.10g}"


def _resident_bytes() -> float | None:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * 4096.0


def _open_files() -> float | None:
    if sys.platform != "linux":
        return None
    return float(sum(1 for _ in Path("/proc/self/fd").iterdir()))
