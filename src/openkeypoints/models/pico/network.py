"""The two networks of the pico family: a person detector and a keypoint network for crops.

Plain residual 3x3 blocks: on CPUs, with or without matrix units, they train and run faster for the
same accuracy than depthwise ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from openkeypoints.errors import WeightsError

Arrays = Mapping[str, NDArray[np.generic]]


class ConvNorm(nn.Module):
    """3x3 (or 1x1) convolution and batch normalisation."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x))
        return out


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.second = ConvNorm(channels, channels)
        # The block starts as the identity: deep stacks then learn from the first step on.
        nn.init.zeros_(self.second.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


class Backbone(nn.Module):
    """Five stages at strides 2 to 32, fused top-down into one map at stride 8."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int], features: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        inputs = 3
        for width, depth in zip(widths, depths, strict=True):
            blocks = [ResidualBlock(width) for _ in range(depth)]
            self.stages.append(nn.Sequential(ConvNorm(inputs, width, stride=2), nn.ReLU(), *blocks))
            inputs = width
        self.laterals = nn.ModuleList(ConvNorm(w, features, kernel=1) for w in widths[2:])

    def forward(self, x: Tensor) -> Tensor:
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        out: Tensor = self.laterals[2](levels[4])
        for lateral, level in ((self.laterals[1], levels[3]), (self.laterals[0], levels[2])):
            out = F.interpolate(out, scale_factor=2.0, mode="nearest") + lateral(level)
        return F.relu(out)


class KeypointNetwork(nn.Module):
    """One person's crop in, one map of logits per keypoint out.

    Args:
        keypoints: number of maps, K.
        widths: channels at strides 2, 4, 8, 16, 32.
        depths: residual blocks of each stage.
        features: channels of the fused map.
    """

    def __init__(
        self,
        keypoints: int,
        *,
        widths: Sequence[int] = (32, 64, 96, 160, 192),
        depths: Sequence[int] = (0, 1, 2, 2, 1),
        features: int = 96,
    ) -> None:
        super().__init__()
        self.config = {
            "keypoints": keypoints,
            "widths": list(widths),
            "depths": list(depths),
            "features": features,
        }
        self.backbone = Backbone(widths, depths, features)
        self.head = nn.Sequential(ResidualBlock(features), nn.Conv2d(features, keypoints, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (N, 3, H, W) in -1..1 to ``maps`` (N, K, H/8, W/8), logits over the cells."""
        return {"maps": self.head(self.backbone(x))}


class DetectorNetwork(nn.Module):
    """A picture in; one centre map per class and box distances per cell out.

    Args:
        classes: number of centre maps, C.
        widths: channels at strides 2, 4, 8, 16, 32.
        depths: residual blocks of each stage.
        features: channels of the fused map.
    """

    def __init__(
        self,
        classes: int,
        *,
        widths: Sequence[int] = (24, 40, 64, 96, 128),
        depths: Sequence[int] = (0, 1, 2, 2, 1),
        features: int = 64,
    ) -> None:
        super().__init__()
        self.config = {
            "classes": classes,
            "widths": list(widths),
            "depths": list(depths),
            "features": features,
        }
        self.backbone = Backbone(widths, depths, features)
        self.centers = nn.Sequential(ResidualBlock(features), nn.Conv2d(features, classes, 1))
        self.distances = nn.Sequential(ResidualBlock(features), nn.Conv2d(features, 4, 1))
        # Focal loss starts from a prior of 1 % (Lin et al. 2017, section 3.3).
        nn.init.constant_(self.centers[1].bias, -4.6)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (N, 3, H, W) in -1..1 to ``centers`` (N, C, H/8, W/8) and ``distances`` (N, 4, ..).

        ``centers`` are logits. ``distances`` are the logarithms of left, top, right and bottom from
        the centre of the cell to the sides of the box, in units of 8 pixels.
        """
        fused = self.backbone(x)
        return {"centers": self.centers(fused), "distances": self.distances(fused)}


class ByteInput(nn.Module):
    """A network behind the input of every runtime: (N, H, W, 3) uint8 RGB."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Scale to -1..1, move the channels first, run."""
        x = images.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0
        out: dict[str, Tensor] = self.network(x)
        return out


def build(kind: str, config: Mapping[str, Any], weights: Arrays | None = None) -> nn.Module:
    """Return the ``pose`` or ``detector`` network that a ``model.json`` describes.

    Args:
        kind: which of the two.
        config: arguments of its class.
        weights: its arrays; the network then takes uint8 pictures and is ready to run.

    Raises:
        WeightsError: the arrays are not those of this network.
    """
    kinds: dict[str, type[nn.Module]] = {"pose": KeypointNetwork, "detector": DetectorNetwork}
    # Weights that are replaced at once need not move the caller's random numbers.
    with torch.random.fork_rng(devices=[], enabled=weights is not None):
        network = kinds[kind](**config)
    if weights is None:
        return network
    if missing := load_weights(network, weights):
        raise WeightsError(
            f"The weights do not fit the {kind} network of model.json: {missing[0]!r} and "
            f"{len(missing) - 1} more are missing or of another shape."
        )
    return ByteInput(network).eval()


def load_weights(network: nn.Module, weights: Arrays) -> list[str]:
    """Take over arrays wherever name and shape agree; 16-bit numbers become 32-bit ones.

    Returns:
        The names of the network's tensors that keep their values.
    """
    kept = []
    for name, value in network.state_dict().items():
        array = weights.get(name)
        if array is not None and value.shape == array.shape:
            value.copy_(torch.from_numpy(array.copy()))
        elif value.dtype.is_floating_point:  # counts of batches are never read
            kept.append(name)
    return kept
