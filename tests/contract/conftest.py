"""A small model of each family, and two families that are added as an outsider would."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from openkeypoints.models.catalogue import FAMILIES
from tests.tiny_crops import tiny_heat, tiny_simcc

ADDED = ("tiny_heat", "tiny_simcc")
TINY = ("pico", "yolo", *ADDED)
"""Every family has a small model here."""
SOURCES = Path(__file__).resolve().parents[1] / "families"


class Tiny(NamedTuple):
    """How a small model is opened, and a threshold at which it finds something in noise."""

    path: Path | str
    arguments: dict[str, Any]
    confidence: float = 0.3


@pytest.fixture(scope="session")
def tiny_models(tiny_okp, tiny_pt, tmp_path_factory) -> dict[str, Tiny]:
    """Return how the model of each family is opened, and the packaged one."""
    folder = tmp_path_factory.mktemp("crops")
    person = {"detector": "person"}
    return {
        "person": Tiny("person", {}, 0.003),
        "pico": Tiny(tiny_okp, {}),
        "yolo": Tiny(tiny_pt, {}),
        "tiny_heat": Tiny(tiny_heat(folder / "heat.onnx"), person, 0.003),
        "tiny_simcc": Tiny(tiny_simcc(folder / "simcc.onnx"), person, 0.003),
    }


@pytest.fixture(scope="module")
def added_families(tmp_path_factory) -> Iterator[tuple[str, ...]]:
    """Put two families on the path, and a line for each into the table."""
    folder = tmp_path_factory.mktemp("path")
    for name in ADDED:
        shutil.copytree(SOURCES / name, folder / name)
        FAMILIES[name] = name
    sys.path.insert(0, str(folder))
    yield ADDED
    sys.path.remove(str(folder))
    for name in ADDED:
        del FAMILIES[name]
        for module in [m for m in sys.modules if m.partition(".")[0] == name]:
            del sys.modules[module]
