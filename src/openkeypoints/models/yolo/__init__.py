"""The YOLO family: v8, 11 and 26 checkpoints and exports, for pose, detection and segmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from openkeypoints.errors import InputError
from openkeypoints.models.base import Description, Model
from openkeypoints.models.facts import Claim, FileFacts
from openkeypoints.models.family import ExportGraph, Family, Loading
from openkeypoints.models.selection import part_of
from openkeypoints.models.yolo import checkpoint, exports
from openkeypoints.models.yolo.cards import card_of, with_card
from openkeypoints.models.yolo.conversion import Conversion
from openkeypoints.models.yolo.predictor import YoloPredictor
from openkeypoints.models.yolo.record import spec_to_json
from openkeypoints.models.yolo.spec import Head, YoloSpec
from openkeypoints.models.yolo.variants import VARIANTS
from openkeypoints.runtimes import Artifact


def claims(facts: FileFacts) -> Claim | None:
    """Claim checkpoints that name the vendor's classes, its exports, packages, and what fits."""
    return checkpoint.claims(facts) or exports.claims(facts)


def load(facts: FileFacts, loading: Loading) -> Model:
    """Open a checkpoint or an export as a model.

    Args:
        facts: of the file or folder.
        loading: runtime, device, precision, card and keypoints that the caller chose.
    """
    spec, artifact = _read(facts, loading)
    if loading.spec.keypoints is not None:
        spec = _with_part(spec, loading.spec.keypoints)
    name = loading.name or str(facts.path)
    predictor = YoloPredictor(spec, lambda head: loading.session(artifact(head)), name)
    return Model(_description(name, spec), predictor, loading.settings)


def card(facts: FileFacts, loading: Loading) -> dict[str, Any]:
    """Return a card that says of a file what was found out about it."""
    return card_of(_read(facts, loading)[0])


def _read(facts: FileFacts, loading: Loading) -> tuple[YoloSpec, Callable[[Head], Artifact]]:
    """Return what a file says, the caller's card applied, and what makes the graph of a head."""
    asked, path = loading.spec.card, facts.path
    artifact: Callable[[Head], Artifact]
    if facts.kind != "pickle":
        spec, graph = exports.read_export(path, asked, facts.graph)
        artifact = lambda _: graph  # noqa: E731  # as short as what it says
    else:
        converted = Conversion(path, loading.settings)
        spec = with_card(converted.spec, asked)
        artifact = lambda head: Artifact(converted.graph(head), f"{path.name}:{head}")  # noqa: E731
    if loading.licence is not None:
        spec = replace(spec, licence=loading.licence)
    return spec, artifact


def export(facts: FileFacts, loading: Loading, precision: str) -> ExportGraph:
    """Return the default head of a checkpoint as the graph of an export.

    Args:
        facts: of the checkpoint.
        loading: settings, and the card that the artefact takes over.
        precision: of the stored weights, ``f32`` or ``fp16``.

    Raises:
        InputError: it is an export already.
    """
    path = facts.path
    if facts.kind != "pickle":
        raise InputError(f"{path.name} is an export already: name the checkpoint it was made from.")
    converted = Conversion(path, loading.settings)
    spec = with_card(converted.spec, loading.spec.card)
    head = next(iter(spec.outputs))
    plain = replace(
        spec, input=replace(spec.input, threshold=""), outputs={head: spec.outputs[head]}
    )
    record = spec_to_json(plain)
    return ExportGraph(converted.export(head, half=precision == "fp16"), record)


def _with_part(spec: YoloSpec, keypoints: Sequence[str]) -> YoloSpec:
    skeletons, rows = part_of(spec.skeletons, keypoints)
    return replace(spec, skeletons=skeletons, rows=rows)


def _description(name: str, spec: YoloSpec) -> Description:
    return Description(
        id=name,
        task=spec.task,
        class_names=spec.class_names,
        skeletons=spec.skeletons,
        input_size=spec.input.size,
        confidence=spec.confidence,
        iou_threshold=spec.iou_threshold,
        licence=spec.licence,
        card=spec.card,
    )


FAMILY = Family(
    "yolo",
    VARIANTS,
    reads=(".pt", ".onnx", ".xml"),
    claims=claims,
    model=load,
    card=card,
    export=export,
)
