"""The catalogue of models and the one way to load them: :func:`get_model`."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from openkeypoints.errors import (
    InputError,
    LicenceError,
    NotFoundError,
    UnknownModelError,
    WeightsError,
)
from openkeypoints.models.base import Family, Loading, Model, Variant
from openkeypoints.models.request import InferOptions, Request
from openkeypoints.settings import Settings
from openkeypoints.weights import OWNERS_LICENCE, WeightRef, cached, check_licence, fetch
from openkeypoints.weights.cards import read_card
from openkeypoints.weights.okp import open_okp
from openkeypoints.weights.safe import read_pickle

__all__ = [
    "FAMILIES",
    "InferOptions",
    "Located",
    "Model",
    "Request",
    "Variant",
    "find_variant",
    "get_model",
    "list_models",
    "locate",
]

FAMILIES = ("pico", "yolo")
"""Names of the families: each is a folder here with a ``FAMILY`` record."""
DEFAULT = "person"
OKP_SUFFIX = ".okp"
PICKLED = (".pt", ".pth", ".ckpt")
MODEL_ID = re.compile(r"[\w-][\w.-]*", re.ASCII)
ROBOFLOW_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
"""Two segments: a project and a version, or a workspace and a model."""


def family(name: str) -> Family:
    """Return the record of a family.

    Raises:
        WeightsError: this version has no such family.
    """
    if name not in FAMILIES:
        raise WeightsError(
            f"The model is of the family {name!r}, which this version does not know; "
            f"it knows {', '.join(FAMILIES)}."
        )
    record: Family = importlib.import_module(f"{__name__}.{name}").FAMILY
    return record


def list_models() -> list[Variant]:
    """Return the catalogue: every named model, in the order of the families."""
    return [variant for name in FAMILIES for variant in family(name).variants]


def find_variant(model_id: str) -> Variant:
    """Return a row of the catalogue by its id or alias.

    Raises:
        UnknownModelError: no such model; the closest names are listed.
    """
    if (row := _variants().get(model_id)) is None:
        raise _unknown(model_id)
    return row


def _unknown(model_id: str) -> UnknownModelError:
    close = difflib.get_close_matches(model_id, _variants(), n=3, cutoff=0.4) or [DEFAULT]
    return UnknownModelError(
        f"No model is called {model_id!r} and no file is there; the closest names are "
        f"{', '.join(close)}. `okp models` lists all."
    )


def _variants() -> dict[str, Variant]:
    return {name: v for v in list_models() for name in (v.id, *v.aliases)}


def get_model(  # noqa: PLR0913  # arch: signature of the specification
    model_id: str | Path | None = None,
    *,
    card: Mapping[str, Any] | str | Path | None = None,
    detector: str | Path | Model | None = None,
    keypoints: str | Iterable[str] | None = None,
    api_key: str | None = None,
    runtime: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    settings: Settings | None = None,
) -> Model:
    """Load a model.

    Args:
        model_id: id of the catalogue; path of a checkpoint, an export or a model folder; id of a
            model of yours at Roboflow, ``project/3``. None is the person model in the package.
        card: what a bare file cannot say, as a dict or a JSON or YAML file.
        detector: finds the instances in place of the model's own detector: a model, or an id or
            path that is opened on the same device.
        keypoints: name of a group, or names of keypoints: only these are computed.
        api_key: key of a Roboflow account; default: the environment's.
        runtime: ``openvino``, ``onnxruntime``, ``torch``; ``auto`` is the fastest that is
            installed and can run the model.
        device: ``auto``, ``cpu``, ``cuda:N``, ``mps``.
        precision: ``f32``, ``bf16``, ``int8``; ``auto`` is bf16 where the CPU has units for it.
        settings: cache folder, limits, threads; default: the environment's.

    Raises:
        UnknownModelError: no such id or file.
        DownloadError, OfflineError: the weights are not here and do not come.
        LicenceError: the settings do not allow the licence of the weights.
        WeightsError: the file cannot be used.
        InputError: a choice that does not exist or that the model cannot honour.
        RuntimeUnavailableError, MissingExtraError: the runtime is not here.

    Example:
        >>> model = get_model("person")
        >>> model.skeletons[0].name
        'coco17'
    """
    settings = settings or Settings.from_env()
    if api_key is not None:
        settings = replace(settings, api_key=api_key)
    found = locate(DEFAULT if model_id is None else str(model_id), settings)
    loading = Loading(
        settings=settings,
        runtime=runtime,
        device=device,
        precision=precision,
        card=read_card(card),
        keypoints=_names(keypoints),
        licence=found.licence,
    )
    if isinstance(detector, Model):
        loading = replace(loading, detector=detector)
    elif isinstance(detector, str | Path):
        finder = get_model(detector, device=device, settings=settings)
        loading = replace(loading, detector=finder, owns_detector=True)
    elif detector is not None:
        raise InputError(
            f"detector is a {type(detector).__name__}: give an id, a path or a loaded model."
        )
    model = found.family.load(found.path, found.id, loading)
    try:
        check_licence(model.id, model.licence, settings)
    except LicenceError:
        model.close()
        raise
    return model


@dataclass(frozen=True, slots=True)
class Located:
    """Where the weights of a model are.

    Attributes:
        family: that reads them.
        path: the file or folder.
        id: of the catalogue, or the name that it was asked for; None for a path.
        licence: as the catalogue says, None where only the file may know.
    """

    family: Family
    path: Path
    id: str | None = None
    licence: str | None = None


def locate(name: str, settings: Settings, *, files: bool = True) -> Located:
    """Find the weights of a path or a name; an existing file wins over a name.

    What has a name and is not here is fetched.

    Args:
        name: path, or id or alias of the catalogue, or id of a model at Roboflow.
        settings: cache folder, key, allowed licences.
        files: False takes it for a name alone, whatever lies at a path of that name: for names
            that come from other people.

    Raises:
        UnknownModelError, NotFoundError: no such id or file.
        DownloadError, OfflineError, LicenceError: see ``weights.fetch``.
        WeightsError: the file is of no family that this version knows.
    """
    path = Path(name)
    if files and path.is_file():
        return Located(_family_of(path), path)
    if files and path.is_dir() and (record := _recognise(path)) is not None:
        return Located(record, path)
    if (row := _variants().get(name)) is None:
        return _from_owner(name, settings, files=files)
    if row.file is not None:
        check_licence(row.id, row.licence, settings)
        return Located(family(row.family), row.file, row.id, row.licence)
    found = fetch(row.id, row.refs, settings, licence=row.licence)
    return Located(_family_of(found), found, row.id, row.licence)


def _from_owner(name: str, settings: Settings, *, files: bool) -> Located:
    """Return a model that is in no catalogue: registered by the user, or somebody's at Roboflow."""
    path = Path(name)
    if files and path.is_dir():
        raise WeightsError(f"The folder {name} holds no model that this version reads.")
    if path.suffix.lower() in _suffixes():
        raise NotFoundError(f"No model file at {path}.")
    if ROBOFLOW_ID.fullmatch(name):
        found = fetch(name, (WeightRef("roboflow", name),), settings, licence=OWNERS_LICENCE)
        return Located(_family_of(found), found, name, OWNERS_LICENCE)
    if MODEL_ID.fullmatch(name) is None or (registered := cached(name, (), settings)) is None:
        raise _unknown(name)
    return Located(_family_of(registered), registered, name)


def _family_of(path: Path) -> Family:
    if (record := _recognise(path)) is not None:
        return record
    if path.suffix.lower() == OKP_SUFFIX:
        # It names a family that is not here: that error says more.
        return family(str(open_okp(path).model.get("family")))
    if path.suffix.lower() in PICKLED:
        # A damaged or unsafe file looks like none of a family: its reader says what is wrong.
        read_pickle(path)
    raise WeightsError(
        f"{path.name} is no model file that this version reads; it reads {', '.join(_suffixes())}."
    )


def _recognise(path: Path) -> Family | None:
    return next((f for f in map(family, FAMILIES) if f.recognises(path)), None)


def _suffixes() -> list[str]:
    return [suffix for name in FAMILIES for suffix in family(name).reads]


def _names(keypoints: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if keypoints is None:
        return None
    return (keypoints,) if isinstance(keypoints, str) else tuple(keypoints)
