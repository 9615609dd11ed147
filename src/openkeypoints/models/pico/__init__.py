"""The pico family: small two-part models, one of them in the package, for anybody's keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from openkeypoints.errors import InputError
from openkeypoints.models.base import Description, Family, Loading, Model
from openkeypoints.models.graphs import open_network
from openkeypoints.models.pico.finder import PicoFinder
from openkeypoints.models.pico.reader import PicoReader
from openkeypoints.models.pico.spec import PicoSpec, spec_from_okp
from openkeypoints.models.pico.variants import VARIANTS
from openkeypoints.models.request import share
from openkeypoints.models.selection import part_of
from openkeypoints.models.topdown import Finder, ModelFinder, TopDown, View
from openkeypoints.runtimes import Artifact, Session
from openkeypoints.weights.okp import OkpFile, open_okp
from openkeypoints.weights.tensors import tensors_from_bytes

if TYPE_CHECKING:
    from torch import nn

SUFFIX = ".okp"
CARD_KEYS = frozenset({"class_names", "confidence", "iou_threshold", "licence"})
"""What a caller's card may change of a pico model."""


def load(path: Path, model_id: str | None, loading: Loading) -> Model:
    """Open a ``.okp`` file of this family as a model.

    Args:
        path: the file.
        model_id: which of its views; an id that its user gave it, and None, take the first.
        loading: runtime, device, precision, card, detector and keypoints that the caller chose.
    """
    file = open_okp(path)
    spec = with_card(spec_from_okp(file), loading)
    _, view = spec.view(model_id if model_id in spec.views else None)
    view = _with_class_names(view, loading)
    if loading.keypoints is not None:
        view = part_of_view(view, loading.keypoints)
    finder: Finder
    if loading.detector is not None:
        finder = ModelFinder(loading.detector, owned=loading.owns_detector)
    else:
        session = _session(file, spec, "detector", loading)
        finder = PicoFinder(session, spec)
    reader = PicoReader(_session(file, spec, "pose", loading), spec)
    description = Description(
        id=model_id or str(path),
        task="keypoint-detection",
        class_names=view.class_names,
        skeletons=view.skeletons,
        input_size=finder.input_size,
        confidence=spec.confidence,
        iou_threshold=spec.iou_threshold,
        licence=spec.licence,
        card=spec.card,
    )
    predictor = TopDown(description.id, view, finder, reader)
    return Model(description, predictor, loading.settings)


def with_card(spec: PicoSpec, loading: Loading) -> PicoSpec:
    """Return the specification with what the caller's card changes.

    Raises:
        InputError: the card has a key that this family does not know.
    """
    card = dict(loading.card)
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
    names = loading.card.get("class_names")
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

    artifact = Artifact(
        onnx=file.read(f"{part}.onnx"),
        name=f"{file.path.name}:{part}",
        torch_module=torch_module,
    )
    return open_network(artifact, loading)


def recognises(path: Path) -> bool:
    """Tell whether a file is a ``.okp`` file of this family."""
    if path.suffix.lower() != SUFFIX or not path.is_file():
        return False
    return open_okp(path).model.get("family") == "pico"


FAMILY = Family("pico", VARIANTS, load, recognises, reads=(SUFFIX,))
