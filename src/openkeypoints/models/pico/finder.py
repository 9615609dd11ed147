"""The detector half: pictures to boxes."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from openkeypoints.errors import InputError
from openkeypoints.geometry import Letterbox, letterbox, nms
from openkeypoints.images import warp
from openkeypoints.models.pico.process import decode_centers, weighed_by_size
from openkeypoints.models.pico.spec import PicoSpec
from openkeypoints.models.request import Request, SettledRequest
from openkeypoints.models.topdown import Found, inside
from openkeypoints.results import Image
from openkeypoints.runtimes import Session

INPUT_STRIDE = 32
"""Width and height of the input are multiples of this."""
MAX_CANDIDATES = 300


class PicoFinder:
    """Finds instances of every class of a pico detector."""

    honours = frozenset({"class_agnostic", "input_size", "letterbox", "max_candidates"})

    def __init__(self, session: Session, spec: PicoSpec) -> None:
        """Take the network over.

        Args:
            session: of the detector.
            spec: its input size, thresholds and how much the size of a box counts.
        """
        self._session, self._size_exponent = session, spec.size_exponent
        self._thresholds = spec.confidence, spec.iou_threshold
        self.input_size = spec.detector_size

    def find(self, images: Sequence[Image], request: Request) -> tuple[list[Found], float]:
        """Return the boxes of each picture, and the milliseconds that the network took."""
        found, milliseconds, settled = [], 0.0, request.settled(*self._thresholds)
        for image in images:
            box = self._letterbox(image, settled)
            pixels = fit(image, box)
            began = time.perf_counter()
            outputs = self._session.run({"images": pixels[None]})
            milliseconds += (time.perf_counter() - began) * 1e3
            candidates = decode_centers(
                outputs["centers"][0],
                outputs["distances"][0],
                threshold=settled.confidence,
                class_ids=settled.class_ids,
                max_candidates=settled.options.max_candidates or MAX_CANDIDATES,
            )
            if self._size_exponent:
                width, height = box.resized_size
                picture = np.array([box.left, box.top, box.left + width, box.top + height], "f4")
                candidates = weighed_by_size(
                    candidates, picture, self._size_exponent, settled.confidence
                )
            keep = nms(
                candidates.boxes,
                candidates.scores,
                iou_threshold=settled.iou_threshold,
                class_ids=candidates.class_ids,
                class_agnostic=settled.options.class_agnostic,
                max_detections=settled.max_detections,
            )
            boxes = box.boxes_to_original(candidates.boxes[keep])
            rows = Found(boxes, candidates.scores[keep], candidates.class_ids[keep])
            found.append(inside(rows, image))
        return found, milliseconds

    def close(self) -> None:
        """Free what the runtime holds."""
        self._session.close()

    def _letterbox(self, image: Image, request: SettledRequest) -> Letterbox:
        size = request.options.input_size or self.input_size
        if any(side < INPUT_STRIDE or side % INPUT_STRIDE for side in size):
            raise InputError(
                f"input_size {size} does not fit: width and height must be multiples of "
                f"{INPUT_STRIDE}."
            )
        rect = request.options.letterbox != "square"
        return letterbox((image.shape[1], image.shape[0]), size, stride=INPUT_STRIDE, rect=rect)


def fit(image: Image, box: Letterbox) -> Image:
    """Scale and pad a picture as a letterbox says, in one pass and without aliasing."""
    (width, height), (to_width, to_height) = box.image_size, box.resized_size
    matrix = np.array([[to_width / width, 0, box.left], [0, to_height / height, box.top]])
    size = (to_width + box.left + box.right, to_height + box.top + box.bottom)
    return warp(image, matrix, size)
