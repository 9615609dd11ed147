"""Catalogue rows of the pico family."""

from __future__ import annotations

from pathlib import Path

from openkeypoints.models.base import Variant

PERSON_FILE = Path(__file__).with_name("person.okp")
PERSON_SHA256 = "c7fc8853e63c812659286340fb2c7821392e4197c5949ab44b0bfe1c386195d2"
PERSON_BYTES = 15_910_964
_CLAIMS: dict[str, dict[str, float | None]] = {
    "person": {
        "fashion17 val OKS AP, given box": 0.838,
        "coco_mini val within 0.1, given box": 0.664,
        "coco_mini val box AP50": 0.490,
        "VOC val box AP50": 0.553,
    },
    "person-19": {
        "LSPET val PCK@0.2, given box": 0.521,
        "LSPET val PCK@0.2, end to end": 0.421,
    },
}
"""Figures of docs/models/person.md, measured by `okp evaluate`."""

VARIANTS = tuple(
    Variant(
        id=name,
        family="pico",
        task="keypoint-detection",
        skeleton=skeleton,
        source="inside the package; trained by this project, see docs/models/person.md",
        licence="Apache-2.0",
        file=PERSON_FILE,
        size_bytes=PERSON_BYTES,
        sha256=PERSON_SHA256,
        claims=_CLAIMS[name],
    )
    for name, skeleton in (("person", "coco17"), ("person-19", "person19"))
)
