"""The keypoint half: crops to keypoints with calibrated scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openkeypoints.models.pico.process import decode_maps
from openkeypoints.models.pico.spec import PicoSpec
from openkeypoints.models.topdown import CropKeypoints
from openkeypoints.runtimes import Session


class PicoReader:
    """Reads the keypoints of crops.

    The score of a keypoint is the chance that it lies within a tenth of the box's long side, as
    measured on validation pictures.
    """

    def __init__(self, session: Session, spec: PicoSpec) -> None:
        self._session = session
        self.size, self.fill, self.count = spec.crop_size, spec.fill, len(spec.flip)
        self._flip, self._calibration = np.array(spec.flip), spec.calibration
        self.runtime, self.device = session.runtime, session.device
        self.precision = session.precision

    def read(self, crops: NDArray[np.uint8], *, flip_test: bool) -> CropKeypoints:
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
