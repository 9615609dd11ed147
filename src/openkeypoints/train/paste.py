"""Copy-paste: instances cut out along their own skeleton and put into other pictures.

The mask is drawn from the keypoints alone, so no segmentation is needed: a capsule about each edge
of the skeleton and the hull of each of its loops (torso, head), with a soft rim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openkeypoints.geometry import transform_points
from openkeypoints.images import warp
from openkeypoints.results import Image
from openkeypoints.skeletons import skeleton_from_coco_category, skeleton_from_names
from openkeypoints.train.augment import FILL, rotation_scale
from openkeypoints.train.coco import Dataset, Picture
from openkeypoints.train.sources import PictureCache, Source, cumulative_shares, draw_index

Floats = NDArray[np.float32]
Edge = tuple[int, int]

LIMB = 0.13
"""Radius of a capsule as a part of the instance's longest edge, which in people is the torso."""
THICK = 0.2
"""Radius about short edges: keypoints that lie close together mark one thick part, a face."""
SHORT = 0.4
"""An edge below this part of the longest one is short."""
RIM = 0.05
"""Width of the soft rim, in the same unit."""
KNOWN = 0.7
"""Part of an instance's edges that have to be labelled, so that no limb is left behind."""
MIN_SIDE = 48.0
"""Pixels; smaller instances are not cut out, they would only be blurred."""
COVERED = 0.5
"""A place is covered where the mask is above this."""


@dataclass(frozen=True, slots=True)
class Donor:
    """An instance that can be cut out.

    Attributes:
        picture: where it is.
        row: which of the picture's instances.
        edges: pairs of keypoint slots, both labelled.
        loops: keypoint slots of the skeleton's loops, all labelled.
    """

    picture: Picture
    row: int
    edges: tuple[Edge, ...]
    loops: tuple[tuple[int, ...], ...]


class Cutout(NamedTuple):
    """An instance placed in a window of (S, S): its pixels, and its mask (S, S) from 0 to 1."""

    image: Image
    mask: Floats


class Donors:
    """The instances of a mixture that can be cut out; none where skeletons have no edges."""

    def __init__(self, sources: Sequence[Source], cache: PictureCache) -> None:
        groups = [_donors(source.dataset) for source in sources]
        self._items = [donor for group in groups for donor in group]
        self._shares = cumulative_shares(sources, [len(group) for group in groups])
        self._cache = cache

    def __len__(self) -> int:
        return len(self._items)

    def draw(self, rng: np.random.Generator) -> Donor:
        """Return one of them, drawn by the shares of the sources."""
        return self._items[draw_index(self._shares, rng)]

    def place(
        self, donor: Donor, *, part: float, middle: NDArray[np.float64], size: int, turn: Turn
    ) -> Cutout:
        """Cut an instance out and put it into an empty window.

        Args:
            donor: the instance.
            part: its long side as a part of the window's.
            middle: (2,) where the middle of its box comes to lie, px of the window.
            size: side of the window in pixels.
            turn: how it is turned.
        """
        box = donor.picture.boxes[donor.row]
        side = float((box[2:] - box[:2]).max()) / part
        matrix = rotation_scale(
            (box[:2] + box[2:]) / 2, side, size, turn.angle_deg, mirror=turn.mirror
        )
        matrix[:, 2] += middle - size / 2
        points = transform_points(donor.picture.keypoints[donor.row], matrix)
        image = warp(self._cache.get(donor.picture), matrix, (size, size), fill=FILL)
        return Cutout(image, soft_mask(points, donor.edges, donor.loops, size))


class Turn(NamedTuple):
    """A rotation clockwise in degrees, and whether left and right are exchanged."""

    angle_deg: float
    mirror: bool


def draw_turn(rng: np.random.Generator, spread_deg: float) -> Turn:
    """Draw a turn: normally distributed, every second one mirrored."""
    return Turn(rng.normal(0, spread_deg), bool(rng.random() < 0.5))


def blend(image: Image, cutout: Cutout) -> Image:
    """Return a window with an instance in front."""
    mask = cutout.mask[..., None]
    return np.rint(image * (1 - mask) + cutout.image * mask).astype(np.uint8)


def covered_points(points: Floats, mask: Floats) -> NDArray[np.bool_]:
    """Return which of (K, 2) points of a window lie behind a mask; none outside the window."""
    cells = np.floor(points).astype(np.int64)
    inside = ((cells >= 0) & (cells < len(mask))).all(-1)
    x, y = cells.clip(0, len(mask) - 1).T
    return np.asarray(inside & (mask[y, x] > COVERED))


def covered_parts(boxes: Floats, mask: Floats) -> NDArray[np.float64]:
    """Return the part (N,) of each (N, 4) box of a window that lies behind a mask."""
    hidden = mask > COVERED
    low, high = np.floor(boxes[:, :2]).astype(int).clip(0), np.ceil(boxes[:, 2:]).astype(int)
    spans = zip(low, high, strict=True)
    return np.array([hidden[a[1] : b[1], a[0] : b[0]].mean() for a, b in spans], np.float64)


def extent(mask: Floats) -> Floats | None:
    """Return the box (4,) of a mask, px of the window, None for an empty mask."""
    rows, cols = np.nonzero(mask > COVERED)
    if not len(rows):
        return None
    return np.array([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1], np.float32)


def soft_mask(
    points: Floats, edges: Sequence[Edge], loops: Sequence[Sequence[int]], size: int
) -> Floats:
    """Draw an instance as capsules about its edges and hulls of its loops.

    Args:
        points: (K, 2) px of the window.
        edges: pairs of rows of ``points``.
        loops: rows of ``points`` that enclose a part.
        size: side of the window.

    Returns:
        (size, size), 1 inside, 0 outside, with a soft rim.
    """
    mask = np.zeros((size, size), np.float32)
    ends = [points[[a, b]].astype(np.float32) for a, b in edges]
    lengths = [float(np.linalg.norm(b - a)) for a, b in ends]
    unit = max(*lengths, 1.0)
    rim = max(RIM * unit, 1.0)
    for (a, b), length in zip(ends, lengths, strict=True):
        radius = (THICK if length < SHORT * unit else LIMB) * unit
        _cover(mask, np.stack([a, b]), _from_segment, (radius, rim))
    for loop in loops:
        corners = _hull(points[list(loop)])
        if len(corners) > 2:
            _cover(mask, corners, _from_hull, (LIMB * unit / 2, rim))
    return mask


Distance = Callable[[Floats, Floats], Floats]


def _cover(mask: Floats, shape: Floats, distance: Distance, reach: tuple[float, float]) -> None:
    """Draw a shape, grown by a radius, with a soft rim; only its surroundings are visited."""
    radius, rim = reach
    low = np.floor(shape.min(0) - radius - rim).astype(int).clip(0, len(mask))
    high = np.ceil(shape.max(0) + radius + rim).astype(int).clip(0, len(mask))
    y, x = np.mgrid[low[1] : high[1], low[0] : high[0]].astype(np.float32) + 0.5
    inside = 0.5 - (distance(np.stack([x, y], -1), shape) - radius) / rim
    part = mask[low[1] : high[1], low[0] : high[0]]
    np.maximum(part, inside.clip(0, 1), out=part)


def loops_of(edges: Sequence[Edge]) -> list[tuple[int, ...]]:
    """Return a loop of the graph for each edge that closes one, as its nodes in order."""
    parent: dict[int, int] = {}
    loops = []
    neighbours: dict[int, list[int]] = {}
    for a, b in edges:
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    for root in neighbours:
        if root in parent:
            continue
        parent[root], queue = root, [root]
        for node in queue:
            for other in neighbours[node]:
                if other not in parent:
                    parent[other] = node
                    queue.append(other)
    for a, b in edges:
        if parent[a] != b and parent[b] != a and a != b:
            loops.append(_loop(_way_up(a, parent), _way_up(b, parent)))
    return loops


def _way_up(node: int, parent: dict[int, int]) -> list[int]:
    way = [node]
    while parent[way[-1]] != way[-1]:
        way.append(parent[way[-1]])
    return way


def _loop(first: list[int], second: list[int]) -> tuple[int, ...]:
    """Join two ways up a tree at the node where they meet."""
    meeting = next(node for node in first if node in second)
    ahead = first[: first.index(meeting) + 1]
    back = second[: second.index(meeting)]
    return (*ahead, *reversed(back))


def _donors(dataset: Dataset) -> list[Donor]:
    edges = [_edges(category, dataset.keypoint_names) for category in dataset.categories]
    loops = [loops_of(pairs) for pairs in edges]
    found = []
    for picture in dataset.pictures:
        sides = (picture.boxes[:, 2:] - picture.boxes[:, :2]).min(1, initial=np.inf)
        for row in np.nonzero(~picture.ignore & (sides >= MIN_SIDE))[0]:
            mine, known = int(picture.class_ids[row]), picture.weights[row] > 0
            kept = tuple((a, b) for a, b in edges[mine] if known[a] and known[b])
            if kept and len(kept) >= KNOWN * len(edges[mine]):
                whole = tuple(loop for loop in loops[mine] if known[list(loop)].all())
                found.append(Donor(picture, int(row), kept, whole))
    return found


def _edges(category: object, slots: Sequence[str]) -> list[Edge]:
    """Return the edges of a category between slots, those of the packaged skeleton with them."""
    skeleton = skeleton_from_coco_category(category) if isinstance(category, dict) else None
    if skeleton is None:
        return []
    # Files leave out edges that hold a body together, such as those from ear to shoulder.
    packaged = skeleton_from_names(skeleton.name, skeleton.keypoints)
    where = {name: i for i, name in enumerate(slots)}
    names = [skeleton.keypoints[i] for i in range(len(skeleton))]
    pairs = {(min(e), max(e)) for e in (*skeleton.edges, *packaged.edges)}
    kept = ((where.get(names[a]), where.get(names[b])) for a, b in sorted(pairs))
    return [(a, b) for a, b in kept if a is not None and b is not None]


def _from_segment(at: Floats, ends: Floats) -> Floats:
    """Return the distances (h, w) of places (h, w, 2) from a segment."""
    way = ends[1] - ends[0]
    along = ((at - ends[0]) @ way / max(float(way @ way), 1e-6)).clip(0, 1)
    off = at - ends[0] - along[..., None] * way
    return np.asarray(np.hypot(off[..., 0], off[..., 1]))


def _from_hull(at: Floats, corners: Floats) -> Floats:
    """Return how far places (h, w, 2) lie outside of a convex shape, negative inside.

    Near a corner it is the distance from the longer side's line: enough for a rim.
    """
    way = np.roll(corners, -1, axis=0) - corners
    outward = np.stack([way[:, 1], -way[:, 0]], -1)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    sides = [(at - c) @ n for c, n in zip(corners, outward, strict=True)]
    return np.asarray(np.max(sides, axis=0))


def _hull(points: Floats) -> Floats:
    """Return the corners of the convex hull, in one sense of rotation (Andrew 1979)."""
    order = sorted({(float(x), float(y)) for x, y in points})
    chains = []
    for row in (order, order[::-1]):
        chain: list[tuple[float, float]] = []
        for point in row:
            while len(chain) > 1 and _turns(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        chains.append(chain[:-1])
    return np.array([*chains[0], *chains[1]], np.float32).reshape(-1, 2)


def _turns(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
