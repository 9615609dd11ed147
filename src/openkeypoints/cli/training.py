"""Turns the options of ``okp train`` into a training run and shows how it goes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from openkeypoints.cli.annotations import annotation_file
from openkeypoints.cli.options import TrainOptions
from openkeypoints.cli.progress import Bar
from openkeypoints.errors import NotFoundError, OutputExistsError
from openkeypoints.train.config import SourceConfig, TrainConfig, config_from_mapping
from openkeypoints.train.loop import Progress
from openkeypoints.train.run import train
from openkeypoints.weights.cards import read_card

DEFAULT_MINUTES = 30.0
_STATE = ("pose", "detector", "best.okp", "steps.json")


def run(options: TrainOptions) -> Path:
    """Train, and return the path of ``best.okp``.

    Raises:
        OutputExistsError: the folder holds a run that is not to be resumed.
        NotFoundError: the data is not there.
    """
    config = configuration(options)
    made = [config.out / name for name in _STATE if (config.out / name).exists()]
    if made and not options.resume:
        raise OutputExistsError(
            f"'{config.out}' holds a run ({made[0].name}): add --resume to go on with it, or "
            "choose another --out."
        )
    with Bar(2, "training") as bar, _told(bar):
        return train(config, report=_Reporter(bar))


def configuration(options: TrainOptions) -> TrainConfig:
    """Return the configuration file, where there is one, with the options put over it."""
    config = TrainConfig(sources=(), init="person")
    if options.config is not None:
        config = config_from_mapping(read_card(options.config), options.config.parent)
    chosen: dict[str, Any] = {
        name: value
        for name in ("init", "out", "minutes", "device", "precision", "threads", "seed")
        if (value := getattr(options, name)) is not None
    }
    if options.data is not None:
        chosen["sources"] = (SourceConfig(annotation_file(options.data, "train")),)
        if options.data.is_dir() and options.val is None and config.val is None:
            chosen["val"] = _own_val(options.data)
    if options.val is not None:
        chosen["val"] = SourceConfig(annotation_file(options.val, "val"))
    if options.steps is not None:
        chosen |= {"pose": config.pose.of(options.steps)}
        chosen |= {"detector": config.detector.of(options.steps)}
    config = replace(config, **chosen)
    if not config.sources:
        raise click.UsageError("Say what to learn from: --data FILE_OR_FOLDER, or --config FILE.")
    open_ended = not all(getattr(config, part).steps for part in config.parts)
    if config.minutes is None and open_ended:
        config = replace(config, minutes=DEFAULT_MINUTES)
    return config


def _own_val(folder: Path) -> SourceConfig | None:
    try:
        return SourceConfig(annotation_file(folder, "val"))
    except NotFoundError:
        return None  # nothing is measured then


@contextlib.contextmanager
def _told(bar: Bar) -> Iterator[None]:
    """Show what training logs: the steps and the precision that it chose."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            bar.say(record.getMessage())

    logger, handler = logging.getLogger("openkeypoints.train"), Lines(logging.INFO)
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Reporter:
    """Shows the progress of a run: a bar on a terminal, the figures as lines."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def __call__(self, part: str, line: Progress) -> None:
        self._bar.update(
            line.step, total=line.steps, what=f"{part} {sum(line.losses.values()):.3f}"
        )
        if line.figures:
            figures = ", ".join(f"{name} {value:.3f}" for name, value in line.figures.items())
            self._bar.say(f"{part} {line.step}/{line.steps}: {figures} ({line.seconds:.0f} s)")
