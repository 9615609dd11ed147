"""The JSON of Ultralytics: the rows of one picture, and the answer of its platform's service."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import FormatError, InputError
from openkeypoints.formats.fields import MAX_ID, Field, document
from openkeypoints.geometry import mask_letterbox
from openkeypoints.images import contours
from openkeypoints.results import Prediction, Skeleton
from openkeypoints.skeletons import skeleton_from_names

LOSES = frozenset(
    {
        "image_size",  # rows have none; the service's answer has
        "model_id",
        "class_names",  # of classes that were not found
        "skeletons",  # all but the number of keypoints
        "covariances",
        "masks",  # written as outlines, not read
        "extras",
        "source",
        "keypoint_confidence",
        "timings",
        "details",
    }
)
DECIMALS = 5
_MAX_SIDE = 10**6  # of a picture whose size is guessed from what lies in it
_MIDDLE = 1e-15
"""Share of a product by which its own rounding can move it, nine times over. Products that are so
large that they have no half are thereby all beside the middle."""
_PAIRS = 1_000_000  # distances that are worked out at once

Points = NDArray[np.float32]


def dump(
    prediction: Prediction, *, normalize: bool = False, decimals: int = DECIMALS
) -> list[dict[str, Any]]:
    """Return the rows of one picture, best first.

    ``keypoints`` always lists all keypoints of the class: ``prediction.keypoint_confidence`` hides
    none, since clients count places and have ``visible`` (the scores) to choose by. It is absent
    where the model gives two values a keypoint (``details["keypoint_values"] == 2``). A keypoint
    without a place (NaN) is 0, 0 with ``visible`` 0. ``segments`` is the outline of the mask, its
    pieces joined to one.

    Args:
        prediction: what a model found.
        normalize: divide coordinates by the width and height of the picture.
        decimals: digits after the point, of all numbers; they are rounded last.
    """
    if not len(prediction):
        return []
    corners: NDArray[np.floating[Any]] = prediction.boxes
    places = prediction.keypoints
    if not math.isfinite(np.vdot(places, places)):  # quicker than to look at each
        places = np.where(np.isfinite(places), places, np.float32(0))
    size = np.ones(2, np.float32)
    if normalize:
        # Boxes are divided in double precision and points in single: the recorded last digits
        # show it.
        corners = corners / np.array(prediction.image_size * 2, np.float64)
        size = np.array(prediction.image_size, np.float32)
        places = places / size
    table = np.concatenate(
        (
            corners,
            prediction.scores[:, None],
            places[..., 0],
            places[..., 1],
            prediction.keypoint_scores,
        ),
        axis=1,
        dtype=np.float64,
    )
    numbers = _rounded(table, decimals).tolist()
    slots = prediction.keypoint_scores.shape[1]
    with_scores = prediction.details.get("keypoint_values") != 2
    outlines = _outlines(prediction)
    rows = []
    for i, class_id in enumerate(prediction.class_ids.tolist()):
        x1, y1, x2, y2, score, *points = numbers[i]
        row: dict[str, Any] = {
            "name": prediction.class_names[class_id],
            "class": class_id,
            "confidence": score,
            "box": {"x1": x1, "y1": y1, "x2": x2, "y2": y2},
        }
        if prediction.track_ids is not None and prediction.track_ids[i] >= 0:
            row["track_id"] = int(prediction.track_ids[i])
        if outlines is not None:
            x, y = _rounded((outlines[i] / size).T.astype(np.float64), decimals).tolist()
            row["segments"] = {"x": x, "y": y}
        if (skeleton := prediction.skeleton(i)) is not None:
            k = len(skeleton)
            row["keypoints"] = {"x": points[:k], "y": points[slots : slots + k]}
            if with_scores:
                row["keypoints"]["visible"] = points[2 * slots : 2 * slots + k]
        rows.append(row)
    return rows


def service_answer(
    predictions: Sequence[Prediction],
    *,
    alive_s: float,
    call_s: float,
    versions: Mapping[str, str],
    normalize: bool = False,
    decimals: int = DECIMALS,
) -> dict[str, Any]:
    """Return what the platform's service answers: pictures, their rows, and facts on the call.

    Its objects are closed: there is no ``track_id``, and nothing may be added.

    Args:
        predictions: of one model, one a picture.
        alive_s: seconds since the service began.
        call_s: seconds that this call took.
        versions: name -> version of the programs at work.
        normalize: as in `dump`.
        decimals: as in `dump`.
    """
    images = []
    for prediction in predictions:
        width, height = prediction.image_size
        rows = dump(prediction, normalize=normalize, decimals=decimals)
        for row in rows:
            row.pop("track_id", None)
        shape = [int(height), int(width)]
        images.append({"shape": shape, "speed": _speed(prediction), "results": rows})
    metadata: dict[str, Any] = {
        "imageCount": len(images),
        "functionTimeAlive": float(alive_s),
        "functionTimeCall": float(call_s),
        "version": dict(versions),
    }
    if predictions:
        first = predictions[0]
        metadata |= {"model": first.model_id} if first.model_id else {}
        metadata |= {"task": _task(first), "classNames": list(first.class_names)}
    return {"images": images, "metadata": metadata}


def load(
    data: Any,
    *,
    image: int | None = None,
    image_size: tuple[int, int] | None = None,
    normalized: bool = False,
    skeletons: Mapping[int, Skeleton] | None = None,
) -> Prediction:
    """Return the prediction in the rows of one picture, or in an answer of the service.

    Keypoints get numbers for names unless skeletons are given; without ``visible`` they score 1.
    ``segments`` are not read.

    Args:
        data: the list of rows, or the object of the service; or the text of either.
        image: which picture of an answer, from 0; needed where there are several.
        image_size: (width, height) of the picture. Rows do not tell; by default it is as large as
            what lies in it. An answer of the service tells.
        normalized: coordinates are parts of width and height, 0..1.
        skeletons: class id -> skeleton.

    Raises:
        FormatError: a field is missing or has a wrong value; the message names it.
        InputError: ``normalized`` without a size of the picture.
    """
    root = document(data, "ultralytics")
    table, names = root, dict[int, str]()
    if isinstance(root.value, dict):
        picture = _image(root, image)
        table = picture["results"]
        image_size = _shape(picture["shape"])
        names = _service_names(root)
    rows = sorted(table.items(), key=lambda row: -_score(row))
    if normalized and image_size is None:
        raise InputError("normalized rows do not tell the size of the picture: give image_size.")
    names |= {row["class"].integer(0, MAX_ID): row["name"].text() for row in rows}
    class_ids = np.array([row["class"].integer() for row in rows], np.int64)
    points = [_points(row) for row in rows]
    known = _skeletons(class_ids.tolist(), points, names) | dict(skeletons or {})
    k = max((len(s) for s in known.values()), default=0)
    keypoints = np.full((len(rows), k, 2), np.nan, np.float32)
    keypoint_scores = np.zeros((len(rows), k), np.float32)
    for i, row in enumerate(points):
        if len(row) > k:
            raise FormatError(f"ultralytics: row {i} has {len(row)} keypoints, its skeleton {k}.")
        keypoints[i, : len(row)], keypoint_scores[i, : len(row)] = row[:, :2], row[:, 2]
    boxes = np.array([_box(row) for row in rows], np.float32).reshape(-1, 4)
    size = _extent(boxes, keypoints) if image_size is None else image_size
    scale = np.array(size if normalized else (1, 1), np.float32)
    return Prediction(
        image_size=size,
        model_id="",
        class_names=tuple(names.get(i, f"class_{i}") for i in range(max(names, default=-1) + 1)),
        skeletons=known,
        boxes=boxes * np.tile(scale, 2),
        scores=np.array([_score(row) for row in rows], np.float32),
        class_ids=class_ids,
        keypoints=keypoints * scale,
        keypoint_scores=keypoint_scores,
        track_ids=_track_ids(rows),
        details={} if _have_scores(rows) else {"keypoint_values": 2},
    )


# ------------------------------------------------------------------------------- writing


def _rounded(values: NDArray[np.float64], decimals: int) -> NDArray[np.float64]:
    """Return the nearest decimals, as Python's `round` has them.

    numpy's can be one off: it rounds a product that was rounded before. That can only happen beside
    the middle between two decimals, where Python's own, ten times slower, decides.
    """
    scale = 10.0**decimals
    scaled = values * scale
    whole = np.rint(scaled)
    found = whole / scale
    offsets = np.abs(scaled - whole)
    sure = 0.5 - _MIDDLE * np.abs(scaled).max(initial=1.0)
    if offsets.max(initial=0.0) < sure:
        return found
    for place in zip(*np.nonzero(~(offsets < sure)), strict=True):
        found[place] = round(float(values[place]), decimals)
    return found


def _speed(prediction: Prediction) -> dict[str, float]:
    stages = {
        "preprocess": ("decode", "prepare"),
        "inference": ("run",),
        "postprocess": ("finish",),
    }
    return {
        name: float(sum(prediction.timings.get(part, 0.0) for part in parts))
        for name, parts in stages.items()
    }


def _task(prediction: Prediction) -> str:
    if prediction.skeletons:
        return "pose"
    return "detect" if prediction.masks is None else "segment"


def _outlines(prediction: Prediction) -> list[Points] | None:
    """Return one outline (P, 2) around all pieces of each mask, in pixels of the picture."""
    if prediction.masks is None or not len(prediction):
        return None
    place = mask_letterbox(prediction)
    outlines = (_joined(contours(mask)) for mask in prediction.masks)
    return [place.to_original(edge, clip=True).astype(np.float32) for edge in outlines]


def _joined(pieces: Sequence[Points]) -> Points:
    """Join closed edges to one that goes from each to the next at their nearest points, and back.

    The first and the last piece are walked round as a whole. Of those between, one side is walked
    on the way there and the other on the way back.
    """
    if len(pieces) < 2:
        return pieces[0] if pieces else np.zeros((0, 2), np.float32)
    bridges = [_nearest(a, b) for a, b in pairwise(pieces)]
    start, end = bridges[0][0], bridges[-1][1]
    there, back = [_round(pieces[0], start)], [_round(pieces[-1], end)]
    for piece, (_, entry), (leave, _) in zip(pieces[1:-1], bridges, bridges[1:], strict=False):
        # What lies between the two points in the list is the way there.
        ring = _round(piece, entry) if entry <= leave else _round(piece[::-1], -1 - entry)
        middle = abs(leave - entry)
        there.append(ring[: middle + 1])
        back.append(ring[middle:])
    return np.concatenate(there + back[:1] + back[:0:-1])


def _round(piece: Points, start: int) -> Points:
    """Return the points from one of them all the way round to it again."""
    ring = np.roll(piece, -start, axis=0)
    return np.concatenate([ring, ring[:1]])


def _nearest(one: Points, other: Points) -> tuple[int, int]:
    """Return the indexes of the two points that are nearest; of equal pairs the first."""
    step = max(1, _PAIRS // len(other))
    best = (np.inf, 0, 0)
    for first in range(0, len(one), step):
        offsets = one[first : first + step, None] - other[None]
        distances = np.square(offsets).sum(axis=-1)
        i, j = divmod(int(distances.argmin()), len(other))
        if distances[i, j] < best[0]:
            best = (distances[i, j], first + i, j)
    return best[1], best[2]


# ------------------------------------------------------------------------------- reading


def _image(root: Field, index: int | None) -> Field:
    images = list(root["images"].items())
    if index is None and len(images) != 1:
        raise FormatError(
            f"ultralytics: images has {len(images)} entries and a prediction is one picture; "
            "name it with image."
        )
    if not 0 <= (index or 0) < len(images):
        raise FormatError(f"ultralytics: images has no picture {index}.")
    return images[index or 0]


def _shape(field: Field) -> tuple[int, int]:
    sides = [side.integer(0) for side in field.items()]
    if len(sides) != 2:
        raise field.wrong("height and width")
    return sides[1], sides[0]


def _service_names(root: Field) -> dict[int, str]:
    if not root.has("metadata") or not root["metadata"].has("classNames"):
        return {}
    names = [name.text() for name in root["metadata"]["classNames"].items()]
    return dict(enumerate(names[:MAX_ID]))


def _score(row: Field) -> float:
    return row["confidence"].part() if row.has("confidence") else 1.0


def _box(row: Field) -> list[float]:
    return [row["box"][name].number() for name in ("x1", "y1", "x2", "y2")]


def _points(row: Field) -> NDArray[np.float64]:
    """Return the keypoints (K, 3) of a row: x, y, score; NaN where one has no place."""
    if not row.has("keypoints"):
        return np.zeros((0, 3))
    field = row["keypoints"]
    x = [value.number() for value in field["x"].items()]
    if len(x) > MAX_ID:
        raise field["x"].wrong(f"a list of at most {MAX_ID} numbers")
    y = field["y"].numbers(len(x))
    scores = [1.0] * len(x)
    if field.has("visible"):
        scores = [value.part() for value in field["visible"].items()]
        if len(scores) != len(x):
            raise field["visible"].wrong(f"a list of {len(x)} numbers")
    points = np.array([x, y, scores]).T.reshape(-1, 3)
    points[~points.any(axis=1), :2] = np.nan
    return points


def _skeletons(
    class_ids: Iterable[int], points: Sequence[NDArray[np.float64]], names: Mapping[int, str]
) -> dict[int, Skeleton]:
    counts: dict[int, int] = {}
    for class_id, row in zip(class_ids, points, strict=True):
        counts[class_id] = max(counts.get(class_id, 0), len(row))
    return {
        class_id: skeleton_from_names(names[class_id], [f"keypoint_{i}" for i in range(count)])
        for class_id, count in counts.items()
        if count
    }


def _have_scores(rows: Sequence[Field]) -> bool:
    with_points = [row["keypoints"] for row in rows if row.has("keypoints")]
    return not with_points or any(field.has("visible") for field in with_points)


def _extent(boxes: NDArray[np.float32], keypoints: NDArray[np.float32]) -> tuple[int, int]:
    places = np.concatenate([boxes.reshape(-1, 2), keypoints.reshape(-1, 2)])
    if not len(places):
        return 0, 0
    right, bottom = np.clip(np.nan_to_num(places).max(axis=0), 0, _MAX_SIDE)
    return int(np.ceil(right)), int(np.ceil(bottom))


def _track_ids(rows: Sequence[Field]) -> NDArray[np.int64] | None:
    if not any(row.has("track_id") for row in rows):
        return None
    ids = [row["track_id"].integer() if row.has("track_id") else -1 for row in rows]
    return np.array(ids, np.int64)
