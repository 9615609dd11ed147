"""COCO-keypoints files as training data: annotations as arrays, pictures as bytes.

The reader survives what real files hold: categories without keypoints, skeletons whose indexes are
wrong, boxes without area, fractional visibility, crowds, people without keypoints, pictures that
lie in a folder beside the file or in uncompressed tars.
"""

from __future__ import annotations

import json
import logging
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import FormatError, NotFoundError

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Picture:
    """One annotated picture: N instances with K keypoint slots each.

    Attributes:
        image_id: id in the annotation file.
        read: returns the bytes of the file.
        size: (width, height) as annotated.
        boxes: (N, 4) x1 y1 x2 y2 px.
        class_ids: (N,) 0-based index into the names of the dataset.
        keypoints: (N, K, 2) px.
        weights: (N, K) 0..1, what a keypoint counts in the loss; 0 = not labelled.
        ignore: (N,) crowds and tiny instances, neither wanted nor punished.
        annotation_ids: (N,) ids in the annotation file.
    """

    image_id: int
    read: Callable[[], bytes]
    size: tuple[int, int]
    boxes: Floats
    class_ids: NDArray[np.int64]
    keypoints: Floats
    weights: Floats
    ignore: NDArray[np.bool_]
    annotation_ids: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Pictures with the names of their classes and keypoints.

    Attributes:
        pictures: in the order of the file.
        class_names: C names.
        keypoint_names: K names, the same slots for every class.
        categories: the COCO categories as they stand in the file.
        complete: False where instances may be missing from the labels: a detector is then not
            punished for confident finds beside the labelled ones.
    """

    pictures: tuple[Picture, ...]
    class_names: tuple[str, ...]
    keypoint_names: tuple[str, ...]
    categories: tuple[Mapping[str, Any], ...]
    complete: bool = True


def read_dataset(
    annotations: Path,
    *,
    pictures: Path | None = None,
    keypoint_names: Sequence[str] | None = None,
    complete: bool = True,
    min_side: float = 0.0,
) -> Dataset:
    """Read a COCO-keypoints file and find its pictures.

    Args:
        annotations: the JSON file.
        pictures: folder of the pictures or of tars with them; default: what the file's
            ``info.pictures`` says, else the folder of the file.
        keypoint_names: the slots to fill, matched by name; default: those of the file.
        complete: whether every instance of every picture is labelled.
        min_side: instances with a shorter box side, px, count as ``ignore``.

    Raises:
        NotFoundError: the file or a picture is missing.
        FormatError: the file is not COCO JSON.
    """
    data = _load_json(annotations)
    categories = tuple(data["categories"])
    names = tuple(keypoint_names or _keypoint_union(categories))
    folder = pictures or annotations.parent / data.get("info", {}).get("pictures", "")
    open_picture = find_pictures(folder, annotations.stem)
    by_image: dict[int, list[Mapping[str, Any]]] = {}
    for row in data["annotations"]:
        by_image.setdefault(row["image_id"], []).append(row)
    slots = {c["id"]: _slots(c, names) for c in categories}
    class_of = {c["id"]: i for i, c in enumerate(categories)}
    result = []
    for image in data["images"]:
        rows = [r for r in by_image.get(image["id"], []) if _usable(r, class_of)]
        arrays = _instances(rows, slots, class_of, len(names), min_side)
        size = (int(image["width"]), int(image["height"]))
        result.append(Picture(int(image["id"]), open_picture(image["file_name"]), size, **arrays))
    return Dataset(
        tuple(result), tuple(str(c["name"]) for c in categories), names, categories, complete
    )


def _load_json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise NotFoundError(f"No annotation file at {path}.")
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        raise FormatError(f"{path.name} is not JSON ({error}).") from error
    if not isinstance(data, dict):
        raise FormatError(f"{path.name} is no COCO file: its top level is not an object.")
    for key in ("images", "annotations", "categories"):
        if not isinstance(data.get(key), list):
            raise FormatError(f"{path.name} is no COCO file: it has no list {key!r}.")
    return data


def _keypoint_union(categories: Sequence[Mapping[str, Any]]) -> list[str]:
    names: dict[str, None] = {}
    for category in categories:
        names.update(dict.fromkeys(category.get("keypoints") or ()))
    return list(names)


def _slots(category: Mapping[str, Any], names: Sequence[str]) -> NDArray[np.int64]:
    """Return for each keypoint of a category its slot, -1 where the names lack it."""
    where = {name: i for i, name in enumerate(names)}
    return np.array([where.get(n, -1) for n in category.get("keypoints") or ()], np.int64)


def _usable(row: Mapping[str, Any], class_of: Mapping[int, int]) -> bool:
    box = row.get("bbox") or ()
    return row.get("category_id") in class_of and len(box) == 4 and box[2] > 0 and box[3] > 0


def _instances(
    rows: Sequence[Mapping[str, Any]],
    slots: Mapping[int, NDArray[np.int64]],
    class_of: Mapping[int, int],
    k: int,
    min_side: float,
) -> dict[str, Any]:
    n = len(rows)
    keypoints, weights = np.zeros((n, k, 2), np.float32), np.zeros((n, k), np.float32)
    for i, row in enumerate(rows):
        slot = slots[row["category_id"]]
        values = np.asarray(row.get("keypoints") or (), np.float32)
        if values.size != 3 * len(slot):
            continue  # no keypoints, or fewer than the category names: a box all the same
        values = values.reshape(-1, 3)
        # COCO-WholeBody stores confidences in place of v; its 0 still means "not labelled".
        weight = np.asarray(row.get("weights", values[:, 2] > 0), np.float32) * (values[:, 2] > 0)
        known = slot >= 0
        keypoints[i, slot[known]] = values[known, :2]
        weights[i, slot[known]] = weight[known]
    xywh = np.array([r["bbox"] for r in rows], np.float32).reshape(-1, 4)
    ignore = [bool(r.get("iscrowd") or r.get("ignore")) for r in rows]
    return {
        "boxes": np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1),
        "class_ids": np.array([class_of[r["category_id"]] for r in rows], np.int64),
        "keypoints": keypoints,
        "weights": weights,
        "ignore": np.array(ignore, bool) | (xywh[:, 2:] < min_side).any(axis=1),
        "annotation_ids": np.array([r.get("id", i) for i, r in enumerate(rows)], np.int64),
    }


def find_pictures(folder: Path, split: str) -> Callable[[str], Callable[[], bytes]]:
    """Return a function from a file name to a reader of its bytes.

    Looks in ``folder``, ``folder/<split>``, ``folder/images``, ``folder/images/<split>`` and in
    every tar of ``folder``.

    Args:
        folder: where the pictures are.
        split: stem of the annotation file, for example ``train``.
    """
    folders = [folder, folder / split, folder / "images", folder / "images" / split]
    members = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isfile():
                    place = (path, member.offset_data, member.size)
                    members[Path(member.name).name] = place

    def open_picture(name: str) -> Callable[[], bytes]:
        for place in folders:
            if (path := place / name).is_file():
                return path.read_bytes
        if found := members.get(Path(name).name):
            return lambda: _read_slice(*found)
        raise NotFoundError(
            f"The picture {name!r} is neither in {folder} nor in its folders {split!r} and "
            "'images' nor in a tar there."
        )

    return open_picture


def _read_slice(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
