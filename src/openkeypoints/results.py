"""The result types: what every model returns and every format, drawing and metric reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import repeat
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import InputError

Image = NDArray[np.uint8]
"""A picture: (H, W, 3) uint8, RGB inside the library."""

Index = int | slice | Sequence[int] | NDArray[np.bool_] | NDArray[np.integer[Any]]

_EMPTY: Mapping[str, Any] = MappingProxyType({})
_FLOAT: np.dtype[Any] = np.dtype(np.float32)
_WHOLE: np.dtype[Any] = np.dtype(np.int64)


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Names and structure of the K keypoints of one class.

    Attributes:
        name: for example ``coco17``.
        keypoints: K names.
        edges: pairs of 0-based indexes that a drawing joins.
        flip: for each keypoint, the index of its partner in a mirrored picture.
        sigmas: per-keypoint standard deviations of OKS, as in COCO's evaluation (k = 2 sigma).
        colors: K colours, ``#rrggbb``.
        groups: name of a group (``face``, ``left_hand``) -> indexes of its keypoints.
    """

    name: str
    keypoints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...] = ()
    flip: tuple[int, ...] = ()
    sigmas: tuple[float, ...] = ()
    colors: tuple[str, ...] = ()
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: _EMPTY)

    def __post_init__(self) -> None:
        count = len(self.keypoints)
        fill = {
            "flip": tuple(range(count)),
            "sigmas": (DEFAULT_SIGMA,) * count,
            "colors": (DEFAULT_COLOR,) * count,
        }
        for name, value in fill.items():
            if not getattr(self, name):
                object.__setattr__(self, name, value)
            elif len(getattr(self, name)) != count:
                raise ValueError(
                    f"skeleton {self.name!r}: {name} has {len(getattr(self, name))} entries "
                    f"for {count} keypoints"
                )
        used = {i for edge in self.edges for i in edge} | set(self.flip)
        used |= {i for group in self.groups.values() for i in group}
        if any(not 0 <= i < count for i in used):
            raise ValueError(f"skeleton {self.name!r}: an index lies outside 0..{count - 1}")
        if any(self.flip[self.flip[i]] != i for i in range(count)):
            raise ValueError(f"skeleton {self.name!r}: flip does not pair the keypoints")
        object.__setattr__(self, "groups", MappingProxyType(dict(self.groups)))

    def __len__(self) -> int:
        return len(self.keypoints)

    def part(self, rows: Sequence[int]) -> Skeleton:
        """Return the skeleton of some keypoints: edges, partners and groups among them stay.

        Args:
            rows: indexes of the keypoints to keep, in the new order.
        """
        new = {old: i for i, old in enumerate(rows)}
        return Skeleton(
            name=self.name,
            keypoints=tuple(self.keypoints[i] for i in rows),
            edges=tuple((new[a], new[b]) for a, b in self.edges if a in new and b in new),
            flip=tuple(new.get(self.flip[i], new[i]) for i in rows),
            sigmas=tuple(self.sigmas[i] for i in rows),
            colors=tuple(self.colors[i] for i in rows),
            groups={
                name: kept
                for name, group in self.groups.items()
                if (kept := tuple(new[i] for i in group if i in new))
            },
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade(self)


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Boxes of one picture, in pixels of it after its orientation was applied.

    Attributes:
        boxes: (N, 4) float32, x1 y1 x2 y2, with x1 < x2 and y1 < y2.
        scores: (N,) float32, 0..1; NaN where nobody knows, which is what None becomes.
        class_ids: (N,) int64; None becomes the first class.

    Raises:
        InputError: an array has another shape, a box no area, or a score is infinite.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32] = field(default=None)  # type: ignore[arg-type]  # made an array
    class_ids: NDArray[np.int64] = field(default=None)  # type: ignore[arg-type]  # made an array

    def __post_init__(self) -> None:
        boxes = _checked_boxes(self.boxes)
        count = len(boxes)
        scores = np.full(count, np.nan) if self.scores is None else self.scores
        ids = np.zeros(count) if self.class_ids is None else self.class_ids
        for name, values, dtype in (("scores", scores, _FLOAT), ("class_ids", ids, _WHOLE)):
            array = np.asarray(values, dtype)
            if array.shape != (count,):
                raise InputError(f"{name} has the shape {array.shape} for {count} boxes.")
            object.__setattr__(self, name, array)
        object.__setattr__(self, "boxes", boxes)
        if np.isinf(self.scores).any():
            raise InputError("scores hold an infinite number: give 0 to 1, or NaN where unknown.")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: slice | NDArray[Any]) -> Boxes:
        """Return some of the boxes (a mask, slice or indexes)."""
        return Boxes(self.boxes[rows], self.scores[rows], self.class_ids[rows])


def _checked_boxes(boxes: object) -> NDArray[np.float32]:
    advice = "give (N, 4) finite numbers x1 y1 x2 y2, with x1 < x2 and y1 < y2, in pixels"
    try:
        array = np.asarray(boxes, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"boxes are no array ({error}): {advice}.") from error
    if array.size == 0:
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(f"boxes are an array of shape {array.shape}: {advice}.")
    wrong = ~(np.isfinite(array).all(1) & (array[:, :2] < array[:, 2:]).all(1))
    if wrong.any():
        raise InputError(f"boxes hold {array[wrong][0].tolist()}: {advice}.")
    return array


DEFAULT_SIGMA = 0.05
"""OKS sigma of a keypoint nobody measured: between COCO's ears (0.035) and wrists (0.062)."""
DEFAULT_COLOR = "#00c2ff"


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What one model found in one picture. N instances, sorted by score, K keypoint slots.

    All coordinates are pixels of the original picture after its orientation was applied, with
    (0, 0) the outer corner of the top left pixel. Shapes and types are checked when it is made.

    Attributes:
        image_size: (width, height).
        model_id: id of the model.
        class_names: name of each class id.
        skeletons: class id -> skeleton; a class without one has no keypoints.
        boxes: (N, 4) float32, x1 y1 x2 y2.
        scores: (N,) float32, 0..1.
        class_ids: (N,) int64.
        keypoints: (N, K, 2) float32; unused slots are NaN.
        keypoint_scores: (N, K) float32, 0..1; unused slots are 0.
        covariances: (N, K, 2, 2) float32, px², or None where the model cannot know it.
        track_ids: (N,) int64, or None without tracking.
        masks: (N, h, w) bool, or None.
        extras: further arrays with N rows that one family adds.
        source: path or address that it was read from, without what may be secret; None otherwise.
        keypoint_confidence: threshold that formats and drawing apply; changes no array.
        timings: milliseconds of ``decode``, ``prepare``, ``run``, ``finish``.
        details: how it was made: head, letterbox and input size.
    """

    image_size: tuple[int, int]
    model_id: str
    class_names: tuple[str, ...]
    skeletons: Mapping[int, Skeleton]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    keypoints: NDArray[np.float32]
    keypoint_scores: NDArray[np.float32]
    covariances: NDArray[np.float32] | None = None
    track_ids: NDArray[np.int64] | None = None
    masks: NDArray[np.bool_] | None = None
    extras: Mapping[str, NDArray[Any]] = field(default_factory=lambda: _EMPTY)
    source: str | None = None
    keypoint_confidence: float = 0.0
    timings: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    details: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)

    def __post_init__(self) -> None:
        n, k = len(self.scores), self.keypoint_scores.shape[-1]
        if not (
            self.boxes.shape == (n, 4)
            and self.scores.shape == self.class_ids.shape == (n,)
            and self.keypoints.shape == (n, k, 2)
            and self.keypoint_scores.shape == (n, k)
            and self.boxes.dtype == self.scores.dtype == self.keypoints.dtype == _FLOAT
            and self.keypoint_scores.dtype == _FLOAT
            and self.class_ids.dtype == _WHOLE
            and self.covariances is None
            and self.track_ids is None
        ):
            self._check_arrays(n, k)
        if self.masks is not None and (self.masks.ndim != 3 or len(self.masks) != n):
            raise ValueError(f"Prediction.masks has shape {self.masks.shape} for {n} instances")
        for name, rows in self.extras.items():
            if len(rows) != n:
                raise ValueError(f"Prediction.extras[{name!r}] has {len(rows)} rows, not {n}")
        self._check_values()
        for name in ("skeletons", "extras", "timings", "details"):
            if (mapping := getattr(self, name)) is not _EMPTY:
                object.__setattr__(self, name, MappingProxyType(dict(mapping)))

    def _check_arrays(self, n: int, k: int) -> None:
        """Say which array is not what it must be; the optional ones are looked at here alone."""
        expected: dict[str, tuple[Any, np.dtype[Any]]] = {
            "boxes": ((n, 4), _FLOAT),
            "scores": ((n,), _FLOAT),
            "class_ids": ((n,), _WHOLE),
            "keypoints": ((n, k, 2), _FLOAT),
            "keypoint_scores": ((n, k), _FLOAT),
            "covariances": ((n, k, 2, 2), _FLOAT),
            "track_ids": ((n,), _WHOLE),
        }
        for name, (shape, dtype) in expected.items():
            value = getattr(self, name)
            if value is None and name in ("covariances", "track_ids"):
                continue
            if value.shape != shape or value.dtype != dtype:
                raise ValueError(
                    f"Prediction.{name} is {value.dtype}{value.shape}, expected {dtype}{shape}"
                )

    def _check_values(self) -> None:
        if not len(self.scores):
            return
        for name in ("boxes", "scores", "keypoint_scores"):
            values = getattr(self, name)
            # One that is not finite makes the sum of squares so, which is told soonest.
            if not math.isfinite(np.vdot(values, values)) and not np.isfinite(values).all():
                raise ValueError(f"Prediction.{name} has values that are no finite numbers")
        # Lists of so few are quicker than arrays.
        ids, scores = self.class_ids.tolist(), self.scores.tolist()
        if min(ids) < 0 or max(ids) >= len(self.class_names):
            raise ValueError("Prediction.class_ids name a class that class_names does not have")
        if sorted(scores, reverse=True) != scores:
            raise ValueError("Prediction.scores are not sorted, highest first")

    def __len__(self) -> int:
        return len(self.scores)

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade(self)

    def __getitem__(self, index: Index) -> Self:
        """Return the chosen instances, in the order of the picture (a mask, slice or indexes)."""
        rows = np.arange(len(self))[index if not isinstance(index, int) else [index]]
        rows = np.sort(np.atleast_1d(rows))
        arrays: dict[str, Any] = {
            f.name: value[rows]
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), np.ndarray)
        }
        extras = {name: value[rows] for name, value in self.extras.items()}
        return replace(self, **arrays, extras=extras)

    def with_timings(self, timings: Mapping[str, float]) -> Self:
        """Return the same prediction with other timings; the arrays are shared, not checked again.

        Args:
            timings: milliseconds by stage, in the place of all that were there.
        """
        other = object.__new__(type(self))
        put = object.__setattr__
        for _ in map(put, repeat(other), _PREDICTION_FIELDS, _PREDICTION_VALUES(self)):
            pass  # the loop itself is what takes the time
        put(other, "timings", MappingProxyType(dict(timings)))
        return other

    def skeleton(self, row: int) -> Skeleton | None:
        """Return the skeleton of one instance, None where its class has no keypoints."""
        return self.skeletons.get(int(self.class_ids[row]))

    def dict(self, *, exclude_none: bool = True, by_alias: bool = True) -> dict[str, Any]:
        """Return Roboflow's JSON as a dict (``openkeypoints.dump(result, "roboflow")``).

        Args:
            exclude_none: leave out fields without a value.
            by_alias: ``class`` and ``class_id`` as on the wire; False gives attribute names.
        """
        rows: dict[str, Any] = _formats().roboflow.dump(
            self, exclude_none=exclude_none, by_alias=by_alias
        )
        return rows

    def json(self) -> str:
        """Return Roboflow's JSON text."""
        text: str = _formats().dumps(self, "roboflow")
        return text

    def tojson(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return Ultralytics' JSON text: a list of rows, on one line.

        Args:
            normalize: divide coordinates by the width and height of the picture.
            decimals: digits after the point.
        """
        formats = _formats()
        rows = formats.ultralytics.dump(self, normalize=normalize, decimals=decimals)
        text: str = formats.json_text(rows)
        return text

    @property
    def predictions(self) -> Sequence[Any]:
        """Read-only rows with Roboflow's attribute names (``x``, ``confidence``, ...)."""
        rows: Sequence[Any] = _formats().roboflow.view(self).predictions
        return rows

    @property
    def image(self) -> Any:
        """Read-only ``width`` and ``height``, as in Roboflow's answers."""
        return _formats().roboflow.view(self).image


_PREDICTION_FIELDS = tuple(f.name for f in fields(Prediction))
_PREDICTION_VALUES = attrgetter(*_PREDICTION_FIELDS)


def empty_prediction(
    image_size: tuple[int, int],
    model_id: str,
    class_names: tuple[str, ...],
    skeletons: Mapping[int, Skeleton],
    *,
    covariances: bool = False,
) -> Prediction:
    """Return a prediction with N = 0 whose arrays keep their rank and type."""
    k = max((len(s) for s in skeletons.values()), default=0)
    return Prediction(
        image_size=image_size,
        model_id=model_id,
        class_names=class_names,
        skeletons=skeletons,
        boxes=np.zeros((0, 4), np.float32),
        scores=np.zeros(0, np.float32),
        class_ids=np.zeros(0, np.int64),
        keypoints=np.zeros((0, k, 2), np.float32),
        keypoint_scores=np.zeros((0, k), np.float32),
        covariances=np.zeros((0, k, 2, 2), np.float32) if covariances else None,
    )


def _remade(record: Skeleton | Prediction) -> tuple[Any, ...]:
    # Read-only mappings cannot be pickled or copied, so a copy is made from plain ones.
    values = (getattr(record, f.name) for f in fields(record))
    return type(record), tuple(dict(v) if isinstance(v, Mapping) else v for v in values)


def _formats() -> Any:
    # The one upward import of this layer: formats are loaded when somebody asks for text.
    from openkeypoints import formats  # noqa: PLC0415

    return formats
