"""The JSON that Roboflow's inference server and packages answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from itertools import compress, count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.formats.fields import MAX_ID, Field, document
from openkeypoints.geometry import mask_letterbox
from openkeypoints.images import largest_contour
from openkeypoints.results import Prediction, Skeleton
from openkeypoints.skeletons import skeleton_from_names

LOSES = frozenset(
    {
        "model_id",
        "class_names",  # of classes that were not found
        "skeletons",  # all but the names
        "covariances",
        "masks",  # written as the largest contour, not read
        "extras",
        "source",
        "keypoint_confidence",
        "timings",
        "details",
    }
)
_UNSET = ("visualization", "inference_id", "frame_id", "time", "resolved_model")


@dataclass(frozen=True, slots=True)
class KeypointRow:
    """One keypoint under Roboflow's attribute names: pixels of the picture, score 0..1."""

    x: float
    y: float
    confidence: float
    class_id: int
    class_name: str


@dataclass(frozen=True, slots=True)
class PointRow:
    """One point of a contour: pixels of the picture."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """One instance under Roboflow's attribute names: (x, y) is the centre of the box, pixels."""

    x: float
    y: float
    width: float
    height: float
    confidence: float
    class_name: str
    class_confidence: float | None
    class_id: int
    tracker_id: int | None
    detection_id: str
    parent_id: str | None
    keypoints: tuple[KeypointRow, ...] | None
    points: tuple[PointRow, ...] | None


_ROW = tuple(field.name for field in fields(InstanceRow))


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Size of the picture after its orientation was applied, pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A prediction under Roboflow's attribute names; what only a server knows is None."""

    predictions: tuple[InstanceRow, ...]
    image: ImageSize
    visualization: str | None = None
    inference_id: str | None = None
    frame_id: int | None = None
    time: float | None = None
    resolved_model: str | None = None


def dump(
    prediction: Prediction, *, exclude_none: bool = True, by_alias: bool = True
) -> dict[str, Any]:
    """Return Roboflow's JSON as a dict.

    Every keypoint of an instance's class is listed, in the order of its skeleton and with its
    index as ``class_id``, unless ``prediction.keypoint_confidence`` asks to leave out those below
    it. A keypoint without a place (NaN) is left out. Rows of a model without keypoints have no
    such field; those of one with masks have ``points``, the largest contour of the mask.
    Coordinates are sub-pixel; a ``detection_id`` stays the same for the same prediction.

    Args:
        prediction: what a model found.
        exclude_none: leave out fields without a value.
        by_alias: names as on the wire (``class``, beside it ``class_name`` for keypoints); False
            gives ``class_name`` alone.
    """
    answer: dict[str, Any] = {} if exclude_none else dict.fromkeys(_UNSET)
    width, height = prediction.image_size
    answer["image"] = {"width": int(width), "height": int(height)}
    rows = _instances(prediction, by_alias=by_alias)
    if not exclude_none:
        rows = [_complete(row, by_alias=by_alias) for row in rows]
    answer["predictions"] = rows
    return answer


def view(prediction: Prediction) -> Answer:
    """Return a read-only view with Roboflow's attribute names."""
    width, height = prediction.image_size
    rows = _instances(prediction, by_alias=False)
    complete = (_complete(row, by_alias=False) for row in rows)
    return Answer(tuple(_row(**row) for row in complete), ImageSize(int(width), int(height)))


def load(data: Any) -> Prediction:
    """Return the prediction in Roboflow's JSON.

    Keypoints that were left out get no place (NaN) and score 0. Skeletons are known by the names
    of their keypoints alone, unless these are the names of a packaged skeleton.

    Args:
        data: one answer (not a list of them), or its text.

    Raises:
        FormatError: a field is missing or has a wrong value; the message names it.
    """
    root = document(data, "roboflow")
    rows = sorted(root["predictions"].items(), key=lambda row: -row["confidence"].part())
    class_ids = np.array([row["class_id"].integer(0, MAX_ID) for row in rows], np.int64)
    names = {row["class_id"].integer(): row["class"].text() for row in rows}
    skeletons = _skeletons(rows, names)
    k = max((len(s) for s in skeletons.values()), default=0)
    keypoints = np.full((len(rows), k, 2), np.nan, np.float32)
    keypoint_scores = np.zeros((len(rows), k), np.float32)
    for i, row in enumerate(rows):
        for slot, point in _points(row):
            keypoints[i, slot] = point["x"].number(), point["y"].number()
            keypoint_scores[i, slot] = point["confidence"].part()
    image = root["image"]
    return Prediction(
        image_size=(image["width"].integer(0), image["height"].integer(0)),
        model_id="",
        class_names=tuple(names.get(i, f"class_{i}") for i in range(max(names, default=-1) + 1)),
        skeletons=skeletons,
        boxes=np.array([_box(row) for row in rows], np.float32).reshape(-1, 4),
        scores=np.array([row["confidence"].part() for row in rows], np.float32),
        class_ids=class_ids,
        keypoints=keypoints,
        keypoint_scores=keypoint_scores,
        track_ids=_track_ids(rows),
    )


def _instances(prediction: Prediction, *, by_alias: bool) -> list[dict[str, Any]]:
    """Return the fields of each instance that have a value."""
    if not len(prediction):
        return []
    boxes = prediction.boxes.tolist()
    scores, class_ids = prediction.scores.tolist(), prediction.class_ids.tolist()
    tracks: Sequence[int] = (-1,) * len(scores)
    if prediction.track_ids is not None:
        tracks = prediction.track_ids.tolist()
    ids = _detection_ids(prediction)
    keypoints, points = _keypoint_rows(prediction, by_alias=by_alias), _point_rows(prediction)
    rows = []
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        row = {
            "x": (x1 + x2) / 2,
            "y": (y1 + y2) / 2,
            "width": x2 - x1,
            "height": y2 - y1,
            "confidence": scores[i],
            "class" if by_alias else "class_name": prediction.class_names[class_ids[i]],
            "class_id": class_ids[i],
            "detection_id": ids[i],
        }
        if tracks[i] >= 0:
            row["tracker_id"] = tracks[i]
        if keypoints is not None:
            row["keypoints"] = keypoints[i]
        if points is not None:
            row["points"] = points[i]
        rows.append(row)
    return rows


def _complete(row: Mapping[str, Any], *, by_alias: bool) -> dict[str, Any]:
    """Return all fields of an instance, those without a value as None."""
    names = ("class" if by_alias and name == "class_name" else name for name in _ROW)
    return {name: row.get(name) for name in names}


def _keypoint_rows(prediction: Prediction, *, by_alias: bool) -> list[list[dict[str, Any]]] | None:
    if not prediction.skeletons:  # boxes alone: rows of an object detector have no such field
        return None
    places, scores = prediction.keypoints, prediction.keypoint_scores
    lowest = np.float32(prediction.keypoint_confidence)
    shown = None
    # One place that is not finite makes the sum of squares so, which is told soonest.
    if lowest > 0 or not math.isfinite(np.vdot(places, places)):
        shown = (np.isfinite(places).all(axis=2) & (scores >= lowest)).tolist()
    rows = []
    for i, (place_row, score_row) in enumerate(zip(places.tolist(), scores.tolist(), strict=True)):
        skeleton = prediction.skeleton(i)
        names = skeleton.keypoints if skeleton else ()
        row: list[dict[str, Any]] = [
            # The servers say ``class``, the pages of the vendor ``class_name``: both are read.
            {"x": x, "y": y, "confidence": score, "class_id": j, "class": name, "class_name": name}
            for name, (x, y), score, j in zip(names, place_row, score_row, count(), strict=False)
        ]
        if shown is not None:
            row = list(compress(row, shown[i]))
        if not by_alias:
            for point in row:
                del point["class"]
        rows.append(row)
    return rows


def _point_rows(prediction: Prediction) -> list[list[dict[str, float]]] | None:
    if prediction.masks is None or not len(prediction):
        return None
    place = mask_letterbox(prediction)
    edges = (place.to_original(largest_contour(m), clip=True) for m in prediction.masks)
    return [[{"x": x, "y": y} for x, y in edge.tolist()] for edge in edges]


def _row(
    *,
    keypoints: Sequence[Mapping[str, Any]] | None,
    points: Sequence[Mapping[str, float]] | None,
    **fields: Any,
) -> InstanceRow:
    return InstanceRow(
        **fields,
        keypoints=None if keypoints is None else tuple(KeypointRow(**p) for p in keypoints),
        points=None if points is None else tuple(PointRow(**p) for p in points),
    )


def _detection_ids(prediction: Prediction) -> list[str]:
    # Made from the contents, so that dict(), json() and the view of one prediction agree; the
    # timings tell the same picture asked for twice apart.
    base = blake2b(
        repr((prediction.model_id, sorted(prediction.timings.items()))).encode(), digest_size=16
    )
    n = len(prediction)
    parts = (
        prediction.boxes,
        prediction.scores[:, None],
        prediction.class_ids[:, None],
        prediction.keypoints.reshape(n, -1),
    )
    data = np.concatenate(parts, axis=1, dtype=np.float64).tobytes()
    size = len(data) // n
    seen: dict[bytes, int] = {}
    ids = []
    for start in range(0, len(data), size):
        content = data[start : start + size]
        seen[content] = times = seen.get(content, 0) + 1
        digest = base.copy()
        digest.update(content + bytes(times))
        ids.append(uuid_of(digest.hexdigest()))
    return ids


def uuid_of(digits: str) -> str:
    """Return 32 hexadecimal digits as a UUID of version 4 (RFC 9562), which sets six of its bits.

    Python's own class takes five times as long, for each instance of each answer.
    """
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _box(row: Field) -> tuple[float, float, float, float]:
    x, y, w, h = (row[name].number() for name in ("x", "y", "width", "height"))
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def _points(row: Field) -> list[tuple[int, Field]]:
    if not row.has("keypoints"):
        return []
    points = list(row["keypoints"].items())
    return [
        (p["class_id"].integer(0, MAX_ID) if p.has("class_id") else i, p)
        for i, p in enumerate(points)
    ]


def _skeletons(rows: list[Field], class_names: dict[int, str]) -> dict[int, Skeleton]:
    found: dict[int, dict[int, str]] = {}
    for row in rows:
        if not row.has("keypoints"):
            continue
        names = found.setdefault(row["class_id"].integer(), {})
        for slot, point in _points(row):
            key = "class_name" if point.has("class_name") else "class"
            names[slot] = point[key].text() if point.has(key) else f"keypoint_{slot}"
    return {
        class_id: skeleton_from_names(
            class_names[class_id],
            [names.get(i, f"keypoint_{i}") for i in range(max(names) + 1)],
        )
        for class_id, names in found.items()
        if names
    }


def _track_ids(rows: list[Field]) -> NDArray[np.int64] | None:
    if not any(row.has("tracker_id") for row in rows):
        return None
    ids = [row["tracker_id"].integer() if row.has("tracker_id") else -1 for row in rows]
    return np.array(ids, np.int64)
