"""The detector half: pictures to boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openkeypoints.errors import InputError
from openkeypoints.geometry import Letterbox, area, clip_boxes, letterbox, nms
from openkeypoints.images import warp
from openkeypoints.models.pico.process import Candidates, decode_centers, weighed_by_size
from openkeypoints.models.pico.spec import PicoSpec
from openkeypoints.models.request import Request, SettledRequest
from openkeypoints.results import Boxes, Image
from openkeypoints.runtimes import Session
from openkeypoints.runtimes.base import Arrays

INPUT_STRIDE = 32
"""Width and height of the input are multiples of this."""
MAX_CANDIDATES = 300


class PicoDetector:
    """Finds instances of every class of a pico detector."""

    honours = frozenset({"class_agnostic", "input_size", "letterbox", "max_candidates"})

    def __init__(
        self, session: Session, spec: PicoSpec, model_id: str, class_names: tuple[str, ...]
    ) -> None:
        """Take the network over.

        Args:
            session: of the detector.
            spec: its input size, thresholds and how much the size of a box counts.
            model_id: the name that messages call it.
            class_names: name of each class id.
        """
        self._session, self._size_exponent = session, spec.size_exponent
        self.id, self.class_names, self.input_size = model_id, class_names, spec.detector_size
        self.confidence, self.iou_threshold = spec.confidence, spec.iou_threshold
        self.licence = spec.licence

    def detect(self, images: Sequence[Image], request: Request) -> list[Boxes]:
        """Return the boxes of each picture, best first."""
        settled, found = request.settled(self.confidence, self.iou_threshold), []
        for image in images:
            box = self._letterbox(image, settled)
            outputs = self._session.run({"images": fit(image, box)[None]})
            found.append(inside(self._read(outputs, box, settled), image))
        return found

    def close(self) -> None:
        """Free what the runtime holds."""
        self._session.close()

    def _read(self, outputs: Arrays, box: Letterbox, request: SettledRequest) -> Candidates:
        """Return the instances of one picture, in pixels of it."""
        candidates = decode_centers(
            outputs["centers"][0],
            outputs["distances"][0],
            threshold=request.confidence,
            class_ids=request.class_ids,
            max_candidates=request.options.max_candidates or MAX_CANDIDATES,
        )
        if self._size_exponent:
            width, height = box.resized_size
            picture = np.array([box.left, box.top, box.left + width, box.top + height], "f4")
            candidates = weighed_by_size(
                candidates, picture, self._size_exponent, request.confidence
            )
        keep = nms(
            candidates.boxes,
            candidates.scores,
            iou_threshold=request.iou_threshold,
            class_ids=candidates.class_ids,
            class_agnostic=request.options.class_agnostic,
            max_detections=request.max_detections,
        )
        boxes = box.boxes_to_original(candidates.boxes[keep])
        return Candidates(boxes, candidates.scores[keep], candidates.class_ids[keep])

    def _letterbox(self, image: Image, request: Request) -> Letterbox:
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


def inside(found: Candidates, image: Image) -> Boxes:
    """Return boxes in pixels of a picture cut to it, without those that have nothing in it."""
    boxes = clip_boxes(found.boxes, (image.shape[1], image.shape[0])).astype(np.float32)
    rows = area(boxes) > 0
    return Boxes(boxes[rows], found.scores[rows], found.class_ids[rows])
