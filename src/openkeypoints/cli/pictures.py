"""Runs a model over the sources of ``okp predict`` and brings the results where they were asked."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from openkeypoints.cli.loading import infer_options, load_model
from openkeypoints.cli.outputs import (
    OutputFolder,
    beside_inputs,
    earlier_outputs,
    output_names,
    picture_ending,
)
from openkeypoints.cli.predict import PredictOptions
from openkeypoints.cli.progress import Bar
from openkeypoints.cli.sources import Source, find_sources
from openkeypoints.drawing import draw
from openkeypoints.errors import NotFoundError, OpenKeypointsError
from openkeypoints.formats import coco, dump
from openkeypoints.images import FORMATS_BY_ENDING, encode_image
from openkeypoints.models import Model
from openkeypoints.results import Image, Prediction
from openkeypoints.settings import Settings

EXIT_BAD_INPUT = 4
_SCORES_SHOWN = 5


def run(options: PredictOptions) -> int:
    """Predict every source and return the exit code.

    Raises:
        OutputExistsError: a file to be written is an input, or not ours; nothing was done.
        OpenKeypointsError: the model cannot be loaded, or does not know an option.
    """
    found = find_sources(options.sources, leave_out=earlier_outputs(options.save))
    failures: list[OpenKeypointsError] = list(found.faults)
    for line in (*found.notes, *(str(fault) for fault in found.faults)):
        click.echo(f"okp: {line}", err=True)
    if found.sources:
        answers = _Answers(options, found.sources)
        with load_model(options) as model, Bar(len(found.sources), "pictures") as bar:
            failures += _predict_all(options, found.sources, model, answers, bar)
        answers.finish()
    if not failures:
        return 0
    # Where nothing at all was there, "not found" says more than "bad input".
    only_missing = all(isinstance(error, NotFoundError) for error in failures)
    if only_missing and len(failures) == len(found.sources):
        return NotFoundError.exit_code
    return EXIT_BAD_INPUT


def _predict_all(
    options: PredictOptions, sources: Sequence[Source], model: Model, answers: _Answers, bar: Bar
) -> list[OpenKeypointsError]:
    """Predict the sources in turn; return why some of them could not be read."""
    settings, failures = Settings.from_env(), []
    for number, source in enumerate(sources, 1):
        began = time.perf_counter()
        try:
            image = source.read(settings)
        except OpenKeypointsError as error:
            failures.append(error)
            bar.say("okp: " + " ".join(str(error).split()))
        else:
            decode_ms = (time.perf_counter() - began) * 1e3
            prediction = model.infer(
                image,
                color="rgb",
                confidence=options.confidence,
                iou_threshold=options.iou,
                keypoint_confidence=options.keypoint_confidence,
                max_detections=options.max_detections,
                options=infer_options(options, flip_test=options.flip_test),
            )[0]
            timings = {**prediction.timings, "decode": decode_ms}
            line = answers.take(source, image, replace(prediction, timings=timings))
            if line is not None:
                bar.data(line)
        bar.update(number)
    return failures


class _Answers:
    """Where results go: lines and JSON to stdout, files into the folder of ``--save``."""

    def __init__(self, options: PredictOptions, sources: Sequence[Source]) -> None:
        self._format = options.format or "roboflow"
        self._to_stdout = options.writes_json
        self._ids = _image_ids(sources)
        self._rows: list[dict[str, Any]] = []
        self._files: dict[Source, list[Path]] = {}
        self._list: Path | None = None
        self._folder: OutputFolder | None = None
        if options.save is not None:
            inputs = [*(s.path for s in sources if s.path is not None), *options.files()]
            self._folder = OutputFolder(options.save, inputs=inputs, overwrite=options.overwrite)
            self._claim(self._folder, sources)

    def _claim(self, folder: OutputFolder, sources: Sequence[Source]) -> None:
        for source, bare in output_names(sources).items():
            ending = picture_ending(source)
            name = beside_inputs(bare, source, ending, folder)
            endings = [ending] if self._format == "coco" else [ending, ".json"]
            self._files[source] = [folder.claim(f"{name}{end}", [source]) for end in endings]
        if self._format == "coco":
            self._list = folder.claim("predictions.json", sources)

    def take(self, source: Source, image: Image, prediction: Prediction) -> str | None:
        """Write the files of one picture; return its line for stdout."""
        values: Any = None
        if self._format == "coco":
            rows = coco.results_rows(
                prediction, image_id=self._ids[source], first_id=len(self._rows) + 1
            )
            self._rows += [{**row, "file_name": source.label} for row in rows]
        else:
            values = dump(prediction, self._format)
        files = self._files.get(source, [])
        if self._folder is not None:
            drawn = encode_image(
                draw(image, prediction, color="rgb"), FORMATS_BY_ENDING[files[0].suffix.lower()]
            )
            contents = [drawn] if values is None else [drawn, _json(values).encode()]
            for path, data in zip(files, contents, strict=True):
                self._folder.write(path, data)
        if not self._to_stdout:
            saved = f" -> {', '.join(map(str, files))}" if files else ""
            return f"{source.name}: {_summary(prediction)}{saved}"
        if isinstance(values, list):  # a format whose answer is bare rows
            values = {"results": values}
        return None if values is None else _json({"source": source.name, **values})

    def finish(self) -> None:
        """Write what needs all pictures: the one list of the format coco."""
        if self._folder is not None:
            if self._list is not None:
                self._folder.write(self._list, _json(self._rows).encode())
            self._folder.finish()
        if self._format == "coco" and self._to_stdout:
            click.echo(_json(self._rows))


def _json(values: Any) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _image_ids(sources: Sequence[Source]) -> dict[Source, int]:
    """Return COCO's picture ids: the numbers in the names, as in COCO, or else 1, 2, 3, ..."""
    stems = [source.path.stem if source.path is not None else "" for source in sources]
    if all(stem.isascii() and stem.isdigit() for stem in stems):
        numbers = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers):
            return dict(zip(sources, numbers, strict=True))
    return {source: number for number, source in enumerate(sources, 1)}


def _summary(prediction: Prediction) -> str:
    if not len(prediction):
        return "nothing found"
    counts = Counter(prediction.class_names[i] for i in prediction.class_ids.tolist())
    what = ", ".join(f"{count} {name}" for name, count in counts.items())
    scores = [f"{score:.2f}" for score in prediction.scores[:_SCORES_SHOWN].tolist()]
    more = ", ..." if len(prediction) > _SCORES_SHOWN else ""
    return f"{what} ({', '.join(scores)}{more})"
