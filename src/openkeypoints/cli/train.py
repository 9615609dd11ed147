"""``okp train``: a model of one's own keypoints."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import click

from openkeypoints.cli.options import TrainOptions, json_option, takes
from openkeypoints.errors import InputError, MissingExtraError

TRAINABLE = ("pico", "rfdetr")
RUN_ONLY = ("yolo", "sapiens", "detr")
PATH = click.Path(path_type=Path)
_NEEDED = ("torch", "matplotlib", "tensorboard")


@click.command()
@click.option("--model", metavar="FAMILY", default="pico", show_default=True)
@click.option(
    "--data",
    metavar="PATH",
    type=PATH,
    help="COCO-keypoints JSON, or a folder with train.json (and val.json).",
)
@click.option("--val", metavar="FILE", type=PATH, help="Labelled pictures to measure on.")
@click.option(
    "--init",
    metavar="ID",
    help="person, a .okp file, or none.  [default: person, or as in --config]",
)
@click.option("--out", metavar="DIR", type=PATH, help="Folder of the run.  [default: runs]")
@click.option("--minutes", type=click.FloatRange(0.1), help="Wall time.  [default: 30]")
@click.option("--steps", type=click.IntRange(1), help="Of each network, in place of --minutes.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--config", metavar="FILE", type=PATH, help="YAML or JSON; options go before it.")
@click.option("--device", metavar="NAME", help="cpu or cuda:0.  [default: auto]")
@click.option("--precision", type=click.Choice(("auto", "f32", "bf16")), help="[default: auto]")
@click.option("--threads", type=click.IntRange(0), help="CPU threads.  [default: all]")
@click.option("--seed", type=int, help="Of weights and samples.  [default: 0]")
@json_option
@takes(TrainOptions)
def train(options: TrainOptions) -> None:
    """Train a model on your own keypoints, of people or anything else (needs the extra [train]).

    The labels are COCO-keypoints JSON with any classes and keypoints. --out receives best.okp,
    which every command takes as --model, the checkpoints, logs (CSV and TensorBoard), curves, and
    predicted samples. A run that was interrupted goes on with --resume, to the same weights as one
    that was not. The path of best.okp goes to stdout.

    \b
    Example:
      okp train --model pico --data my_keypoints/ --minutes 30 --out runs/mine
    """  # noqa: D301
    _refuse_family(options.model)
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise MissingExtraError(f"`okp train` (without {', '.join(missing)})", "train")
    from openkeypoints.cli.training import run  # noqa: PLC0415

    best = run(options)
    click.echo(json.dumps({"model": str(best)}) if options.as_json else str(best))


def _refuse_family(name: str) -> None:
    family = name.lower()
    if family == "pico":
        return
    if family == "rfdetr":
        raise InputError("`okp train --model rfdetr` comes in a later version: train pico.")
    if family.startswith(RUN_ONLY):
        raise InputError(
            f"Networks like {name!r} are run here and not trained: train one of "
            f"{' and '.join(TRAINABLE)}, for example with --model pico."
        )
    raise InputError(f"{name!r} cannot be trained: the families are {' and '.join(TRAINABLE)}.")
