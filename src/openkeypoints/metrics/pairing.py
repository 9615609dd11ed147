"""Reads COCO truth and a result list, and binds to each labelled person its prediction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import FormatError
from openkeypoints.metrics import ap

Row = Mapping[str, Any]
Array = NDArray[np.float64]

SAME_PERSON_IOU = 0.3


@dataclass(frozen=True, slots=True)
class Pairs:
    """P labelled people, K joints of the truth, and what was predicted for each.

    Attributes:
        names: of the joints.
        shared: (K,) which joints the predictions have; the others are left out of every figure.
        labelled: (P, K, 2) pixels.
        visible: (P, K) which joints are labelled.
        predicted: (P, K, 2) pixels, NaN where there is none.
        boxes_xywh: (P, 4) labelled boxes.
        areas: (P,) px², NaN where the truth has none.
        scores: (P,), 0 for people without a prediction.
        box_given: predictions name the annotation whose box they were made with.
    """

    names: tuple[str, ...]
    shared: NDArray[np.bool_]
    labelled: Array
    visible: NDArray[np.bool_]
    predicted: Array
    boxes_xywh: Array
    areas: Array
    scores: Array
    box_given: bool


def pair(truth: Row, predictions: Row) -> Pairs:
    """Bind predictions to labelled people: crowds and people without joints are left out.

    A prediction with ``annotation_id`` belongs to that annotation. Without any, a picture with a
    single annotation takes its best-scored prediction, other people the one whose box overlaps
    theirs most, if by an IoU of 0.3.

    Args:
        truth: COCO JSON; the names are those of its first category.
        predictions: ``{"keypoints": names, "results": rows}``.

    Raises:
        FormatError: either lacks what it must have.
    """
    names = joint_names(truth)
    results: Sequence[Row] = field(predictions, "results", "the predictions")
    owned = {row["annotation_id"]: row for row in results if "annotation_id" in row}
    found = by_image(results)
    people: list[Row] = []
    rows: list[Row | None] = []
    for image_id, group in by_image(field(truth, "annotations", "the truth")).items():
        for person in group:
            if not _is_labelled(person, len(names)):
                continue
            people.append(person)
            if owned:
                rows.append(owned.get(field(person, "id", "an annotation")))
            else:
                alone = len(group) == 1
                rows.append(_choose(person, found.get(image_id, []), alone=alone))
    joints = numbers([person["keypoints"] for person in people], (len(people), len(names), 3))
    predicted_names: Sequence[str] = field(predictions, "keypoints", "the predictions")
    return Pairs(
        names=names,
        shared=np.array([name in predicted_names for name in names], np.bool_),
        labelled=joints[..., :2],
        visible=joints[..., 2] > 0,
        predicted=_points_by_name(rows, names, predicted_names),
        boxes_xywh=boxes(people),
        areas=np.array([person.get("area", np.nan) for person in people], np.float64),
        scores=scores([row or {"score": 0.0} for row in rows]),
        box_given=bool(owned),
    )


def joint_names(truth: Row) -> tuple[str, ...]:
    """Return the names of the truth's joints, none where its category has no keypoints."""
    categories = field(truth, "categories", "the truth")
    if not categories:
        raise FormatError("the truth has no categories: the first one must name the keypoints")
    return tuple(categories[0].get("keypoints", ()))


def by_image(rows: Iterable[Row]) -> dict[Any, list[Row]]:
    """Group annotations or results by ``image_id``, in the order of their first appearance."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(field(row, "image_id", "a row"), []).append(row)
    return groups


def boxes(rows: Sequence[Row]) -> Array:
    """Return the rows' (N, 4) boxes as stored: left, top, width, height."""
    return numbers([field(row, "bbox", "a row") for row in rows], (len(rows), 4))


def scores(rows: Sequence[Row]) -> Array:
    """Return the rows' (N,) scores."""
    return numbers([field(row, "score", "a result") for row in rows], (len(rows),))


def field(record: Row, key: str, what: str) -> Any:
    """Return one entry of a JSON object, or say which is missing."""
    if key not in record:
        raise FormatError(f"{what} has no {key!r}: it has {', '.join(map(repr, record))}")
    return record[key]


def numbers(values: Sequence[Any], shape: tuple[int, ...]) -> Array:
    """Return nested JSON numbers as an array of that shape, or say what they are instead."""
    try:
        return np.array(values, np.float64).reshape(shape)
    except (TypeError, ValueError) as error:
        raise FormatError(
            f"numbers for an array of shape {shape} do not fit: {error}; check the lengths of "
            "'bbox' (4) and 'keypoints' (3 for each name)"
        ) from error


def _is_labelled(person: Row, count: int) -> bool:
    joints = person.get("keypoints", ())
    right_length = count > 0 and len(joints) == 3 * count
    return not person.get("iscrowd") and right_length and any(v > 0 for v in joints[2::3])


def _choose(person: Row, rows: Sequence[Row], *, alone: bool) -> Row | None:
    """Return the person's prediction among those of the picture."""
    if not rows:
        return None
    if alone:
        return rows[int(scores(rows).argmax())]
    overlap = ap.overlaps(boxes(rows), boxes([person]), np.zeros(1, np.bool_))[:, 0]
    best = int(overlap.argmax())
    return rows[best] if overlap[best] >= SAME_PERSON_IOU else None


def _points_by_name(
    rows: Sequence[Row | None], names: Sequence[str], predicted_names: Sequence[str]
) -> Array:
    """Return (P, K, 2) predicted points in the order of the truth's names."""
    points = np.full((len(rows), len(names), 2), np.nan)
    place = {name: index for index, name in enumerate(predicted_names)}
    at = [index for index, name in enumerate(names) if name in place]
    source = [place[names[index]] for index in at]
    present = [index for index, row in enumerate(rows) if row is not None]
    values = [field(row, "keypoints", "a result") for row in rows if row is not None]
    triples = numbers(values, (len(present), len(predicted_names), 3))
    points[np.ix_(present, at)] = triples[:, source, :2]
    return points
