"""Every figure we quote about a model, from labelled pictures and its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.metrics import ap, oks, pairing, pck

TORSO_FRACTION = 0.2
BOX_FRACTIONS = (0.1, 0.2)
DECIMALS = 4


def score(
    truth: Mapping[str, Any],
    predictions: Mapping[str, Any],
    *,
    min_side: float = 48.0,
    threshold: float | None = None,
) -> dict[str, Any]:
    """Return all figures that these predictions allow, rounded to four decimals.

    Joints are compared by name; labelled joints of people without a prediction are misses.

    Args:
        truth: COCO JSON; the names of the joints are those of its first category.
        predictions: ``{"keypoints": names, "results": rows}`` where a row has ``image_id``,
            ``bbox`` (left, top, width, height), ``keypoints`` (x, y, score, ...), ``score``, and
            ``annotation_id`` where the labelled box was given.
        min_side: pixels; smaller people are left out of the box figures.
        threshold: score from which a detection in a picture without people is a false alarm.

    Returns:
        ``torso.2``: share of joints within 0.2 of the distance from right hip to left shoulder.
        ``within.1``, ``within.2``: share within that part of the box's long side.
        ``joints_torso.2``, ``joints_within.1``, ``joints_within.2``: the same for each joint.
        ``oks``, ``oks_ap``: mean similarity, and AP with each prediction bound to its person.
        ``box_ap50``: AP of the boxes at IoU 0.5 (not where the box was given).
        ``clean``: share of the pictures without people that have no false alarm (likewise).
        ``joints``: how many of the truth's joints the predictions have. ``people``: how many
        were compared.

    Raises:
        FormatError: truth or predictions lack what they must have.
    """
    pairs = pairing.pair(truth, predictions)
    marks = _joint_marks(pairs, min_side)
    figures: dict[str, Any] = {name: pck.share(mark) for name, mark in marks.items()}
    similarity = _similarities(pairs)
    figures["oks"] = pck.share(similarity)
    kept = ~np.isnan(similarity)
    if kept.any():
        figures["oks_ap"] = ap.oks_average_precision(pairs.scores[kept], similarity[kept])
    if not pairs.box_given:
        figures |= _detector_figures(truth, predictions, min_side, threshold)
    figures["joints"] = int(pairs.shared.sum())
    counts = (
        int(kept.sum()),
        int((~np.isnan(marks["within.1"])).sum()),
        len(truth["annotations"]),
    )
    figures["people"] = next((count for count in counts if count), 0)
    for name, mark in marks.items():
        figures[f"joints_{name}"] = pck.share_by_joint(mark, pairs.names) or None
    return {name: _rounded(value) for name, value in figures.items() if value is not None}


def _joint_marks(pairs: pairing.Pairs, min_side: float) -> dict[str, NDArray[np.float64]]:
    """Return hits and misses (P, K) under the name of their figure."""
    apart = pck.distances(pairs.predicted, pairs.labelled, pairs.visible & pairs.shared)
    torso = pck.torso_lengths(pairs.labelled, pairs.visible, pairs.names)
    long_side = pck.long_sides(pairs.boxes_xywh, min_side=min_side)
    marks = {f"torso{_tail(TORSO_FRACTION)}": pck.hits(apart, torso, TORSO_FRACTION)}
    for fraction in BOX_FRACTIONS:
        marks[f"within{_tail(fraction)}"] = pck.hits(apart, long_side, fraction)
    return marks


def _similarities(pairs: pairing.Pairs) -> NDArray[np.float64]:
    return oks.person_oks(
        pairs.predicted,
        pairs.labelled,
        visible=pairs.visible & pairs.shared,
        areas=pairs.areas,
        sigmas=oks.coco_sigmas(pairs.names),
    )


def _detector_figures(
    truth: Mapping[str, Any],
    predictions: Mapping[str, Any],
    min_side: float,
    threshold: float | None,
) -> dict[str, float]:
    """Return ``box_ap50`` and ``clean``, each only where it is defined."""
    people = pairing.by_image(truth["annotations"])
    found = pairing.by_image(predictions["results"])
    marks: list[NDArray[np.float64]] = []
    scores: list[NDArray[np.float64]] = []
    quiet: list[bool] = []
    positives = 0
    for image in pairing.field(truth, "images", "the truth"):
        labels, rows = people.get(image["id"], []), found.get(image["id"], [])
        crowd = np.array([bool(label.get("iscrowd")) for label in labels], np.bool_)
        boxes = pairing.boxes(labels)
        confidence = pairing.scores(rows)
        order = np.argsort(-confidence, kind="stable")
        detections = pairing.boxes(rows)[order]
        scores.append(confidence[order])
        marks.append(ap.match_boxes(detections, boxes, crowd, min_side=min_side))
        positives += int((~ap.ignored_boxes(boxes, crowd, min_side=min_side)).sum())
        if not labels and threshold is not None:
            quiet.append(not (confidence >= threshold).any())
    figures: dict[str, float] = {}
    if positives:
        judged, confidence = np.concatenate(marks), np.concatenate(scores)
        kept = ~np.isnan(judged)
        figures["box_ap50"] = ap.average_precision(confidence[kept], judged[kept], positives)
    if quiet:
        figures["clean"] = float(np.mean(quiet))
    return figures


def _tail(fraction: float) -> str:
    return f"{fraction:g}".removeprefix("0")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in value.items()}
    return round(value, DECIMALS) if isinstance(value, float) else value
