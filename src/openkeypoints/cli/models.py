"""``okp models``: what there is to load, and what is known about each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from openkeypoints.cli.options import json_option
from openkeypoints.cli.tables import bytes_text, listing, table


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def models(ctx: click.Context, as_json: bool) -> None:
    """List the models that have a name; `okp models info ID` shows one of them.

    \b
    Example:
      okp models
    """  # noqa: D301
    if ctx.invoked_subcommand is None:
        _show_list(as_json)


@models.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the models that have a name.

    \b
    Example:
      okp models list --json
    """  # noqa: D301
    _show_list(as_json)


@models.command("info")
@click.argument("name", metavar="ID")
@json_option
def info_command(name: str, as_json: bool) -> None:
    """Show licence, source, size, hash, skeletons and figures of a model: an id, or a file.

    \b
    Example:
      okp models info person
    """  # noqa: D301
    facts = describe(name)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    size = facts["size_bytes"]
    click.echo(listing({**facts, "size_bytes": None if size is None else bytes_text(size)}))


def _show_list(as_json: bool) -> None:
    from openkeypoints.models import list_models  # noqa: PLC0415

    rows = [
        {
            "id": v.id,
            "aliases": list(v.aliases),
            "family": v.family,
            "task": v.task,
            "skeleton": v.skeleton,
            "licence": v.licence,
            "here": v.file is not None and v.file.is_file(),
        }
        for v in list_models()
    ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    shown = ("id", "family", "task", "skeleton", "licence")
    click.echo(table(shown, [[row[name] for name in shown] for row in rows]))


def describe(name: str) -> dict[str, Any]:
    """Return what is known about a model without loading it.

    Args:
        name: id or alias of the catalogue, or path of a ``.okp`` file.

    Raises:
        UnknownModelError: no such id or file; the closest are listed.
        WeightsError: the file cannot be used.
    """
    from openkeypoints.models import find_variant  # noqa: PLC0415

    if Path(name).is_file():
        return {"id": name, "source": "a local file"} | _file_facts(Path(name), None)
    variant = find_variant(name)
    facts: dict[str, Any] = {
        "id": variant.id,
        "aliases": list(variant.aliases),
        "family": variant.family,
        "task": variant.task,
        "source": variant.source,
        "licence": variant.licence,
        "claims": dict(variant.claims),
        "size_bytes": variant.size_bytes,
        "sha256": variant.sha256,
    }
    if variant.file is not None and variant.file.is_file():
        facts |= _file_facts(variant.file, variant.id) | {"licence": variant.licence}
    return facts


def _file_facts(path: Path, view: str | None) -> dict[str, Any]:
    """Return what a file says of itself, of one of its views where one is named."""
    from openkeypoints.weights.okp import open_okp, sha256_of  # noqa: PLC0415

    model = open_okp(path).model
    views: dict[str, Any] = {v["id"]: v["classes"] for v in model.get("views", ())}
    classes = views[view] if view in views else next(iter(views.values()), [])
    return {
        "family": model.get("family"),
        "licence": model.get("licence"),
        "views": list(views),
        "classes": [c["name"] for c in classes],
        "skeletons": {c["name"]: c["skeleton"]["name"] for c in classes},
        "keypoints": {c["name"]: list(c["skeleton"]["keypoints"]) for c in classes},
        "thresholds": model.get("thresholds", {}),
        "size_bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "card": model.get("card", {}),
    }
