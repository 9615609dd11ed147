"""COCO's JSON: a data set of one picture whose annotations are result rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import FormatError
from openkeypoints.formats.fields import MAX_ID, Field, document
from openkeypoints.geometry import mask_letterbox
from openkeypoints.images import resize_mask, run_lengths
from openkeypoints.results import Prediction, Skeleton
from openkeypoints.skeletons import skeleton_from_coco_category

LOSES = frozenset(
    {
        "model_id",
        "skeletons",  # their colours, groups and own names
        "covariances",
        "masks",  # written at the size of the picture, not read
        "extras",
        "source",
        "keypoint_confidence",
        "timings",
        "details",
    }
)


def dump(prediction: Prediction, *, image_id: int = 1) -> dict[str, Any]:
    """Return a COCO data set with one picture.

    ``annotations`` are at the same time the rows of a COCO results file (``image_id``,
    ``category_id``, ``bbox``, ``keypoints``, ``score``), so that `results_rows` of many pictures
    can be put together for an evaluator. Three numbers a keypoint: x, y and its score; a keypoint
    below ``prediction.keypoint_confidence``, or without a place, is ``0, 0, 0``, which in COCO
    means that it is not there. A mask is written as ``segmentation`` in run lengths, at the size of
    the picture, and ``area`` is then its number of pixels, else that of the box. Category ids are
    class ids + 1, skeleton edges count from 1.

    Args:
        prediction: what a model found.
        image_id: id of the picture in the data set that the result belongs to.
    """
    width, height = prediction.image_size
    categories = [
        _category(class_id, name, prediction.skeletons.get(class_id))
        for class_id, name in enumerate(prediction.class_names)
    ]
    return {
        "images": [{"id": image_id, "width": int(width), "height": int(height)}],
        "categories": categories,
        "annotations": results_rows(prediction, image_id=image_id),
    }


def results_rows(
    prediction: Prediction, *, image_id: int, first_id: int = 1
) -> list[dict[str, Any]]:
    """Return the rows of one picture for a COCO results file.

    Args:
        prediction: what a model found.
        image_id: id of the picture in the data set.
        first_id: id of the first row; further rows count on.
    """
    x1, y1, x2, y2 = prediction.boxes.T.astype(np.float64)
    boxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=-1).tolist()
    triples = _triples(prediction)
    place = None if prediction.masks is None or not len(prediction) else mask_letterbox(prediction)
    rows = []
    for i, score in enumerate(prediction.scores.tolist()):
        row: dict[str, Any] = {
            "id": first_id + i,
            "image_id": image_id,
            "category_id": int(prediction.class_ids[i]) + 1,
            "bbox": boxes[i],
            "area": boxes[i][2] * boxes[i][3],
            "iscrowd": 0,
            "score": score,
        }
        if prediction.masks is not None and place is not None:
            mask = resize_mask(prediction.masks[i][place.window], prediction.image_size)
            row["segmentation"] = {"size": list(mask.shape), "counts": run_lengths(mask)}
            row["area"] = float(np.count_nonzero(mask))
        if (skeleton := prediction.skeleton(i)) is not None:
            row["keypoints"] = triples[i, : len(skeleton)].ravel().tolist()
            row["num_keypoints"] = int(np.count_nonzero(triples[i, :, 2]))
        if prediction.track_ids is not None:
            row["track_id"] = int(prediction.track_ids[i])
        rows.append(row)
    return rows


def load(data: Any, *, image_id: int | None = None) -> Prediction:
    """Return the instances of one picture of a COCO data set.

    Annotations without a ``score`` are ground truth: they score 1, and so do their labelled
    keypoints. Keypoints that are ``0, 0, 0``, or not labelled, get no place (NaN) and score 0.

    Args:
        data: a data set (``images``, ``categories``, ``annotations``), or its text.
        image_id: which picture; needed where there are several.

    Raises:
        FormatError: a field is missing or has a wrong value; the message names it.
    """
    root = document(data, "coco")
    image = _image(root, image_id)
    categories = sorted(root["categories"].items(), key=lambda c: c["id"].integer())
    if len(categories) > MAX_ID:
        raise root["categories"].wrong(f"a list of at most {MAX_ID} categories")
    classes = {category["id"].integer(): i for i, category in enumerate(categories)}
    skeletons: dict[int, Skeleton] = {}
    for i, category in enumerate(categories):
        if (skeleton := skeleton_from_coco_category(category.value)) is not None:
            skeletons[i] = skeleton
    chosen = image["id"].integer()
    rows = [r for r in root["annotations"].items() if r["image_id"].integer() == chosen]
    rows.sort(key=lambda row: -_score(row))
    class_ids = np.array([_class_id(row, classes) for row in rows], np.int64)
    k = max((len(s) for s in skeletons.values()), default=0)
    keypoints = np.full((len(rows), k, 2), np.nan, np.float32)
    keypoint_scores = np.zeros((len(rows), k), np.float32)
    for i, row in enumerate(rows):
        if (known := skeletons.get(int(class_ids[i]))) is not None and row.has("keypoints"):
            xy, scores = _keypoints(row, len(known))
            keypoints[i, : len(known)], keypoint_scores[i, : len(known)] = xy, scores
    return Prediction(
        image_size=(image["width"].integer(0), image["height"].integer(0)),
        model_id="",
        class_names=tuple(
            c["name"].text() if c.has("name") else f"class_{i}" for i, c in enumerate(categories)
        ),
        skeletons=skeletons,
        boxes=np.array([_box(row) for row in rows], np.float32).reshape(-1, 4),
        scores=np.array([_score(row) for row in rows], np.float32),
        class_ids=class_ids,
        keypoints=keypoints,
        keypoint_scores=keypoint_scores,
        track_ids=_track_ids(rows),
    )


def _category(class_id: int, name: str, skeleton: Skeleton | None) -> dict[str, Any]:
    category: dict[str, Any] = {"id": class_id + 1, "name": name}
    if skeleton is not None:
        category["keypoints"] = list(skeleton.keypoints)
        category["skeleton"] = [[a + 1, b + 1] for a, b in skeleton.edges]
        category["flip_idx"] = list(skeleton.flip)
        category["sigmas"] = list(skeleton.sigmas)
    return category


def _triples(prediction: Prediction) -> NDArray[np.float64]:
    triples = np.concatenate(
        [prediction.keypoints, prediction.keypoint_scores[..., None]], axis=-1
    ).astype(np.float64)
    hidden = prediction.keypoint_scores < prediction.keypoint_confidence
    triples[hidden | ~np.isfinite(triples).all(axis=-1)] = 0.0
    return triples


def _image(root: Field, image_id: int | None) -> Field:
    images = list(root["images"].items())
    if image_id is None and len(images) != 1:
        raise FormatError(
            f"coco: images has {len(images)} entries and a prediction is one picture; "
            "name it with image_id."
        )
    for image in images:
        if image_id is None or image["id"].integer() == image_id:
            return image
    raise FormatError(f"coco: images has no picture with the id {image_id}.")


def _class_id(row: Field, classes: dict[int, int]) -> int:
    category_id = row["category_id"].integer()
    if category_id not in classes:
        raise row["category_id"].wrong("the id of one of the categories")
    return classes[category_id]


def _score(row: Field) -> float:
    return row["score"].part() if row.has("score") else 1.0


def _box(row: Field) -> tuple[float, float, float, float]:
    x, y, w, h = row["bbox"].numbers(4)
    return x, y, x + w, y + h


def _keypoints(row: Field, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    triples = np.array(row["keypoints"].numbers(3 * count)).reshape(count, 3)
    xy, scores = triples[:, :2], np.clip(triples[:, 2], 0.0, 1.0)
    missing = ~triples.any(axis=1)
    if not row.has("score"):
        scores = (triples[:, 2] > 0).astype(np.float64)
        missing = scores == 0
    xy[missing] = np.nan
    scores[missing] = 0.0
    return xy, scores


def _track_ids(rows: list[Field]) -> NDArray[np.int64] | None:
    if not any(row.has("track_id") for row in rows):
        return None
    ids = [row["track_id"].integer() if row.has("track_id") else -1 for row in rows]
    return np.array(ids, np.int64)
