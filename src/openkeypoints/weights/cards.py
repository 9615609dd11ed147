"""The one reader of a user's YAML: cards, which say what a bare model file cannot, and lists."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from openkeypoints.errors import InputError, NotFoundError


def read_card(card: Mapping[str, Any] | str | Path | None) -> Mapping[str, Any]:
    """Return the content of a card; a mapping is a card already, None an empty one.

    Raises:
        NotFoundError: there is no such file.
        InputError: the file is neither JSON nor YAML, or holds no mapping.
    """
    if card is None or isinstance(card, Mapping):
        return dict(card or {})
    return read_mapping(Path(card), "card")


def card_text(card: Mapping[str, Any]) -> str:
    """Return a card as YAML, to be saved and changed."""
    text: str = yaml.safe_dump(dict(card), sort_keys=False, allow_unicode=True, width=100)
    return text


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """Return the content of a JSON or YAML file that holds a mapping.

    Args:
        path: the file.
        what: it is, for messages.

    Raises:
        NotFoundError: there is no such file.
        InputError: the file is neither JSON nor YAML, or holds no mapping.
    """
    if not path.is_file():
        raise NotFoundError(f"No {what} at {path}.")
    try:
        # JSON is read as JSON: YAML would take its tabs and some of its escapes amiss.
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"The {what} {path.name} cannot be read ({error}).") from error
    if not isinstance(data, dict):
        raise InputError(f"The {what} {path.name} holds no mapping of names to values.")
    return data
