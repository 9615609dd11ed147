"""``okp models``: what there is to load, and what is known about each."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from openkeypoints.cli.options import json_option
from openkeypoints.cli.progress import Transfer
from openkeypoints.cli.tables import bytes_text, listing, table
from openkeypoints.errors import InputError, OpenKeypointsError, UnknownModelError
from openkeypoints.models import (
    ModelSpec,
    Variant,
    find_variant,
    list_models,
)
from openkeypoints.models.catalogue import endings
from openkeypoints.models.opening import ROBOFLOW_ID, derived_card, is_model_folder
from openkeypoints.settings import Settings
from openkeypoints.weights import (
    OWNERS_LICENCE,
    UNKNOWN_LICENCE,
    WeightRef,
    fetch,
    here,
    known_ids,
    place,
    recorded,
    remove,
)
from openkeypoints.weights.cache import Entry
from openkeypoints.weights.cards import card_text
from openkeypoints.weights.okp import open_okp, sha256_of
from openkeypoints.weights.providers import local


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def models(ctx: click.Context, as_json: bool) -> None:
    """List the models that have a name, and say which are here.

    `okp models info ID` shows one of them; pull, add and remove change what is here.

    \b
    Example:
      okp models
    """  # noqa: D301
    if ctx.invoked_subcommand is None:
        _show_list(as_json)


@models.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the models that have a name, and say which are here.

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

    The weights need not be here; `path` is where they lie or would lie. Of a file, or a folder, the
    card that was derived is shown too: save it, change it, and give it to --card.

    \b
    Example:
      okp models info person
    """  # noqa: D301
    facts = describe(name)
    derived = facts.pop("derived_card", None)
    if as_json:
        facts |= {} if derived is None else {"derived_card": derived}
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    size = facts["size_bytes"]
    click.echo(listing({**facts, "size_bytes": None if size is None else bytes_text(size)}))
    if derived is not None:
        click.echo(f"\nderived card\n\n{card_text(derived)}", nl=False)


@models.command("pull")
@click.argument("name", metavar="ID")
@json_option
def pull_command(name: str, as_json: bool) -> None:
    """Fetch the weights of a model now, so that they are here when they are needed.

    The path of the file, or of the folder of a package, goes to stdout; the licence to stderr.
    Models at Roboflow need the owner's key in ROBOFLOW_API_KEY.

    \b
    Example:
      okp models pull person
    """  # noqa: D301
    settings = Settings.from_env()
    row = _row(name, settings)
    if row.packaged is not None:
        path = row.packaged
    else:
        with Transfer(row.id) as bar, _told(bar):
            path = fetch(row.id, row.refs, settings, licence=row.licence, progress=bar.update)
    facts = {"id": row.id, "path": str(path), "licence": row.licence}
    click.echo(json.dumps(facts, ensure_ascii=False) if as_json else str(path))


@contextmanager
def _told(bar: Transfer) -> Iterator[None]:
    """Show what the library says about a download, with the licence, above its bar."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            bar.say(record.getMessage())

    logger, handler = logging.getLogger("openkeypoints.weights"), Lines(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@models.command("add")
@click.argument("name", metavar="ID")
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def add_command(name: str, path: Path, as_json: bool) -> None:
    """Name a model file or folder of your own, so that ID means it from now on.

    The file stays where it is. Its hash is remembered: a file that changes has to be added again.

    \b
    Example:
      okp models add my-gloves best.okp
    """  # noqa: D301
    settings = Settings.from_env()
    row = _row(name, settings, new=True)
    if row.packaged is not None:
        raise InputError(f"{row.id!r} is in the package: choose another id for {path}.")
    entry = Entry.of(row.id, settings)
    if any(map(entry.has, row.refs)):
        raise InputError(
            f"{row.id!r} means what is in {entry.folder}: run `okp models remove {row.id}` first."
        )
    added = local.add(row.id, path, settings)
    facts = {"id": row.id, "path": str(added.path), "sha256": added.main.sha256}
    click.echo(json.dumps(facts, ensure_ascii=False) if as_json else listing(facts))


@models.command("remove")
@click.argument("name", metavar="ID")
@json_option
def remove_command(name: str, as_json: bool) -> None:
    """Delete what was fetched of a model, and forget a file that was added; that file stays.

    \b
    Example:
      okp models remove my-gloves
    """  # noqa: D301
    settings = Settings.from_env()
    row = _row(name, settings, new=True)
    remove(row.id, settings)
    click.echo(json.dumps({"id": row.id, "removed": True}) if as_json else f"removed {row.id}")


@dataclass(frozen=True, slots=True)
class _Row:
    """A model as these commands need it, of the catalogue or not."""

    id: str
    refs: tuple[WeightRef, ...]
    licence: str
    variant: Variant | None = None

    @property
    def packaged(self) -> Path | None:
        return None if self.variant is None else self.variant.file


def _row(name: str, settings: Settings, *, new: bool = False) -> _Row:
    """Return a model by id or alias: of the catalogue, of Roboflow, or the user's own.

    Args:
        name: what the user wrote.
        settings: the environment's.
        new: an id that nobody knows yet is one, too.
    """
    try:
        variant = find_variant(name)
    except UnknownModelError:
        at_roboflow = ROBOFLOW_ID.fullmatch(name) and not name.lower().endswith((*endings(),))
        if not (new or at_roboflow or name in known_ids(settings)):
            raise
        refs = (WeightRef("roboflow", name),) if at_roboflow else ()
        return _Row(name, refs, OWNERS_LICENCE if at_roboflow else UNKNOWN_LICENCE)
    return _Row(variant.id, variant.refs, variant.licence, variant)


def _show_list(as_json: bool) -> None:
    settings = Settings.from_env()
    catalogue = list_models()
    rows: list[dict[str, object]] = [
        {
            "id": v.id,
            "aliases": list(v.aliases),
            "family": v.family,
            "task": v.task,
            "skeleton": v.skeleton,
            "licence": v.licence,
            "here": v.file is not None or here(v.id, v.refs, settings),
        }
        for v in catalogue
    ]
    own = [_row(name, settings) for name in known_ids(settings)]
    rows += [
        {"id": row.id, "aliases": [], "licence": row.licence, "here": True}
        | dict.fromkeys(("family", "task", "skeleton"))
        for row in own
        if row.variant is None
    ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    shown = ("id", "family", "task", "skeleton", "licence", "here")
    click.echo(table(shown, [[_cell(row[name]) for name in shown] for row in rows]))


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def describe(name: str) -> dict[str, Any]:
    """Return what is known about a model without loading it.

    Args:
        name: id or alias of the catalogue, id of a model at Roboflow, or path of a file.

    Raises:
        UnknownModelError: no such id or file; the closest are listed.
        WeightsError: the file cannot be used.
    """
    path = Path(name)
    settings = Settings.from_env()
    if path.is_file() or (path.is_dir() and is_model_folder(path)):
        return _local_facts(path, settings)
    row = _row(name, settings)
    facts: dict[str, Any] = {"id": row.id, "licence": row.licence}
    if row.variant is not None:
        facts |= _variant_facts(row.variant)
    if row.packaged is not None:
        return facts | _file_facts(row.packaged, row.id) | {"licence": row.licence}
    return facts | _stored_facts(row, settings)


def _local_facts(path: Path, settings: Settings) -> dict[str, Any]:
    """Return what a file says, with a card for it, or with what is wrong with it."""
    file = path.is_file()
    facts: dict[str, Any] = {"id": str(path), "source": f"a local {'file' if file else 'folder'}"}
    facts |= _file_facts(path, None) if file else {"size_bytes": None}
    try:
        return {**facts, "derived_card": derived_card(ModelSpec(str(path)), settings)}
    except OpenKeypointsError as error:
        return {**facts, "problem": str(error)}


def _variant_facts(variant: Variant) -> dict[str, Any]:
    return {
        "aliases": list(variant.aliases),
        "family": variant.family,
        "task": variant.task,
        "source": variant.source,
        "claims": dict(variant.claims),
        "size_bytes": variant.size_bytes,
        "sha256": variant.sha256,
    }


def _stored_facts(row: _Row, settings: Settings) -> dict[str, Any]:
    """Return where the weights come from, and where they lie or would lie."""
    stored = recorded(row.id, row.refs, settings)
    known = next((ref for ref in row.refs if ref.sha256 or ref.md5 or ref.size_bytes), None)
    size = row.variant.size_bytes if row.variant else None
    sha256 = row.variant.sha256 if row.variant else None
    if known is not None:
        size, sha256 = size or known.size_bytes, sha256 or known.sha256
    facts: dict[str, Any] = {
        "urls": [ref.url(settings) for ref in row.refs],
        "here": stored is not None,
        "path": str(place(row.id, row.refs, settings) if stored is None else stored.path),
        "size_bytes": size,
        "sha256": sha256,
    }
    if known is not None and known.md5:
        facts["md5"] = known.md5
    if stored is not None:
        facts |= {
            "size_bytes": stored.size_bytes,
            "sha256": stored.sha256 or sha256,
            "came_from": stored.source,
            "since": stored.date,
        }
    return facts


def _file_facts(path: Path, view: str | None) -> dict[str, Any]:
    """Return what a file says of itself, of one of its views where one is named."""
    size = {"size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
    if path.suffix.lower() != ".okp":
        return size
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
        **size,
        "card": model.get("card", {}),
    }
