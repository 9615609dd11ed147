"""``okp keys``: who may use a server, and what each key may do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from openkeypoints.cli.options import json_option, takes
from openkeypoints.cli.tables import table

_file_option = click.option(
    "--file",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("okp-keys.json"),
    show_default=True,
    help="The file for `okp serve --api-keys`.",
)
_HEADER = ("id", "scopes", "rate", "concurrency", "expires", "created")


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """What ``okp keys add`` was asked for."""

    name: str
    scopes: tuple[str, ...]
    rate: float | None
    concurrency: int | None
    days: float | None
    path: Path
    as_json: bool


@click.group(invoke_without_command=True)
@_file_option
@json_option
@click.pass_context
def keys(ctx: click.Context, path: Path, as_json: bool) -> None:
    """List the keys of a server; add and revoke change them.

    A file keeps their SHA-256 hashes. A server reads it at its start and again at SIGHUP.

    \b
    Example:
      okp keys --file okp-keys.json
    """  # noqa: D301
    if ctx.invoked_subcommand is None:
        _show_list(path, as_json)


@keys.command("add")
@click.argument("name", metavar="NAME")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(("infer", "admin", "metrics")),
    default=("infer",),
    help="May be given several times.  [default: infer]",
)
@click.option("--rate", metavar="R", type=click.FloatRange(0, min_open=True), help="Per second.")
@click.option("--concurrency", metavar="N", type=click.IntRange(1), help="Requests at once.")
@click.option(
    "--days", metavar="D", type=click.FloatRange(0, min_open=True), help="Until it expires."
)
@_file_option
@json_option
@takes(KeyOptions)
def add_command(options: KeyOptions) -> None:
    """Make a key and print it: it is shown this once, and kept nowhere.

    \b
    Example:
      okp keys add camera-3 --scope infer --rate 10 --days 90
    """  # noqa: D301
    from openkeypoints.server.keys import KeyRecord, add_key, sha256_of  # noqa: PLC0415

    expires = None if options.days is None else datetime.now(UTC) + timedelta(days=options.days)
    record = KeyRecord(
        id=options.name,
        sha256=sha256_of(""),
        scopes=frozenset(options.scopes),
        rate=options.rate,
        concurrency=options.concurrency,
        expires=expires,
    )
    key = add_key(options.path, record)
    click.echo(json.dumps({"id": record.id, "key": key}) if options.as_json else key)
    click.echo(
        f"Keep it: only its hash is in {options.path}. A server that runs reads the file again "
        "when it gets SIGHUP.",
        err=True,
    )


@keys.command("list")
@_file_option
@json_option
def list_command(path: Path, as_json: bool) -> None:
    """List the keys of a file, as far as it knows them.

    \b
    Example:
      okp keys list --file okp-keys.json
    """  # noqa: D301
    _show_list(path, as_json)


def _show_list(path: Path, as_json: bool) -> None:
    from openkeypoints.server.keys import read_keys  # noqa: PLC0415

    rows = [_row(record.to_json()) for record in read_keys(path)]
    if as_json:
        click.echo(json.dumps(rows))
        return
    cells = [["-" if row[n] is None else str(row[n]) for n in _HEADER] for row in rows]
    click.echo(table(_HEADER, cells))


@keys.command("revoke")
@click.argument("name", metavar="NAME")
@_file_option
@json_option
def revoke_command(name: str, path: Path, as_json: bool) -> None:
    """Take a key out of a file.

    \b
    Example:
      okp keys revoke camera-3
    """  # noqa: D301
    from openkeypoints.server.keys import revoke_key  # noqa: PLC0415

    revoke_key(path, name)
    if as_json:
        click.echo(json.dumps({"revoked": name}))
    click.echo(f"{name} is revoked; a server that runs needs a SIGHUP to know it.", err=True)


def _row(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: entry[name] for name in _HEADER}, "scopes": ",".join(entry["scopes"])}
