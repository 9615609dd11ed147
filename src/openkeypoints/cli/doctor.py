"""``okp doctor``: what is here, for people who ask why something is slow or does not start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from openkeypoints.cli.options import json_option
from openkeypoints.cli.tables import bytes_text, listing


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Show versions, extras, runtimes with their devices, CPU flags and the cache folder.

    Nothing secret is shown: of a key only whether there is one.

    \b
    Example:
      okp doctor --json
    """  # noqa: D301
    from openkeypoints.cli import machine  # noqa: PLC0415
    from openkeypoints.settings import Settings  # noqa: PLC0415

    settings = Settings.from_env()
    facts = {
        "versions": machine.versions(),
        "extras": machine.extras(),
        "runtimes": machine.runtimes(),
        "cpu": machine.cpu(),
        "cache": machine.cache(settings),
        "settings": {
            "offline": settings.offline,
            "roboflow_key": "set" if settings.api_key else "not set",
            "allowed_licences": _licences(settings.allowed_licences),
            "threads": settings.threads,
            "max_pixels": settings.max_pixels,
        },
    }
    click.echo(json.dumps(facts, ensure_ascii=False) if as_json else _pages(facts))


def _licences(allowed: tuple[str, ...] | None) -> str | list[str]:
    return "all" if allowed is None else list(allowed)


def _pages(facts: Mapping[str, Any]) -> str:
    extras = {name: _extra(packages) for name, packages in facts["extras"].items()}
    cache = {**facts["cache"], "bytes": bytes_text(facts["cache"]["bytes"])}
    pages = {**facts, "extras": extras, "cache": cache}
    return "\n\n".join(f"{name}\n{_indented(listing(page))}" for name, page in pages.items())


def _extra(packages: Mapping[str, str | None]) -> str:
    missing = [name for name, version in packages.items() if version is None]
    if not missing:
        return "installed"
    return "not installed" if len(missing) == len(packages) else f"lacks {', '.join(missing)}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
