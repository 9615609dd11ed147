"""What the commands share: options of the model, and options as a typed record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

Record = TypeVar("Record")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])

RUNTIMES = ("auto", "openvino", "onnxruntime", "torch")
PRECISIONS = ("auto", "f32", "bf16", "int8")
SHARE = click.FloatRange(0, 100)
"""0.4 and 40 both mean 40 %."""


class Size(click.ParamType[tuple[int, int]]):
    """A width and a height in pixels: ``640x384``, or ``640`` for both."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return (width, height)."""
        if isinstance(value, tuple):
            return value
        sides = str(value).lower().split("x")
        if len(sides) > 2 or not all(side.isascii() and side.isdigit() for side in sides):
            self.fail(f"{value!r} is no size: give 640, or 640x384 (width x height).", param, ctx)
        return int(sides[0]), int(sides[-1])


_MODEL = (
    click.option("--model", metavar="ID", help="Catalogue id or file.  [default: person]"),
    click.option(
        "--card",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="JSON or YAML with what a bare model file cannot say.",
    ),
    click.option(
        "--detector", metavar="ID", help="Finds the instances, before a model that reads crops."
    ),
    click.option(
        "--keypoints", metavar="NAME", multiple=True, help="Only these, or those of this group."
    ),
    click.option(
        "--device", metavar="NAME", default="auto", show_default=True, help="cpu, cuda:0, mps, ..."
    ),
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="auto",
        show_default=True,
        help="auto is bf16 where the CPU has units for it.",
    ),
    click.option(
        "--input-size", metavar="WxH", type=Size(), help="Of the network that finds instances."
    ),
    click.option(
        "--max-persons",
        metavar="N",
        type=click.IntRange(1),
        help="Instances of which a model that reads crops finds the keypoints.",
    ),
    click.option(
        "--box-threshold",
        metavar="C",
        type=SHARE,
        help="Lowest score of a box, in place of --confidence, before a model that reads crops.",
    ),
)
_RUNTIME = click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    default="auto",
    show_default=True,
    help="auto is the fastest that is installed and can run the model.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace files that other runs, or people, made."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """How the model of a command is opened and asked (by `loading`).

    Attributes:
        model: catalogue id or file, None = the default.
        card: file of the caller's card.
        detector: id or file of what finds the instances.
        keypoints: the only ones that are computed, none = all.
        runtime: as in ``get_model``.
        device: as in ``get_model``.
        precision: as in ``get_model``.
        input_size: (width, height), None = the model's own.
        max_persons: whose keypoints are found, None = everybody's.
        box_threshold: of the detector, None = as everywhere.
    """

    model: str | None
    card: Path | None
    detector: str | None
    keypoints: tuple[str, ...]
    runtime: str = "auto"
    device: str
    precision: str
    input_size: tuple[int, int] | None
    max_persons: int | None
    box_threshold: float | None

    def files(self) -> list[Path]:
        """Return the files that loading reads: no command may write over them."""
        names = (self.model, self.card, self.detector)
        return [Path(name) for name in names if name is not None]


def model_options(function: Decorated) -> Decorated:
    """Add the options of `ModelOptions` to a command."""
    return model_options_but_runtime(_RUNTIME(function))


def model_options_but_runtime(function: Decorated) -> Decorated:
    """Add the options of `ModelOptions` to a command that has several runtimes."""
    for option in reversed(_MODEL):
        function = option(function)
    return function


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What ``okp train`` was asked for; None = as in the configuration, or the default."""

    model: str
    data: Path | None
    val: Path | None
    init: str | None
    out: Path | None
    minutes: float | None
    steps: int | None
    resume: bool
    config: Path | None
    device: str | None
    precision: str | None
    threads: int | None
    seed: int | None
    as_json: bool


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What ``okp serve`` was asked for."""

    host: str
    port: int
    models: tuple[str, ...]
    models_file: Path | None
    no_load: bool
    api_key: str | None
    api_keys: Path | None
    allow_anonymous: bool
    allow_urls: bool
    allow_url_hosts: tuple[str, ...]
    forward_roboflow_key: bool
    cors_origins: tuple[str, ...]
    workspace: str
    workers: int
    engine: str
    tls_cert: Path | None
    tls_key: Path | None
    trusted_proxies: tuple[str, ...]
    root_path: str
    as_json: bool


def takes(record: Callable[..., Record]) -> Callable[[Callable[[Record], Any]], Callable[..., Any]]:
    """Give a command all its options as one record."""

    def decorate(function: Callable[[Record], Any]) -> Callable[..., Any]:
        @wraps(function)
        def _call(**values: Any) -> Any:
            return function(record(**values))

        return _call

    return decorate
