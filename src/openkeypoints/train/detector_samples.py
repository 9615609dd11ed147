"""Training windows for a detector: zoomed about an instance, mirrored, joined in mosaics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openkeypoints.images import warp
from openkeypoints.results import Image
from openkeypoints.train.augment import FILL, photometric, rotation_scale
from openkeypoints.train.coco import Picture
from openkeypoints.train.paste import Donors, blend, covered_parts, draw_turn, extent
from openkeypoints.train.sources import PictureCache, Source, cumulative_shares, draw_index

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """How windows are drawn.

    Attributes:
        size: side of the window in pixels.
        zoom: share of samples zoomed about an instance.
        zoom_range: long side of that instance as part of the window, drawn log-uniformly.
        mosaic: share of samples made of 2 x 2 windows.
        rotation: standard deviation of the rotation in degrees.
        hide: share of samples with hidden patches.
        min_side: instances smaller than this in the window, px, are ignored.
        min_visible: instances of which less than this part lies in the window are ignored.
        paste: share of samples with one to three instances of other pictures pasted in.
        paste_range: long side of a pasted instance as part of the window.
    """

    size: int = 256
    zoom: float = 0.5
    zoom_range: tuple[float, float] = (0.2, 1.25)
    mosaic: float = 0.3
    rotation: float = 6.0
    hide: float = 0.1
    min_side: float = 9.0
    min_visible: float = 0.35
    paste: float = 0.0
    paste_range: tuple[float, float] = (0.3, 0.7)


class Window(NamedTuple):
    """One sample: picture, (N, 4) boxes in its pixels, (N,) class ids, (N,) ignore flags."""

    image: Image
    boxes: Floats
    class_ids: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    complete: bool


class WindowSampler:
    """Draws windows; batch ``step`` is a function of the seed and the step alone."""

    def __init__(
        self,
        sources: Sequence[Source],
        policy: WindowPolicy,
        cache: PictureCache,
        *,
        seed: int = 0,
    ) -> None:
        self.items = [(p, s.dataset.complete) for s in sources for p in s.dataset.pictures]
        self.shares = cumulative_shares(sources, [len(s.dataset.pictures) for s in sources])
        self.policy, self.cache, self.seed = policy, cache, seed
        self._donors = Donors(sources if policy.paste else (), cache)

    def batch(self, step: int, count: int) -> list[Window]:
        """Return ``count`` windows."""
        return [
            self.sample(np.random.default_rng((self.seed, step, index))) for index in range(count)
        ]

    def sample(self, rng: np.random.Generator) -> Window:
        """Return one window, its colours changed."""
        size = self.policy.size
        mosaic = rng.random() < self.policy.mosaic
        window = self._mosaic(rng) if mosaic else self._window(size, rng)
        if len(self._donors) and rng.random() < self.policy.paste:
            for _ in range(rng.integers(1, 4)):
                window = self._pasted(window, rng)
        return window._replace(image=photometric(window.image, rng, hide=self.policy.hide))

    def _mosaic(self, rng: np.random.Generator) -> Window:
        half = self.policy.size // 2
        tiles = [self._window(half, rng) for _ in range(4)]
        corners = np.array([[0, 0], [half, 0], [0, half], [half, half]], np.float32)
        rows = [np.hstack([t.image for t in tiles[i : i + 2]]) for i in (0, 2)]
        return Window(
            np.vstack(rows),
            np.concatenate([t.boxes + np.tile(c, 2) for t, c in zip(tiles, corners, strict=True)]),
            np.concatenate([t.class_ids for t in tiles]),
            np.concatenate([t.ignore for t in tiles]),
            all(t.complete for t in tiles),
        )

    def _window(self, size: int, rng: np.random.Generator) -> Window:
        picture, complete = self.items[draw_index(self.shares, rng)]
        matrix = self._matrix(picture, size, rng)
        image = warp(self.cache.get(picture), matrix, (size, size), fill=FILL)
        boxes, visible = _moved_boxes(picture.boxes, matrix, size)
        # Small in the window, or small in a source that leaves such people unlabelled.
        small = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf) < self.policy.min_side
        ignore = picture.ignore | small | (visible < self.policy.min_visible)
        seen = visible > 0.02
        return Window(image, boxes[seen], picture.class_ids[seen], ignore[seen], complete)

    def _pasted(self, window: Window, rng: np.random.Generator) -> Window:
        """Put one more instance in front; what it hides for the most part is ignored."""
        size, policy = self.policy.size, self.policy
        donor = self._donors.draw(rng)
        cutout = self._donors.place(
            donor,
            part=rng.uniform(*policy.paste_range),
            middle=rng.uniform(0.1, 0.9, 2) * size,
            size=size,
            turn=draw_turn(rng, policy.rotation),
        )
        box = extent(cutout.mask)
        if box is None or (box[2:] - box[:2]).min() < policy.min_side:
            return window
        hidden = covered_parts(window.boxes, cutout.mask) > 1 - policy.min_visible
        mine = donor.picture.class_ids[donor.row : donor.row + 1]
        return window._replace(
            image=blend(window.image, cutout),
            boxes=np.concatenate([window.boxes, box[None]]),
            class_ids=np.concatenate([window.class_ids, mine]),
            ignore=np.append(window.ignore | hidden, False),
        )

    def _matrix(self, picture: Picture, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
        wanted = np.nonzero(~picture.ignore)[0]
        long = float(max(picture.size))
        angle = rng.normal(0, self.policy.rotation)
        mirror = bool(rng.random() < 0.5)
        if len(wanted) and rng.random() < self.policy.zoom:
            box = picture.boxes[rng.choice(wanted)]
            part = np.exp(rng.uniform(*np.log(self.policy.zoom_range)))
            # No window is much wider than the picture: grey teaches nothing.
            side = min(float(max(box[2:] - box[:2])) / part, 1.4 * long)
            center = (box[:2] + box[2:]) / 2 + rng.uniform(-0.5, 0.5, 2) * abs(1 - part) * side
        else:
            side = long / rng.uniform(0.85, 1.5)
            center = np.array(picture.size) / 2 + rng.uniform(-0.12, 0.12, 2) * side
        return rotation_scale(center, side, size, angle, mirror)


def _moved_boxes(
    boxes: Floats, matrix: NDArray[np.float64], size: int
) -> tuple[Floats, NDArray[np.float64]]:
    """Return boxes in the window, clipped to it, and the visible part of each.

    A turned person fills less than the turned box: the ellipse inside the box is what is turned.
    """
    center = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    half = np.sqrt(((boxes[:, 2:] - boxes[:, :2]) / 2) ** 2 @ (matrix[:, :2] ** 2).T)
    low, high = center - half, center + half
    area = np.prod(high - low, axis=1)
    low, high = low.clip(0, size), high.clip(0, size)
    visible = np.prod(high - low, axis=1) / np.maximum(area, 1e-6)
    return np.concatenate([low, high], 1).astype(np.float32), visible
