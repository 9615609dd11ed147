"""The YAML of every YOLO network that we read, from its table of layers, and numbers for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.models.yolo.layers import needed_tensors

SIZES = "nsmlx"
_V8 = {"n": (0.33, 0.25, 1024), "s": (0.33, 0.5, 1024), "m": (0.67, 0.75, 768),
       "l": (1.0, 1.0, 512), "x": (1.0, 1.25, 512)}  # fmt: skip
_LATER = {"n": (0.5, 0.25, 1024), "s": (0.5, 0.5, 1024), "m": (0.5, 1.0, 512),
          "l": (1.0, 1.0, 512), "x": (1.0, 1.5, 512)}  # fmt: skip
SCALES = {"v8": _V8, "v8-p6": _V8, "11": _LATER, "26": _LATER}
FAMILIES = tuple(SCALES)
TASKS = ("pose", "detect", "segment")

_UP = [-1, 1, "nn.Upsample", ["None", 2, "nearest"]]


def yolo_yaml(
    family: str,
    task: str,
    *,
    nc: int,
    kpt_shape: list[int] | None = None,
    width: float | None = None,
    depth: float | None = None,
    scale: str = "n",
) -> dict[str, Any]:
    """Return the YAML of a network as its checkpoint would carry it.

    Args:
        family: ``v8``, ``v8-p6``, ``11`` or ``26``.
        task: ``pose``, ``detect`` or ``segment``.
        nc: number of classes.
        kpt_shape: [K, D] of pose.
        width: factor of the channels in place of the size's own; 0.0625 makes a tiny network.
        depth: factor of the repeats in place of the size's own.
        scale: the size letter.
    """
    sizes = {letter: list(row) for letter, row in SCALES[family].items()}
    own_depth, own_width, most = sizes[scale]
    sizes[scale] = [
        own_depth if depth is None else depth, own_width if width is None else width, most,
    ]  # fmt: skip
    rows, levels = {"v8": _v8, "v8-p6": _v8_p6, "11": _v11, "26": _v26}[family]()
    kind = task.capitalize() + ("26" if family == "26" and task != "detect" else "")
    args: dict[str, list[Any]] = {
        "pose": ["nc", "kpt_shape"], "detect": ["nc"], "segment": ["nc", 32, 256],
    }  # fmt: skip
    split = next(i for i, row in enumerate(rows) if row[2] == "nn.Upsample")
    head = [*rows[split:], [levels, 1, kind, args[task]]]
    yaml = {"nc": nc, "scales": sizes, "backbone": rows[:split], "head": head, "scale": scale}
    if task == "pose":
        yaml["kpt_shape"] = kpt_shape or [17, 3]
    if family == "26":
        yaml |= {"end2end": True, "reg_max": 1}
    return yaml | {"channels": 3}


def random_tensors(yaml: dict[str, Any], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return every tensor of a network, drawn so that its maps stay within a few units."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in needed_tensors(yaml).items():
        numbers = rng.standard_normal(shape)
        if name.endswith(("bn.weight", "running_var")):
            numbers = 1 + 0.1 * np.abs(numbers)
        elif len(shape) == 4:
            numbers *= 1.5 / np.sqrt(np.prod(shape[1:]))
        else:
            numbers *= 0.1
        tensors[name] = np.float32(numbers)
    return tensors


def _down(channels: int) -> list[Any]:
    return [-1, 1, "Conv", [channels, 3, 2]]


def _concat(index: int) -> list[Any]:
    return [[-1, index], 1, "Concat", [1]]


def _v8() -> tuple[list[Any], list[int]]:
    def c2f(channels: int, repeats: int = 3, *shortcut: bool) -> list[Any]:
        return [-1, repeats, "C2f", [channels, *shortcut]]

    rows = [
        _down(64), _down(128), c2f(128, 3, True), _down(256), c2f(256, 6, True),
        _down(512), c2f(512, 6, True), _down(1024), c2f(1024, 3, True), [-1, 1, "SPPF", [1024, 5]],
        _UP, _concat(6), c2f(512), _UP, _concat(4), c2f(256),
        _down(256), _concat(12), c2f(512), _down(512), _concat(9), c2f(1024),
    ]  # fmt: skip
    return rows, [15, 18, 21]


def _v8_p6() -> tuple[list[Any], list[int]]:
    def c2(channels: int) -> list[Any]:
        return [-1, 3, "C2", [channels, False]]

    def c2f(channels: int, repeats: int) -> list[Any]:
        return [-1, repeats, "C2f", [channels, True]]

    rows = [
        _down(64), _down(128), c2f(128, 3), _down(256), c2f(256, 6), _down(512), c2f(512, 6),
        _down(768), c2f(768, 3), _down(1024), c2f(1024, 3), [-1, 1, "SPPF", [1024, 5]],
        _UP, _concat(8), c2(768), _UP, _concat(6), c2(512), _UP, _concat(4), c2(256),
        _down(256), _concat(17), c2(512), _down(512), _concat(14), c2(768),
        _down(768), _concat(11), c2(1024),
    ]  # fmt: skip
    return rows, [20, 23, 26, 29]


def _v11() -> tuple[list[Any], list[int]]:
    return _eleven([1024, 5], [False, False, False], [-1, 2, "C3k2", [1024, True]])


def _v26() -> tuple[list[Any], list[int]]:
    last = [-1, 1, "C3k2", [1024, True, 0.5, True]]
    return _eleven([1024, 5, 3, True], [True, True, True], last)


def _eleven(sppf: list[Any], neck: list[bool], last: list[Any]) -> tuple[list[Any], list[int]]:
    def c3k2(channels: int, *args: bool | float) -> list[Any]:
        return [-1, 2, "C3k2", [channels, *args]]

    rows = [
        _down(64), _down(128), c3k2(256, False, 0.25), _down(256), c3k2(512, False, 0.25),
        _down(512), c3k2(512, True), _down(1024), c3k2(1024, True),
        [-1, 1, "SPPF", sppf], [-1, 2, "C2PSA", [1024]],
        _UP, _concat(6), c3k2(512, neck[0]), _UP, _concat(4), c3k2(256, neck[1]),
        _down(256), _concat(13), c3k2(512, neck[2]), _down(512), _concat(10), last,
    ]  # fmt: skip
    return rows, [16, 19, 22]
