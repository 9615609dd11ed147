"""Runs networks as torch modules."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from openkeypoints.errors import InputError, RuntimeUnavailableError
from openkeypoints.runtimes.base import (
    BF16_FLAG,
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

_PICTURES: Shape = (None, None, None, 3)


def devices() -> list[str]:
    """Return the devices that torch lists, GPUs first: ``cuda:0``, ``cuda:1``, ``mps``, ``cpu``."""
    found = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def start(artifact: Artifact, plan: Plan) -> TorchSession:
    """Open a network; see ``open_session``. A number of threads holds for the whole process."""
    if artifact.torch_module is None or artifact.int8:
        what = "is an int8 graph" if artifact.int8 else "has no torch module"
        others = "'openvino' or 'onnxruntime'" if artifact.openvino is None else "'openvino'"
        raise RuntimeUnavailableError(f"{artifact.name!r} {what}: use runtime={others}.")
    listed = devices()
    asked = "cuda:0" if plan.device == "cuda" else plan.device
    device = listed[0] if asked == "auto" else asked
    if device not in listed:
        raise no_device("torch", plan.device, listed)
    precision = choose_precision(plan.precision, artifact, _flags(device, plan.precision))
    if plan.threads_per_stream:
        torch.set_num_threads(plan.threads_per_stream)
    module = artifact.torch_module().eval().to(device)
    return TorchSession(
        module, artifact.name, device=device, precision=precision, streams=plan.streams
    )


class TorchSession:
    """A torch module in evaluation mode."""

    runtime = "torch"

    def __init__(
        self, module: torch.nn.Module, name: str, *, device: str, precision: str, streams: int
    ):
        self.device = device
        self.precision = precision
        stated: Mapping[str, Shape] | None = getattr(module, "inputs", None)
        names = inspect.signature(module.forward).parameters
        self.inputs: Mapping[str, Shape] = stated or dict.fromkeys(names, _PICTURES)
        self.outputs: tuple[str, ...] = tuple(getattr(module, "outputs", ()))
        dtypes: Mapping[str, DTypeLike] = getattr(module, "dtypes", {})
        self._dtypes = {name: np.dtype(dtypes.get(name, np.uint8)) for name in self.inputs}
        self._name = name
        self._module: torch.nn.Module | None = module
        self._streams = threading.Semaphore(streams)

    def run(self, feeds: Arrays, /) -> dict[str, NDArray[Any]]:
        """Return the outputs by name; waits while every stream is busy. See ``Session``."""
        module = self._module
        if module is None:
            raise closed(self._name)
        check_feeds(feeds, self.inputs, self._dtypes)
        with self._streams, torch.inference_mode(), self._arithmetic():
            # torch warns about arrays that cannot be written, so those are copied.
            tensors = [
                torch.from_numpy(np.require(feeds[name], requirements=["C", "W"])).to(self.device)
                for name in self.inputs
            ]
            try:
                returned = module(*tensors)
            except RuntimeError as error:
                raise refused(self._name, feeds, error) from error
            return self._named(returned)

    def close(self) -> None:
        """Free the network; see ``Session``."""
        self._module = None

    def _arithmetic(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision == "bf16":
            return torch.autocast(self.device.partition(":")[0], dtype=torch.bfloat16)
        if self.device.startswith("cuda"):
            # f32 means f32: torch lets convolutions round to TF32 by default.
            return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        return contextlib.nullcontext()

    def _named(self, returned: Any) -> dict[str, NDArray[Any]]:
        if isinstance(returned, torch.Tensor):
            returned = (returned,)
        if not isinstance(returned, Mapping):
            if len(returned) != len(self.outputs):
                raise InputError(
                    f"The torch module of {self._name!r} returns {len(returned)} tensors and its "
                    f"attribute 'outputs' names {len(self.outputs)}: name each of them."
                )
            returned = dict(zip(self.outputs, returned, strict=True))
        names = self.outputs or tuple(returned)
        return {name: _array(returned[name]) for name in names}


def _flags(device: str, asked: str) -> frozenset[str]:
    """Return what stands for the CPU's flags on a device; a GPU takes bf16 only when asked."""
    if device == "cpu":
        return cpu_flags()
    has = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
    return frozenset({BF16_FLAG}) if has and asked == "bf16" else frozenset()


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()  # numpy has no bf16
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
