"""Trained pico networks as one ``.okp`` file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from openkeypoints.models.graphs.halves import with_half_weights
from openkeypoints.models.graphs.tracer import trace
from openkeypoints.models.pico.network import build
from openkeypoints.models.pico.spec import PicoSpec, spec_to_json
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
        members[f"{part}.onnx"] = _graph(module, size)
    write_okp(path, spec_to_json(spec), members)


def _graph(module: torch.nn.Module, size: tuple[int, int]) -> bytes:
    """Return a part as ONNX with free batch, height and width, its convolutions in 16 bits.

    Args:
        module: maps uint8 pictures (N, H, W, 3) to a dict of maps (N, C, h, w).
        size: (width, height) of the picture that it is traced with.
    """
    picture = torch.zeros((1, size[1], size[0], 3), dtype=torch.uint8)
    with torch.no_grad():
        names = list(module(picture))
    free = {"images": {0: "n", 1: "h", 2: "w"}}
    free |= {name: {0: "n", 2: f"{name}_h", 3: f"{name}_w"} for name in names}
    return with_half_weights(trace(module, {"images": picture}, outputs=names, free=free))
