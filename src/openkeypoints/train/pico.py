"""Targets and losses of the pico family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from openkeypoints.models.pico.process import STRIDE
from openkeypoints.train.detector_samples import Window

SPREAD = 0.04
"""Standard deviation of a keypoint's target, part of the crop's side."""
CENTER_SPREAD = 0.16
"""Standard deviation of a centre's target, part of the box's sides."""
CenterTarget = Literal["one", "iou"]
CENTER_TARGETS: tuple[CenterTarget, ...] = get_args(CenterTarget)
OVERLAP_WEIGHT = 2.0
"""Of the centres whose target is an overlap: their loss is smaller than that of a target of 1."""


def keypoint_loss(
    maps: Tensor, points: Tensor, weights: Tensor, *, cap: float | None = None
) -> Tensor:
    """Cross-entropy between the spatial softmax and a Gaussian about each labelled keypoint.

    Args:
        maps: (N, K, h, w) logits.
        points: (N, K, 2) pixels of the crop.
        weights: (N, K), 0 leaves a keypoint out.
        cap: divergence above which a keypoint does not pull, against wrong labels.
    """
    n, k, h, w = maps.shape
    sigma = max(SPREAD * h * STRIDE, 0.65 * STRIDE)
    x = (torch.arange(w, device=maps.device) + 0.5) * STRIDE
    y = (torch.arange(h, device=maps.device) + 0.5) * STRIDE
    gx = torch.exp(-((x - points[..., :1]) ** 2) / (2 * sigma**2))
    gy = torch.exp(-((y - points[..., 1:]) ** 2) / (2 * sigma**2))
    gx, gy = (g / g.sum(-1, keepdim=True).clamp_min(1e-6) for g in (gx, gy))
    target = (gy[..., :, None] * gx[..., None, :]).reshape(n, k, h * w)
    log_prob = F.log_softmax(maps.reshape(n, k, h * w).float(), -1)
    divergence = (torch.xlogy(target, target) - target * log_prob).sum(-1)
    if cap is not None:
        divergence = divergence.clamp(max=cap)
    return (divergence * weights).sum() / weights.sum().clamp_min(1.0)


class CenterTargets(NamedTuple):
    """What the detector should say about each cell of (N, C, h, w) and (N, h, w) maps."""

    heat: Tensor
    negative_weight: Tensor
    boxes: Tensor
    box_weight: Tensor


def center_targets(windows: Sequence[Window], classes: int, size: int) -> CenterTargets:
    """Draw Gaussians about the middles of boxes and assign cells to boxes.

    The heat map of a cell is the largest Gaussian of its class; cells above half of it learn the
    box, a smaller box winning over a larger one. Ignored boxes are neither wanted nor punished.

    Args:
        windows: N samples of ``size`` x ``size`` pixels.
        classes: number of classes, C.
        size: side of the windows in pixels.
    """
    cells = size // STRIDE
    n = len(windows)
    heat = np.zeros((n, classes, cells, cells), np.float32)
    negative = np.ones((n, classes, cells, cells), np.float32)
    boxes = np.zeros((n, 4, cells, cells), np.float32)
    weight = np.zeros((n, cells, cells), np.float32)
    at = (np.arange(cells) + 0.5) * STRIDE
    for i, window in enumerate(windows):
        areas = np.prod(window.boxes[:, 2:] - window.boxes[:, :2], axis=1)
        for j in np.argsort(-areas):
            box, c = window.boxes[j], window.class_ids[j]
            if window.ignore[j]:
                # Every cell that the box touches: a small box holds the middle of none.
                reach = STRIDE / 2
                touched = [(at + reach > box[a]) & (at - reach < box[a + 2]) for a in (0, 1)]
                negative[i, c][np.outer(touched[1], touched[0])] = 0
                continue
            gauss = _gaussian(box, at)
            heat[i, c] = np.maximum(heat[i, c], gauss)
            near = gauss > 0.5
            boxes[i][:, near] = box[:, None]
            weight[i][near] = gauss[near]
    tensors = (torch.from_numpy(a) for a in (heat, negative, boxes, weight))
    return CenterTargets(*tensors)


def _gaussian(box: NDArray[np.float32], at: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a Gaussian over the cells that is 1 in the cell nearest to the middle of the box."""
    axes = []
    for a in (0, 1):
        middle = (box[a] + box[a + 2]) / 2
        nearest = at[np.abs(at - middle).argmin()]
        sigma = max(CENTER_SPREAD * (box[a + 2] - box[a]), 0.5 * STRIDE)
        axes.append(np.exp(-((at - nearest) ** 2) / (2 * sigma**2)))
    return np.outer(axes[1], axes[0])


def detector_loss(
    outputs: Mapping[str, Tensor],
    targets: CenterTargets,
    incomplete: Tensor | None = None,
    *,
    center_target: CenterTarget = "one",
) -> tuple[Tensor, Tensor]:
    """Return the centre loss and the box loss.

    Centres: focal loss with reduced penalty around positives (Zhou et al. 2019, Objects as Points,
    eq. 1); with ``iou`` a positive cell learns how well the box found there fits (quality focal
    loss, Li et al. 2020, eq. 5). Boxes: 1 - GIoU (Rezatofighi et al. 2019).

    Args:
        outputs: ``centers`` and ``distances`` of the network.
        targets: of the same pictures.
        incomplete: (N,) bool, pictures whose labels may miss instances: there a confident cell far
            from every label is not punished.
        center_target: what the middle of an instance should score, 1 or the IoU of its box.
    """
    logits = outputs["centers"].float()
    prob = torch.sigmoid(logits).clamp(1e-4, 1 - 1e-4)
    positive = (targets.heat >= 1 - 1e-6).float()
    negative = (1 - positive) * targets.negative_weight * (1 - targets.heat) ** 4
    if incomplete is not None:
        lenient = incomplete[:, None, None, None] & (prob.detach() > 0.4) & (targets.heat < 0.1)
        negative = negative * (~lenient)
    iou, giou = _overlaps(boxes_from_distances(outputs["distances"].float()), targets.boxes)
    if center_target == "iou":
        # The score follows the box, never the box the score.
        wanted = iou.detach()[:, None]
        entropy = -wanted * prob.log() - (1 - wanted) * (1 - prob).log()
        found = positive * OVERLAP_WEIGHT * (wanted - prob) ** 2 * entropy
    else:
        found = -positive * (1 - prob) ** 2 * prob.log()
    loss = found - negative * prob**2 * (1 - prob).log()
    center = loss.sum() / positive.sum().clamp_min(1.0)
    box = ((1 - giou) * targets.box_weight).sum() / targets.box_weight.sum().clamp_min(1.0)
    return center, box


def boxes_from_distances(distances: Tensor) -> Tensor:
    """Turn (N, 4, h, w) logarithms of distances into (N, 4, h, w) boxes x1 y1 x2 y2, px."""
    h, w = distances.shape[-2:]
    device = distances.device
    y = ((torch.arange(h, device=device) + 0.5) * STRIDE)[:, None].expand(h, w)
    x = ((torch.arange(w, device=device) + 0.5) * STRIDE)[None].expand(h, w)
    left, top, right, bottom = (distances.clamp(-8, 8).exp() * STRIDE).unbind(1)
    return torch.stack([x - left, y - top, x + right, y + bottom], 1)


def _overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and GIoU of (N, 4, h, w) boxes, as (N, h, w)."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    inner = (high - low).clamp_min(0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inner
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    iou = inner / union.clamp_min(1e-6)
    return iou, iou - (hull - union) / hull.clamp_min(1e-6)
