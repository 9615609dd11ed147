"""``okp predict``: pictures in, keypoints out, as JSON, drawings or lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from openkeypoints.cli.options import (
    SHARE,
    ModelOptions,
    json_option,
    model_options,
    overwrite_option,
    takes,
)

FORMATS = ("roboflow", "ultralytics", "coco", "openkeypoints")


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
@click.option("--format", type=click.Choice(FORMATS), help="Of the JSON.  [default: roboflow]")
@json_option
@overwrite_option
@takes(PredictOptions)
def predict(options: PredictOptions) -> None:
    """Find keypoints in pictures: files, folders (searched through) and http(s) addresses.

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
    from openkeypoints.cli.pictures import run  # noqa: PLC0415

    if not options.sources:
        raise click.UsageError(_no_source())
    if code := run(options):
        click.get_current_context().exit(code)


def _no_source() -> str:
    from openkeypoints.samples import sample  # noqa: PLC0415

    return (
        "Name a picture, a folder or an address. A photograph is in the package:\n\n"
        f"  okp predict '{sample('people')}' --save out"
    )
