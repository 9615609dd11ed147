"""YOLO checkpoints that are small, seeded and quick, in the layout that training writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.models.yolo.layers import read_network
from tests.pickled import Global, Thing, module, parameter, tensor, write_checkpoint
from tests.yolo_yamls import random_tensors, yolo_yaml

SIZE = 64
WIDTH = 0.015625
DEPTH = 0.33
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_NETWORKS = {"pose": "PoseModel", "detect": "DetectionModel", "segment": "SegmentationModel"}
_LEAVES = {
    "conv": "torch.nn.modules.conv.Conv2d",
    "bn": "torch.nn.modules.batchnorm.BatchNorm2d",
    "upsample": "torch.nn.modules.conv.ConvTranspose2d",
}
_LIST = "torch.nn.modules.container.Sequential"
_ACTIVATIONS = {
    "SiLU": "torch.nn.modules.activation.SiLU",
    "Identity": "torch.nn.modules.linear.Identity",
}


def tiny_yolo(
    path: Path,
    *,
    family: str = "v8",
    task: str = "pose",
    nc: int = 1,
    kpt_shape: tuple[int, int] = (2, 3),
    seed: int = 0,
) -> Path:
    """Write a checkpoint of random numbers that still finds something, for 64 px pictures.

    Args:
        path: the file.
        family: ``v8``, ``v8-p6``, ``11`` or ``26``.
        task: ``pose``, ``detect`` or ``segment``.
        nc: number of classes.
        kpt_shape: (K, D) of pose.
        seed: of the numbers.
    """
    points = list(kpt_shape) if task == "pose" else None
    yaml = yolo_yaml(family, task, nc=nc, kpt_shape=points, width=WIDTH, depth=DEPTH)
    described = read_network(yaml)
    attributes = {
        "yaml": yaml,
        "names": {i: f"thing{i}" for i in range(nc)},
        "stride": tensor(np.float32(described.strides)),
        "nc": nc,
        "task": task,
        "args": {"imgsz": SIZE, "task": task},
        **({"kpt_shape": points} if points else {}),
    }
    network = module(
        f"ultralytics.nn.tasks.{_NETWORKS[task]}", children={"model": _rows(yaml)}, **attributes
    )
    for name, array in random_tensors(yaml, seed).items():
        _put(network, name, array)
    for conv in described.convolutions():
        if conv.kind == "unit":
            unit = _at(network, conv.path.split("."))
            unit.kind = Global("ultralytics.nn.modules.conv", "Conv")
            unit.state["_modules"]["act"] = module(_ACTIVATIONS[conv.activation])
    return write_checkpoint(
        path,
        {
            "date": "2026-01-01T00:00:00",
            "version": "8.4.0",
            "license": "Apache-2.0",
            "epoch": -1,
            "best_fitness": None,
            "ema": None,
            "model": network,
            "optimizer": None,
            "train_args": {"imgsz": SIZE, "task": task, "epochs": 1},
        },
        stem=path.stem,
    )


def _rows(yaml: dict[str, Any]) -> Thing:
    """Return the list of the network's rows, those without numbers included."""
    kinds = [row[2] for row in yaml["backbone"] + yaml["head"]]
    return module(_LIST, children={str(i): module(_row(kind)) for i, kind in enumerate(kinds)})


def _row(kind: str) -> str:
    if kind == "nn.Upsample":
        return "torch.nn.modules.upsampling.Upsample"
    home = "conv" if kind in ("Conv", "Concat") else "block"
    home = "head" if kind.startswith(("Pose", "Detect", "Segment")) else home
    return f"ultralytics.nn.modules.{home}.{kind}"


def _at(node: Thing, path: list[str]) -> Thing:
    for part in path:
        children = node.state["_modules"]
        node = children.setdefault(part, module(_LEAVES.get(part, _LIST)))
    return node


def _put(network: Thing, name: str, array: NDArray[np.float32]) -> None:
    """Add a tensor where its name says, in the type that training saves."""
    *path, leaf = name.split(".")
    state = _at(network, path).state
    if leaf == "num_batches_tracked":
        state["_buffers"][leaf] = tensor(array.astype(np.int64))
    elif leaf in _BUFFERS:
        state["_buffers"][leaf] = tensor(array.astype(np.float16))
    elif "dfl" in path:  # the numbers of the bins, no weights
        bins = np.arange(array.size, dtype=np.float16).reshape(array.shape)
        state["_parameters"][leaf] = parameter(bins)
    else:
        state["_parameters"][leaf] = parameter(array.astype(np.float16))
