"""Training state on disk: weights, their average and the optimiser, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openkeypoints.errors import InputError
from openkeypoints.weights.tensors import Arrays, read_note, read_tensors, write_tensors


class Average:
    """Exponential moving average of a network's weights and statistics."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards the network; early steps count more, so that the start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        mine, theirs = [], []
        for name, value in network.state_dict().items():
            if value.dtype.is_floating_point:
                mine.append(self.values[name])
                theirs.append(value)
            else:
                self.values[name].copy_(value)
        torch._foreach_lerp_(mine, theirs, 1 - decay)


def save_state(
    folder: Path,
    network: nn.Module,
    average: Average,
    optimizer: torch.optim.Optimizer,
    facts: Mapping[str, Any],
) -> None:
    """Write ``last.safetensors``; a crash leaves the former one whole."""
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.values.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    write_tensors(folder / "last.safetensors", arrays_from(tensors), json.dumps(dict(facts)))


def read_facts(folder: Path) -> dict[str, Any] | None:
    """Return step, seconds and schedule of the checkpoint in a folder, None without one."""
    path = folder / "last.safetensors"
    if not path.is_file():
        return None
    facts: dict[str, Any] = json.loads(read_note(path))
    return facts


def load_state(
    folder: Path, network: nn.Module, average: Average, optimizer: torch.optim.Optimizer
) -> None:
    """Continue from what :func:`save_state` wrote.

    Raises:
        InputError: that was the state of another network.
    """
    tensors = tensors_from(read_tensors(folder / "last.safetensors"))
    try:
        network.load_state_dict(_part(tensors, "network."))
    except RuntimeError as error:
        raise InputError(
            f"The folder {folder} holds a run of another network: give another folder, or delete "
            "it to start anew."
        ) from error
    for name, value in _part(tensors, "average.").items():
        average.values[name].copy_(value)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, "optimizer.").items():
        index, key = name.split(".")
        state.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def save_average(folder: Path, average: Average) -> None:
    """Write the averaged weights alone as ``best.safetensors``."""
    write_tensors(folder / "best.safetensors", arrays_from(average.values))


def load_average(folder: Path) -> Arrays:
    """Return what :func:`save_average` wrote."""
    return read_tensors(folder / "best.safetensors")


def arrays_from(tensors: Mapping[str, Tensor]) -> Arrays:
    """Return tensors as numpy arrays."""
    return {k: v.detach().cpu().numpy() for k, v in tensors.items()}


def tensors_from(arrays: Arrays) -> dict[str, Tensor]:
    """Return numpy arrays as tensors of their own."""
    return {k: torch.from_numpy(v.copy()) for k, v in arrays.items()}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
