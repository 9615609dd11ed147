"""The way of pictures into a YOLO network, and of what it found back to the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openkeypoints.geometry import Letterbox, letterbox, letterbox_of
from openkeypoints.images import resize
from openkeypoints.models.graphs.inputs import CHANNELS, as_input
from openkeypoints.models.request import InferOptions
from openkeypoints.models.yolo.decode import Instances
from openkeypoints.models.yolo.masks import input_masks, picture_masks
from openkeypoints.models.yolo.spec import InputSpec
from openkeypoints.results import Image, Skeleton

Floats = NDArray[np.float32]

# --- in ----------------------------------------------------------------------------------------


def policy(spec: InputSpec, options: InferOptions) -> str:
    """Return how pictures are fitted: ``rect``, ``square`` or ``stretch``."""
    if spec.fit == "stretch":
        return "stretch"
    return "square" if spec.static else options.letterbox or "rect"


def fit(image_size: tuple[int, int], spec: InputSpec, options: InferOptions) -> Letterbox:
    """Plan how a picture becomes the network's input.

    Args:
        image_size: (width, height) of the picture.
        spec: what the network takes.
        options: ``input_size``, rounded up to the stride, and ``letterbox`` are heard.
    """
    target = spec.size
    if not spec.static:
        wide, high = (-(-side // spec.stride) for side in options.input_size or spec.size)
        target = wide * spec.stride, high * spec.stride
    way = policy(spec, options)
    if way == "stretch":
        return letterbox_of(image_size, target, stretch=True)
    return letterbox(image_size, target, stride=spec.stride, rect=way == "rect")


def prepare(images: Sequence[Image], fits: Sequence[Letterbox], spec: InputSpec) -> NDArray[Any]:
    """Return the network's input for pictures whose inputs are of one size.

    Where the graph takes a fixed number of pictures, empty ones follow.

    Args:
        images: RGB uint8 (H, W, 3), at least one and no more than the graph takes.
        fits: how each is scaled and padded.
        spec: what the network takes.

    Returns:
        uint8 (N, H, W, 3) or floats (N, 3, H, W), as the graph wants them.
    """
    width, height = fits[0].input_size
    count = spec.batch or len(images)
    canvas = np.full((count, height, width, CHANNELS), spec.fill, np.uint8)
    for place, image, fitted in zip(canvas, images, fits, strict=False):
        place[fitted.window] = resize(image, fitted.resized_size)
    return as_input(canvas, spec.entry)


# --- back --------------------------------------------------------------------------------------


class Located(NamedTuple):
    """N instances in pixels of the picture, in the shapes of a prediction's arrays."""

    boxes: Floats
    scores: Floats
    class_ids: NDArray[np.int64]
    keypoints: Floats
    keypoint_scores: Floats
    masks: NDArray[np.bool_] | None


def to_picture(
    found: Instances,
    fitted: Letterbox,
    skeletons: Mapping[int, Skeleton],
    *,
    rows: Mapping[int, tuple[int, ...]] | None = None,
    prototypes: Floats | None = None,
    retina_masks: bool = False,
) -> Located:
    """Bring instances from the network's input to the picture, moved inside of it.

    Args:
        found: instances in input pixels.
        fitted: how the picture became the input.
        skeletons: class id -> skeleton; slots that a class does not use become NaN.
        rows: class id -> which of the network's keypoints its skeleton has, None = all, in order.
        prototypes: (M, h, w) of the masks, None without masks. Instances whose mask is empty
            are dropped.
        retina_masks: masks at the size of the picture instead of the input's.
    """
    boxes = fitted.boxes_to_original(found.boxes)
    masks = None
    if prototypes is not None:
        if retina_masks:
            masks = picture_masks(prototypes, found.coefficients, boxes, fitted)
        else:
            masks = input_masks(prototypes, found.coefficients, found.boxes, fitted.input_size)
        full = np.asarray(masks.any(axis=(1, 2)))
        found, boxes, masks = found.part(full), boxes[full], masks[full]
    if rows is not None:
        found = _chosen(found, rows)
    points, scores = _slots(found, fitted, skeletons)
    return Located(boxes, found.scores, found.class_ids, points, scores, masks)


def _chosen(found: Instances, rows: Mapping[int, tuple[int, ...]]) -> Instances:
    """Return the instances with some of their keypoints, in new slots."""
    table = np.zeros((max(rows, default=0) + 1, max(map(len, rows.values()), default=0)), np.int64)
    for class_id, chosen in rows.items():
        table[class_id, : len(chosen)] = chosen
    wanted = table[np.minimum(found.class_ids, len(table) - 1)]
    points = np.take_along_axis(found.keypoints, wanted[..., None], axis=1)
    return found._replace(keypoints=points)


def _slots(
    found: Instances, fitted: Letterbox, skeletons: Mapping[int, Skeleton]
) -> tuple[Floats, Floats]:
    """Return keypoints (N, K, 2) in the picture and their scores (N, K)."""
    count = max((len(skeleton) for skeleton in skeletons.values()), default=0)
    values = found.keypoints[:, :count]
    points = fitted.to_original(values[..., :2], clip=True)
    # A network without visibility says nothing against its points.
    has_scores = values.shape[2] > 2
    scores = values[..., 2].copy() if has_scores else np.ones(values.shape[:2], np.float32)
    lengths = np.array([len(skeletons.get(int(c), ())) for c in found.class_ids], np.int64)
    missing = np.arange(count) >= lengths[:, None]
    missing |= ~np.isfinite(values).all(axis=2)
    points[missing], scores[missing] = np.nan, 0
    return points, scores
