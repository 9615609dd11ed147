"""Crops to keypoints: the cell that is highest."""

from __future__ import annotations

import numpy as np

from openkeypoints.models.crops import CropGeometry, CropKeypoints, no_keypoints


class HeatReader:
    """Reads maps whose cells are four pixels wide."""

    honours = frozenset()

    def __init__(self, session, graph) -> None:
        self._session = session
        (self._input,), (self._output,) = graph.inputs, graph.outputs
        batch, _, height, width = self._input.shape
        self.crop = CropGeometry((width, height))
        self.per_run = batch or 16
        self.empty = no_keypoints(self._output.shape[1], covariances=False)
        self.runtime, self.device = session.runtime, session.device
        self.precision = session.precision

    def read(self, crops, *, flip_test=False):
        pixels = np.ascontiguousarray(crops.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
        maps = self._session.run({self._input.name: pixels})[self._output.name]
        n, count, height, width = maps.shape
        flat = maps.reshape(n, count, height * width)
        best = flat.argmax(-1)
        points = np.stack([best % width, best // width], -1).astype(np.float32) * 4
        return CropKeypoints(points, 1 / (1 + np.exp(-flat.max(-1))))

    def close(self) -> None:
        self._session.close()
