"""Opens a network in the runtime that is asked for, or in the fastest one that can run it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from openkeypoints.errors import MissingExtraError, RuntimeUnavailableError, WeightsError
from openkeypoints.runtimes.base import Artifact, Plan, Port, Session, cpu_flags, unknown

__all__ = [
    "RUNTIMES",
    "Artifact",
    "Runtime",
    "Session",
    "available_runtimes",
    "cpu_flags",
    "devices",
    "open_session",
    "openvino_ports",
]


@dataclass(frozen=True, slots=True)
class Runtime:
    """One row of the table: where a runtime lives and what brings it.

    Attributes:
        module: module of this folder.
        package: the package that it imports.
        extra: extra that installs the package; None = part of the base install.
    """

    module: str
    package: str
    extra: str | None


# Fastest first: this is the order of runtime="auto".
RUNTIMES = {
    "openvino": Runtime("openvino", "openvino", None),
    "onnxruntime": Runtime("onnx", "onnxruntime", "onnx"),
    "torch": Runtime("pytorch", "torch", "torch"),
}


class _Module(Protocol):
    """What every runtime's module offers."""

    def devices(self) -> list[str]: ...
    def start(self, artifact: Artifact, plan: Plan) -> Session: ...


def available_runtimes() -> list[str]:
    """Return the names of the installed runtimes, fastest first, without importing them."""
    return [name for name, row in RUNTIMES.items() if _installed(row.package)]


def devices(runtime: str) -> list[str]:
    """Return the devices that an installed runtime lists; the first is what ``auto`` takes.

    Raises:
        InputError: no runtime has this name.
        MissingExtraError: the runtime is not installed.
        RuntimeUnavailableError: it is installed and does not load.
    """
    return _module(runtime).devices()


# arch: the choices that get_model hands on, and how much of the CPU
def open_session(  # noqa: PLR0913
    artifact: Artifact,
    *,
    runtime: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    streams: int = 1,
    cache_dir: Path | None = None,
) -> Session:
    """Open a network and return it ready to run.

    Args:
        artifact: the network.
        runtime: a name of ``RUNTIMES``, or ``auto`` = the first that is installed and can run it.
        device: ``auto``, ``cpu``, ``cuda:N``, ``mps``, or ``gpu[:N]`` for OpenVINO's.
        precision: ``f32``, ``bf16``, ``int8``, or ``auto`` = bf16 on a CPU with units for it,
            else f32; an int8 artefact always runs as int8.
        threads: CPU threads in all, 0 = all cores (one per stream with several streams).
        streams: how many calls of ``run`` are computed at once; further callers wait.
        cache_dir: folder for OpenVINO's compiled networks; made when needed. None = none is kept.

    Raises:
        InputError: a name is unknown or a number out of range, or int8 does not fit the artefact.
        MissingExtraError: the runtime is not installed.
        RuntimeUnavailableError: runtime, device or precision is not present here.
        WeightsError: the runtime cannot read the network.
    """
    plan = Plan(device, precision, threads, streams, cache_dir)
    if runtime != "auto":
        return _module(runtime).start(artifact, plan)
    failures: list[RuntimeUnavailableError | WeightsError] = []
    for name in available_runtimes():
        try:
            return _module(name).start(artifact, plan)
        except (RuntimeUnavailableError, WeightsError) as error:
            failures.append(error)
    for failure in failures:
        if isinstance(failure, WeightsError):  # the network is at fault, not this machine
            raise failure
    reasons = " ".join(dict.fromkeys(map(str, failures)))
    why = reasons or "None is installed: reinstall 'openkeypoints'."
    raise RuntimeUnavailableError(f"No runtime can open {artifact.name!r}. {why}")


def openvino_ports(artifact: Artifact) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Return inputs and outputs of a network as OpenVINO sees them, without compiling it.

    For OpenVINO's own files, whose text says little; the names are those of a session.

    Raises:
        RuntimeUnavailableError: OpenVINO is not here.
        WeightsError: it cannot read the network.
    """
    module: Any = _module("openvino")
    found: tuple[tuple[Port, ...], tuple[Port, ...]] = module.ports(artifact)
    return found


def _installed(package: str) -> bool:
    if package in sys.modules:
        return sys.modules[package] is not None
    return importlib.util.find_spec(package) is not None


def _module(runtime: str) -> _Module:
    row = RUNTIMES.get(runtime)
    if row is None:
        raise unknown("runtime", runtime, ("auto", *RUNTIMES))
    if not _installed(row.package):
        if row.extra:
            raise MissingExtraError(f"The runtime {runtime!r}", row.extra)
        raise RuntimeUnavailableError(
            f"The runtime {runtime!r}, part of the base install, is missing: "
            "run `pip install --force-reinstall openkeypoints`."
        )
    try:
        return cast("_Module", importlib.import_module(f"{__name__}.{row.module}"))
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"The runtime {runtime!r} is installed but does not load ({error}): reinstall it."
        ) from error
