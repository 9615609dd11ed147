"""Runs networks with OpenVINO."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import LifoQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import RuntimeUnavailableError, WeightsError
from openkeypoints.runtimes.base import (
    Arrays,
    Artifact,
    Plan,
    Port,
    Shape,
    check_feeds,
    choose_precision,
    closed,
    cpu_flags,
    no_device,
    refused,
)


def disable_telemetry() -> None:
    """Keep OpenVINO, its converter and NNCF from reporting their use.

    They report through the package ``openvino_telemetry``, already while they are imported, and
    write an identity into the home folder; where that package is absent they stay silent. So it
    is made absent for this process. Importing this module does it; call it again before NNCF.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


disable_telemetry()
import openvino as ov  # type: ignore[import-untyped]  # noqa: E402

Signature = tuple[tuple[Port, ...], tuple[Port, ...]]
"""Inputs and outputs."""

_log = logging.getLogger(__name__)
_HINTS = {"f32": "f32", "bf16": "bf16", "int8": "f32"}  # int8: of the layers that stay in float


def devices() -> list[str]:
    """Return the devices that OpenVINO lists, its GPUs first: ``gpu``, ``gpu:1``, ``cpu``."""
    listed = [name.lower().replace(".", ":") for name in _engine().available_devices]
    return sorted(
        (name for name in listed if name.startswith(("cpu", "gpu"))),
        key=lambda name: (name.startswith("cpu"), name),
    )


def start(artifact: Artifact, plan: Plan) -> OpenVINOSession:
    """Open a network; see ``open_session``."""
    device = pick_device(plan.device, devices())
    on_cpu = device == "cpu"
    precision = choose_precision(
        plan.precision, artifact, cpu_flags() if on_cpu or plan.precision == "bf16" else ()
    )
    if precision == "bf16" and not on_cpu:
        raise RuntimeUnavailableError(
            f"openvino has no bf16 on the device {device!r}: use precision='f32' or device='cpu'."
        )
    # Set outright: the plug-in's own choice is bf16 wherever it can emulate it.
    config: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "NUM_STREAMS": plan.streams,
    }
    if on_cpu:
        config["INFERENCE_NUM_THREADS"] = plan.threads_per_stream * plan.streams
        # Pinned threads of two sessions, or two processes, would share the first cores.
        config["ENABLE_CPU_PINNING"] = False
    if plan.cache_dir is not None and _writable(plan.cache_dir):
        config["CACHE_DIR"] = str(plan.cache_dir)
    graph = _read(artifact)
    try:
        compiled = _engine().compile_model(graph, device.upper().replace(":", "."), config)
    except RuntimeError as error:
        raise WeightsError(f"OpenVINO cannot open {artifact.name!r}: {error}") from error
    return OpenVINOSession(
        compiled, _signature(graph), artifact.name, device=device, precision=precision
    )


def ports(artifact: Artifact) -> Signature:
    """Return inputs and outputs of a network without compiling it."""
    return _signature(_read(artifact))


def pick_device(asked: str, listed: list[str]) -> str:
    """Return the device to use: for ``auto`` the first that is listed.

    Raises:
        RuntimeUnavailableError: the device is not listed.
    """
    if asked == "auto":
        return listed[0]
    # OpenVINO calls a single GPU "GPU", several "GPU.0", "GPU.1".
    names = {asked, "gpu:0"} if asked == "gpu" else {asked, "gpu"} if asked == "gpu:0" else {asked}
    for name in listed:
        if name in names:
            return name
    raise no_device("openvino", asked, listed)


class OpenVINOSession:
    """A compiled network with one infer request per stream."""

    runtime = "openvino"

    def __init__(
        self,
        compiled: ov.CompiledModel,
        signature: Signature,
        name: str,
        *,
        device: str,
        precision: str,
    ):
        self.device = device
        self.precision = precision
        inputs, outputs = signature
        self.inputs: Mapping[str, Shape] = {name: shape for name, shape, _ in inputs}
        self.outputs = tuple(name for name, _, _ in outputs)
        self._dtypes = {name: dtype for name, _, dtype in inputs}
        self._name = name
        self._requests: LifoQueue[ov.InferRequest] | None = LifoQueue()
        # The plug-in may grant fewer streams than asked, never fewer than one request.
        for _ in range(max(1, int(compiled.get_property("NUM_STREAMS")))):
            self._requests.put(compiled.create_infer_request())

    def run(self, feeds: Arrays, /) -> dict[str, NDArray[Any]]:
        """Return the outputs by name; waits while every stream is busy. See ``Session``."""
        requests = self._requests
        if requests is None:
            raise closed(self._name)
        check_feeds(feeds, self.inputs, self._dtypes)
        request = requests.get()
        try:
            # Inputs are lent for the call; outputs are copied, the request is used again. By
            # number: what has no name in the graph has one of ours here.
            arrays = {number: feeds[name] for number, name in enumerate(self.inputs)}
            results = request.infer(arrays, share_inputs=True)
        except RuntimeError as error:
            raise refused(self._name, feeds, error) from error
        finally:
            requests.put(request)
        return dict(zip(self.outputs, results.values(), strict=True))

    def close(self) -> None:
        """Free the network; see ``Session``."""
        self._requests = None  # runs under way hold the queue until they are done


@functools.cache
def _engine() -> ov.Core:
    return ov.Core()


def _read(artifact: Artifact) -> Any:
    source = artifact.openvino_source()
    try:
        return _engine().read_model(source)
    except RuntimeError as error:
        raise WeightsError(f"OpenVINO cannot open {artifact.name!r}: {error}") from error


def _signature(graph: Any) -> Signature:
    # Of the graph as it was read: compiling adds names of its own to some ports.
    return _ports(graph.inputs, "input"), _ports(graph.outputs, "output")


def _ports(ports: Sequence[Any], kind: str) -> tuple[Port, ...]:
    """Return name, shape and type of each; one without a name is ``output0``, ``output1``, ..."""
    found: dict[str, Port] = {}
    for number, port in enumerate(ports):
        name = _name(port)
        if name is None or name in found:  # two ports may share a tensor
            name = f"{kind}{number}"
        found[name] = (name, _shape(port), np.dtype(port.get_element_type().to_dtype()))
    return tuple(found.values())


def _name(port: Any) -> str | None:
    """Return the name of a tensor; of several the one that its file gave it."""
    names = sorted(port.get_names())
    given = port.get_node().get_friendly_name().removesuffix("/sink_port_0")
    return given if given in names else next(iter(names), None)


def _shape(port: Any) -> Shape:
    sides = port.get_partial_shape()
    if sides.rank.is_dynamic:
        return ()
    return tuple(side.get_length() if side.is_static else None for side in sides)


def _writable(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if folder.is_dir() and os.access(folder, os.W_OK):
        return True
    _log.info("No compiled networks are kept: the folder %s cannot be written.", folder)
    return False
