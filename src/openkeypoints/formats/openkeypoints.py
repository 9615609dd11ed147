"""Our own JSON: everything that a prediction holds, readable and without loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import FormatError, InputError
from openkeypoints.formats.fields import MAX_ID, Field, document
from openkeypoints.images import run_lengths
from openkeypoints.results import Prediction, Skeleton
from openkeypoints.skeletons import skeleton_to_json

VERSION = 1
LOSES: frozenset[str] = frozenset()
Numbers = Callable[..., list[Any]]
"""Makes of float32 arrays what a document has in their place."""
_KINDS = "biuf"  # numpy kinds of extras: bool, whole numbers, floats
_MAX_MASK_PIXELS = 64_000_000
_SURE_DIGITS, _ENOUGH_DIGITS = 6, 9
"""So many digits are never too exact for a float32, and so many are always exact enough."""
_LEAST_USUAL, _MOST_USUAL = 1e-9, 1e6
_MORE_DIGITS = np.arange(_ENOUGH_DIGITS - _SURE_DIGITS + 1)[:, None]
_TENS = np.array([float(f"1e{power}") for power in range(18)])


def dump(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as a dict of plain values that `load` turns back without loss.

    ``instances`` has one row an instance: ``box`` (x1 y1 x2 y2, pixels), ``score``, ``class_id``,
    ``keypoints`` (x, y, score; x and y are null where a slot is unused) and, where the prediction
    has them, ``covariances`` (2x2, px²), ``track_id`` and ``mask`` (run lengths down the columns,
    beginning with the background). No threshold is applied: ``keypoint_confidence`` is written.
    Sequences in ``details`` come back as tuples.
    """
    return _document(prediction, _numbers)


def dump_arrays(prediction: Prediction) -> dict[str, Any]:
    """Return what `dump` does, with the floats still in arrays.

    For writers of JSON that know float32 arrays: their shortest decimals, null for NaN. What is
    infinite, which they would make null too, comes as `dump` has it.
    """
    return _document(prediction, _kept)


def _document(prediction: Prediction, numbers: Numbers) -> dict[str, Any]:
    width, height = prediction.image_size
    masks = prediction.masks
    source = {} if prediction.source is None else {"source": prediction.source}
    return {
        "format": "openkeypoints",
        "version": VERSION,
        "image": {"width": int(width), "height": int(height)},
        "model_id": prediction.model_id,
        "class_names": list(prediction.class_names),
        "skeletons": {str(i): skeleton_to_json(s) for i, s in prediction.skeletons.items()},
        "keypoint_slots": prediction.keypoints.shape[1],
        "has_covariances": prediction.covariances is not None,
        "has_track_ids": prediction.track_ids is not None,
        "mask_size": None if masks is None else [int(side) for side in masks.shape[1:]],
        "instances": _instances(prediction, numbers),
        "extras": {name: _packed(value) for name, value in prediction.extras.items()},
        **source,
        "keypoint_confidence": float(prediction.keypoint_confidence),
        "timings": {name: float(ms) for name, ms in prediction.timings.items()},
        "details": _plain(prediction.details),
    }


def load(data: Any) -> Prediction:
    """Return the prediction that `dump` wrote.

    Args:
        data: the dict, or its text.

    Raises:
        FormatError: a field is missing or has a wrong value; the message names it.
    """
    root = document(data, "openkeypoints")
    if root["format"].value != "openkeypoints":
        raise root["format"].wrong("'openkeypoints'")
    root["version"].integer(1, VERSION)
    class_names = tuple(name.text() for name in root["class_names"].items())
    rows = list(root["instances"].items())
    n, k = len(rows), root["keypoint_slots"].integer(0, MAX_ID)
    points = _array([row["keypoints"] for row in rows], (n, k, 3))
    covariances = None
    if root["has_covariances"].value is True:
        covariances = _array([row["covariances"] for row in rows], (n, k, 2, 2))
    track_ids = None
    if root["has_track_ids"].value is True:
        track_ids = np.array([row["track_id"].integer() for row in rows], np.int64)
    image = root["image"]
    try:
        return Prediction(
            image_size=(image["width"].integer(0), image["height"].integer(0)),
            model_id=root["model_id"].text(),
            class_names=class_names,
            skeletons={
                _key(name, field): _skeleton(field) for name, field in root["skeletons"].members()
            },
            boxes=_array([row["box"] for row in rows], (n, 4)),
            scores=np.array([row["score"].number() for row in rows], np.float32),
            class_ids=np.array([row["class_id"].integer(0, MAX_ID) for row in rows], np.int64),
            keypoints=np.ascontiguousarray(points[..., :2]),
            keypoint_scores=np.ascontiguousarray(points[..., 2]),
            covariances=covariances,
            track_ids=track_ids,
            masks=_masks(root, rows),
            extras={name: _unpacked(field, n) for name, field in root["extras"].members()},
            source=root["source"].text() if root.has("source") else None,
            keypoint_confidence=root["keypoint_confidence"].number(),
            timings={name: field.number() for name, field in root["timings"].members()},
            details={name: _frozen(field.value) for name, field in root["details"].members()},
        )
    except ValueError as error:  # the record refuses what no single field shows to be wrong
        raise FormatError(f"openkeypoints: the parts do not fit: {error}.") from error


def _instances(prediction: Prediction, numbers: Numbers) -> list[dict[str, Any]]:
    if not len(prediction):
        return []
    points = np.concatenate([prediction.keypoints, prediction.keypoint_scores[..., None]], axis=-1)
    arrays = [prediction.boxes, prediction.scores, points]
    if prediction.covariances is not None:
        arrays.append(prediction.covariances)
    boxes, scores, points_rows, *rest = numbers(*arrays)
    class_ids = prediction.class_ids.tolist()
    rows = []
    for i in range(len(prediction)):
        row: dict[str, Any] = {
            "box": boxes[i],
            "score": scores[i],
            "class_id": class_ids[i],
            "keypoints": points_rows[i],
        }
        if rest:
            row["covariances"] = rest[0][i]
        if prediction.track_ids is not None:
            row["track_id"] = int(prediction.track_ids[i])
        if prediction.masks is not None:
            row["mask"] = run_lengths(prediction.masks[i])
        rows.append(row)
    return rows


def _skeleton(field: Field) -> Skeleton:
    return Skeleton(
        name=field["name"].text(),
        keypoints=tuple(name.text() for name in field["keypoints"].items()),
        edges=tuple(_edge(edge) for edge in field["edges"].items()),
        flip=tuple(i.integer() for i in field["flip"].items()),
        sigmas=tuple(sigma.number() for sigma in field["sigmas"].items()),
        colors=tuple(color.text() for color in field["colors"].items()),
        groups={
            name: tuple(i.integer() for i in indexes.items())
            for name, indexes in field["groups"].members()
        },
    )


def _edge(field: Field) -> tuple[int, int]:
    ends = [end.integer(0) for end in field.items()]
    if len(ends) != 2:
        raise field.wrong("two indexes of keypoints")
    return ends[0], ends[1]


def _key(name: str, field: Field) -> int:
    if not name.isdecimal():
        raise FormatError(f"{field.path}: the name of a skeleton's field must be a class id.")
    return int(name)


def _numbers(*arrays: NDArray[np.float32]) -> list[Any]:
    """Return nested lists; the shortest decimals that give the same float, null for NaN."""
    # All at once: most of the time is that of the calls.
    flat = _shortest(np.concatenate([array.ravel() for array in arrays]))
    ends = np.cumsum([array.size for array in arrays]).tolist()
    return [
        _lists(flat[end - array.size : end].reshape(array.shape))
        for array, end in zip(arrays, ends, strict=True)
    ]


def _kept(*arrays: NDArray[np.float32]) -> list[Any]:
    """Return the arrays as they are, or all as lists where one has infinite values."""
    return _numbers(*arrays) if any(np.isinf(a).any() for a in arrays) else list(arrays)


def _lists(array: NDArray[np.float64]) -> Any:
    """Return nested lists with null for NaN, and a word for what lies beyond all numbers."""
    if np.isfinite(array).all():
        return array.tolist()
    shaped = array.astype(object)
    shaped[np.isnan(array)] = None
    shaped[np.isposinf(array)] = "inf"
    shaped[np.isneginf(array)] = "-inf"
    return shaped.tolist()


def _shortest(array: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the doubles of the shortest decimals that are read as the same floats.

    That is 0.9 for the float32 whose double is 0.8999999761581421.
    """
    values = array.ravel()
    found = values.astype(np.float64)
    if values.dtype == np.float64:
        return found.reshape(array.shape)
    sizes = np.abs(found)
    usual = np.zeros(len(found), np.bool_)
    if values.dtype == np.float32:
        usual = (sizes >= _LEAST_USUAL) & (sizes < _MOST_USUAL)
        places = _SURE_DIGITS - 1 - np.floor(np.log10(sizes, where=usual, out=np.zeros_like(sizes)))
        scales = _TENS[places.astype(np.int64) + _MORE_DIGITS]
        near = np.rint(values * scales) / scales
        first = (near.astype(np.float32) == values).argmax(axis=0)
        found = np.where(usual, near[first, np.arange(len(found))], found)
    for place in np.flatnonzero(np.isfinite(sizes) & (sizes != 0) & ~usual):
        found[place] = float(str(values[place]))
    return found.reshape(array.shape)


def _array(fields: list[Field], shape: tuple[int, ...]) -> NDArray[np.float32]:
    rows = [np.array(_floats(field, shape[1:])).reshape(shape[1:]) for field in fields]
    return np.array(rows, np.float32).reshape(shape)


def _floats(field: Field, shape: tuple[int, ...]) -> list[float]:
    if not shape:
        return [_float(field)]
    entries = list(field.items())
    if len(entries) != shape[0]:
        raise field.wrong(f"a list of {shape[0]} entries")
    return [value for entry in entries for value in _floats(entry, shape[1:])]


def _float(field: Field) -> float:
    if field.value is None:
        return float("nan")
    if field.value in ("inf", "-inf"):
        return float(field.value)
    if isinstance(field.value, float):  # a float64 of extras may be larger than number() allows
        return field.value
    return field.number()


def _packed(array: NDArray[Any]) -> dict[str, Any]:
    if array.dtype.kind not in _KINDS:
        raise InputError(f"openkeypoints: extras of type {array.dtype} have no form in JSON.")
    values = _lists(_shortest(array)) if array.dtype.kind == "f" else array.tolist()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "values": values}


def _unpacked(field: Field, rows: int) -> NDArray[Any]:
    name = field["dtype"].text()
    shape = tuple(side.integer(0) for side in field["shape"].items())
    if shape[:1] != (rows,):
        raise field["shape"].wrong(f"a shape that begins with {rows}, the number of instances")
    try:
        dtype = np.dtype(name)
        if dtype.kind == "f":
            return np.array(_floats(field["values"], shape), dtype).reshape(shape)
        if dtype.kind in _KINDS:
            return np.array(field["values"].value, dtype).reshape(shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise field["values"].wrong(f"numbers of type {name} and shape {shape}") from error
    raise field["dtype"].wrong("the name of a type of numbers")


def _masks(root: Field, rows: list[Field]) -> NDArray[np.bool_] | None:
    if not root.has("mask_size"):
        return None
    size = [side.integer(0, _MAX_MASK_PIXELS) for side in root["mask_size"].items()]
    if len(size) != 2 or size[0] * size[1] > _MAX_MASK_PIXELS:
        raise root["mask_size"].wrong("a height and a width")
    height, width = size
    masks = np.zeros((len(rows), height, width), np.bool_)
    for i, row in enumerate(rows):
        counts = [count.integer(0) for count in row["mask"].items()]
        if sum(counts) != height * width:
            raise row["mask"].wrong(f"run lengths that add up to {height * width}")
        values = np.arange(len(counts)) % 2 == 1
        masks[i] = np.repeat(values, counts).reshape(width, height).T
    return masks


def _plain(value: Any) -> Any:
    """Return a value of ``details`` in what JSON knows."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _frozen(entry) for name, entry in value.items()}
    return tuple(_frozen(entry) for entry in value) if isinstance(value, list) else value
