"""Boxes, letterboxes, affine maps and overlaps: plain numpy on coordinates, no pictures.

Coordinates are pixels with (0, 0) the outer corner of the top left pixel, so that a picture of
width W covers 0..W and the centre of its first pixel lies at 0.5. Sizes are (width, height).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openkeypoints.errors import InputError
from openkeypoints.results import Prediction

Floats = NDArray[np.floating[Any]]
Matrix = NDArray[np.float64]
"""An affine map: (2, 3) float64, applied to column vectors (x, y, 1)."""
SMALLEST_AREA = 1e-12
"""Stands for an area of zero, px²: a point on the spot then still has a similarity of 1."""


# --- box layouts -----------------------------------------------------------------------------


def xyxy_from_xywh(boxes: Floats) -> Floats:
    """Turn (..., 4) boxes of left, top, width, height into corners."""
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def xywh_from_xyxy(boxes: Floats) -> Floats:
    """Turn (..., 4) corners into left, top, width, height."""
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def xyxy_from_cxcywh(boxes: Floats) -> Floats:
    """Turn (..., 4) boxes of centre, width, height into corners."""
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def clip_boxes(boxes: Floats, size_wh: tuple[int, int]) -> Floats:
    """Return (..., 4) corners moved to the nearest place inside a picture of that size."""
    return np.clip(boxes, 0, np.array([*size_wh, *size_wh], boxes.dtype))


def area(boxes: Floats) -> Floats:
    """Return the areas (...) of (..., 4) corners; a box turned inside out has none."""
    sides: Floats = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


# --- letterbox -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How one picture was scaled and padded to become a network's input.

    Attributes:
        image_size: (width, height) of the picture before.
        resized_size: (width, height) of the scaled picture inside the input.
        left: padding in pixels at the left; likewise ``top``, ``right``, ``bottom``.
        scale: the ratio asked for. After rounding to whole pixels each axis has its own, and
            the way back uses those.
    """

    image_size: tuple[int, int]
    resized_size: tuple[int, int]
    left: int
    top: int
    right: int
    bottom: int
    scale: float

    @property
    def input_size(self) -> tuple[int, int]:
        """(width, height) of the network's input, padding included."""
        width, height = self.resized_size
        return self.left + width + self.right, self.top + height + self.bottom

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the network's input in which the picture lies."""
        width, height = self.resized_size
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def to_original(self, points: Floats, *, clip: bool = False) -> Floats:
        """Bring points from the network's input to the picture.

        Args:
            points: (..., 2) pixels of the padded input.
            clip: move points outside the picture to its edge.
        """
        pad = np.array([self.left, self.top], points.dtype)
        gain = np.array(self.resized_size, np.float64) / np.array(self.image_size, np.float64)
        moved = (points - pad) / gain.astype(points.dtype)
        return np.clip(moved, 0, np.array(self.image_size, points.dtype)) if clip else moved

    def boxes_to_original(self, boxes: Floats, clip: bool = True) -> Floats:
        """Bring (..., 4) corners from the network's input to the picture, by default clipped."""
        corners = boxes.reshape(*boxes.shape[:-1], 2, 2)
        return self.to_original(corners, clip=clip).reshape(boxes.shape)


def letterbox(
    image_size_wh: tuple[int, int], target_wh: tuple[int, int], *, stride: int, rect: bool
) -> Letterbox:
    """Plan how a picture is scaled, up or down, to fit a target and padded evenly around.

    Where the padding is odd the extra pixel goes to the right and to the bottom.

    Args:
        image_size_wh: size of the picture.
        target_wh: size of the input; both sides are multiples of the stride.
        stride: largest stride of the network, in pixels.
        rect: pad only up to the next multiple of the stride instead of to the whole target.

    Raises:
        InputError: a side of the picture or the target is below one pixel.
    """
    if min(*image_size_wh, *target_wh, stride) < 1:
        raise InputError(
            f"a picture of {image_size_wh} cannot be fitted into {target_wh} with stride {stride}: "
            "all of them must be at least 1"
        )
    scale = min(target_wh[0] / image_size_wh[0], target_wh[1] / image_size_wh[1])
    # Halves go to the even neighbour: the vendors' letterbox rounds so, to the exact pixel.
    width, height = (max(round(side * scale), 1) for side in image_size_wh)
    spare_x, spare_y = target_wh[0] - width, target_wh[1] - height
    if rect:
        spare_x, spare_y = spare_x % stride, spare_y % stride
    left, top = spare_x // 2, spare_y // 2
    return Letterbox(
        image_size=image_size_wh,
        resized_size=(width, height),
        left=left,
        top=top,
        right=spare_x - left,
        bottom=spare_y - top,
        scale=scale,
    )


def letterbox_of(
    image_size_wh: tuple[int, int], input_size_wh: tuple[int, int], *, stretch: bool = False
) -> Letterbox:
    """Return how a picture lies in a network's input, from the two sizes alone.

    Args:
        image_size_wh: size of the picture.
        input_size_wh: size of the input, padding included; rect or square makes no difference.
        stretch: the picture was stretched to the input, each axis by itself, without padding.

    Raises:
        InputError: a side is below one pixel.
    """
    if not stretch:
        return letterbox(image_size_wh, input_size_wh, stride=1, rect=False)
    scale = min(input_size_wh[0] / image_size_wh[0], input_size_wh[1] / image_size_wh[1])
    return Letterbox(image_size_wh, input_size_wh, 0, 0, 0, 0, scale)


def mask_letterbox(prediction: Prediction) -> Letterbox:
    """Return how the picture of a prediction lies in its masks, which may be of the picture's size.

    Raises:
        ValueError: the prediction has no masks.
    """
    if prediction.masks is None:
        raise ValueError("the prediction has no masks")
    height, width = prediction.masks.shape[1:]
    stretch = prediction.details.get("letterbox") == "stretch"
    return letterbox_of(prediction.image_size, (width, height), stretch=stretch)


# --- affine maps -----------------------------------------------------------------------------


def crop_matrix(
    box_xyxy: ArrayLike, size_wh: tuple[int, int], *, fill: float, rotation_deg: float = 0.0
) -> Matrix:
    """Return the map from a picture to a crop around a box, without any stretching.

    The window has the crop's shape, shares the box's centre, and its tighter side is the box's
    divided by ``fill``: for a square crop, the long side of the box over ``fill``.

    Args:
        box_xyxy: four numbers, pixels of the picture; a side below one pixel counts as one.
        size_wh: size of the crop.
        fill: part of the window that the box takes, above 0; 0.8 leaves a quarter around it.
        rotation_deg: angle by which the content turns, clockwise as seen on the screen.

    Returns:
        (2, 3) matrix between corner coordinates, as ``images.warp`` takes it.
    """
    x1, y1, x2, y2 = np.asarray(box_xyxy, np.float64)
    width, height = size_wh
    scale = fill * min(width / max(x2 - x1, 1.0), height / max(y2 - y1, 1.0))
    angle = math.radians(rotation_deg)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    shift = np.array([width / 2, height / 2]) - linear @ centre
    return np.column_stack([linear, shift])


def invert_affine(matrix: Matrix) -> Matrix:
    """Return the map back.

    Raises:
        InputError: the map flattens the plane, so nothing leads back.
    """
    linear = matrix[:, :2]
    if not abs(np.linalg.det(linear)) > 0:
        raise InputError(f"the affine map {matrix.tolist()} has no inverse: its scale is zero")
    back = np.linalg.inv(linear)
    return np.column_stack([back, -back @ matrix[:, 2]])


def transform_points(points: Floats, matrix: Matrix) -> Floats:
    """Map (..., 2) points; the result has their type and NaN stays NaN."""
    mapped = points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return mapped.astype(points.dtype)


def transform_boxes(boxes: Floats, matrix: Matrix) -> Floats:
    """Map (..., 4) corners and return the upright extent of each mapped box."""
    corners = boxes[..., [[0, 1], [2, 1], [2, 3], [0, 3]]]
    mapped = transform_points(corners, matrix)
    return np.concatenate([mapped.min(axis=-2), mapped.max(axis=-2)], axis=-1)


# --- overlap ---------------------------------------------------------------------------------


def intersection_matrix(first: Floats, second: Floats) -> Floats:
    """Return the shared areas (N, M) of (N, 4) and (M, 4) corners."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return area(np.concatenate([low, high], axis=-1))


def iou_matrix(first: Floats, second: Floats) -> Floats:
    """Return the intersection over union (N, M) of (N, 4) and (M, 4) corners, 0..1.

    Two boxes without area overlap by 0.
    """
    shared = intersection_matrix(first, second)
    union = area(first)[:, None] + area(second)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def nms(
    boxes: Floats,
    scores: Floats,
    *,
    iou_threshold: float,
    class_ids: NDArray[np.integer[Any]] | None = None,
    class_agnostic: bool = False,
    max_detections: int = 300,
) -> NDArray[np.int64]:
    """Choose boxes greedily by score, dropping those that overlap a better one too much.

    Args:
        boxes: (N, 4) corners.
        scores: (N,); equal scores keep their order.
        iou_threshold: boxes above it are dropped, those exactly on it stay.
        class_ids: (N,); boxes of different classes leave each other alone.
        class_agnostic: ignore ``class_ids``.
        max_detections: the most that are returned.

    Returns:
        Indexes of the kept boxes, best first.
    """
    order = np.argsort(-scores, kind="stable")
    # One row per corner: the loop below runs over thousands of boxes and reads whole rows.
    left = np.ascontiguousarray(boxes[order].T)
    sizes = area(boxes[order])
    groups = None if class_ids is None or class_agnostic else class_ids[order]
    keep: list[int] = []
    while len(order) and len(keep) < max_detections:
        keep.append(int(order[0]))
        stay = _overlaps_with_first(left, sizes) <= iou_threshold
        if groups is not None:
            stay |= groups != groups[0]
        stay[0] = False
        order, left, sizes = order[stay], left[:, stay], sizes[stay]
        groups = None if groups is None else groups[stay]
    return np.array(keep, np.int64)


def _overlaps_with_first(corners: Floats, areas: Floats) -> Floats:
    """Return the overlap (N,) of the first of (4, N) corners with each of them."""
    x1, y1, x2, y2 = corners
    width = np.minimum(x2, x2[0]) - np.maximum(x1, x1[0])
    height = np.minimum(y2, y2[0]) - np.maximum(y1, y1[0])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    union = areas + areas[0] - shared
    overlaps: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlaps


def oks(
    predicted: Floats,
    labelled: Floats,
    *,
    areas: Floats,
    sigmas: Floats,
    visible: NDArray[np.bool_],
) -> Matrix:
    """Return COCO's object keypoint similarity, 0..1; all arguments broadcast.

    Mean over the labelled keypoints of exp(-d² / (2 · area · (2 sigma)²)).

    Args:
        predicted: (..., K, 2) pixels; a keypoint that is NaN counts as infinitely far.
        labelled: (..., K, 2) pixels.
        areas: (...) px², of the labelled instances.
        sigmas: (K,) per-keypoint standard deviations.
        visible: (..., K) which keypoints are labelled; an instance without any has 0.

    Source: https://cocodataset.org/#keypoints-eval, section 1.3.
    """
    squared = np.sum((predicted - labelled).astype(np.float64) ** 2, axis=-1)
    room = 2 * np.maximum(areas, SMALLEST_AREA)[..., None] * (2 * sigmas) ** 2
    with np.errstate(over="ignore"):
        near = np.exp(-np.where(np.isnan(squared), np.inf, squared) / room)
    counted = np.broadcast_to(visible, near.shape)
    number = np.maximum(counted.sum(axis=-1), 1)
    return np.asarray(np.where(counted, near, 0).sum(axis=-1) / number)


def oks_matrix(
    predicted: Floats,
    labelled: Floats,
    *,
    areas: Floats,
    sigmas: Floats,
    visible: NDArray[np.bool_],
) -> Matrix:
    """Return the similarities (N, M) of (N, K, 2) predicted with (M, K, 2) labelled instances.

    Args:
        predicted: pixels, NaN where a keypoint is missing.
        labelled: pixels.
        areas: (M,) or (N, M) px².
        sigmas: (K,).
        visible: (M, K), which keypoints count.
    """
    return oks(predicted[:, None], labelled[None], areas=areas, sigmas=sigmas, visible=visible)


def oks_nms(
    keypoints: Floats, scores: Floats, *, areas: Floats, sigmas: Floats, threshold: float
) -> NDArray[np.int64]:
    """Choose instances greedily by score, dropping those whose pose repeats a better one.

    Args:
        keypoints: (N, K, 2) pixels; keypoints that are NaN in the better pose are not compared.
        scores: (N,); equal scores keep their order.
        areas: (N,) px², of the boxes; a pair is compared at the mean of its two.
        sigmas: (K,).
        threshold: similarities above it are dropped.

    Returns:
        Indexes of the kept instances, best first.
    """
    left = np.argsort(-scores, kind="stable")
    keep: list[int] = []
    while len(left):
        best, left = left[0], left[1:]
        keep.append(int(best))
        similar = oks(
            keypoints[left],
            keypoints[best],
            areas=(areas[left] + areas[best]) / 2,
            sigmas=sigmas,
            visible=~np.isnan(keypoints[best]).any(axis=-1),
        )
        left = left[similar <= threshold]
    return np.array(keep, np.int64)
