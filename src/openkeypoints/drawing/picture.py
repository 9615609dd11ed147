"""Draws what a model found on a copy of the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from openkeypoints.drawing.labels import Labels, write_name
from openkeypoints.drawing.shapes import (
    Color,
    Point,
    dot,
    ellipse_polygon,
    fill,
    line,
    mix,
    outline,
    tint,
)
from openkeypoints.errors import InputError
from openkeypoints.geometry import mask_letterbox
from openkeypoints.images import resize_mask
from openkeypoints.results import Image, Prediction

INSTANCE_COLORS = ("#f0e442", "#cc79a7", "#009e73", "#d55e00", "#56b4e9", "#e69f00", "#0072b2")
"""Okabe and Ito's palette, told apart with every common colour blindness."""
_RIM: Color = (20, 20, 20)
_REFERENCE_SIDE = 640  # longer side of the picture, pixels, for which the sizes below are meant
_LINE, _DOT, _LETTERS = 2.4, 3.4, 13.0
_MASK_OPACITY = 0.4
_FULL_SIZE = 0.3  # a person this part of the longer side gets full-size lines, a smaller one finer


@dataclass(frozen=True, slots=True)
class DrawStyle:
    """What `draw` draws.

    Attributes:
        boxes: a box around each instance: in a colour of its own or, where a model knows no
            keypoints and nothing is tracked, of its class.
        masks: the pixels of each instance tinted in that colour, where the model knows them.
        skeleton: keypoints and edges, in the colours of the skeleton (left, right, middle).
        names: names of the keypoints.
        scores: a label with class and score on each instance; track ids are always written.
        uncertainty: one-sigma ellipses of the covariances, where the model knows them.
        size: factor on lines, dots and letters, which follow the size of the picture.
    """

    boxes: bool = True
    masks: bool = True
    skeleton: bool = True
    names: bool = False
    scores: bool = True
    uncertainty: bool = False
    size: float = 1.0


_DEFAULT = DrawStyle()


@dataclass(frozen=True, slots=True)
class _Instance:
    """One instance, ready to draw: the shown keypoints by slot, colours in canvas order."""

    box: tuple[float, float, float, float]
    color: Color
    class_name: str
    score: float
    track: str
    points: dict[int, Point]
    colors: tuple[Color, ...]
    names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    covariances: NDArray[np.float32] | None
    scale: float


def draw(
    image: NDArray[np.uint8],
    prediction: Prediction,
    *,
    color: Literal["bgr", "rgb"] = "bgr",
    keypoint_confidence: float | None = None,
    style: DrawStyle = _DEFAULT,
) -> Image:
    """Return a copy of a picture with masks, boxes, skeletons and scores drawn on it.

    Args:
        image: (H, W, 3), (H, W, 1) or (H, W) uint8, the picture of the prediction; not changed.
        prediction: what a model found in it.
        color: order of the colours in ``image``, and in what is returned.
        keypoint_confidence: keypoints below it, and edges that end in one, are not drawn; the
            default is ``prediction.keypoint_confidence``.
        style: what to draw.

    Returns:
        (H, W, 3) uint8, a new array.

    Raises:
        InputError: ``image`` is no such array or has another size than the prediction's picture,
            or ``color`` is no order.

    Example:
        >>> from openkeypoints.results import empty_prediction
        >>> picture = np.zeros((48, 64, 3), np.uint8)
        >>> draw(picture, empty_prediction((64, 48), "none", (), {})).shape
        (48, 64, 3)
    """
    if color not in ("bgr", "rgb"):
        raise InputError(f"color is {color!r}; it must be 'bgr' or 'rgb'.")
    canvas = _canvas(image, prediction)
    threshold = (
        prediction.keypoint_confidence if keypoint_confidence is None else keypoint_confidence
    )
    scale = max(canvas.shape[:2]) / _REFERENCE_SIDE * style.size
    # The best instance comes last and so lies on top.
    instances = [
        _instance(prediction, i, threshold=threshold, bgr=color == "bgr", scale=scale)
        for i in reversed(range(len(prediction)))
    ]
    if style.masks and prediction.masks is not None and instances:
        window = mask_letterbox(prediction).window
        for instance, mask in zip(instances, prediction.masks[::-1], strict=True):
            shown = resize_mask(mask[window], prediction.image_size)
            tint(canvas, shown, instance.color, _MASK_OPACITY)
    if style.uncertainty:
        _draw_uncertainty(canvas, instances)
    layers = (
        (style.boxes, _draw_box),
        (style.skeleton, _draw_skeleton),
        (style.names, _draw_names),
    )
    for draw_layer in (function for wanted, function in layers if wanted):
        for instance in instances:
            draw_layer(canvas, instance)
    labels = Labels(canvas)
    for instance in reversed(instances):
        score = f"{instance.class_name} {instance.score:.2f}" if style.scores else ""
        if text := f"{instance.track} {score}".strip():
            size = _letters(0.3 * scale + 0.7 * instance.scale)
            labels.add(text, instance.box, instance.color, size)
    return canvas


def _canvas(image: Any, prediction: Prediction) -> Image:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"image is {kind}; it must be an array of uint8, such as cv2 reads.")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise InputError(f"image has the shape {image.shape}; it must be (H, W, 3) or (H, W).")
    height, width = image.shape[:2]
    if (width, height) != tuple(prediction.image_size):
        raise InputError(
            f"image is {width}x{height} and the prediction's picture "
            f"{prediction.image_size[0]}x{prediction.image_size[1]}; pass the picture itself, "
            "turned as its EXIF orientation says."
        )
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = image[..., None] if image.ndim == 2 else image
    return canvas


def _instance(
    prediction: Prediction, row: int, *, threshold: float, bgr: bool, scale: float
) -> _Instance:
    skeleton = prediction.skeleton(row)
    xy = prediction.keypoints[row].astype(np.float64)
    shown = np.isfinite(xy).all(axis=-1) & (prediction.keypoint_scores[row] >= threshold)
    slots = np.flatnonzero(shown[: len(skeleton) if skeleton else 0]).tolist()
    x1, y1, x2, y2 = prediction.boxes[row].tolist()
    identity, track = row if prediction.skeletons else int(prediction.class_ids[row]), ""
    if prediction.track_ids is not None and prediction.track_ids[row] >= 0:
        identity = int(prediction.track_ids[row])
        track = f"#{identity}"
    side = max(x2 - x1, y2 - y1) / max(prediction.image_size)
    return _Instance(
        box=(x1, y1, x2, y2),
        color=_color(INSTANCE_COLORS[identity % len(INSTANCE_COLORS)], bgr),
        class_name=prediction.class_names[prediction.class_ids[row]],
        score=float(prediction.scores[row]),
        track=track,
        points={slot: (xy[slot, 0], xy[slot, 1]) for slot in slots},
        colors=tuple(_color(c, bgr) for c in skeleton.colors) if skeleton else (),
        names=skeleton.keypoints if skeleton else (),
        edges=skeleton.edges if skeleton else (),
        covariances=None if prediction.covariances is None else prediction.covariances[row],
        scale=scale * min(max(side / _FULL_SIZE, 0.45), 1.0),
    )


def _draw_uncertainty(canvas: Image, instances: list[_Instance]) -> None:
    overlay = canvas.copy()
    reach = float(sum(canvas.shape[:2]))
    rims = []
    for instance in instances:
        if instance.covariances is None:
            continue
        for slot, center in instance.points.items():
            polygon = ellipse_polygon(center, instance.covariances[slot], reach)
            if polygon is not None:
                fill(overlay, polygon, instance.colors[slot])
                rims.append((polygon, instance.colors[slot]))
    mix(canvas, overlay, 0.45)
    for polygon, color in rims:
        outline(canvas, polygon, color, 1)


def _draw_box(canvas: Image, instance: _Instance) -> None:
    x1, y1, x2, y2 = instance.box
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    thickness = max(round(1.6 * instance.scale), 1)
    rim = max(round(instance.scale), 1)
    for color, wide in ((_RIM, thickness + rim), (instance.color, thickness)):
        for i in range(4):
            line(canvas, corners[i - 1], corners[i], color, wide)


def _draw_skeleton(canvas: Image, instance: _Instance) -> None:
    points, colors = instance.points, instance.colors
    edges = [(a, b) for a, b in instance.edges if a in points and b in points]
    thickness = max(round(_LINE * instance.scale), 1)
    rim = max(0.8 * instance.scale, 0.5)
    for a, b in edges:
        line(canvas, points[a], points[b], _RIM, thickness + max(round(2 * rim), 1))
    for a, b in edges:
        # Each half in the colour of its end, so that the sides of the body stay apart.
        middle = ((points[a][0] + points[b][0]) / 2, (points[a][1] + points[b][1]) / 2)
        line(canvas, points[a], middle, colors[a], thickness)
        line(canvas, middle, points[b], colors[b], thickness)
    # Hundreds of points on one person would hide it: the dots shrink where they are many.
    crowd = min(1.0, (40 / max(len(instance.names), 1)) ** 0.5)
    radius = max(_DOT * instance.scale * crowd, 1.0)
    for slot, center in points.items():
        dot(canvas, center, radius + rim, _RIM)
        dot(canvas, center, radius, colors[slot])


def _draw_names(canvas: Image, instance: _Instance) -> None:
    size = _letters(0.75 * instance.scale)
    for slot, (x, y) in instance.points.items():
        if 0 <= x < canvas.shape[1] and 0 <= y < canvas.shape[0]:
            place = (x + (_DOT + 2) * instance.scale, y)
            write_name(canvas, instance.names[slot], place, size)


def _letters(scale: float) -> int:
    return max(round(_LETTERS * scale), 9)


def _color(text: str, bgr: bool) -> Color:
    red, green, blue = (int(text[i : i + 2], 16) for i in (1, 3, 5))
    return (blue, green, red) if bgr else (red, green, blue)
