"""Runs networks with ONNX Runtime."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import RuntimeUnavailableError, WeightsError
from openkeypoints.runtimes.base import (
    Arrays,
    Artifact,
    Plan,
    Shape,
    check_feeds,
    choose_precision,
    closed,
    cpu_flags,
    no_device,
    refused,
)


def disable_telemetry() -> None:
    """Keep ONNX Runtime from reporting its use.

    Its official builds write an identity into the home folder and open an uploader while they
    are imported; this switch is read at that moment and stops both. Importing this module sets it.
    """
    # No setting is read here, a switch is set for foreign code; its own getenv sees it.
    os.putenv("ORT_DISABLE_TELEMETRY", "1")


disable_telemetry()
import onnxruntime as ort  # noqa: E402
from onnxruntime.capi import onnxruntime_pybind11_state as _state  # noqa: E402

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_QUIET = 4  # fatal only: what fails is raised, the log would say it a second time on stderr
_TENSORS = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}
_BROKEN = (
    _state.Fail,
    _state.InvalidArgument,
    _state.InvalidGraph,
    _state.InvalidProtobuf,
    _state.NotImplemented,
    _state.RuntimeException,
)


def devices() -> list[str]:
    """Return the devices that the installed build offers: ``cuda:0`` first where it has CUDA."""
    return ["cuda:0", "cpu"] if _CUDA in ort.get_available_providers() else ["cpu"]


def start(artifact: Artifact, plan: Plan) -> OnnxSession:
    """Open a network; see ``open_session``."""
    precision = choose_precision(plan.precision, artifact, cpu_flags())
    if precision == "bf16" and plan.precision == "bf16":
        raise RuntimeUnavailableError(
            "onnxruntime computes no bf16: use runtime='openvino' or precision='f32'."
        )
    listed = devices()
    asked = listed[0] if plan.device == "auto" else plan.device
    if asked == "cuda":
        asked = "cuda:0"
    if asked != "cpu" and not (asked.startswith("cuda") and "cuda:0" in listed):
        raise no_device("onnxruntime", plan.device, listed)
    native = _open(artifact, plan, asked)
    device = asked if asked == "cpu" or _CUDA in native.get_providers() else "cpu"
    if device != asked and plan.device != "auto":
        raise no_device("onnxruntime", plan.device, ["cpu"])
    return OnnxSession(
        native,
        artifact.name,
        device=device,
        precision="int8" if artifact.int8 else "f32",
        streams=plan.streams,
    )


class OnnxSession:
    """A network in an ONNX Runtime session."""

    runtime = "onnxruntime"

    def __init__(
        self, native: ort.InferenceSession, name: str, *, device: str, precision: str, streams: int
    ):
        self.device = device
        self.precision = precision
        self.inputs: Mapping[str, Shape] = {
            port.name: tuple(side if isinstance(side, int) else None for side in port.shape)
            for port in native.get_inputs()
        }
        self.outputs = tuple(port.name for port in native.get_outputs())
        self._dtypes = {
            port.name: np.dtype(_TENSORS.get(port.type, object)) for port in native.get_inputs()
        }
        self._name = name
        self._native: ort.InferenceSession | None = native
        self._streams = threading.Semaphore(streams)

    def run(self, feeds: Arrays, /) -> dict[str, NDArray[Any]]:
        """Return the outputs by name; waits while every stream is busy. See ``Session``."""
        native = self._native
        if native is None:
            raise closed(self._name)
        check_feeds(feeds, self.inputs, self._dtypes)
        with self._streams:
            try:
                results = native.run(list(self.outputs), dict(feeds))
            except _BROKEN as error:
                raise refused(self._name, feeds, error) from error
        return dict(zip(self.outputs, results, strict=True))

    def close(self) -> None:
        """Free the network; see ``Session``."""
        self._native = None


def _open(artifact: Artifact, plan: Plan, device: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = plan.threads_per_stream
    options.log_severity_level = _QUIET
    # Waiting threads sleep: spinning cost 40 CPU-ms after each run and won no time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = [_CPU]
    if device != "cpu":
        # f32 means f32: TF32 would round the products to 10 bits.
        number = int(device.partition(":")[2])
        providers.insert(0, (_CUDA, {"device_id": number, "use_tf32": 0}))
    try:
        return ort.InferenceSession(artifact.source(), options, providers=providers)
    except _BROKEN as error:
        raise WeightsError(f"ONNX Runtime cannot open {artifact.name!r}: {error}") from error
