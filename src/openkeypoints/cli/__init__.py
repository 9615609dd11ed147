"""The command ``okp``: its group of commands and the one place where errors become exit codes."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from openkeypoints import __version__
from openkeypoints.errors import OpenKeypointsError

__all__ = ["cli", "main"]

# Command -> its effect in one line, as the list of commands shows it. The module of a command is
# loaded when the command is asked for.
COMMANDS = {
    "predict": "Find keypoints in pictures.",
    "serve": "Serve models over HTTP to the clients that people already have.",
    "keys": "Make, list and revoke the keys of a server.",
    "models": "List the models, or show one of them.",
    "export": "Write a model as ONNX or OpenVINO, and compare its answers.",
    "train": "Train a model on your own keypoints.",
    "evaluate": "Measure how good a model is on labelled pictures.",
    "bench": "Measure how fast a model is on this machine.",
    "doctor": "Show versions, runtimes, devices, CPU flags and the cache folder.",
}

EXIT_INTERRUPTED = 130


class _Okp(click.Group):
    """Loads commands by name and turns what they raise into a line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(
            importlib.import_module(f"{__name__}.{cmd_name}"), cmd_name
        )
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(_no_command(args[0]))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OpenKeypointsError as error:
            click.echo("okp: " + " ".join(str(error).split()), err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("okp: interrupted.", err=True)
            ctx.exit(EXIT_INTERRUPTED)


def _no_command(name: str) -> str:
    import difflib  # noqa: PLC0415

    close = difflib.get_close_matches(name, COMMANDS, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(COMMANDS)}."
    return f"No command is called {name!r}: {hint}"


@click.group(cls=_Okp, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="okp")
def cli() -> None:
    """Find keypoints in pictures, train models that do, and measure them.

    Data goes to standard output, talk to standard error. Exit codes: 0 all well, 1 something
    failed here, 2 wrong usage, 3 not found, 4 bad input, 130 interrupted.

    \b
    Example:
      okp predict photo.jpg holiday/ --save out
    """  # noqa: D301


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        cli(prog_name="okp")
    except KeyboardInterrupt:  # before a command was found
        sys.exit(EXIT_INTERRUPTED)
