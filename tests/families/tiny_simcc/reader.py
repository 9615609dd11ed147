"""Crops to keypoints: the highest bin of each axis."""

from __future__ import annotations

import numpy as np

from openkeypoints.models.crops import CropGeometry, CropKeypoints, no_keypoints

SPLIT = 2
"""Bins of a pixel."""


class BinReader:
    """Reads rows of bins."""

    honours = frozenset({"flip_test"})

    def __init__(self, session, graph) -> None:
        self._session = session
        (self._input,) = graph.inputs
        batch, _, height, width = self._input.shape
        self.crop = CropGeometry((width, height), 1.2, "udp")
        self.per_run = batch or 4
        self.empty = no_keypoints(graph.outputs[0].shape[1], covariances=False)
        self.runtime, self.device = session.runtime, session.device
        self.precision = session.precision

    def read(self, crops, *, flip_test=False):
        x, y = self._bins(crops)
        if flip_test:
            mirrored = self._bins(np.ascontiguousarray(crops[:, :, ::-1]))
            x, y = (x + mirrored[0][..., ::-1]) / 2, (y + mirrored[1]) / 2
        points = np.stack([x.argmax(-1), y.argmax(-1)], -1).astype(np.float32) / SPLIT
        scores = 1 / (1 + np.exp(-np.minimum(x.max(-1), y.max(-1))))
        return CropKeypoints(points, scores.astype(np.float32))

    def close(self) -> None:
        self._session.close()

    def _bins(self, crops):
        pixels = np.ascontiguousarray(crops.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
        outputs = self._session.run({self._input.name: pixels})
        return outputs["simcc_x"], outputs["simcc_y"]
