"""Reading foreign JSON: every value knows its place, so that an error can name it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from openkeypoints.errors import FormatError

MAX_ID = 9_999
"""Largest class or keypoint id that is believed: one huge number must not fill the memory."""
_LARGEST = 1e37  # sums of a few such numbers still fit a float32
_INT64_MAX = 2**63 - 1
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a JSON document and where it stands.

    Attributes:
        value: what the parser gave.
        path: for example ``roboflow: predictions[2].x``.
    """

    value: Any
    path: str

    def __getitem__(self, key: str) -> Field:
        """Return a member of an object, also where it is absent: the next step then names it."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        joint = " " if self.path.endswith(":") else "."
        return Field(self.value.get(key, _MISSING), f"{self.path}{joint}{key}")

    def has(self, key: str) -> bool:
        """Return whether an object has a member that is not null."""
        return self[key].value not in (None, _MISSING)

    def items(self) -> Iterator[Field]:
        """Yield the entries of a list."""
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        joint = " row" if self.path.endswith(":") else ""
        for i, value in enumerate(self.value):
            yield Field(value, f"{self.path}{joint}[{i}]")

    def members(self) -> Iterator[tuple[str, Field]]:
        """Yield the names and values of an object."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        for key in self.value:
            yield key, self[key]

    def number(self) -> float:
        """Return a finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.wrong("a number")
        if not abs(self.value) <= _LARGEST:
            raise self.wrong("a finite number")
        return float(self.value)

    def numbers(self, count: int) -> list[float]:
        """Return a list of finite numbers of a known length."""
        values = [entry.number() for entry in self.items()]
        if len(values) != count:
            raise self.wrong(f"a list of {count} numbers")
        return values

    def part(self) -> float:
        """Return a number from 0 to 1, such as a score."""
        if not 0 <= self.number() <= 1:
            raise self.wrong("a number from 0 to 1")
        return float(self.value)

    def integer(self, low: int = -_INT64_MAX, high: int = _INT64_MAX) -> int:
        """Return a whole number within bounds (1.0 counts as one)."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.wrong("a whole number")
        if not low <= self.value <= high or self.value != int(self.value):
            raise self.wrong(f"a whole number from {low} to {high}")
        return int(self.value)

    def text(self) -> str:
        """Return a text."""
        if not isinstance(self.value, str):
            raise self.wrong("a text")
        return self.value

    def wrong(self, expected: str) -> FormatError:
        """Return the error that says what stands here and what should."""
        if self.value is _MISSING:
            return FormatError(f"{self.path} is missing; it must be {expected}.")
        shown = repr(self.value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        return FormatError(f"{self.path} is {shown}; it must be {expected}.")


def document(data: Any, name: str) -> Field:
    """Return the root of a document.

    Args:
        data: parsed JSON, or its text.
        name: name of the format, the beginning of every path.

    Raises:
        FormatError: the text is no JSON.
    """
    if isinstance(data, str | bytes):
        try:
            data = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{name}: the text is no JSON: {error}.") from error
    return Field(data, f"{name}:")
