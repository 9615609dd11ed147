"""``okp predict``: pictures in, keypoints out, as JSON, drawings or lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from openkeypoints.cli.loading import infer_options, load_model
from openkeypoints.cli.options import (
    SHARE,
    ModelOptions,
    json_option,
    model_options,
    overwrite_option,
    takes,
)
from openkeypoints.cli.progress import Bar
from openkeypoints.drawing import draw
from openkeypoints.errors import NotFoundError, OpenKeypointsError
from openkeypoints.formats import FORMATS, dump
from openkeypoints.images import FORMATS_BY_ENDING, encode_image
from openkeypoints.jobs import Answered, Unread, answers
from openkeypoints.models import Request
from openkeypoints.outputs import OutputFolder, beside_inputs, output_names, picture_ending
from openkeypoints.results import Prediction
from openkeypoints.samples import sample
from openkeypoints.sources import Source, find_sources

EXIT_BAD_INPUT = 4
_SCORES_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions(ModelOptions):
    """What ``okp predict`` was asked for; thresholds of None are the model's own."""

    sources: tuple[str, ...]
    confidence: float | None
    iou: float | None
    keypoint_confidence: float
    max_detections: int
    save: Path | None
    format: str | None
    as_json: bool
    overwrite: bool
    flip_test: bool

    @property
    def writes_json(self) -> bool:
        """Whether stdout gets JSON: asked for, or a format was named and there is no folder."""
        return self.as_json or (self.format is not None and self.save is None)


@click.command()
@click.argument("sources", nargs=-1)
@model_options
@click.option("--confidence", metavar="C", type=SHARE, help="Lowest instance score, 0.4 or 40.")
@click.option("--iou", metavar="C", type=SHARE, help="Overlap above which one of two boxes goes.")
@click.option(
    "--keypoint-confidence",
    metavar="C",
    type=SHARE,
    default=0.0,
    help="Score below which keypoints are not drawn, and marked so in formats that can.",
)
@click.option(
    "--max-detections",
    metavar="N",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="The best-scored instances of a picture are kept.",
)
@click.option(
    "--flip-test", is_flag=True, help="Average with the mirrored picture: slower, better."
)
@click.option(
    "--save",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write the picture with the keypoints drawn, and the JSON, of each source into DIR.",
)
@click.option("--format", type=click.Choice([*FORMATS]), help="Of the JSON.  [default: roboflow]")
@json_option
@overwrite_option
@takes(PredictOptions)
def predict(options: PredictOptions) -> None:
    """Find keypoints in pictures: files, folders, patterns, lists, addresses, standard input.

    Folders are searched through, without what okp wrote into them. '*.jpg' is a pattern, @list.txt
    a file with a source in each line, - the bytes of one picture on standard input.

    A line per picture goes to stdout; with --json one JSON object per picture, or, in the format
    coco, one list of results. --save DIR writes <name>.<ending> and <name>.json per picture (coco:
    one predictions.json), and never over an input: in the folder of the source the name is
    <name>_keypoints. Files of other runs are replaced only with --overwrite.

    Sources that cannot be read are reported and skipped; the exit code is then 4, or 3 where
    nothing was found at all.

    \b
    Example:
      okp predict photo.jpg holiday/ --save out
    """  # noqa: D301
    if not options.sources:
        raise click.UsageError(_NO_SOURCE.format(sample("people")))
    if code := _run(options):
        click.get_current_context().exit(code)


_NO_SOURCE = (
    "Name a picture, a folder or an address. A photograph is in the package:\n\n"
    "  okp predict '{}' --save out"
)


def _run(options: PredictOptions) -> int:
    """Predict every source and return the exit code.

    Raises:
        OutputExistsError: a file to be written is an input, or not ours; nothing was done.
        OpenKeypointsError: the model cannot be loaded, or does not know an option.
    """
    found = find_sources(options.sources)
    failures: list[OpenKeypointsError] = list(found.faults)
    for note in (*found.notes, *(str(fault) for fault in found.faults)):
        click.echo(f"okp: {note}", err=True)
    if found.sources:
        results = _Results(options, found.sources)
        with load_model(options) as model, Bar(len(found.sources), "pictures") as bar:
            for number, answer in enumerate(answers(model, found.sources, _asked(options)), 1):
                if isinstance(answer, Unread):
                    failures.append(answer.error)
                    bar.say("okp: " + " ".join(str(answer.error).split()))
                elif (line := results.take(answer)) is not None:
                    bar.data(line)
                bar.update(number)
        results.finish()
    if not failures:
        return 0
    # Where nothing at all was there, "not found" says more than "bad input".
    only_missing = all(isinstance(error, NotFoundError) for error in failures)
    if only_missing and not (len(found.sources) + len(found.faults) - len(failures)):
        return NotFoundError.exit_code
    return EXIT_BAD_INPUT


def _asked(options: PredictOptions) -> Request:
    return Request(
        options.confidence,
        options.iou,
        options.keypoint_confidence,
        options.max_detections,
        options=infer_options(options, flip_test=options.flip_test),
    )


class _Results:
    """Where results go: lines and JSON to stdout, files into the folder of ``--save``."""

    def __init__(self, options: PredictOptions, sources: Sequence[Source]) -> None:
        self._format = options.format or "roboflow"
        self._of_rows = FORMATS[self._format].rows
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
            endings = [ending, ".json"] if self._of_rows is None else [ending]
            self._files[source] = [folder.claim(f"{name}{end}", [source]) for end in endings]
        if self._of_rows is not None:
            self._list = folder.claim("predictions.json", sources)

    def take(self, answer: Answered) -> str | None:
        """Write the files of one picture; return its line for stdout."""
        source, prediction = answer.source, answer.prediction
        values: Any = None
        if self._of_rows is not None:
            first = len(self._rows) + 1
            rows = self._of_rows(prediction, image_id=self._ids[source], first_id=first)
            self._rows += [{**row, "file_name": source.label} for row in rows]
        else:
            values = dump(prediction, self._format)
        files = self._files.get(source, [])
        if self._folder is not None:
            drawn = encode_image(
                draw(answer.image, prediction, color="rgb"),
                FORMATS_BY_ENDING[files[0].suffix.lower()],
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
        """Write what needs all pictures: the one list of formats of rows."""
        if self._folder is not None:
            if self._list is not None:
                self._folder.write(self._list, _json(self._rows).encode())
            self._folder.finish()
        if self._of_rows is not None and self._to_stdout:
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
