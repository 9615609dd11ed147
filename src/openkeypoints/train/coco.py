"""COCO-keypoints files as training data: annotations as arrays, pictures as bytes.

The reader survives what real files hold: categories without keypoints, skeletons whose indexes are
wrong, boxes without area, fractional visibility, crowds, people without keypoints, pictures that
lie in a folder beside the file or in uncompressed tars. A row that cannot be understood at all is a
``FormatError`` that names it.
"""

from __future__ import annotations

import contextlib
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import FormatError, NotFoundError

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Picture:
    """One annotated picture: N instances with K keypoint slots each.

    Attributes:
        image_id: id, as it stands in the annotation file.
        read: returns the bytes of the file.
        size: (width, height) as annotated.
        boxes: (N, 4) x1 y1 x2 y2 px.
        class_ids: (N,) 0-based index into the names of the dataset.
        keypoints: (N, K, 2) px.
        weights: (N, K) 0..1, what a keypoint counts in the loss; 0 = not labelled.
        ignore: (N,) crowds and tiny instances, neither wanted nor punished.
        annotation_ids: (N,) ids in the annotation file.
    """

    image_id: int | str
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
    data = load_coco(annotations)
    info = data.get("info")
    place = str(info.get("pictures") or "") if isinstance(info, dict) else ""
    open_picture = find_pictures(pictures or annotations.parent / place, annotations.stem)
    with _reading(annotations, "categories"):
        categories = _Categories(data["categories"], keypoint_names)
    by_image: dict[int | str, list[_Instance]] = {}
    for number, row in enumerate(data["annotations"]):
        with _reading(annotations, f"annotations[{number}]"):
            if (instance := categories.instance(row)) is not None:
                by_image.setdefault(row["image_id"], []).append(instance)
    found = []
    for number, row in enumerate(data["images"]):
        with _reading(annotations, f"images[{number}]"):
            size = (int(row["width"]), int(row["height"]))
            arrays = _arrays(by_image.get(row["id"], []), len(categories.slots), min_side)
            found.append(Picture(row["id"], open_picture(row["file_name"]), size, **arrays))
    return Dataset(
        tuple(found), categories.names, categories.slots, tuple(data["categories"]), complete
    )


@contextlib.contextmanager
def _reading(file: Path, what: str) -> Iterator[None]:
    """Name the row that cannot be understood."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{file.name} is no COCO file: {what} is wrong ({error!r}).") from error


def load_coco(path: Path) -> dict[str, Any]:
    """Return the content of a COCO file that has the three lists.

    Raises:
        NotFoundError: there is no such file.
        FormatError: it is not JSON, or lacks a list.
    """
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


class _Instance(NamedTuple):
    """One annotation: box x1 y1 x2 y2, class, (K, 2) keypoints, (K,) weights, flags."""

    box: tuple[float, float, float, float]
    class_id: int
    keypoints: Floats
    weights: Floats
    ignore: bool
    annotation_id: int | None


class _Categories:
    """The categories of a file, and where their keypoints go."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str] | None) -> None:
        keypoints = [list(row.get("keypoints") or ()) for row in rows]
        self.names = tuple(str(c.get("name") or f"class {c['id']}") for c in rows)
        self.slots = tuple(names or dict.fromkeys(name for part in keypoints for name in part))
        where = {name: i for i, name in enumerate(self.slots)}
        self._class_of = {row["id"]: i for i, row in enumerate(rows)}
        # The slot of each keypoint of a class, -1 where the slots lack its name.
        self._slots_of = [np.array([where.get(n, -1) for n in p], np.int64) for p in keypoints]

    def instance(self, row: Mapping[str, Any]) -> _Instance | None:
        """Read an annotation, None for an unknown category or a box without area."""
        class_id = self._class_of.get(row.get("category_id"))
        box = np.asarray(row.get("bbox") or (), np.float64)
        if class_id is None or box.shape != (4,) or not np.isfinite(box).all():
            return None
        x, y, width, height = box.tolist()
        if width <= 0 or height <= 0:
            return None
        keypoints, weights = self._keypoints(row, self._slots_of[class_id])
        ignore = bool(row.get("iscrowd") or row.get("ignore"))
        corners = (x, y, x + width, y + height)
        return _Instance(corners, class_id, keypoints, weights, ignore, row.get("id"))

    def _keypoints(self, row: Mapping[str, Any], slot: NDArray[np.int64]) -> tuple[Floats, Floats]:
        keypoints = np.zeros((len(self.slots), 2), np.float32)
        weights = np.zeros(len(self.slots), np.float32)
        values = np.asarray(row.get("keypoints") or (), np.float32)
        if values.size != 3 * len(slot):
            return keypoints, weights  # none, or not as many as the category names
        values = values.reshape(-1, 3)
        # COCO-WholeBody stores confidences in place of v; its 0 still means "not labelled".
        labelled = np.isfinite(values).all(1) & (values[:, 2] > 0) & (slot >= 0)
        weight = np.asarray(row.get("weights") or (), np.float32)
        if weight.shape != slot.shape or not np.isfinite(weight).all():
            weight = np.ones(len(slot), np.float32)
        keypoints[slot[labelled]] = values[labelled, :2]
        weights[slot[labelled]] = weight[labelled].clip(0, 1)
        return keypoints, weights


def _arrays(rows: Sequence[_Instance], k: int, min_side: float) -> dict[str, Any]:
    """Return the arrays of a picture."""
    n = len(rows)
    boxes = np.array([r.box for r in rows], np.float32).reshape(n, 4)
    small = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf) < min_side
    ids = [i if r.annotation_id is None else r.annotation_id for i, r in enumerate(rows)]
    return {
        "boxes": boxes,
        "class_ids": np.array([r.class_id for r in rows], np.int64),
        "keypoints": np.array([r.keypoints for r in rows], np.float32).reshape(n, k, 2),
        "weights": np.array([r.weights for r in rows], np.float32).reshape(n, k),
        "ignore": np.array([r.ignore for r in rows], np.bool_) | small,
        "annotation_ids": np.array(ids, np.int64),
    }


def find_pictures(folder: Path, split: str) -> Callable[[str], Callable[[], bytes]]:
    """Return a function from a file name to a reader of its bytes.

    Looks in ``folder`` and ``folder/images``, in those of their folders whose name is a part of
    ``split``, and in every uncompressed tar of ``folder``, there in any of its folders. Beside a
    folder called ``annotations``, as COCO has it, its parent is searched in the same way.

    Args:
        folder: where the pictures are.
        split: stem of the annotation file, for example ``train`` or ``instances_train2017``.
    """
    roots = [folder, folder / "images"]
    if folder.name == "annotations":
        roots += [folder.parent, folder.parent / "images"]
    folders = [place for root in roots for place in (root, *_parts_of(split, root))]
    members: dict[str, list[_Member]] = {}
    for path in sorted(folder.glob("*.tar")):
        for member in _members(path):
            members.setdefault(member.name.name, []).append(member)

    def open_picture(name: str) -> Callable[[], bytes]:
        for place in folders:
            if (path := place / name).is_file():
                return path.read_bytes
        wanted = PurePosixPath(name).parts
        for member in members.get(wanted[-1] if wanted else "", ()):
            if member.name.parts[-len(wanted) :] == wanted:
                return member.read
        raise NotFoundError(
            f"The picture {name!r} is neither in {folder} nor in its folders 'images' and "
            f"{split!r} nor in a tar there: name the folder of the pictures."
        )

    return open_picture


def _parts_of(split: str, root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    # The longest name first: for `train2017` the folder of that name goes before `train`.
    inner = [path for path in root.iterdir() if path.name in split and path.is_dir()]
    return sorted(inner, key=lambda path: (-len(path.name), path.name))


@dataclass(frozen=True, slots=True)
class _Member:
    """A file inside a tar: where its bytes lie."""

    path: Path
    name: PurePosixPath
    offset: int
    size: int

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def _members(path: Path) -> list[_Member]:
    try:
        with tarfile.open(path, "r:") as archive:
            return [
                _Member(path, PurePosixPath(m.name), m.offset_data, m.size)
                for m in archive
                if m.isfile()
            ]
    except tarfile.TarError as error:
        raise FormatError(
            f"{path.name} is no uncompressed tar ({error}): unpack it beside the annotations."
        ) from error
