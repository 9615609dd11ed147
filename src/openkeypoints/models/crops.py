"""The crops that the keypoint networks of top-down models see, and the way back to the picture."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openkeypoints.geometry import Matrix, invert_affine, transform_points
from openkeypoints.images import warp
from openkeypoints.results import Image

Floats = NDArray[np.float32]

Convention = Literal["edge", "pixel", "udp"]
"""Where a box's window lies in the crop, as the network was trained.

``edge``: outer corner on outer corner, as all coordinates of this library. ``pixel``: the window's
width on the crop's, both counted between the middles of pixels (mmpose without UDP). ``udp``: the
window's width on the distance of the first and last pixel's middles (Huang et al. 2020, "The Devil
is in the Details").
"""


class Sampler(Protocol):
    """Draws a crop, as ``images.warp`` does."""

    def __call__(
        self, image: Image, matrix: ArrayLike, size_wh: tuple[int, int], /, *, fill: int
    ) -> Image:
        """Return the part of a picture that an affine map brings into a window."""
        ...


class CropMaps(NamedTuple):
    """From a picture to a crop: (2, 3) each.

    ``pixels`` between outer corners, for the sampler; ``points`` for the numbers that the network
    gives, which are pixels of the crop as its convention counts them.
    """

    pixels: Matrix
    points: Matrix


@dataclass(frozen=True, slots=True)
class CropGeometry:
    """How a box becomes the input of a network.

    Attributes:
        size: (width, height) of the crop.
        padding: the window's sides are the box's times this, then the one that is too short for
            the shape of the crop grows.
        convention: where the window lies in the crop.
        border: grey level outside of the picture.
        sampler: draws the crop.
    """

    size: tuple[int, int]
    padding: float = 1.25
    convention: Convention = "pixel"
    border: int = 0
    sampler: Sampler = warp

    def maps(self, box: ArrayLike) -> CropMaps:
        """Return the maps of a box x1 y1 x2 y2 (px; a side below one pixel counts as one)."""
        x1, y1, x2, y2 = np.asarray(box, np.float64)
        width, height = self.size
        wide, high = (max(side, 1.0) * self.padding for side in (x2 - x1, y2 - y1))
        wide, high = max(wide, high * width / height), max(high, wide * height / width)
        last = 1 if self.convention == "udp" else 0
        fx, fy = (width - last) / wide, (height - last) / high
        shift = np.array(
            [(width - last) / 2 - fx * (x1 + x2) / 2, (height - last) / 2 - fy * (y1 + y2) / 2]
        )
        points = np.column_stack([np.diag([fx, fy]), shift])
        if self.convention == "edge":
            return CropMaps(points, points)
        pixels = points.copy()
        pixels[:, 2] += [0.5 - 0.5 * fx, 0.5 - 0.5 * fy]
        return CropMaps(pixels, points)


@dataclass(frozen=True, slots=True)
class CropKeypoints:
    """Keypoints of N crops.

    Attributes:
        points: (N, K, 2), pixels of the crop; NaN where the network has no place for one.
        scores: (N, K), 0..1.
        covariances: (N, K, 2, 2), pixels of the crop squared, None where the network cannot tell.
        extras: further arrays (N, K, ...), passed on under their names.
    """

    points: Floats
    scores: Floats
    covariances: Floats | None = None
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def part(self, rows: slice) -> CropKeypoints:
        """Return those of some crops."""
        return CropKeypoints(
            self.points[rows],
            self.scores[rows],
            None if self.covariances is None else self.covariances[rows],
            {name: values[rows] for name, values in self.extras.items()},
        )

    def finite(self) -> CropKeypoints:
        """Return them with NaN and score 0 wherever the network gave a number that is none."""
        lost = ~(np.isfinite(self.points).all(-1) & np.isfinite(self.scores))
        if not lost.any():
            return self
        covariances = self.covariances
        if covariances is not None:
            covariances = np.where(lost[..., None, None], np.float32(np.nan), covariances)
        points = np.where(lost[..., None], np.float32(np.nan), self.points)
        scores = np.where(lost, np.float32(0), self.scores)
        return CropKeypoints(points, scores, covariances, self.extras)

    def in_picture(self, back: Sequence[Matrix]) -> CropKeypoints:
        """Return them in pixels of the pictures.

        Args:
            back: the map of each crop's points to its picture.
        """
        points = [transform_points(p, m) for p, m in zip(self.points, back, strict=True)]
        covariances = self.covariances
        if covariances is not None:
            linear = np.stack(back)[:, :, :2]
            turned = np.einsum("nij,nkjl,nml->nkim", linear, covariances, linear)
            covariances = turned.astype(np.float32)
        return CropKeypoints(np.stack(points), self.scores, covariances, self.extras)


def no_keypoints(count: int, *, covariances: bool) -> CropKeypoints:
    """Return the keypoints of no crop: what a reader of ``count`` keypoints has as ``empty``."""
    return CropKeypoints(
        np.zeros((0, count, 2), np.float32),
        np.zeros((0, count), np.float32),
        np.zeros((0, count, 2, 2), np.float32) if covariances else None,
    )


class CropReader(Protocol):
    """Reads the keypoints of crops: the second half of a top-down model. Thread-safe.

    Attributes:
        crop: how a box becomes a crop.
        per_run: crops that go through the network at once.
        empty: what :meth:`read` would give for no crop; says K, covariances and extras.
        honours: ``{"flip_test"}`` where it can average with the mirrored crops, else empty.
    """

    crop: CropGeometry
    per_run: int
    empty: CropKeypoints
    honours: frozenset[str]
    runtime: str
    device: str
    precision: str

    def read(self, crops: NDArray[np.uint8], *, flip_test: bool = False) -> CropKeypoints:
        """Return the keypoints of (N, H, W, 3) RGB crops, N from 1 to ``per_run``."""
        ...

    def close(self) -> None:
        """Free what the runtime holds."""
        ...


def read_keypoints(
    reader: CropReader,
    images: Sequence[Image],
    boxes: Sequence[tuple[int, Floats]],
    *,
    flip_test: bool = False,
) -> tuple[CropKeypoints, float]:
    """Return the keypoints of boxes in pixels of their pictures, and the network's milliseconds.

    Args:
        reader: the crop network.
        images: pictures.
        boxes: (index of the picture, (4,) x1 y1 x2 y2 px) for each instance.
        flip_test: average with the mirrored crops.
    """
    parts, milliseconds = [reader.empty], 0.0
    for start in range(0, len(boxes), reader.per_run):
        chunk = boxes[start : start + reader.per_run]
        maps = [reader.crop.maps(box) for _, box in chunk]
        crops = [
            reader.crop.sampler(images[i], m.pixels, reader.crop.size, fill=reader.crop.border)
            for (i, _), m in zip(chunk, maps, strict=True)
        ]
        began = time.perf_counter()
        read = reader.read(np.stack(crops), flip_test=flip_test)
        milliseconds += (time.perf_counter() - began) * 1e3
        parts.append(read.finite().in_picture([invert_affine(m.points) for m in maps]))
    covariances = None
    if reader.empty.covariances is not None:
        known = [p.covariances for p in parts if p.covariances is not None]
        covariances = np.concatenate(known)
    together = CropKeypoints(
        np.concatenate([p.points for p in parts]),
        np.concatenate([p.scores for p in parts]),
        covariances,
        {name: np.concatenate([p.extras[name] for p in parts]) for name in reader.empty.extras},
    )
    return together, milliseconds
