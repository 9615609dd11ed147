"""Keypoints from pictures: load a model, run it, draw, convert. ``import openkeypoints as okp``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openkeypoints import errors
    from openkeypoints.drawing import draw
    from openkeypoints.errors import OpenKeypointsError
    from openkeypoints.formats import dump, load, to_supervision
    from openkeypoints.models import InferOptions, Model, get_model, list_models
    from openkeypoints.results import Boxes, Prediction, Skeleton
    from openkeypoints.samples import sample
    from openkeypoints.settings import Settings

__version__ = "0.1.0"

# Name -> the module that has it. Nothing is imported before somebody asks for the name.
_HOMES = {
    "Boxes": "openkeypoints.results",
    "InferOptions": "openkeypoints.models",
    "Model": "openkeypoints.models",
    "OpenKeypointsError": "openkeypoints.errors",
    "Prediction": "openkeypoints.results",
    "Settings": "openkeypoints.settings",
    "Skeleton": "openkeypoints.results",
    "draw": "openkeypoints.drawing",
    "dump": "openkeypoints.formats",
    "get_model": "openkeypoints.models",
    "list_models": "openkeypoints.models",
    "load": "openkeypoints.formats",
    "sample": "openkeypoints.samples",
    "to_supervision": "openkeypoints.formats",
}

__all__ = [
    "Boxes",
    "InferOptions",
    "Model",
    "OpenKeypointsError",
    "Prediction",
    "Settings",
    "Skeleton",
    "__version__",
    "draw",
    "dump",
    "errors",
    "get_model",
    "list_models",
    "load",
    "sample",
    "to_supervision",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("openkeypoints.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'openkeypoints' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
