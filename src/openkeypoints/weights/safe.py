"""The restricted reader of pickled checkpoints: values and numbers come out, nothing is executed.

``read_pickle`` gives the whole tree, ``state_dict`` the tensors of a network in it. Objects are
:class:`Node`: the name of their class and their attributes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import NotFoundError, UnsafeCheckpointError, WeightsError
from openkeypoints.weights.archive import open_archive
from openkeypoints.weights.inert import Budget, Node, Pending
from openkeypoints.weights.opcodes import Machine
from openkeypoints.weights.stand_ins import StandIns

__all__ = ["Node", "pickle_of", "read_pickle", "state_dict"]

MAX_TREE = 2_000_000
"""Values in the tree, shared ones counted at each place: what walking all of it would visit."""
MAX_DEPTH = 300
MAX_TENSORS = 100_000
MAX_NAME = 1000
MAX_REPEATED_BYTES = 64 << 20


def read_pickle(path: Path) -> Any:
    """Return what a checkpoint holds, without executing or importing anything.

    Mappings, lists, tuples, sets, texts and numbers come as they are; tensors, parameters and
    storages as read-only arrays of the file's own type (bfloat16 as float32); objects as
    :class:`Node`; paths, devices and bound methods as text.

    Raises:
        NotFoundError: there is no such file.
        UnsafeCheckpointError: it asks for more than values, or is made to exhaust the machine.
        WeightsError: it is damaged, or not a checkpoint of PyTorch 1.6 or later.
    """
    with _named(path), open_archive(path) as archive:
        budget = Budget()
        names = StandIns(archive, budget)
        tree = Machine(archive.pickle, names.find, names.load, budget).run()
        _check_tree(tree)
    return tree


def pickle_of(path: Path) -> bytes:
    """Return the bytes of a checkpoint's pickle, none where :func:`read_pickle` cannot read it."""
    try:
        with open_archive(path) as archive:
            return archive.pickle
    except (WeightsError, NotFoundError):
        return b""


def state_dict(node: Node) -> dict[str, NDArray[Any]]:
    """Return the tensors of a module by name, in the order of torch's ``state_dict()``.

    Raises:
        WeightsError: the object is no module, or its parts are not what modules have.
        UnsafeCheckpointError: its parts are repeated until they fill the memory.
    """
    tensors: dict[str, NDArray[Any]] = {}
    _collect(node, "", tensors)
    distinct = {id(array): array.nbytes for array in tensors.values()}
    repeated = sum(array.nbytes for array in tensors.values()) - sum(distinct.values())
    if repeated > MAX_REPEATED_BYTES:
        raise UnsafeCheckpointError("The network repeats its tensors until they fill the memory.")
    return tensors


def _collect(module: Node, prefix: str, tensors: dict[str, NDArray[Any]]) -> None:
    """Add the tensors of a module and then those of its children."""
    if len(prefix) > MAX_NAME or len(tensors) > MAX_TENSORS:
        raise UnsafeCheckpointError(
            f"The network has more than {MAX_TENSORS} tensors or names of over {MAX_NAME} letters."
        )
    hidden = module.state.get("_non_persistent_buffers_set", set())
    buffers = _part(module, "_buffers", np.ndarray)
    if not isinstance(hidden, set):
        raise WeightsError(f"An object of {module.path} is no module of a network.")
    for name, value in _part(module, "_parameters", np.ndarray).items():
        tensors[prefix + name] = value
    for name, value in buffers.items():
        if name not in hidden:
            tensors[prefix + name] = value
    for name, child in _part(module, "_modules", Node).items():
        _collect(child, f"{prefix}{name}.", tensors)


def _part(module: Node, name: str, kind: type[Any]) -> dict[str, Any]:
    """Return one of a module's tables without what is None in it."""
    part = module.state.get(name)
    if not isinstance(part, dict):
        raise WeightsError(
            f"An object of {module.path} is no module of a network: it has no {name}."
        )
    for key, value in part.items():
        if not isinstance(key, str) or len(key) > MAX_NAME or not isinstance(value, kind | None):
            raise WeightsError(
                f"{name} of an object of {module.path} holds a {type(value).__name__}, which no "
                "module of a network has there."
            )
    return {key: value for key, value in part.items() if value is not None}


def _check_tree(root: Any) -> None:
    """Refuse a tree that contains itself, or that is much larger to walk than to store."""
    sizes: dict[int, int] = {}  # id -> number of values in it
    above: dict[int, None] = {}  # what lies between the root and here
    todo: list[tuple[Any, tuple[Any, ...] | None]] = [(root, None)]
    while todo:
        value, children = todo.pop()
        if children is None:
            if id(value) in above:
                raise UnsafeCheckpointError(
                    "The pickle has a value that contains itself: do not use the file."
                )
            if id(value) in sizes or not (children := _children(value)):
                continue
            above[id(value)] = None
            todo.append((value, children))
            todo.extend((child, None) for child in children)
        else:
            del above[id(value)]
            sizes[id(value)] = 1 + sum(sizes.get(id(child), 1) for child in children)
        if len(above) > MAX_DEPTH or sizes.get(id(value), 0) > MAX_TREE:
            raise UnsafeCheckpointError(
                f"The pickle is nested in over {MAX_DEPTH} levels, or repeats its parts until it "
                f"has over {MAX_TREE} values: it is made to exhaust this machine, so do not use "
                "the file."
            )


def _children(value: Any) -> tuple[Any, ...]:
    if isinstance(value, Node):
        return (value.args, value.state)
    if isinstance(value, Mapping):
        return tuple(value.values())
    if isinstance(value, Pending):
        raise UnsafeCheckpointError(f"The pickle has a {value.path} without content.")
    return tuple(value) if isinstance(value, list | tuple) else ()


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the name of the file before what is said of it."""
    try:
        yield
    except WeightsError as error:
        raise type(error)(f"{path.name}: {error}") from error
