"""``okp bench``: how fast a model is on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from openkeypoints.cli.options import (
    RUNTIMES,
    ModelOptions,
    json_option,
    model_options_but_runtime,
    takes,
)
from openkeypoints.cli.progress import Bar
from openkeypoints.cli.tables import listing, table


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions(ModelOptions):
    """What ``okp bench`` was asked for."""

    image: Path | None
    runtimes: tuple[str, ...]
    rounds: int
    url: str | None
    route: str
    key: str | None
    rate: float
    seconds: float
    timeout_s: float
    as_json: bool


@click.command()
@model_options_but_runtime
@click.option(
    "--image",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Picture.  [default: the photograph in the package]",
)
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    type=click.Choice((*RUNTIMES, "all")),
    default=("auto",),
    help="May be given several times; all: each one that is installed.  [default: auto]",
)
@click.option("--rounds", type=click.IntRange(1), default=30, show_default=True)
@click.option("--url", metavar="URL", help="Measure the server at this address instead.")
@click.option(
    "--route",
    type=click.Choice(("roboflow", "ultralytics", "native")),
    default="native",
    show_default=True,
    help="How the server is asked: as whose clients do.",
)
@click.option(
    "--key",
    metavar="KEY",
    envvar="OKP_API_KEY",
    help="Key of the server; better in OKP_API_KEY, as other users see command lines.",
)
@click.option(
    "--rate",
    metavar="N",
    type=click.FloatRange(0.01, 10_000),
    default=10.0,
    show_default=True,
    help="Requests per second, sent whether or not the server keeps up.",
)
@click.option(
    "--seconds", metavar="N", type=click.FloatRange(0.1, 3600), default=10.0, show_default=True
)
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(0.1, 3600),
    default=60.0,
    show_default=True,
    help="How long an answer is waited for.",
)
@json_option
@takes(BenchOptions)
def bench(options: BenchOptions) -> None:
    """Measure how fast a model is here, from the bytes of a picture to the result, or a server.

    Wall time (median and 95th percentile, ms) in all and of the stages decode, prepare, run and
    finish; CPU time of all threads per picture; time to load and of the first picture; the largest
    memory of the process until then, so measure one runtime alone to know its own.

    With --url: latencies (median, 95th and 99th percentile) and counts of the answers by status of
    any server that speaks one of the routes, at a fixed rate, each from the moment at which its
    request was due.

    \b
    Example:
      okp bench --runtime all --rounds 50
    """  # noqa: D301
    from openkeypoints.cli import machine  # noqa: PLC0415
    from openkeypoints.samples import sample  # noqa: PLC0415
    from openkeypoints.settings import Settings  # noqa: PLC0415
    from openkeypoints.sources import Source  # noqa: PLC0415

    _reject_mixture(options.url)
    path = options.image or sample("people")
    Source(str(path), path).read(Settings.from_env())  # says what is wrong with it, if anything
    if options.url is not None:
        _measure_server(options, options.url, path)
        return
    names = _runtimes(options.runtimes)
    rows = []
    with Bar(len(names), "runtimes") as bar:
        for number, name in enumerate(names, 1):
            rows.append(_measured(options, name, path.read_bytes()))
            bar.update(number)
    report = {"cpu": machine.cpu(), "versions": machine.versions(), "runs": rows}
    click.echo(json.dumps(report) if options.as_json else _page(report))


def _reject_mixture(url: str | None) -> None:
    from openkeypoints.cli.bench_url import reject_mixture  # noqa: PLC0415

    context = click.get_current_context()
    default = (ParameterSource.DEFAULT, ParameterSource.ENVIRONMENT)
    given = {name for name in context.params if context.get_parameter_source(name) not in default}
    reject_mixture(given, url)


def _measure_server(options: BenchOptions, url: str, picture: Path) -> None:
    from openkeypoints.cli.bench_url import Target, measure_url  # noqa: PLC0415

    target = Target(
        url,
        options.route,
        options.model or "person",
        options.key,
        options.rate,
        options.seconds,
        options.timeout_s,
    )
    measure_url(target, picture, as_json=options.as_json)


def _runtimes(asked: Sequence[str]) -> list[str]:
    from openkeypoints.runtimes import available_runtimes  # noqa: PLC0415

    names = [n for name in asked for n in (available_runtimes() if name == "all" else [name])]
    return list(dict.fromkeys(names))


def _measured(options: BenchOptions, runtime: str, picture: bytes) -> dict[str, Any]:
    from openkeypoints.cli.loading import infer_options, load_model  # noqa: PLC0415
    from openkeypoints.cli.speed import measure  # noqa: PLC0415

    began = time.perf_counter()
    with load_model(replace(options, runtime=runtime)) as model:
        load_ms = (time.perf_counter() - began) * 1e3
        figures = measure(model, picture, rounds=options.rounds, options=infer_options(options))
        return {"load_ms": round(load_ms, 2), **figures}


def _page(report: dict[str, Any]) -> str:
    header = ["runtime", "precision", "decode", "prepare", "run", "finish", "total p50", "p95"]
    header += ["CPU-ms", "first", "load", "MB"]
    rows = [
        [
            f"{row['runtime']}/{row['device']}",
            row["precision"],
            *(stage["p50"] for stage in row["stages"].values()),
            row["total"]["p50"],
            row["total"]["p95"],
            row["cpu_ms"],
            row["first_ms"],
            row["load_ms"],
            row["peak_memory_mb"] or "?",
        ]
        for row in report["runs"]
    ]
    first = report["runs"][0]
    facts = {
        "model": first["model"],
        "picture": "{} x {} px".format(*first["image_size"]),
        "instances": first["instances"],
        "rounds": first["rounds"],
        **report["cpu"],
    }
    notes = "Stages: median ms of wall time."
    if not first["instances"]:
        notes += " Nothing was found, so keypoints were not computed: take another picture."
    return f"{listing(facts)}\n\n{table(header, rows)}\n\n{notes}"
