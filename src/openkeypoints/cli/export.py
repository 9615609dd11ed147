"""``okp export``: a model as a file that every runtime opens and that describes itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from openkeypoints.cli.options import json_option, overwrite_option, takes

FORMATS = ("onnx", "openvino")
PRECISIONS = ("f32", "fp16")
PATH = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What ``okp export`` was asked for; no path = named after the model."""

    model: str
    format: Any
    precision: str
    out: Path | None
    card: Path | None
    as_json: bool
    overwrite: bool


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "--format",
    type=click.Choice(FORMATS),
    default="onnx",
    show_default=True,
    help="onnx is one file, openvino a folder.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="f32",
    show_default=True,
    help="Of the stored weights; fp16 takes half the space. bf16 is chosen when a model runs.",
)
@click.option(
    "--out",
    metavar="PATH",
    type=PATH,
    help="File ending with .onnx, or the folder.  [default: MODEL.onnx, MODEL_openvino_model]",
)
@click.option(
    "--card",
    metavar="FILE",
    type=PATH,
    help="JSON or YAML with names and skeletons that the export takes over.",
)
@json_option
@overwrite_option
@takes(ExportOptions)
def export(options: ExportOptions) -> None:
    """Write a model as an ONNX file or an OpenVINO folder that says itself all it needs.

    Names, skeletons, preprocessing, thresholds, licence and the hash of the source are part of it.
    Before it is written its answers are compared with the original's; the largest difference goes
    to stderr, the path to stdout.

    \b
    Example:
      okp export yolov8n-pose-640 --format openvino --precision fp16
    """  # noqa: D301
    from openkeypoints.models import ModelSpec  # noqa: PLC0415
    from openkeypoints.models.export import export as write  # noqa: PLC0415
    from openkeypoints.settings import Settings  # noqa: PLC0415
    from openkeypoints.weights.cards import read_card  # noqa: PLC0415

    done = write(
        ModelSpec(options.model, read_card(options.card)),
        options.out,
        format=options.format,
        precision=options.precision,
        overwrite=options.overwrite,
        settings=Settings.from_env(),
    )
    apart = done.difference
    click.echo(
        f"okp: compared {apart.instances} instances in {' and '.join(done.runtimes)}: at most "
        f"{apart.pixels:.2g} px and {apart.score:.2g} in scores from the original.",
        err=True,
    )
    facts = {"path": str(done.path), "format": options.format, "precision": options.precision}
    more = {"difference": asdict(apart), "runtimes": list(done.runtimes)}
    click.echo(json.dumps(facts | more) if options.as_json else str(done.path))
