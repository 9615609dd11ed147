"""The keypoint half: crops to keypoints with calibrated scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openkeypoints.geometry import crop_matrix
from openkeypoints.models.crops import CropGeometry, CropKeypoints, CropMaps, no_keypoints
from openkeypoints.models.pico.process import decode_maps
from openkeypoints.models.pico.spec import PicoSpec
from openkeypoints.runtimes import Session

CROPS_PER_RUN = 16
"""More gains nothing on a CPU and costs memory."""
BORDER = 114


@dataclass(frozen=True, slots=True)
class PicoCrop(CropGeometry):
    """The crop of training: the box takes the part ``fill`` of it, and is never stretched.

    The padding is 1 / ``fill``, but a product with it is not always the quotient that the files
    were trained with, to the last bit.
    """

    fill: float = 1.0

    def maps(self, box: ArrayLike) -> CropMaps:
        """Return the maps of a box; see ``geometry.crop_matrix``."""
        matrix = crop_matrix(box, self.size, fill=self.fill)
        return CropMaps(matrix, matrix)


class PicoReader:
    """Reads the keypoints of crops.

    The score of a keypoint is the chance that it lies within a tenth of the box's long side, as
    measured on validation pictures.
    """

    honours = frozenset({"flip_test"})
    per_run = CROPS_PER_RUN

    def __init__(self, session: Session, spec: PicoSpec) -> None:
        self._session = session
        self.crop: CropGeometry = PicoCrop(
            spec.crop_size, 1 / spec.fill, "edge", BORDER, fill=spec.fill
        )
        self.empty = no_keypoints(len(spec.flip), covariances=True)
        self._flip, self._calibration = np.array(spec.flip), spec.calibration
        self.runtime, self.device = session.runtime, session.device
        self.precision = session.precision

    def read(self, crops: NDArray[np.uint8], *, flip_test: bool = False) -> CropKeypoints:
        """Return the keypoints of (N, H, W, 3) crops; ``flip_test`` averages with the mirrored."""
        maps = self._session.run({"images": crops})["maps"]
        if flip_test:
            mirrored = np.ascontiguousarray(crops[:, :, ::-1])
            other = self._session.run({"images": mirrored})["maps"]
            maps = (maps + other[:, self._flip, :, ::-1]) / 2
        points, mass, covariances = decode_maps(maps)
        scores = np.interp(mass, *self._calibration).astype(np.float32)
        return CropKeypoints(points, scores, covariances)

    def close(self) -> None:
        """Free what the runtime holds."""
        self._session.close()
