"""``okp evaluate``: figures of a model on labelled pictures, with their definitions in the help."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from openkeypoints.cli.annotations import annotation_file
from openkeypoints.cli.loading import infer_options, load_model
from openkeypoints.cli.options import (
    ModelOptions,
    json_option,
    model_options,
    overwrite_option,
    takes,
)
from openkeypoints.cli.progress import Bar
from openkeypoints.cli.tables import listing, table
from openkeypoints.models import Model
from openkeypoints.outputs import OutputFolder
from openkeypoints.train.evaluate import Boxes, Evaluation, Protocol
from openkeypoints.train.evaluate import evaluate as evaluated

FILE = click.Path(path_type=Path)
SUMMARY = ("torso.2", "within.1", "within.2", "oks", "oks_ap", "box_ap50", "clean")
PER_JOINT = ("joints_torso.2", "joints_within.1", "joints_within.2")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions(ModelOptions):
    """What ``okp evaluate`` was asked for."""

    data: Path
    pictures: Path | None
    boxes: Literal["given", "found", "both"]
    min_side: float
    threshold: float | None
    flip_test: bool
    predictions: Path | None
    as_json: bool
    overwrite: bool


@click.command()
@model_options
@click.option(
    "--data",
    metavar="PATH",
    type=FILE,
    required=True,
    help="COCO-keypoints JSON, or a folder with val.json.",
)
@click.option(
    "--pictures", metavar="DIR", type=FILE, help="Folder of the pictures, or of tars with them."
)
@click.option(
    "--boxes",
    type=click.Choice(("given", "found", "both")),
    default="both",
    show_default=True,
    help="given: keypoints in the labelled boxes. found: end to end.",
)
@click.option("--min-side", metavar="PX", type=click.FloatRange(0), default=48.0, show_default=True)
@click.option("--threshold", metavar="T", type=float, help="For clean.  [default: the model's]")
@click.option("--flip-test", is_flag=True, help="Average with the mirrored picture.")
@click.option(
    "--predictions",
    metavar="FILE",
    type=FILE,
    help="Write what was scored; with --boxes both, two files: <name>_given and <name>_found.",
)
@json_option
@overwrite_option
@takes(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> None:
    """Measure how good a model is on labelled pictures (needs the extra [train]).

    Joints are compared by name: only those that labels and model both have count, and `joints` says
    how many. Only labelled joints count. A labelled person whom no prediction belongs to has all
    joints missed.

    \b
    given   The model gets the labelled boxes; each prediction belongs to its
            label, and its score is the mean score of its keypoints.
    found   End to end, from instances that score 0.05 or more. In a picture
            with one labelled person the best-scored instance is taken,
            otherwise for each person the instance with the highest box IoU,
            of at least 0.3.

    \b
    torso.2      Share of joints at most 0.2 torsos away; the torso is the
                 distance from right hip to left shoulder. People without
                 either label are left out.
    within.1 .2  Share of joints at most that part of the box's long side
                 away. People of --min-side pixels or more on both sides.
    oks          Mean object keypoint similarity: exp(-d^2 / (2 (2 sigma)^2 A))
                 over the labelled joints, with COCO's sigmas and the area A
                 of the label.
    oks_ap       With given boxes and one labelled person a picture: average
                 precision over OKS 0.50, 0.55, ... 0.95, each prediction
                 bound to its person. Elsewhere: the COCO evaluator's figure.
    coco         AP, AP50, AP75 and AR of the COCO evaluator (pycocotools).
    box_ap50     found: average precision of the boxes at IoU 0.5, 101
                 points. Labelled crowds and boxes below --min-side on either
                 side are ignored, and so are predictions on them and
                 unmatched predictions that small.
    clean        found: share of the pictures without people in which nothing
                 scores --threshold or more.
    calibration  given: expected error of the keypoint scores, taken as the
                 chance to be within 0.1 of the box's long side.

    A model is measured on labels of other joints through another of its views: LSPET's 14 joints
    through `person-19` (joints: 14), COCO's 17 through `person` (joints: 17).

    \b
    Example:
      okp evaluate --model person --data val.json --boxes given
    """  # noqa: D301
    report = _report(options)
    click.echo(json.dumps(report) if options.as_json else _page(report))


def _page(report: dict[str, Any]) -> str:
    parts = [listing({name: report[name] for name in ("model", "data")})]
    for mode in ("given", "found"):
        if (figures := report.get(mode)) is None:
            continue
        rows = {n: figures[n] for n in (*SUMMARY, "joints", "people") if n in figures}
        for name, values in figures.get("coco", {}).items():
            rows[f"coco {name}"] = values
        if "calibration" in figures:
            rows["calibration"] = figures["calibration"]["error"]
        parts.append(f"boxes {mode}\n\n{listing(rows)}")
        per_joint = {n.removeprefix("joints_"): figures[n] for n in PER_JOINT if figures.get(n)}
        if per_joint:
            joints = list(next(iter(per_joint.values())))
            cells = [[joint, *(v.get(joint, "") for v in per_joint.values())] for joint in joints]
            parts.append(table(["joint", *per_joint], cells))
    return "\n\n".join(parts)


def _report(options: EvaluateOptions) -> dict[str, Any]:
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
    return evaluated(
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
