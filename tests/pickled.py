"""Writes checkpoints as PyTorch does, without PyTorch: good ones, odd ones and hostile ones."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

STORAGE_NAMES = {
    "f8": "DoubleStorage", "f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage",
    "i4": "IntStorage", "i2": "ShortStorage", "i1": "CharStorage", "u1": "ByteStorage",
    "b1": "BoolStorage",
}  # fmt: skip
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Global:
    """A class or function that exists only as a name in the file."""

    module: str
    name: str

    def __call__(self) -> None:
        """Be callable, as Python's pickler wants it; nobody calls this."""


@dataclass(eq=False)
class Call:
    """What a call of a name gives when the file is read."""

    function: Global
    args: tuple[Any, ...] = ()


@dataclass(eq=False)
class Thing:
    """An instance of a class that exists only in the file."""

    kind: Global
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Storage:
    """Raw numbers of a tensor, with the type's name in torch."""

    data: bytes
    kind: str
    count: int


@dataclass(eq=False)
class Tensor:
    """A view of a storage; with no size, all of it."""

    storage: Storage
    size: tuple[Any, ...]
    stride: tuple[Any, ...]
    offset: Any = 0


def tensor(array: NDArray[Any]) -> Tensor:
    """Return an array as a tensor with a storage of its own."""
    array = np.ascontiguousarray(array).reshape(array.shape)
    storage = Storage(array.tobytes(), STORAGE_NAMES[array.dtype.str[1:]], array.size)
    steps = tuple(step // array.itemsize for step in array.strides)
    return Tensor(storage, array.shape, steps)


def parameter(array: NDArray[Any]) -> Call:
    """Return an array as a parameter of a module."""
    args = (tensor(array), True, OrderedDict())
    return Call(Global("torch._utils", "_rebuild_parameter"), args)


def module(
    kind: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    buffers: Mapping[str, Any] | None = None,
    children: Mapping[str, Any] | None = None,
    **attributes: Any,
) -> Thing:
    """Return a network's module; ``kind`` is the full path of its class."""
    folder, _, name = kind.rpartition(".")
    state = {
        "training": False,
        "_parameters": OrderedDict(parameters or {}),
        "_buffers": OrderedDict(buffers or {}),
        "_non_persistent_buffers_set": set(),
        "_modules": OrderedDict(children or {}),
        **attributes,
    }
    return Thing(Global(folder, name), state)


class _Writer(pickle._Pickler):
    """Python's own pickler, which also writes what exists only as a name."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.storages: dict[str, bytes] = {}
        self._keys: dict[int, str] = {}

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, Storage):
            return None
        key = self._keys.setdefault(id(obj), str(len(self._keys)))
        self.storages[key] = obj.data
        return ("storage", Global("torch", obj.kind), key, "cpu", obj.count)

    def save_name(self, obj: Global) -> None:
        if id(obj) in self.memo:  # equal names are different objects, as good a file as any
            self.write(self.get(self.memo[id(obj)][0]))
            return
        if self.proto >= 4:
            self.save(obj.module)
            self.save(obj.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        self.memoize(obj)

    def save_call(self, obj: Call) -> None:
        self.save_reduce(obj.function, obj.args, obj=obj)

    def save_thing(self, obj: Thing) -> None:
        self.save(obj.kind)
        self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
        self.memoize(obj)
        self.save(obj.state)
        self.write(pickle.BUILD)

    def save_tensor(self, obj: Tensor) -> None:
        args = (obj.storage, obj.offset, obj.size, obj.stride, False, OrderedDict())
        self.save_reduce(Global("torch._utils", "_rebuild_tensor_v2"), args, obj=obj)

    dispatch[Global] = save_name
    dispatch[Call] = save_call
    dispatch[Thing] = save_thing
    dispatch[Tensor] = save_tensor


def dumps(tree: Any, protocol: int = 2) -> tuple[bytes, dict[str, bytes]]:
    """Return the pickle of a tree and its storages."""
    file = io.BytesIO()
    writer = _Writer(file, protocol)
    writer.dump(tree)
    return file.getvalue(), writer.storages


def write_archive(
    path: Path,
    data: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    stem: str = "model",
    more: Mapping[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """Write the zip of a checkpoint around a pickle."""
    members = {
        "data.pkl": data,
        "byteorder": b"little",
        **{f"data/{key}": numbers for key, numbers in (storages or {}).items()},
        "version": b"3\n",
        **(more or {}),
    }
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(f"{stem}/{name}", _EPOCH)
            archive.writestr(info, content, compression)
    return path


def write_checkpoint(path: Path, tree: Any, *, protocol: int = 2, stem: str = "model") -> Path:
    """Write a tree of plain values and of the classes above as ``torch.save`` would."""
    data, storages = dumps(tree, protocol)
    return write_archive(path, data, storages, stem=stem)


# Pieces of pickles for files that no pickler writes.


def program(*parts: bytes, protocol: int = 2) -> bytes:
    """Return a pickle of these instructions."""
    return bytes([0x80, protocol]) + b"".join(parts) + b"."


def text(value: str) -> bytes:
    """Return the instruction that pushes a text."""
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + len(data).to_bytes(4, "little") + data


def name(folder: str, thing: str) -> bytes:
    """Return the instruction that pushes a name."""
    return f"c{folder}\n{thing}\n".encode()


def call(function: bytes, *args: bytes) -> bytes:
    """Return the instructions that call a name."""
    return function + b"(" + b"".join(args) + b"tR"
