"""What ``model.json`` of a pico file says, checked and typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import UnknownModelError, WeightsError
from openkeypoints.models.topdown import View
from openkeypoints.skeletons import skeleton_from_json, skeleton_to_json
from openkeypoints.weights.okp import OkpFile


@dataclass(frozen=True, slots=True)
class PicoSpec:
    """A pico model apart from its weights.

    Attributes:
        views: id -> what of the maps it shows; the first is what a path opens.
        detector_size: (width, height) of the detector's input.
        crop_size: (width, height) of the crops.
        fill: part of the crop that the long side of the box takes.
        flip: (K,) partner of each map in a mirrored crop.
        calibration: mass of the map's four strongest cells -> chance that the point is right, as
            two rows of increasing numbers.
        confidence: default threshold of detections.
        iou_threshold: default of box suppression.
        networks: ``pose`` and ``detector`` -> arguments of their classes.
        licence: of the weights.
        card: facts about origin, training and accuracy.
        size_exponent: how much the size of a box counts in its score; 0 = nothing.
    """

    views: Mapping[str, View]
    detector_size: tuple[int, int]
    crop_size: tuple[int, int]
    fill: float
    flip: tuple[int, ...]
    calibration: NDArray[np.float64]
    confidence: float
    iou_threshold: float
    networks: Mapping[str, Mapping[str, Any]]
    licence: str
    card: Mapping[str, Any]
    size_exponent: float = 0.0

    def view(self, name: str | None) -> tuple[str, View]:
        """Return a view by its id, the first one for None.

        Raises:
            UnknownModelError: the file has no such view.
        """
        chosen = next(iter(self.views)) if name is None else name
        if chosen not in self.views:
            raise UnknownModelError(
                f"The file has no view {name!r}; it has {', '.join(self.views)}."
            )
        return chosen, self.views[chosen]


def spec_from_okp(file: OkpFile) -> PicoSpec:
    """Read the specification of a pico file.

    Raises:
        WeightsError: the file is of another family, or a field is missing or wrong.
    """
    model = file.model
    if model.get("family") != "pico":
        raise WeightsError(f"{file.path.name} holds a {model.get('family')!r}, not a pico model.")
    try:
        return _checked(
            PicoSpec(
                views={str(v["id"]): _view(v["classes"]) for v in model["views"]},
                detector_size=_pair(model["detector"]["input_size"]),
                crop_size=_pair(model["pose"]["input_size"]),
                fill=float(model["pose"]["fill"]),
                flip=tuple(model["pose"]["flip"]),
                calibration=np.array(model["pose"]["calibration"], np.float64),
                confidence=float(model["thresholds"]["confidence"]),
                iou_threshold=float(model["thresholds"]["iou"]),
                networks={part: dict(model[part]["network"]) for part in ("pose", "detector")},
                licence=str(model["licence"]),
                card=dict(model.get("card", {})),
                size_exponent=float(model["detector"].get("size_exponent", 0.0)),
            )
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"model.json in {file.path.name} is incomplete or wrong: {error!r}."
        ) from error


def _checked(spec: PicoSpec) -> PicoSpec:
    """Return a specification whose parts fit each other."""
    count = spec.networks["pose"]["keypoints"]
    if not spec.views:
        raise ValueError("no view")
    if len(spec.flip) != count or sorted(spec.flip) != list(range(count)):
        raise ValueError(f"flip does not exchange {count} maps")
    knots = spec.calibration
    if knots.ndim != 2 or len(knots) != 2 or not knots.size or (np.diff(knots) < 0).any():
        raise ValueError("calibration is no pair of rising rows")
    if not 0 <= spec.size_exponent <= 1:
        raise ValueError(f"size_exponent is {spec.size_exponent}")
    if not 0 < spec.fill <= 1:
        raise ValueError(f"fill is {spec.fill}")
    classes = spec.networks["detector"]["classes"]
    for name, view in spec.views.items():
        if len(view.class_names) != classes:
            raise ValueError(f"view {name!r} has {len(view.class_names)} of {classes} classes")
        if any(not 0 <= i < count for maps in view.maps.values() for i in maps):
            raise ValueError(f"view {name!r} shows a map beyond the {count} that there are")
    return spec


def spec_to_json(spec: PicoSpec) -> dict[str, Any]:
    """Return what :func:`spec_from_okp` reads."""
    return {
        "family": "pico",
        "views": [{"id": name, "classes": _classes(view)} for name, view in spec.views.items()],
        "detector": {
            "input_size": list(spec.detector_size),
            "size_exponent": spec.size_exponent,
            "network": dict(spec.networks["detector"]),
        },
        "pose": {
            "input_size": list(spec.crop_size),
            "fill": spec.fill,
            "flip": list(spec.flip),
            "calibration": spec.calibration.round(4).tolist(),
            "network": dict(spec.networks["pose"]),
        },
        "thresholds": {"confidence": spec.confidence, "iou": spec.iou_threshold},
        "licence": spec.licence,
        "card": dict(spec.card),
    }


def _view(classes: Sequence[Mapping[str, Any]]) -> View:
    maps = {i: tuple(int(m) for m in c["maps"]) for i, c in enumerate(classes)}
    skeletons = {
        i: skeleton_from_json(c["skeleton"]) for i, c in enumerate(classes) if c["skeleton"]
    }
    for i in maps:
        count = len(skeletons[i]) if i in skeletons else 0
        if len(maps[i]) != count:
            raise ValueError(f"class {i}: {len(maps[i])} maps for {count} keypoints")
    return View(tuple(str(c["name"]) for c in classes), skeletons, maps)


def _classes(view: View) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "maps": list(view.maps[i]),
            "skeleton": skeleton_to_json(view.skeletons[i]) if i in view.skeletons else None,
        }
        for i, name in enumerate(view.class_names)
    ]


def _pair(values: Sequence[int]) -> tuple[int, int]:
    width, height = values
    return int(width), int(height)
