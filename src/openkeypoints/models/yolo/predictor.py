"""Runs a YOLO network: pictures in, predictions out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from openkeypoints.errors import InputError
from openkeypoints.geometry import Letterbox, letterbox_of
from openkeypoints.models.request import InferOptions, Request, SettledRequest
from openkeypoints.models.yolo.decode import find, lowest_logit
from openkeypoints.models.yolo.process import fit, policy, prepare, to_picture
from openkeypoints.models.yolo.spec import Head, OutputSpec, YoloSpec
from openkeypoints.results import Image, Prediction
from openkeypoints.runtimes import Session
from openkeypoints.runtimes.base import Arrays, closed

PICTURES_PER_RUN = 8
"""Pictures that go through the network at once: more gains nothing on a CPU and costs memory."""


class YoloPredictor:
    """The predictor of the family. Thread-safe.

    ``details`` of its predictions: ``head`` that ran, ``letterbox`` (``rect``, ``square`` or
    ``stretch``), ``input_size`` (width, height) with the padding and, with keypoints,
    ``keypoint_values``: 3 where each has a score of its own, 2 where not (their scores are 1).
    """

    def __init__(self, spec: YoloSpec, open: Callable[[Head], Session], model_id: str) -> None:
        """Open the default head; the others are opened when they are first asked for.

        Args:
            spec: the model apart from its graph.
            open: opens the session of a head.
            model_id: the name that predictions carry.
        """
        self.model_id, self.spec = model_id, spec
        self.honours = _honours(spec)
        self._open, self._lock, self._closed = open, threading.Lock(), False
        self._default = next(iter(spec.outputs))
        session = open(self._default)
        self._sessions = {self._default: session}
        self.runtime, self.device = session.runtime, session.device
        self.precision = session.precision

    def predict(self, images: Sequence[Image], request: Request) -> list[Prediction]:
        """Find instances. Pictures that become inputs of one size run together.

        Raises:
            InputError: ``options.end2end`` asks for a head that the file does not have.
        """
        settled = request.settled(self.spec.confidence, self.spec.iou_threshold)
        head = self._head(settled.options)
        session = self._session(head)
        fits = [
            fit((image.shape[1], image.shape[0]), self.spec.input, settled.options)
            for image in images
        ]
        results: dict[int, Prediction] = {}
        for rows in runs(fits, self.spec.input.batch or PICTURES_PER_RUN):
            part = self._run(session, [images[i] for i in rows], [fits[i] for i in rows], settled)
            for place, i in enumerate(rows):
                results[i] = self._finish(part, place, head, settled)
        return [results[i] for i in range(len(images))]

    def close(self) -> None:
        """Free what the runtime holds."""
        with self._lock:
            self._closed = True
            sessions = list(self._sessions.values())
        for session in sessions:
            session.close()

    def _head(self, options: InferOptions) -> Head:
        if options.end2end is None:
            return self._default
        for head in self.spec.outputs:
            if (head == "one2one") == options.end2end:
                return head
        kind, other = ("without", "with") if options.end2end else ("with", "without")
        raise InputError(
            f"end2end is {options.end2end}, but the model {self.model_id!r} has no head {kind} "
            f"suppression, only the one {other}: leave end2end out."
        )

    def _session(self, head: Head) -> Session:
        with self._lock:
            if self._closed:
                raise closed(self.model_id)
            if head not in self._sessions:
                self._sessions[head] = self._open(head)
            return self._sessions[head]

    def _run(
        self, session: Session, images: list[Image], fits: list[Letterbox], request: SettledRequest
    ) -> _Run:
        began = time.perf_counter()
        feeds = {self.spec.input.name: prepare(images, fits, self.spec.input)}
        if self.spec.input.threshold:
            feeds[self.spec.input.threshold] = lowest_logit(request.confidence)
        ready = time.perf_counter()
        outputs = session.run(feeds)
        done = time.perf_counter()
        each = 1e3 / len(images)
        return _Run(fits, outputs, (ready - began) * each, (done - ready) * each)

    def _finish(self, run: _Run, place: int, head: Head, request: SettledRequest) -> Prediction:
        began = time.perf_counter()
        spec, fitted = self.spec.outputs[head], run.fits[place]
        way = policy(self.spec.input, request.options)
        # The vendor tells the way back by the two sizes alone; for one picture size in 150 or so
        # that rounds to another gain than the way in had, and its numbers are what people expect.
        back = letterbox_of(fitted.image_size, fitted.input_size, stretch=way == "stretch")
        values = {role: run.outputs[name][place] for role, name in spec.names.items()}
        located = to_picture(
            find(values, spec, fitted.input_size, request),
            back,
            self.spec.skeletons,
            rows=self.spec.rows,
            prototypes=values.get("prototypes"),
            retina_masks=request.options.retina_masks,
        )
        details = self._details(spec, fitted, way)
        finish_ms = (time.perf_counter() - began) * 1e3
        return Prediction(
            image_size=fitted.image_size,
            model_id=self.model_id,
            class_names=self.spec.class_names,
            skeletons=self.spec.skeletons,
            **located._asdict(),
            keypoint_confidence=request.keypoint_confidence,
            timings={"prepare": run.prepare_ms, "run": run.run_ms, "finish": finish_ms},
            details=details,
        )

    def _details(self, spec: OutputSpec, fitted: Letterbox, way: str) -> dict[str, Any]:
        details: dict[str, Any] = {
            "head": spec.head,
            "letterbox": way,
            "input_size": fitted.input_size,
        }
        if spec.keypoints is not None:
            details["keypoint_values"] = spec.keypoints[1]
        return details


@dataclass(frozen=True, slots=True)
class _Run:
    """What came out of one run over some pictures, and milliseconds per picture."""

    fits: list[Letterbox]
    outputs: Arrays
    prepare_ms: float
    run_ms: float


def runs(fits: Sequence[Letterbox], most: int) -> Iterator[list[int]]:
    """Yield the indexes of pictures that run together: inputs of one size, at most so many."""
    groups: dict[tuple[int, int], list[int]] = {}
    for i, fitted in enumerate(fits):
        groups.setdefault(fitted.input_size, []).append(i)
    for rows in groups.values():
        yield from (rows[start : start + most] for start in range(0, len(rows), most))


def _honours(spec: YoloSpec) -> frozenset[str]:
    """Return the options that this graph leaves open."""
    names = {"end2end"}
    if not spec.input.static:
        names.add("input_size")
        if spec.input.fit == "letterbox":
            names.add("letterbox")
    if any(output.layout != "rows" for output in spec.outputs.values()):
        names |= {"class_agnostic", "max_candidates"}
    if any("prototypes" in output.names for output in spec.outputs.values()):
        names.add("retina_masks")
    return frozenset(names)
