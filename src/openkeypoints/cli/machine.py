"""Facts about this machine and installation: versions, extras, runtimes, CPU, cache; no secrets."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from openkeypoints import __version__
from openkeypoints.errors import OpenKeypointsError
from openkeypoints.runtimes import available_runtimes, cpu_flags, devices
from openkeypoints.runtimes.base import BF16_FLAG
from openkeypoints.settings import Settings

CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", BF16_FLAG)
"""Instruction sets that change how fast networks run."""
BASE = (
    *("numpy", "pillow", "opencv-python-headless", "openvino", "onnx", "pyyaml", "safetensors"),
    *("httpx", "click", "rich"),
)
EXTRAS = {
    "onnx": ("onnxruntime",),
    "gpu": ("onnxruntime-gpu",),
    "torch": ("torch",),
    "server": (
        *("fastapi", "starlette", "uvicorn", "httptools", "uvloop"),
        *("multipart", "orjson"),
    ),
    "stream": ("av", "paho-mqtt"),
    "train": ("torch", "pycocotools", "scipy", "tensorboard", "matplotlib"),
    "batch": ("pyarrow", "fsspec"),
    "ray": ("ray",),
    "agents": ("mcp", "strands-agents"),
    "viz": ("supervision",),
    "quantize": ("nncf",),
}


def versions() -> dict[str, str | None]:
    """Return the version of the package, of Python and of each dependency, None if absent."""
    return {
        "openkeypoints": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in BASE},
    }


def extras() -> dict[str, dict[str, str | None]]:
    """Return the packages of each extra with their versions, None if absent."""
    return {extra: {name: _version(name) for name in names} for extra, names in EXTRAS.items()}


def runtimes() -> dict[str, list[str] | str]:
    """Return the devices of each installed runtime, or the reason why it does not load."""
    found: dict[str, list[str] | str] = {}
    for name in available_runtimes():
        try:
            found[name] = devices(name)
        except OpenKeypointsError as error:
            found[name] = str(error)
    return found


def cpu() -> dict[str, Any]:
    """Return the usable cores, the flags that matter, and whether there are bf16 units."""
    flags = cpu_flags()
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "architecture": platform.machine(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "flags": [flag for flag in CPU_FLAGS if flag in flags],
        "bf16_units": BF16_FLAG in flags,
    }


def cache(settings: Settings) -> dict[str, Any]:
    """Return the cache folder, its number of files and their bytes."""
    sizes = [path.stat().st_size for path in _files(settings.cache_dir)]
    return {"folder": str(settings.cache_dir), "files": len(sizes), "bytes": sum(sizes)}


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
