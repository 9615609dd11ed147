"""Catalogue rows of the pico family."""

from __future__ import annotations

from pathlib import Path

from openkeypoints.models.family import Variant

PERSON_FILE = Path(__file__).with_name("person.okp")
PERSON_SHA256 = "fc3eb5024a90686d4dc762eb9823eb4156a1be0fb4e576e17d4cedbd16f5e805"
PERSON_BYTES = 15_910_984
_CLAIMS: dict[str, dict[str, float | None]] = {
    "person": {
        "fashion17 val OKS AP, given box": 0.843,
        "coco_mini val within 0.1, given box": 0.662,
        "coco_mini val box AP50": 0.516,
        "VOC val box AP50": 0.612,
    },
    "person-19": {
        "LSPET val PCK@0.2, given box": 0.554,
        "LSPET val PCK@0.2, end to end": 0.492,
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
