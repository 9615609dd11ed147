"""The closed table of what a checkpoint's pickle may name, and what stands for each name here."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import UnsafeCheckpointError, WeightsError
from openkeypoints.weights.archive import STORAGES, Archive
from openkeypoints.weights.inert import Budget, Name, Node, Pending
from openkeypoints.weights.opcodes import checked_key

MAX_DIMENSIONS = 16
MAX_TEXT = 4096
MAX_REPEATS = 2
"""How often the numbers of a file may be in tensors: weights may be shared, not multiplied."""
SPARE_BYTES = 64 << 20
TENSOR_STEPS = 20
"""What an array costs, which is larger and slower to make than other values."""
CHARACTERS = 64
"""How many copied characters cost a step."""

_MODULES = re.compile(r"(?:ultralytics|torch\.nn\.modules)(?:\.[A-Za-z_]\w*)*", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z]\w{0,99}", re.ASCII)
_NUMERIC = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
_NAMESPACES = {"argparse.Namespace", "types.SimpleNamespace"}
_DTYPES = {
    "float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool",
}  # fmt: skip
_BARE = {"numpy.ndarray"} | {
    f"{module}.{name}"
    for module in ("builtins", "__builtin__")
    for name in ("list", "dict", "tuple", "int", "float", "str", "bool")
}
"""What may be named and not called: the kind of an array, the default of a dictionary."""
_Make = Callable[[tuple[Any, ...]], Any]


class StandIns:
    """Finds what stands for a name, for one opened checkpoint."""

    def __init__(self, archive: Archive, budget: Budget) -> None:
        self._archive = archive
        self._budget = budget
        self._viewed_bytes = 0
        self._makers = self._table()
        self._found: dict[str, Name] = {}

    def find(self, module: str, name: str) -> Name:
        """Return the stand-in of a name; the same name has always the same one.

        Raises:
            UnsafeCheckpointError: the name is not in the table.
        """
        path = f"{module}.{name}"
        if "." in name:
            raise UnsafeCheckpointError(
                f"The pickle reaches through {module} for {name}, one name after another, which no "
                "checkpoint of PyTorch does: do not use the file."
            )
        if path not in self._found:
            self._found[path] = self._stand_in(module, name)
        return self._found[path]

    def _stand_in(self, module: str, name: str) -> Name:
        path = f"{module}.{name}"
        if path in self._makers:
            return Name(path, self._makers[path])
        if path in _BARE or (module == "torch" and name in {*STORAGES, *_DTYPES}):
            return Name(path)
        known = _MODULES.fullmatch(module) and _IDENTIFIER.fullmatch(name)
        if known or path in _NAMESPACES:
            return Name(path, lambda args: Node(path, args))
        raise UnsafeCheckpointError(_unknown(module, path))

    def load(self, persistent_id: Any) -> NDArray[Any]:
        """Return the storage that a persistent id means, flat.

        Raises:
            UnsafeCheckpointError: it is none of torch's.
            WeightsError: the storage is missing or damaged.
        """
        match persistent_id:
            # An array may stand anywhere, and compares to no text: types are asked first.
            case (str() as word, Name() as kind, str() as key, str(), int() as count) if (
                type(persistent_id) is tuple
                and word == "storage"
                and kind.path.removeprefix("torch.") in STORAGES
                and re.fullmatch(r"[0-9]{1,9}", key)
            ):
                return self._archive.storage(key, kind.path.removeprefix("torch."), count)
        raise UnsafeCheckpointError(
            "The pickle refers to something outside of it that is no storage of PyTorch: do not "
            "use the file."
        )

    def _table(self) -> dict[str, _Make]:
        table: dict[str, _Make] = {
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": _parameter,
            "torch._utils._rebuild_parameter_with_state": _parameter,
            "torch.Size": self._size,
            "torch.device": _device,
            "collections.OrderedDict": _empty_dict,
            "collections.defaultdict": _default_dict,
            "_codecs.encode": self._encode,
            "numpy.dtype": _dtype,
        }
        for module in ("builtins", "__builtin__"):
            table[f"{module}.set"] = self._set
            table[f"{module}.frozenset"] = lambda args: frozenset(self._set(args))
            table[f"{module}.bytes"] = _no_bytes
            table[f"{module}.getattr"] = _attribute
        for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            table[f"{module}.scalar"] = _scalar
            table[f"{module}._reconstruct"] = _array
        for module in ("pathlib", "pathlib._local"):
            for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
                table[f"{module}.{kind}"] = self._path
        return table

    def _tensor(self, args: tuple[Any, ...]) -> NDArray[Any]:
        self._budget.spend(TENSOR_STEPS)
        if not 6 <= len(args) <= 7 or not isinstance(args[0], np.ndarray):
            raise _misused("torch._utils._rebuild_tensor_v2")
        storage, offset, size, stride = args[:4]
        flat = storage.ndim == 1 and storage.flags.c_contiguous
        if not (flat and _counts([offset]) and _shape(size) and _shape(stride)):
            raise _misused("torch._utils._rebuild_tensor_v2")
        if len(size) != len(stride):
            raise _misused("torch._utils._rebuild_tensor_v2")
        tensor = _view(storage, offset, size, stride)
        self._viewed_bytes += tensor.nbytes
        if self._viewed_bytes > MAX_REPEATS * self._archive.storage_bytes + SPARE_BYTES:
            raise UnsafeCheckpointError(
                "The tensors are many times as large as the numbers in the file: do not use it."
            )
        return tensor

    def _size(self, args: tuple[Any, ...]) -> tuple[int, ...]:
        if len(args) != 1 or not _shape(args[0]):
            raise _misused("torch.Size")
        return tuple(args[0])

    def _set(self, args: tuple[Any, ...]) -> set[Any]:
        values = args[0] if args else []
        if len(args) > 1 or type(values) not in (list, tuple):
            raise _misused("set")
        self._budget.spend(len(values))
        return set(map(checked_key, values))

    def _encode(self, args: tuple[Any, ...]) -> bytes:
        """Return the bytes that protocol 2 writes as text."""
        texts = [arg for arg in args if isinstance(arg, str)]
        if len(args) != 2 or len(texts) != 2 or texts[1] != "latin1":
            raise _misused("_codecs.encode")
        self._budget.spend(len(texts[0]) // CHARACTERS)
        try:
            return texts[0].encode("latin1")
        except UnicodeEncodeError as error:
            raise _misused("_codecs.encode") from error

    def _path(self, args: tuple[Any, ...]) -> str:
        if not all(type(part) is str for part in args) or sum(map(len, args)) > MAX_TEXT:
            raise _misused("pathlib")
        self._budget.spend(sum(map(len, args)) // CHARACTERS)
        return "/".join(args).replace("\\", "/").replace("//", "/")


def _view(
    storage: NDArray[Any], offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> NDArray[Any]:
    """Return the part of a storage that a tensor is, without a copy."""
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count == 0 and max(size) < 1 << 31 and math.prod(filter(None, size)) < 1 << 40:
        return np.zeros(size, storage.dtype)
    if count == 0 or count > storage.size or last >= storage.size:
        raise UnsafeCheckpointError(
            f"A tensor of the shape {size} reaches outside of its storage of {storage.size} "
            "numbers: do not use the file."
        )
    steps = [step * storage.itemsize for step in stride]
    return np.ndarray(size, storage.dtype, storage.data, offset * storage.itemsize, steps)


def _parameter(args: tuple[Any, ...]) -> NDArray[Any]:
    if not 3 <= len(args) <= 4 or not isinstance(args[0], np.ndarray):
        raise _misused("torch._utils._rebuild_parameter")
    return args[0]


def _no_bytes(args: tuple[Any, ...]) -> bytes:
    """Return what protocol 2 has no instruction for."""
    if args:
        raise _misused("bytes")
    return b""


def _empty_dict(args: tuple[Any, ...]) -> OrderedDict[Any, Any]:
    if args:
        raise _misused("collections.OrderedDict")
    return OrderedDict()


def _default_dict(args: tuple[Any, ...]) -> dict[Any, Any]:
    if len(args) > 1 or not (args == () or args[0] is None or isinstance(args[0], Name)):
        raise _misused("collections.defaultdict")
    return {}


def _attribute(args: tuple[Any, ...]) -> str:
    """Return a text in place of a stored bound method."""
    match args:
        case (Node() | Name() as owner, str() as name) if _IDENTIFIER.fullmatch(name):
            if isinstance(owner, Node) or _MODULES.fullmatch(owner.path.rpartition(".")[0]):
                return f"{owner.path}.{name}"
    raise UnsafeCheckpointError(
        "The pickle takes an attribute of something that is no part of a network: do not use "
        "the file."
    )


def _device(args: tuple[Any, ...]) -> str:
    match args:
        case (str() as kind,) if len(kind) < 100:
            return kind
        case (str() as kind, int() as index) if len(kind) < 100 and index < 1 << 16:
            return f"{kind}:{index}"
    raise _misused("torch.device")


def _dtype(args: tuple[Any, ...]) -> Pending:
    if not 1 <= len(args) <= 3 or type(args[0]) is not str or args[0] not in _NUMERIC:
        raise UnsafeCheckpointError("The pickle has a numpy array of something else than numbers.")
    dtype = np.dtype(args[0])

    def complete(state: Any) -> np.dtype[Any]:
        plain = type(state) is tuple and len(state) > 1 and type(state[1]) is str
        if not plain or state[1] not in ("<", "|", "="):
            raise _misused("numpy.dtype")
        return dtype

    return Pending("numpy.dtype", complete)


def _scalar(args: tuple[Any, ...]) -> Any:
    match args:
        case (np.dtype() as dtype, bytes() as data) if len(data) == dtype.itemsize:
            return np.frombuffer(data, dtype)[0].item()
    raise _misused("numpy.core.multiarray.scalar")


def _array(_args: tuple[Any, ...]) -> Pending:
    def complete(state: Any) -> NDArray[Any]:
        match state:
            case (int(), shape, np.dtype() as dtype, bool() as fortran, bytes() as data) if (
                _shape(shape) and math.prod(shape) * dtype.itemsize == len(data) > 0
            ):
                order: Any = "F" if fortran else "C"
                return np.frombuffer(data, dtype).reshape(shape, order=order)
            case (int(), (0,), np.dtype() as dtype, bool(), b""):
                return np.zeros(0, dtype)
        raise _misused("numpy.ndarray")

    return Pending("numpy.ndarray", complete)


def _shape(value: Any) -> bool:
    return type(value) is tuple and len(value) <= MAX_DIMENSIONS and _counts(value)


def _counts(values: Any) -> bool:
    return all(type(value) is int and 0 <= value < 1 << 62 for value in values)


def _misused(path: str) -> WeightsError:
    return UnsafeCheckpointError(
        f"The pickle uses {path} in a way in which PyTorch does not write it: do not use the file."
    )


def _unknown(module: str, path: str) -> str:
    if module.partition(".")[0] in ("__main__", "__mp_main__"):
        return (
            f"The pickle needs the class {path} of the program that wrote it: export the network "
            "to ONNX there, and load that."
        )
    return (
        f"The pickle names {path}, which no checkpoint of a known network needs; nothing of it was "
        "run. Take the file from its publisher, or export the network to ONNX with the program "
        "that made it."
    )
