"""The families and the catalogue of their models: every name that has weights behind it."""

from __future__ import annotations

import difflib
import importlib
from functools import cache
from importlib.metadata import entry_points

from openkeypoints.errors import UnknownModelError, WeightsError
from openkeypoints.models.family import Family, Variant
from openkeypoints.models.spec import DEFAULT

FAMILIES = {
    "pico": "openkeypoints.models.pico",
    "yolo": "openkeypoints.models.yolo",
}
"""Name of a family -> the module with its ``FAMILY`` record. Their order decides nothing."""
ENTRY_POINTS = "openkeypoints.families"
"""Group of entry points by which an installed package adds families: name = module."""


def family(name: str) -> Family:
    """Return the record of a family.

    Raises:
        WeightsError: this version has no such family.
    """
    known = families()
    if name not in known:
        raise WeightsError(
            f"The model is of the family {name!r}, which this version does not know; "
            f"it knows {', '.join(known)}."
        )
    record: Family = importlib.import_module(known[name]).FAMILY
    return record


def families() -> dict[str, str]:
    """Return the modules of all families by name: ours, and those of installed packages."""
    return {**_installed(), **FAMILIES}


@cache
def _installed() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}


def endings() -> list[str]:
    """Return the endings of all files that are read."""
    return list(dict.fromkeys(end for name in families() for end in family(name).reads))


def list_models() -> list[Variant]:
    """Return the catalogue: every named model, in the order of the families."""
    return [variant for name in families() for variant in family(name).variants]


def find_variant(model_id: str) -> Variant:
    """Return a row of the catalogue by its id or alias.

    Raises:
        UnknownModelError: no such model; the closest names are listed.
    """
    if (row := variants().get(model_id)) is None:
        raise unknown_model(model_id)
    return row


def variants() -> dict[str, Variant]:
    """Return the rows of the catalogue by each of their names."""
    return {name: v for v in list_models() for name in (v.id, *v.aliases)}


def unknown_model(model_id: str) -> UnknownModelError:
    """Return the error for a name that nothing has, with the closest ones."""
    close = difflib.get_close_matches(model_id, variants(), n=3, cutoff=0.4) or [DEFAULT]
    return UnknownModelError(
        f"No model is called {model_id!r} and no file is there; the closest names are "
        f"{', '.join(close)}. `okp models` lists all."
    )
