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

_MODEL = (
    click.option("--model", metavar="ID", help="Catalogue id or file.  [default: person]"),
    click.option(
        "--card",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="JSON or YAML with what a bare model file cannot say.",
    ),
    click.option(
        "--runtime",
        type=click.Choice(RUNTIMES),
        default="auto",
        show_default=True,
        help="auto is the fastest that is installed and can run the model.",
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
)

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace files that other runs, or people, made."
)


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How the model of a command is loaded (by `loading.load_model`).

    Attributes:
        model: catalogue id or file, None = the default.
        card: file of the caller's card.
        runtime: as in ``get_model``.
        device: as in ``get_model``.
        precision: as in ``get_model``.
    """

    model: str | None
    card: Path | None
    runtime: str
    device: str
    precision: str

    def files(self) -> list[Path]:
        """Return the files that loading reads: no command may write over them."""
        return [Path(name) for name in (self.model, self.card) if name is not None]


def model_options(function: Decorated) -> Decorated:
    """Add the options of `ModelOptions` to a command."""
    for option in reversed(_MODEL):
        function = option(function)
    return function


def takes(record: Callable[..., Record]) -> Callable[[Callable[[Record], Any]], Callable[..., Any]]:
    """Give a command all its options as one record."""

    def decorate(function: Callable[[Record], Any]) -> Callable[..., Any]:
        @wraps(function)
        def _call(**values: Any) -> Any:
            return function(record(**values))

        return _call

    return decorate
