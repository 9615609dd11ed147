"""The pico family: small two-part models, one of them in the package, for anybody's keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from openkeypoints.errors import InputError
from openkeypoints.models.facts import Claim, FileFacts
from openkeypoints.models.family import Family, Loading, OpenedReader
from openkeypoints.models.pico.detector import PicoDetector
from openkeypoints.models.pico.reader import PicoReader
from openkeypoints.models.pico.spec import PicoSpec, spec_from_okp
from openkeypoints.models.pico.variants import VARIANTS
from openkeypoints.models.request import share
from openkeypoints.models.selection import part_of
from openkeypoints.models.topdown import View
from openkeypoints.runtimes import Artifact, Session
from openkeypoints.weights.okp import OkpFile
from openkeypoints.weights.tensors import tensors_from_bytes

if TYPE_CHECKING:
    from torch import nn

SUFFIX = ".okp"
CARD_KEYS = frozenset({"class_names", "confidence", "family", "iou_threshold", "licence"})
"""What a caller's card may change of a pico model."""


def open_detector(facts: FileFacts, loading: Loading) -> PicoDetector:
    """Open the detector of a ``.okp`` file of this family."""
    file = OkpFile(facts.path, facts.record)
    spec, view = _described(file, loading)
    session = _session(file, spec, "detector", loading)
    return PicoDetector(session, spec, loading.name or str(facts.path), view.class_names)


def open_reader(facts: FileFacts, loading: Loading) -> OpenedReader:
    """Open the keypoint network of a ``.okp`` file of this family."""
    file = OkpFile(facts.path, facts.record)
    spec, view = _described(file, loading)
    if loading.spec.keypoints is not None:
        view = part_of_view(view, loading.spec.keypoints)
    reader = PicoReader(_session(file, spec, "pose", loading), spec)
    return OpenedReader(reader, view, spec.licence, spec.card)


def card(facts: FileFacts, loading: Loading) -> dict[str, Any]:
    """Return a card that says of a file what a card may change of it."""
    spec, view = _described(OkpFile(facts.path, facts.record), loading)
    return {
        "family": "pico",
        "class_names": list(view.class_names),
        "confidence": spec.confidence,
        "iou_threshold": spec.iou_threshold,
        "licence": spec.licence,
    }


def _described(file: OkpFile, loading: Loading) -> tuple[PicoSpec, View]:
    """Return what a file says, and the view that was asked for: by its id, else the first."""
    spec = with_card(spec_from_okp(file), loading)
    _, view = spec.view(loading.name if loading.name in spec.views else None)
    return spec, _with_class_names(view, loading)


def with_card(spec: PicoSpec, loading: Loading) -> PicoSpec:
    """Return the specification with what the caller's card changes.

    Raises:
        InputError: the card has a key that this family does not know.
    """
    card = loading.spec.card
    if unknown := sorted(card.keys() - CARD_KEYS):
        raise InputError(
            f"card has {unknown[0]!r}, which a pico model does not take; "
            f"it takes {', '.join(sorted(CARD_KEYS))}."
        )
    return replace(
        spec,
        confidence=share("confidence", card.get("confidence", spec.confidence)),
        iou_threshold=share("iou_threshold", card.get("iou_threshold", spec.iou_threshold)),
        licence=str(card.get("licence", spec.licence)),
    )


def _with_class_names(view: View, loading: Loading) -> View:
    names = loading.spec.card.get("class_names")
    if names is None:
        return view
    if not isinstance(names, list | tuple) or len(names) != len(view.class_names):
        raise InputError(
            f"card has class_names {names!r}: give a list of {len(view.class_names)} names, one "
            "for each class of the model."
        )
    return replace(view, class_names=tuple(str(n) for n in names))


def part_of_view(view: View, keypoints: Sequence[str]) -> View:
    """Return a view of some keypoints; see ``selection.part_of``."""
    skeletons, rows = part_of(view.skeletons, keypoints)
    maps = {
        class_id: tuple(view.maps[class_id][i] for i in kept) for class_id, kept in rows.items()
    }
    return View(view.class_names, skeletons, {**view.maps, **maps})


def _session(file: OkpFile, spec: PicoSpec, part: str, loading: Loading) -> Session:
    def torch_module() -> nn.Module:
        # torch is loaded only where the torch runtime runs the model.
        from openkeypoints.models.pico.network import build  # noqa: PLC0415

        name = f"{part}.safetensors"
        return build(part, spec.networks[part], tensors_from_bytes(file.read(name), name))

    return loading.session(
        Artifact(
            onnx=file.read(f"{part}.onnx"),
            name=f"{file.path.name}:{part}",
            torch_module=torch_module,
        )
    )


def claims(facts: FileFacts) -> Claim | None:
    """Claim the ``.okp`` files whose record says so."""
    own = facts.kind == "okp" and facts.record.get("family") == "pico"
    return Claim(True, "a .okp file of the family pico") if own else None


FAMILY = Family(
    "pico",
    VARIANTS,
    reads=(SUFFIX,),
    claims=claims,
    detector=open_detector,
    reader=open_reader,
    card=card,
)
