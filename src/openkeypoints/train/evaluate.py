"""How good a model is on labelled pictures: PCK, OKS AP, detector AP, calibration."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import MissingExtraError
from openkeypoints.geometry import xywh_from_xyxy
from openkeypoints.metrics import calibration, score
from openkeypoints.models import InferOptions, Model
from openkeypoints.models.request import DEFAULT_OPTIONS
from openkeypoints.results import Prediction
from openkeypoints.settings import Settings
from openkeypoints.skeletons import skeleton_from_coco_category
from openkeypoints.train.coco import Dataset, Picture, load_coco, read_dataset
from openkeypoints.train.sources import load_picture

Boxes = Literal["given", "found"]
Predictions = dict[str, Any]

LOW_CONFIDENCE = 0.05
"""Detections down to here enter the average precision."""
NEAR = 0.1
"""A keypoint within this part of the box's long side counts as right for calibration."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a set is scored.

    Attributes:
        boxes: ``given`` scores keypoints in the labelled boxes, ``found`` end to end.
        min_side: people with a shorter box side, px, are left out of the box figures.
        threshold: score that is a find in a picture without people; None = the model's default.
        options: what the model is asked.
    """

    boxes: Boxes = "found"
    min_side: float = 48.0
    threshold: float | None = None
    options: InferOptions = DEFAULT_OPTIONS


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of one run.

    Attributes:
        figures: name -> number, as ``metrics.score`` names them; ``coco`` holds the COCO
            evaluator's keypoint figures, ``calibration`` how far scores are from the truth.
        predictions: what was scored, ``{"keypoints": names, "results": rows}``.
    """

    figures: dict[str, Any]
    predictions: Predictions


def evaluate(
    model: Model,
    annotations: Path,
    *,
    pictures: Path | None = None,
    protocol: Protocol = Protocol(),
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> Evaluation:
    """Run a model on a labelled set and score it.

    Args:
        model: knows some of the keypoints of the set by name.
        annotations: COCO-keypoints JSON.
        pictures: folder of the pictures; default as in ``read_dataset``.
        protocol: how the set is scored.
        report: called with the number of pictures done and in all.
    """
    truth = load_coco(annotations)
    dataset = read_dataset(annotations, pictures=pictures)
    boxes, threshold = protocol.boxes, protocol.threshold
    if threshold is None:
        threshold = model.description.confidence
    predictions = predict(model, dataset, boxes=boxes, options=protocol.options, report=report)
    figures = score(truth, predictions, min_side=protocol.min_side, threshold=threshold)
    coco = coco_keypoint_ap(truth, predictions)
    if coco is not None:
        figures["coco"] = coco
        single = all(len(p.boxes) <= 1 for p in dataset.pictures)
        if not (boxes == "given" and single):
            # Elsewhere the bound AP is no COCO AP: other people's predictions are missing in it.
            figures["oks_ap"] = coco["ap"]
    if boxes == "given":
        figures["calibration"] = reliability(truth, predictions)
    return Evaluation(figures, predictions)


def predict(
    model: Model,
    dataset: Dataset,
    *,
    boxes: Boxes,
    options: InferOptions = DEFAULT_OPTIONS,
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> Predictions:
    """Return the model's answers on a dataset, in the shape that ``metrics.score`` takes."""
    names = list(dict.fromkeys(n for s in model.skeletons.values() for n in s.keypoints))
    rows: list[dict[str, Any]] = []
    settings, count = Settings.from_env(), len(dataset.pictures)
    for done, picture in enumerate(dataset.pictures, 1):
        labelled = np.nonzero(picture.weights.sum(1) > 0)[0]
        if boxes == "given" and len(labelled):
            image = load_picture(picture, settings)
            asked = replace(options, boxes=[picture.boxes[labelled]])
            (found,) = model.infer(image, color="rgb", options=asked)
            ids = picture.annotation_ids[labelled][found.extras["box_index"]]
            given = zip(_rows(found, picture, names), ids, strict=True)
            rows += [{**row, "annotation_id": int(i)} for row, i in given]
        elif boxes == "found":
            image = load_picture(picture, settings)
            (found,) = model.infer(image, confidence=LOW_CONFIDENCE, color="rgb", options=options)
            rows += _rows(found, picture, names)
        report(done, count)
    return {"keypoints": names, "results": rows}


def _rows(found: Prediction, picture: Picture, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield one row per instance, its keypoints in the order of ``names``."""
    boxes = xywh_from_xyxy(found.boxes)
    for i in range(len(found)):
        values = np.zeros((len(names), 3))
        skeleton = found.skeleton(i)
        slots = [names.index(n) for n in skeleton.keypoints] if skeleton else []
        values[slots, :2] = found.keypoints[i, : len(slots)]
        values[slots, 2] = found.keypoint_scores[i, : len(slots)]
        yield {
            "image_id": picture.image_id,
            "bbox": [round(float(v), 3) for v in boxes[i]],
            "keypoints": [round(float(v), 4) for v in values.ravel()],
            "score": round(float(found.scores[i]), 6),
        }


def coco_keypoint_ap(truth: Mapping[str, Any], predictions: Predictions) -> dict[str, float] | None:
    """Return AP, AP50, AP75 and AR of the COCO keypoint evaluator (pycocotools).

    None where the truth has no labelled keypoints that the predictions know.

    Raises:
        MissingExtraError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO  # noqa: PLC0415
        from pycocotools.cocoeval import COCOeval  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("The COCO evaluator", "train") from error
    names = _shared_names(truth, predictions["keypoints"])
    ground = _coco_truth(truth, names)
    if not any(a["num_keypoints"] for a in ground["annotations"]):
        return None
    where = [predictions["keypoints"].index(n) for n in names]
    rows = [_coco_row(row, where) for row in predictions["results"]]
    if not rows:
        return dict.fromkeys(("ap", "ap50", "ap75", "ar"), 0.0)
    # pycocotools talks on stdout, which belongs to data.
    with contextlib.redirect_stdout(io.StringIO()):
        labelled = COCO()
        labelled.dataset = ground
        labelled.createIndex()
        run = COCOeval(labelled, labelled.loadRes(rows), "keypoints")
        run.params.kpt_oks_sigmas = _sigmas(truth, names)
        run.evaluate()
        run.accumulate()
        run.summarize()
    ap, ap50, ap75 = run.stats[:3]
    return {
        "ap": round(float(ap), 4),
        "ap50": round(float(ap50), 4),
        "ap75": round(float(ap75), 4),
        "ar": round(float(run.stats[5]), 4),
    }


def _shared_names(truth: Mapping[str, Any], predicted: Sequence[str]) -> list[str]:
    labelled = truth["categories"][0].get("keypoints") or ()
    return [name for name in labelled if name in predicted]


def _coco_truth(truth: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the annotations with the shared keypoints alone, and what the evaluator insists on."""
    all_names = truth["categories"][0].get("keypoints") or []
    where = [all_names.index(n) for n in names]
    annotations = []
    for index, row in enumerate(truth["annotations"], 1):
        values = np.asarray(row.get("keypoints") or (), float)
        if values.size == 3 * len(all_names) and all_names:
            values = values.reshape(-1, 3)[where]
        else:
            values = np.zeros((len(names), 3))
        annotations.append(
            {
                "id": index,
                "image_id": row["image_id"],
                "category_id": 1,
                "bbox": row["bbox"],
                "area": row.get("area", row["bbox"][2] * row["bbox"][3]),
                "iscrowd": int(row.get("iscrowd", 0)),
                "keypoints": values.ravel().tolist(),
                "num_keypoints": int((values[:, 2] > 0).sum()),
            }
        )
    images = [{"id": i["id"], "width": i["width"], "height": i["height"]} for i in truth["images"]]
    categories = [{"id": 1, "name": "instance"}]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def _coco_row(row: Mapping[str, Any], where: Sequence[int]) -> dict[str, Any]:
    values = np.asarray(row["keypoints"], float).reshape(-1, 3)[where]
    return {
        "image_id": row["image_id"],
        "category_id": 1,
        "keypoints": np.nan_to_num(values).ravel().tolist(),
        "score": row["score"],
    }


def _sigmas(truth: Mapping[str, Any], names: Sequence[str]) -> NDArray[np.float64]:
    skeleton = skeleton_from_coco_category(truth["categories"][0])
    known = zip(skeleton.keypoints, skeleton.sigmas, strict=True) if skeleton else ()
    sigma = dict(known)
    return np.array([sigma[name] for name in names])


def joint_marks(
    truth: Mapping[str, Any], predictions: Predictions
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the score of every labelled keypoint in a given box, and 1 where it is near, else 0.

    Args:
        truth: COCO JSON.
        predictions: with ``annotation_id`` in every row.
    """
    names = {c["id"]: c.get("keypoints") or [] for c in truth["categories"]}
    by_id = {row["annotation_id"]: row for row in predictions["results"]}
    where = {name: i for i, name in enumerate(predictions["keypoints"])}
    scores, hits = [], []
    for person in truth["annotations"]:
        row = by_id.get(person.get("id"))
        if row is None:
            continue
        values = np.asarray(row["keypoints"], float).reshape(-1, 3)
        labelled = np.asarray(person["keypoints"], float).reshape(-1, 3)
        limit = NEAR * max(person["bbox"][2:])
        for i, name in enumerate(names[person["category_id"]]):
            if name in where and labelled[i, 2] > 0:
                x, y, confidence = values[where[name]]
                scores.append(confidence)
                hits.append(np.hypot(x - labelled[i, 0], y - labelled[i, 1]) <= limit)
    return np.array(scores, np.float64), np.array(hits, np.float64)


def reliability(truth: Mapping[str, Any], predictions: Predictions) -> dict[str, Any]:
    """Return the expected calibration error of keypoint scores and the table behind it."""
    scores, hits = joint_marks(truth, predictions)
    rows = calibration.reliability(scores, hits)
    return {
        "error": round(calibration.expected_calibration_error(scores, hits), 4),
        "claimed": [round(r.confidence, 3) for r in rows],
        "real": [round(r.accuracy, 3) for r in rows],
        "count": [r.count for r in rows],
    }
