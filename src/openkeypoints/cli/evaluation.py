"""Runs the evaluations that ``okp evaluate`` asks for and keeps what they scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openkeypoints.cli.annotations import annotation_file
from openkeypoints.cli.evaluate import EvaluateOptions
from openkeypoints.cli.loading import infer_options, load_model
from openkeypoints.cli.outputs import OutputFolder
from openkeypoints.cli.progress import Bar
from openkeypoints.models import Model
from openkeypoints.train.evaluate import Boxes, Evaluation, Protocol, evaluate


def run(options: EvaluateOptions) -> dict[str, Any]:
    """Return model, data, and the figures for each kind of boxes that was asked for.

    Raises:
        OutputExistsError: a file of predictions is an input, or not ours; nothing was done.
    """
    data = annotation_file(options.data, "val")
    modes: tuple[Boxes, ...] = ("given", "found") if options.boxes == "both" else (options.boxes,)
    files = _Files(options, modes, [data, *options.files()])
    report: dict[str, Any] = {"model": options.model or "person", "data": str(options.data)}
    with load_model(options) as model, Bar(2, "pictures") as bar:
        for mode in modes:
            scored = _score(options, model, mode, bar)
            report[mode] = scored.figures
            files.write(mode, scored.predictions)
    return report


def _score(options: EvaluateOptions, model: Model, mode: Boxes, bar: Bar) -> Evaluation:
    return evaluate(
        model,
        annotation_file(options.data, "val"),
        pictures=options.pictures,
        protocol=Protocol(
            mode,
            options.min_side,
            options.threshold,
            infer_options(options, flip_test=options.flip_test),
        ),
        report=lambda done, total: bar.update(done, total=total, what=f"boxes {mode}"),
    )


class _Files:
    """The files of ``--predictions``: one, or one for each kind of boxes."""

    def __init__(
        self, options: EvaluateOptions, modes: Sequence[Boxes], inputs: Sequence[Path]
    ) -> None:
        self._paths: dict[str, Path] = {}
        if (out := options.predictions) is None:
            return
        self._folder = OutputFolder(out.parent, inputs=inputs, overwrite=options.overwrite)
        for mode in modes:
            name = f"{out.stem}_{mode}{out.suffix}" if len(modes) > 1 else out.name
            self._paths[mode] = self._folder.claim(name, inputs)

    def write(self, mode: Boxes, predictions: Mapping[str, Any]) -> None:
        if mode in self._paths:
            self._folder.write(self._paths[mode], json.dumps(predictions).encode())
