"""Reads the arguments of a request: texts become numbers within their ranges."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from openkeypoints.errors import InputError

# No pattern here can take long: each sign is looked at once, and long texts are not looked at.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_LONGEST = 64
_SHOWN = 40
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
Default = TypeVar("Default")


class Arguments:
    """The texts that a client sent, by name.

    Args:
        sources: in the order in which they count: what the first has, the others do not change.
    """

    def __init__(self, *sources: Mapping[str, str]) -> None:
        # What is not there is told quicker by a dict, and quickest without one.
        self._sources = tuple(dict(source) for source in sources if source)

    def text(self, names: tuple[str, ...]) -> tuple[str, str] | None:
        """Return the name and the text of an argument, without the quotes that clients leave on it.

        Args:
            names: of the argument; the earlier counts where a client sent several.
        """
        for source in self._sources:
            for name in names:
                if (text := source.get(name)) is not None:
                    return name, text.strip().strip("\"'").strip()
        return None


@dataclass(frozen=True, slots=True)
class Number:
    """A number within a range.

    Attributes:
        names: that clients use for it.
        low: smallest value.
        high: largest value.
        about: what it does, for the documentation.
    """

    names: tuple[str, ...]
    low: float
    high: float
    about: str

    def read(self, arguments: Arguments, default: Default) -> float | Default:
        """Return the value, or the default where a client sent none.

        Raises:
            InputError: it is no number, or out of its range; the message names both.
        """
        if (sent := arguments.text(self.names)) is None:
            return default
        name, text = sent
        value = float(text) if len(text) <= _LONGEST and _NUMBER.fullmatch(text) else float("nan")
        if not self.low <= value <= self.high:
            raise InputError(
                f"{name} is {text[:_SHOWN]!r}: give a number from {self.low:g} to {self.high:g}."
            )
        return value

    def schema(self, default: float | None = None) -> dict[str, Any]:
        """Return what OpenAPI says of it."""
        return _schema("number", self, default)


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within a range; the attributes are those of :class:`Number`."""

    names: tuple[str, ...]
    low: int
    high: int
    about: str

    def read(self, arguments: Arguments, default: Default) -> int | Default:
        """Return the value, or the default where a client sent none.

        Raises:
            InputError: it is no whole number, or out of its range; the message names both.
        """
        if (sent := arguments.text(self.names)) is None:
            return default
        name, text = sent
        value = float(text) if len(text) <= _LONGEST and _NUMBER.fullmatch(text) else float("nan")
        if not (self.low <= value <= self.high and value.is_integer()):
            raise InputError(
                f"{name} is {text[:_SHOWN]!r}: give a whole number from {self.low} to {self.high}."
            )
        return int(value)

    def schema(self, default: int | None = None) -> dict[str, Any]:
        """Return what OpenAPI says of it."""
        return _schema("integer", self, default)


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false; the attributes are those of :class:`Number`."""

    names: tuple[str, ...]
    about: str

    def read(self, arguments: Arguments, default: Default) -> bool | Default:
        """Return the value, or the default where a client sent none.

        Raises:
            InputError: it is neither true nor false.
        """
        if (sent := arguments.text(self.names)) is None:
            return default
        name, text = sent
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise InputError(f"{name} is {text[:_SHOWN]!r}: give true or false.")

    def schema(self, default: bool | None = None) -> dict[str, Any]:
        """Return what OpenAPI says of it."""
        schema: dict[str, Any] = {"type": "boolean", "description": self.about}
        return schema if default is None else {**schema, "default": default}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words; the other attributes are those of :class:`Number`."""

    names: tuple[str, ...]
    words: tuple[str, ...]
    about: str

    def read(self, arguments: Arguments, default: str) -> str:
        """Return the word, or the default where a client sent none.

        Raises:
            InputError: it is none of them; the message has the closest.
        """
        if (sent := arguments.text(self.names)) is None:
            return default
        name, text = sent
        if text in self.words:
            return text
        closest = difflib.get_close_matches(text[:_SHOWN].lower(), self.words, n=1, cutoff=0.5)
        raise InputError(f"{name} is {text[:_SHOWN]!r}: give {' or '.join(closest or self.words)}.")

    def schema(self, default: str) -> dict[str, Any]:
        """Return what OpenAPI says of it."""
        return {
            "type": "string",
            "enum": list(self.words),
            "default": default,
            "description": self.about,
        }


def _schema(kind: str, argument: Number | Whole, default: float | None) -> dict[str, Any]:
    schema = {
        "type": kind,
        "minimum": argument.low,
        "maximum": argument.high,
        "description": argument.about,
    }
    return schema if default is None else {**schema, "default": default}
