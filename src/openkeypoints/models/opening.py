"""The one way from a specification to a loaded model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from openkeypoints.errors import InputError, NotFoundError, WeightsError
from openkeypoints.models.base import Description, Model
from openkeypoints.models.catalogue import endings, families, family, unknown_model, variants
from openkeypoints.models.facts import FileFacts, read_facts, unclaimed
from openkeypoints.models.family import Family, Loading
from openkeypoints.models.spec import ModelSpec
from openkeypoints.models.topdown import Detector, ModelDetector, TopDown, detector_of
from openkeypoints.settings import Settings
from openkeypoints.weights import OWNERS_LICENCE, WeightRef, cached, check_licence, fetch
from openkeypoints.weights.safe import read_pickle

MODEL_ID = re.compile(r"[\w-][\w.-]*", re.ASCII)
ROBOFLOW_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
"""Two segments: a project and a version, or a workspace and a model."""


def open_model(
    spec: ModelSpec,
    settings: Settings,
    *,
    detector: Model | None = None,
    name: str | None = None,
    files: bool = True,
) -> Model:
    """Open a model.

    Args:
        spec: what and how.
        settings: cache folder, keys, limits, threads.
        detector: a loaded model whose boxes are taken in place of those of ``spec.detector``; it
            stays open when the model is closed.
        name: what the model is called; default: its id in the catalogue, or its path.
        files: False takes ``spec.model`` for a name alone, whatever lies at a path of that name:
            for names that come from other people.

    Raises:
        OpenKeypointsError: see ``get_model``.
    """
    found = locate(spec, settings, files=files)
    loading = Loading(spec, settings, name or found.id, found.licence)
    with ExitStack() as undo:
        if found.family.model is None:
            model = _top_down(found, loading, detector, undo)
        elif detector is not None or spec.detector is not None:
            raise InputError(
                f"detector is for models that read crops: a {found.family.name} model finds its "
                "instances itself."
            )
        else:
            model = found.family.model(found.facts, loading)
            undo.callback(model.close)
        check_licence(model.id, model.licence, settings)
        undo.pop_all()
    return model


def open_detector(spec: ModelSpec, settings: Settings) -> Detector:
    """Open what finds the boxes of a model, and nothing else of it.

    Raises:
        InputError: the model finds no boxes itself.
        OpenKeypointsError: see ``get_model``.
    """
    if spec.detector is not None:
        return open_detector(spec.detector, settings)
    found = locate(spec, settings)
    if found.family.model is not None:
        return ModelDetector(open_model(spec, settings))
    if found.family.detector is None:
        raise InputError(
            f"{spec.model!r} reads the keypoints of given boxes and finds none itself: name a "
            "detector."
        )
    opened = found.family.detector(found.facts, Loading(spec, settings, found.id, found.licence))
    with ExitStack() as undo:
        undo.callback(opened.close)
        check_licence(opened.id, opened.licence, settings)
        undo.pop_all()
    return opened


def derived_card(spec: ModelSpec, settings: Settings) -> Mapping[str, Any]:
    """Return what was found out about a file, as a card for it; its family alone, at the least.

    Raises:
        OpenKeypointsError: see ``get_model``.
    """
    found = locate(spec, settings)
    if found.family.card is None:
        return {"family": found.family.name}
    return found.family.card(found.facts, Loading(spec, settings, found.id, found.licence))


def _top_down(found: Located, loading: Loading, lent: Model | None, undo: ExitStack) -> Model:
    """Join the crop network of a file with a detector: one that was named, or the file's own."""
    if found.family.reader is None:
        raise WeightsError(
            f"The family {found.family.name} has nothing that opens {found.facts.path}."
        )
    reader, view, licence, card = found.family.reader(found.facts, loading)
    undo.callback(reader.close)
    detector: Detector | None = None
    if lent is not None:
        detector = detector_of(lent)
    elif loading.spec.detector is not None:
        detector = open_detector(loading.spec.detector, loading.settings)
    elif found.family.detector is not None:
        detector = found.family.detector(found.facts, loading)
    if detector is not None and lent is None:
        undo.callback(detector.close)
    name = loading.name or str(found.facts.path)
    predictor = TopDown(name, view, detector, reader, owns_detector=lent is None)
    description = Description(
        id=name,
        task="keypoint-detection",
        class_names=view.class_names,
        skeletons=view.skeletons,
        input_size=reader.crop.size if detector is None else detector.input_size,
        confidence=0.0 if detector is None else detector.confidence,
        iou_threshold=1.0 if detector is None else detector.iou_threshold,
        licence=licence,
        card=card,
    )
    return Model(description, predictor, loading.settings)


@dataclass(frozen=True, slots=True)
class Located:
    """Where the weights of a model are, and whose they are.

    Attributes:
        family: that reads them.
        facts: of the file or folder.
        id: of the catalogue, or the name that it was asked for; None for a path.
        licence: as the catalogue says, None where only the file may know.
    """

    family: Family
    facts: FileFacts
    id: str | None = None
    licence: str | None = None


def locate(spec: ModelSpec, settings: Settings, *, files: bool = True) -> Located:
    """Find the weights of a path or a name; an existing file wins over a name.

    What has a name and is not here is fetched.

    Args:
        spec: names the model; its card may name the family.
        settings: cache folder, key, allowed licences.
        files: False takes the model for a name alone, whatever lies at a path of that name.

    Raises:
        UnknownModelError, NotFoundError: no such id or file.
        DownloadError, OfflineError, LicenceError: see ``weights.fetch``.
        WeightsError: the file is of no family that this version knows, or of two.
    """
    name, path = spec.model, Path(spec.model)
    if files and _goes_before(path, name):
        return _recognised(path, spec)
    if (row := variants().get(name)) is None:
        return _from_owner(name, spec, settings)
    if row.file is not None:
        check_licence(row.id, row.licence, settings)
    found = row.file or fetch(row.id, row.refs, settings, licence=row.licence)
    return replace(_recognised(found, spec), id=row.id, licence=row.licence)


def from_folder(spec: ModelSpec, folder: Path) -> ModelSpec:
    """Return a specification whose paths were written for a folder, with paths from here."""
    inside = folder / spec.model
    return replace(
        spec,
        model=str(inside) if _goes_before(inside, spec.model) else spec.model,
        detector=None if spec.detector is None else from_folder(spec.detector, folder),
    )


def _goes_before(path: Path, name: str) -> bool:
    """Tell whether what lies at a path goes before what the catalogue calls so.

    A file does; a folder that is no model, of pictures perhaps, goes before no model.
    """
    return path.is_file() or (path.is_dir() and (name not in variants() or is_model_folder(path)))


def _from_owner(name: str, spec: ModelSpec, settings: Settings) -> Located:
    """Return a model that is in no catalogue: registered by the user, or somebody's at Roboflow."""
    path = Path(name)
    if path.suffix.lower() in endings():
        raise NotFoundError(f"No model file at {path}.")
    if ROBOFLOW_ID.fullmatch(name):
        found = fetch(name, (WeightRef("roboflow", name),), settings, licence=OWNERS_LICENCE)
        return replace(_recognised(found, spec), id=name, licence=OWNERS_LICENCE)
    if MODEL_ID.fullmatch(name) is None or (registered := cached(name, (), settings)) is None:
        raise unknown_model(name)
    return replace(_recognised(registered, spec), id=name)


def _recognised(path: Path, spec: ModelSpec) -> Located:
    facts = read_facts(path)
    return Located(family_of(facts, spec.card), facts)


def family_of(facts: FileFacts, card: Mapping[str, Any]) -> Family:
    """Return whose file it is: as its own record or the card says, else by the surest claim.

    Raises:
        InputError: the card names a family that this version does not know, or another than the
            record that we ourselves wrote.
        WeightsError: nobody claims the file, or two do and are equally sure.
    """
    if "family" in card:
        return _named_in_card(card["family"], facts)
    if "family" in facts.record or facts.kind == "okp":
        return family(str(facts.record.get("family")))
    claims = {name: claim for name in families() if (claim := family(name).claims(facts))}
    best = {n: c for n, c in claims.items() if c.sure} or claims
    if len(best) == 1:
        return family(next(iter(best)))
    if best:
        words = " and ".join(f"{name} ({best[name].reason})" for name in sorted(best))
        raise WeightsError(
            f"{facts.path.name} could be of the families {words}: say which in a card, "
            f"'family: {min(best)}'."
        )
    if facts.kind == "pickle":
        # A damaged or unsafe file looks like none of a family: its reader says what is wrong.
        read_pickle(facts.path)
    raise unclaimed(facts, endings())


def _named_in_card(name: object, facts: FileFacts) -> Family:
    if not isinstance(name, str) or name not in families():
        raise InputError(
            f"card has family {name!r}, which this version does not know; "
            f"it knows {', '.join(sorted(families()))}."
        )
    if (own := facts.record.get("family", name)) != name:
        raise InputError(
            f"card has family {name!r}, but {facts.path.name} was written as {own!r}: leave it out."
        )
    return family(name)


def is_model_folder(path: Path) -> bool:
    """Tell whether a folder is a model, whatever in the catalogue has its name too."""
    facts = read_facts(path)
    return "family" in facts.record or any(family(name).claims(facts) for name in families())
