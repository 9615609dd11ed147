"""Named arrays as safetensors: weights and training state, without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from openkeypoints.errors import WeightsError

Arrays = Mapping[str, NDArray[Any]]


def tensors_from_bytes(data: bytes, name: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a safetensors file.

    Args:
        data: its content.
        name: what error messages call it.

    Raises:
        WeightsError: the bytes are no whole safetensors file.
    """
    try:
        return load(data)
    except SafetensorError as error:
        raise WeightsError(f"{name} is no whole safetensors file ({error}).") from error


def bytes_from_tensors(tensors: Arrays) -> bytes:
    """Return arrays as the content of a safetensors file."""
    return save(_ordered(tensors))


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a safetensors file on disk."""
    return tensors_from_bytes(path.read_bytes(), path.name)


def write_tensors(path: Path, tensors: Arrays, note: str = "") -> None:
    """Write arrays and a note; a crash leaves the former file whole."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(save(_ordered(tensors), {"note": note}))
    new.replace(path)


def _ordered(tensors: Arrays) -> dict[str, NDArray[Any]]:
    # Not ascontiguousarray: it would give numbers without a dimension one.
    return {name: np.asarray(array, order="C") for name, array in tensors.items()}


def tensor_names(path: Path) -> frozenset[str]:
    """Return the names in a safetensors file, without reading its arrays.

    Raises:
        WeightsError: it is no whole safetensors file.
    """
    try:
        with safe_open(path, "np") as file:
            return frozenset(file.keys())
    except SafetensorError as error:
        raise WeightsError(f"{path.name} is no whole safetensors file ({error}).") from error


def read_note(path: Path) -> str:
    """Return the note of a file that :func:`write_tensors` wrote, without reading its arrays."""
    try:
        with safe_open(path, "np") as file:
            return str((file.metadata() or {}).get("note", ""))
    except SafetensorError as error:
        raise WeightsError(f"{path.name} is no whole safetensors file ({error}).") from error
