"""Catalogue rows of the pico family."""

from __future__ import annotations

from pathlib import Path

from openkeypoints.models.base import Variant

PERSON_FILE = Path(__file__).with_name("person.okp")
_CLAIMS: dict[str, float | None] = {}

VARIANTS = tuple(
    Variant(
        id=name,
        family="pico",
        task="keypoint-detection",
        skeleton=skeleton,
        source="inside the package; trained by this project, see docs/model-card-person.md",
        licence="Apache-2.0",
        file=PERSON_FILE,
    )
    for name, skeleton in (("person", "coco17"), ("person-19", "person19"))
)
