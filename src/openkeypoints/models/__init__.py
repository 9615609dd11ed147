"""The catalogue of models and the one way to load them: :func:`get_model`."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from openkeypoints.errors import InputError, NotFoundError, UnknownModelError, WeightsError
from openkeypoints.models.base import Family, InferOptions, Loading, Model, Variant
from openkeypoints.settings import Settings
from openkeypoints.weights.cards import read_card
from openkeypoints.weights.okp import open_okp

__all__ = [
    "FAMILIES",
    "InferOptions",
    "Model",
    "Variant",
    "find_variant",
    "get_model",
    "list_models",
]

FAMILIES = ("pico",)
"""Names of the families: each is a folder here with a ``FAMILY`` record."""
DEFAULT = "person"
MODEL_SUFFIXES = (".okp",)


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
    rows = {name: v for v in list_models() for name in (v.id, *v.aliases)}
    if model_id in rows:
        return rows[model_id]
    close = difflib.get_close_matches(model_id, rows, n=3, cutoff=0.4) or [DEFAULT]
    raise UnknownModelError(
        f"No model is called {model_id!r} and no file is there; the closest names are "
        f"{', '.join(close)}. `okp models` lists all."
    )


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
        model_id: id of the catalogue, or path of a ``.okp`` file; None is the person model in the
            package.
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
    record, path, view = _locate(DEFAULT if model_id is None else str(model_id))
    loading = Loading(
        settings=settings,
        runtime=runtime,
        device=device,
        precision=precision,
        card=read_card(card),
        keypoints=_names(keypoints),
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
    return record.load(path, view, loading)


def _locate(name: str) -> tuple[Family, Path, str | None]:
    """Return family, file and view of a path or an id; an existing file wins over an id."""
    path = Path(name)
    if path.is_file():
        if path.suffix.lower() not in MODEL_SUFFIXES:
            raise WeightsError(
                f"{path.name} is no model file that this version reads; it reads "
                f"{', '.join(MODEL_SUFFIXES)}."
            )
        return family(str(open_okp(path).model.get("family"))), path, None
    if path.suffix.lower() in MODEL_SUFFIXES:
        raise NotFoundError(f"No model file at {path}.")
    variant = find_variant(name)
    if variant.file is None:
        raise NotFoundError(f"The weights of {variant.id!r} are not here: {variant.source}.")
    return family(variant.family), variant.file, variant.id


def _names(keypoints: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if keypoints is None:
        return None
    return (keypoints,) if isinstance(keypoints, str) else tuple(keypoints)
