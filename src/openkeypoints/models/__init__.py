"""Models: the catalogue of names, and the front of the one opener, :func:`get_model`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from openkeypoints.errors import InputError
from openkeypoints.models.base import Model
from openkeypoints.models.catalogue import FAMILIES, families, family, find_variant, list_models
from openkeypoints.models.family import Variant
from openkeypoints.models.opening import open_model
from openkeypoints.models.request import InferOptions, Request
from openkeypoints.models.spec import DEFAULT, ModelSpec, names_of
from openkeypoints.settings import Settings
from openkeypoints.weights.cards import read_card

__all__ = [
    "FAMILIES",
    "InferOptions",
    "Model",
    "ModelSpec",
    "Request",
    "Variant",
    "families",
    "family",
    "find_variant",
    "get_model",
    "list_models",
    "open_model",
]


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
    if not isinstance(detector, str | Path | Model | None):
        raise InputError(
            f"detector is a {type(detector).__name__}: give an id, a path or a loaded model."
        )
    named = None
    if isinstance(detector, str | Path):
        named = ModelSpec(str(detector), device=device)
    spec = ModelSpec(
        DEFAULT if model_id is None else str(model_id),
        read_card(card),
        named,
        names_of(keypoints),
        runtime,
        device,
        precision,
    )
    return open_model(spec, settings, detector=detector if isinstance(detector, Model) else None)
