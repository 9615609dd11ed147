"""What a long command says while it works: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """A progress bar on stderr, shown on a terminal alone; stdout keeps to data.

    Args:
        total: steps to do; a single one gets no bar.
        what: stands before the bar.
    """

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what = total, what
        self._live: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._total > 1 and sys.stderr.isatty():
            self._live, self._task = _start(self._total, self._what)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, done: int, *, total: int | None = None, what: str | None = None) -> None:
        """Show that ``done`` steps are done, of another total or thing where one is given."""
        if self._live is not None and self._task is not None:
            self._live.update(
                self._task, completed=done, total=total or self._total, description=what
            )

    def data(self, line: str) -> None:
        """Write a line to stdout, above the bar where both share a terminal."""
        if self._live is not None and sys.stdout.isatty():
            _above(self._live, line)
        else:
            click.echo(line)

    def say(self, line: str) -> None:
        """Write a line to stderr."""
        if self._live is not None:
            _above(self._live, line)
        else:
            click.echo(line, err=True)


class Transfer:
    """A bar of bytes on stderr, shown on a terminal alone; its `update` takes bytes and total."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._live: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, done: int, total: int | None) -> None:
        """Show that ``done`` bytes are here, of ``total`` where somebody says so."""
        if self._live is None:
            if not sys.stderr.isatty():
                return
            self._live = _start_transfer(self._what)
        self._live.update(self._live.task_ids[0], completed=done, total=total)

    def say(self, line: str) -> None:
        """Write a line to stderr."""
        if self._live is not None:
            _above(self._live, line)
        else:
            click.echo(line, err=True)


def _above(live: Progress, line: str) -> None:
    live.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _start(total: int, what: str) -> tuple[Progress, TaskID]:
    # Only a terminal pays for rich.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    live = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    live.start()
    return live, live.add_task(what, total=total)


def _start_transfer(what: str) -> Progress:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    live = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    live.start()
    live.add_task(what, total=None)
    return live
