"""Trained pico networks as one ``.okp`` file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from openkeypoints.models.pico.network import build
from openkeypoints.models.pico.spec import PicoSpec, spec_to_json
from openkeypoints.models.tracing import graph_from_module
from openkeypoints.weights.okp import write_okp
from openkeypoints.weights.tensors import Arrays, bytes_from_tensors


def write_pico(path: Path, spec: PicoSpec, weights: Mapping[str, Arrays]) -> None:
    """Write a pico file whose graphs and tensors hold the same rounded weights.

    Convolutions are rounded to 16 bits; the few numbers of normalisations stay exact.

    Args:
        path: the ``.okp`` file.
        spec: everything but the weights.
        weights: ``pose`` and ``detector`` -> name -> array.
    """
    members = {}
    for part, tensors in weights.items():
        rounded = {k: v.astype(np.float16) if v.ndim == 4 else v for k, v in tensors.items()}
        members[f"{part}.safetensors"] = bytes_from_tensors(rounded)
        size = spec.crop_size if part == "pose" else spec.detector_size
        module = build(part, spec.networks[part], rounded)
        members[f"{part}.onnx"] = graph_from_module(module, size)
    write_okp(path, spec_to_json(spec), members)
