"""Training crops for a keypoint network: one instance each, moved, turned, mirrored, half seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openkeypoints.geometry import transform_points
from openkeypoints.images import warp
from openkeypoints.results import Image
from openkeypoints.train.augment import FILL, photometric, rotation_scale
from openkeypoints.train.coco import Picture
from openkeypoints.train.paste import Donors, blend, covered_points, draw_turn
from openkeypoints.train.sources import PictureCache, Source, cumulative_shares, draw_index

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CropPolicy:
    """How crops are drawn. Lengths are parts of the instance's box, angles degrees.

    Attributes:
        size: side of the crop in pixels.
        fill: part of the crop's side that the long side of the box takes in inference.
        scale: range of that part's factor.
        shift: standard deviation of the shift of the middle.
        rotation: standard deviation of the rotation, applied to 70 % of the samples.
        any_rotation: share of samples turned by any angle.
        half: share of samples that show a part of the instance only.
        hide: share of samples with hidden patches.
        paste: share of samples with a neighbour from another picture pasted in front.
    """

    size: int = 192
    fill: float = 0.95
    scale: tuple[float, float] = (0.7, 1.12)
    shift: float = 0.06
    rotation: float = 25.0
    any_rotation: float = 0.1
    half: float = 0.2
    hide: float = 0.15
    paste: float = 0.0


@dataclass(frozen=True, slots=True)
class _Item:
    picture: Picture
    row: int


class KeypointSampler:
    """Draws batches of crops; batch ``step`` is a function of the seed and the step alone."""

    def __init__(
        self,
        sources: Sequence[Source],
        flip: Sequence[int],
        policy: CropPolicy,
        cache: PictureCache,
        *,
        seed: int = 0,
    ) -> None:
        groups = [[_Item(p, i) for p in s.dataset.pictures for i in _trainable(p)] for s in sources]
        self.items = [item for group in groups for item in group]
        self.shares = cumulative_shares(sources, [len(g) for g in groups])
        self.flip, self.policy, self.cache, self.seed = np.array(flip), policy, cache, seed
        self._donors = Donors(sources if policy.paste else (), cache)

    def batch(self, step: int, count: int) -> dict[str, NDArray[np.generic]]:
        """Return the samples of a step.

        ``images`` (count, S, S, 3) uint8, ``points`` (count, K, 2) px of the crop, ``weights``
        (count, K).
        """
        rows = [
            self.sample(np.random.default_rng((self.seed, step, index))) for index in range(count)
        ]
        images, points, weights = zip(*rows, strict=True)
        return {
            "images": np.stack(images),
            "points": np.stack(points).astype(np.float32),
            "weights": np.stack(weights).astype(np.float32),
        }

    def sample(self, rng: np.random.Generator) -> tuple[Image, Floats, Floats]:
        """Return one crop, its keypoints in pixels of the crop and their weights."""
        item, policy = self.items[draw_index(self.shares, rng)], self.policy
        keypoints, weights = item.picture.keypoints[item.row], item.picture.weights[item.row]
        box = item.picture.boxes[item.row]
        border = None
        if rng.random() < policy.half and (weights > 0).sum() >= 6:
            box = part_box(keypoints[weights > 0], rng)
            border = box if rng.random() < 0.5 else None
        mirror = rng.random() < 0.5
        matrix = self._window(box, mirror, rng)
        image = self.cache.get(item.picture)
        if border is not None:
            image = _outside_filled(image, border, rng)
        crop = warp(image, matrix, (policy.size, policy.size), fill=FILL)
        points = transform_points(keypoints, matrix)
        shown = ((points >= 0) & (points < policy.size)).all(-1)
        if border is not None:
            shown &= ((keypoints >= border[:2]) & (keypoints <= border[2:])).all(-1)
        weights = weights * shown
        if len(self._donors) and rng.random() < policy.paste:
            crop, weights = self._pasted(crop, points, weights, rng)
        if mirror:
            points, weights = points[self.flip], weights[self.flip]
        return photometric(crop, rng, hide=policy.hide), points.astype(np.float32), weights

    def _pasted(
        self, crop: Image, points: Floats, weights: Floats, rng: np.random.Generator
    ) -> tuple[Image, Floats]:
        """Put a neighbour beside the middle; the keypoints that it hides are unlabelled.

        A crop whose own instance would mostly be hidden stays as it is: nobody could say whose
        keypoints are asked for.
        """
        size = self.policy.size
        away, direction = rng.uniform(0.3, 0.6) * size, rng.uniform(0, 2 * np.pi)
        cutout = self._donors.place(
            self._donors.draw(rng),
            part=rng.uniform(0.5, 1.0),
            middle=size / 2 + away * np.array([np.cos(direction), np.sin(direction)]),
            size=size,
            turn=draw_turn(rng, self.policy.rotation),
        )
        left = weights * ~covered_points(points, cutout.mask)
        if left.sum() < 0.5 * weights.sum():
            return crop, weights
        return blend(crop, cutout), left

    def _window(self, box: Floats, mirror: bool, rng: np.random.Generator) -> NDArray[np.float64]:
        policy = self.policy
        side = float(max(box[2:] - box[:2]))
        center = (box[:2] + box[2:]) / 2 + rng.normal(0, policy.shift, 2) * side
        angle = rng.normal(0, policy.rotation) if rng.random() < 0.7 else 0.0
        if rng.random() < policy.any_rotation:
            angle = rng.uniform(-180, 180)
        zoom = policy.fill * np.exp(rng.uniform(*np.log(policy.scale)))
        return rotation_scale(center, side / zoom, policy.size, angle, mirror)


def _trainable(picture: Picture) -> NDArray[np.intp]:
    sides = (picture.boxes[:, 2:] - picture.boxes[:, :2]).min(1, initial=np.inf)
    return np.nonzero((picture.weights.sum(1) > 0) & ~picture.ignore & (sides > 8))[0]


def part_box(points: Floats, rng: np.random.Generator) -> Floats:
    """Return a box about a part of an instance: the keypoints nearest to one of them.

    Args:
        points: (M, 2) labelled keypoints, M at least 3.
        rng: source of chance.
    """
    anchor = points[rng.integers(len(points))]
    count = max(3, round(len(points) * rng.uniform(0.3, 0.75)))
    near = points[np.argsort(np.linalg.norm(points - anchor, axis=1))[:count]]
    low, high = near.min(0), near.max(0)
    # A window on two joints alone shows nothing to tell them by.
    short = (0.4 * (points.max(0) - points.min(0)).max() - (high - low)).clip(0) / 2
    low, high = low - short, high + short
    margin = rng.uniform(0.05, 0.3, 4) * max(*(high - low), 8.0)
    return np.concatenate([low - margin[:2], high + margin[2:]]).astype(np.float32)


def _outside_filled(image: Image, box: Floats, rng: np.random.Generator) -> Image:
    """Grey out what lies beyond one or two sides of a box, as if the picture ended there."""
    out = image.copy()
    left, top, right, bottom = box.round().astype(int).clip(0)
    sides = rng.permutation(4)[: rng.integers(1, 3)]
    if 0 in sides:
        out[:, :left] = FILL
    if 1 in sides:
        out[:top] = FILL
    if 2 in sides:
        out[:, right:] = FILL
    if 3 in sides:
        out[bottom:] = FILL
    return out
