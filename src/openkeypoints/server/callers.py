"""Who calls: the caller of a request and what it may do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Scope = Literal["infer", "admin", "metrics"]
SCOPES: tuple[Scope, ...] = ("infer", "admin", "metrics")


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may do something here.

    Attributes:
        key_id: id of the key, None for callers without one.
        scopes: what it may do; ``admin`` includes ``metrics``.
        roboflow_key: key that Roboflow may be asked with on its behalf.
    """

    key_id: str | None
    scopes: frozenset[str]
    roboflow_key: str | None = field(default=None, repr=False)

    def may(self, scope: str) -> bool:
        """Tell whether it may do what a scope covers."""
        return scope in self.scopes or (scope == "metrics" and "admin" in self.scopes)
