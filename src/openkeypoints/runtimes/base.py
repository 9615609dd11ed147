"""What every runtime shares: the session protocol, the artefact, and the rules of choice."""

from __future__ import annotations

import difflib
import functools
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import InputError, NotFoundError, RuntimeUnavailableError

if TYPE_CHECKING:
    import torch

Shape = tuple[int | None, ...]
Port = tuple[str, Shape, np.dtype[Any]]
"""Name, shape and type of an input or output."""
Arrays = Mapping[str, NDArray[Any]]

BF16_FLAG = "amx_bf16"
PRECISIONS = ("auto", "f32", "bf16", "int8")
_DEVICE = re.compile(r"auto|cpu|mps|(?:cuda|gpu)(?::\d+)?")


@dataclass(frozen=True, slots=True)
class Artifact:
    """One network in the forms that runtimes can open.

    Attributes:
        onnx: the graph, as bytes or as the path of a file; None where there is none in this form.
            Into graphs of our own pictures enter as uint8 (N, H, W, 3); scaling, colour order and
            layout are part of them.
        name: what error messages call it.
        torch_module: makes the same network as a torch module whose ``forward`` takes the inputs
            in order and returns a mapping of name to tensor, or a tuple in the order of its
            attribute ``outputs``. Its attributes ``inputs`` (name to shape) and ``dtypes`` (name
            to numpy's type) say what it takes; without them each parameter of ``forward`` is uint8
            pictures. The session switches it to evaluation mode and moves it to the device. None
            where the family has no torch module.
        int8: the graph holds calibrated 8-bit layers.
        openvino: the graph as an OpenVINO ``.xml`` with its ``.bin`` beside it, in place of ONNX.
    """

    onnx: bytes | Path | None
    name: str
    torch_module: Callable[[], torch.nn.Module] | None = None
    int8: bool = False
    openvino: Path | None = None

    def source(self) -> bytes | str:
        """Return the ONNX graph as bytes, or the path of its file as text.

        Raises:
            NotFoundError: the file does not exist.
            RuntimeUnavailableError: the graph has another form.
        """
        if self.onnx is None:
            raise RuntimeUnavailableError(
                f"{self.name!r} is an OpenVINO graph, which no other runtime opens: use "
                "runtime='openvino' or 'auto'."
            )
        return self.onnx if isinstance(self.onnx, bytes) else self._present(self.onnx)

    def openvino_source(self) -> bytes | str:
        """Return the graph in the form for OpenVINO, its own before ONNX; see ``source``."""
        return self.source() if self.openvino is None else self._present(self.openvino)

    def _present(self, path: Path) -> str:
        if not path.is_file():
            raise NotFoundError(f"The model file {str(path)!r} of {self.name!r} is missing.")
        return str(path)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a session is asked to run; the values are checked.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda:N``, ``mps`` or ``gpu[:N]``.
        precision: ``auto``, ``f32``, ``bf16`` or ``int8``.
        threads: CPU threads of all streams together, 0 = the runtime's choice.
        streams: how many calls of ``run`` are computed at once, at least 1.
        cache_dir: folder for compiled networks, None = keep none.
    """

    device: str = "auto"
    precision: str = "auto"
    threads: int = 0
    streams: int = 1
    cache_dir: Path | None = None

    def __post_init__(self) -> None:
        if not _DEVICE.fullmatch(self.device):
            raise unknown("device", self.device, ("auto", "cpu", "cuda:0", "mps", "gpu"))
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.threads < 0 or self.streams < 1:
            raise InputError(
                f"threads={self.threads}, streams={self.streams}: threads is 0 (all) or more, "
                "streams is 1 or more."
            )

    @property
    def threads_per_stream(self) -> int:
        """Threads of one call of ``run``; 0 = all. Several streams default to one thread each."""
        if self.threads:
            return max(1, self.threads // self.streams)
        return 1 if self.streams > 1 else 0


class Session(Protocol):
    """A network ready to run. ``run`` may be called from many threads at once.

    Attributes:
        inputs: name to shape; None where a side may vary.
        outputs: names in the order of the graph; empty for a torch module that does not say.
        runtime: ``openvino``, ``onnxruntime`` or ``torch``.
        device: what computes, for example ``cpu`` or ``cuda:0``.
        precision: ``f32``, ``bf16`` or ``int8``.
    """

    inputs: Mapping[str, Shape]
    outputs: tuple[str, ...]
    runtime: str
    device: str
    precision: str

    def run(self, feeds: Arrays, /) -> dict[str, NDArray[Any]]:
        """Return the outputs by name as new arrays.

        Raises:
            InputError: an input is missing, unknown, of the wrong type or shape, or of a size
                that the network cannot compute.
            RuntimeUnavailableError: the session is closed.
        """
        ...

    def close(self) -> None:
        """Free the network. Runs under way finish; later ones raise. Closing twice is fine."""
        ...


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Return the instruction sets that this CPU names; empty where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return frozenset()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    # x86 writes "flags", ARM "Features".
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def choose_precision(asked: str, artifact: Artifact, flags: Iterable[str]) -> str:
    """Return the precision of a run on a CPU: bf16 only where the CPU has units for it.

    Args:
        asked: ``auto``, ``f32``, ``bf16`` or ``int8``.
        artifact: says whether its graph is an int8 one.
        flags: instruction sets of the CPU.

    Raises:
        InputError: int8 is asked of a float graph, or floats of an int8 graph.
        RuntimeUnavailableError: bf16 is asked and the flag is absent.
    """
    if artifact.int8 and asked in ("auto", "int8"):
        return "int8"
    if artifact.int8 or asked == "int8":
        kind = "an int8" if artifact.int8 else "not an int8"
        raise InputError(
            f"{artifact.name!r} is {kind} artefact and cannot run with precision={asked!r}: "
            "use precision='auto'."
        )
    has_units = BF16_FLAG in flags
    if asked == "bf16" and not has_units:
        raise RuntimeUnavailableError(
            f"precision='bf16' needs a CPU with the flag {BF16_FLAG}, which this one lacks "
            "(it would be emulated, slower than f32): use precision='f32' or 'auto'."
        )
    if asked == "auto":
        return "bf16" if has_units else "f32"
    return asked


def check_feeds(feeds: Arrays, inputs: Mapping[str, Shape], dtypes: Mapping[str, Any]) -> None:
    """Raise InputError, naming the input, unless the arrays fit what the network takes."""
    if missing := inputs.keys() - feeds.keys():
        raise InputError(f"The input {min(missing)!r} is missing: the network takes {[*inputs]}.")
    if extra := feeds.keys() - inputs.keys():
        raise unknown("input", min(extra), inputs)
    for name, shape in inputs.items():
        array: Any = feeds[name]
        if not isinstance(array, np.ndarray) or array.dtype != dtypes[name]:
            got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise InputError(f"The input {name!r} is {got}; it must be an array of {dtypes[name]}.")
        fits = len(shape) == array.ndim and all(
            have == want or (want is None and have > 0)
            for have, want in zip(array.shape, shape, strict=True)
        )
        if not fits:
            wanted = "(" + ", ".join("any" if side is None else str(side) for side in shape) + ")"
            raise InputError(f"The input {name!r} has shape {array.shape}; it must be {wanted}.")


def unknown(kind: str, value: str, allowed: Iterable[str]) -> InputError:
    """Return the error for a name that does not exist, with the closest one."""
    names = list(allowed)
    close = difflib.get_close_matches(value, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return InputError(f"Unknown {kind} {value!r}: allowed are {', '.join(names)}.{hint}")


def refused(name: str, feeds: Arrays, error: Exception) -> InputError:
    """Return the error for inputs that fit the signature and fail inside the network."""
    sizes = ", ".join(f"{key} {array.shape}" for key, array in feeds.items())
    reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1:]
    return InputError(f"The network {name!r} cannot compute {sizes}: {''.join(reason)}")


def closed(name: str) -> RuntimeUnavailableError:
    """Return the error for a run after ``close``."""
    return RuntimeUnavailableError(f"The session of {name!r} is closed: open a new one.")


def no_device(runtime: str, device: str, present: Iterable[str]) -> RuntimeUnavailableError:
    """Return the error for a device that a runtime does not have here."""
    return RuntimeUnavailableError(
        f"{runtime} has no device {device!r} here; it lists {', '.join(present)}."
    )
