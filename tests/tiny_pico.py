"""A pico file that is small, seeded and quick: random weights that still find something."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from openkeypoints.models.pico.network import DetectorNetwork, KeypointNetwork
from openkeypoints.models.pico.spec import PicoSpec
from openkeypoints.models.topdown import View
from openkeypoints.skeletons import load_skeleton
from openkeypoints.train.package import write_pico

WIDTHS = (8, 8, 8, 8, 8)
DEPTHS = (0, 0, 1, 0, 0)
SIZE = 64


def write_tiny_pico(path: Path, *, seed: int = 0) -> Path:
    """Write a model with the views of ``person`` whose boxes and points mean nothing."""
    torch.manual_seed(seed)
    pose = KeypointNetwork(19, widths=WIDTHS, depths=DEPTHS, features=8)
    detector = DetectorNetwork(1, widths=WIDTHS, depths=DEPTHS, features=8)
    detector.centers[1].bias.data.fill_(0.0)  # scores of about a half in place of 1 %
    detector.distances[1].bias.data.fill_(1.0)  # boxes of about 40 px
    skeleton = load_skeleton("person19")
    views = {
        name: View(("person",), {0: skeleton.part(range(count))}, {0: tuple(range(count))})
        for name, count in (("person", 17), ("person-19", 19))
    }
    spec = PicoSpec(
        views=views,
        detector_size=(SIZE, SIZE),
        crop_size=(SIZE, SIZE),
        fill=0.9,
        flip=skeleton.flip,
        calibration=np.array([[0.0, 1.0], [0.0, 1.0]]),
        confidence=0.3,
        iou_threshold=0.3,
        networks={"pose": pose.config, "detector": detector.config},
        licence="Apache-2.0",
        card={"note": "random weights"},
    )
    weights = {
        part: {name: value.numpy() for name, value in network.state_dict().items()}
        for part, network in (("pose", pose), ("detector", detector))
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch's exporter
        write_pico(path, spec, weights)
    return path
