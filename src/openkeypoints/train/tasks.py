"""What the loop trains for the pico family: its keypoint network and its detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from openkeypoints.geometry import xywh_from_xyxy
from openkeypoints.metrics import score
from openkeypoints.models.base import Description, Model
from openkeypoints.models.pico.detector import PicoDetector
from openkeypoints.models.pico.network import ByteInput
from openkeypoints.models.pico.reader import PicoReader
from openkeypoints.models.pico.spec import PicoSpec
from openkeypoints.models.request import Request
from openkeypoints.models.topdown import TopDown
from openkeypoints.runtimes import Artifact, Session, open_session
from openkeypoints.settings import Settings
from openkeypoints.train.coco import Dataset
from openkeypoints.train.detector_samples import WindowSampler
from openkeypoints.train.evaluate import LOW_CONFIDENCE, Predictions, predict
from openkeypoints.train.keypoint_samples import KeypointSampler
from openkeypoints.train.pico import CenterTarget, center_targets, detector_loss, keypoint_loss
from openkeypoints.train.sources import load_picture

CAP_AFTER = 0.1
"""Part of the run after which wrong labels are capped: before, every label looks wrong."""
LENIENT_AFTER = 0.33
"""Part of the run after which confident finds beside incomplete labels go unpunished."""
BOX_WEIGHT = 1.0


class Validation(NamedTuple):
    """What is measured on: COCO JSON, its pictures, and the shortest side of a box that counts."""

    truth: Mapping[str, Any]
    pictures: Dataset
    min_side: float


class KeypointTask:
    """Trains the keypoint network on crops; evaluates it in the labelled boxes."""

    figure = "within.1"

    def __init__(
        self,
        network: nn.Module,
        sampler: KeypointSampler,
        spec: PicoSpec,
        *,
        cap: float | None = None,
        val: Validation | None = None,
    ) -> None:
        self.network, self._sampler, self._spec, self._cap = network, sampler, spec, cap
        self._val = val

    def batch(self, step: int, count: int) -> Mapping[str, Any]:
        """Return ``images``, ``points`` and ``weights`` of a step."""
        return self._sampler.batch(step, count)

    def losses(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], progress: float
    ) -> dict[str, Tensor]:
        """Return the keypoint loss."""
        maps = outputs["maps"]
        points, weights = (
            torch.from_numpy(batch[name]).to(maps.device) for name in ("points", "weights")
        )
        cap = self._cap if progress > CAP_AFTER else None
        return {"keypoints": keypoint_loss(maps, points, weights, cap=cap)}

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Return the share of keypoints near their labels, in the labelled boxes."""
        if self._val is None:
            return {}
        model = pose_model(network, self._spec)
        figures = score(
            self._val.truth, predict(model, self._val.pictures, boxes="given"), min_side=0
        )
        return {k: v for k, v in figures.items() if isinstance(v, float)}


def pose_model(network: nn.Module, spec: PicoSpec) -> Model:
    """Return a keypoint network as a model without a detector, showing the last view.

    Args:
        network: the keypoint network, in evaluation mode.
        spec: what the model is apart from its weights.
    """
    name, view = spec.view(list(spec.views)[-1])
    reader = PicoReader(_session(network), spec)
    description = Description(
        id=name,
        task="keypoint-detection",
        class_names=view.class_names,
        skeletons=view.skeletons,
        input_size=spec.crop_size,
        confidence=spec.confidence,
        iou_threshold=spec.iou_threshold,
        licence=spec.licence,
        card={},
    )
    predictor = TopDown(name, view, None, reader)
    return Model(description, predictor, Settings.from_env())


class DetectorTask:
    """Trains the detector on windows; evaluates it on whole pictures."""

    figure = "box_ap50"

    def __init__(
        self,
        network: nn.Module,
        sampler: WindowSampler,
        spec: PicoSpec,
        *,
        center_target: CenterTarget = "one",
        val: Validation | None = None,
    ) -> None:
        self.network, self._sampler, self._spec = network, sampler, spec
        self._center_target: CenterTarget = center_target
        self._val = val
        self._classes = len(next(iter(spec.views.values())).class_names)

    def batch(self, step: int, count: int) -> Mapping[str, Any]:
        """Return ``images`` and the ``windows`` of a step."""
        windows = self._sampler.batch(step, count)
        return {"images": np.stack([w.image for w in windows]), "windows": windows}

    def losses(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], progress: float
    ) -> dict[str, Tensor]:
        """Return the losses of centres and boxes."""
        windows, device = batch["windows"], outputs["centers"].device
        targets = center_targets(windows, self._classes, int(batch["images"].shape[1]))
        targets = type(targets)(*(t.to(device) for t in targets))
        incomplete = None
        if progress > LENIENT_AFTER:
            incomplete = torch.tensor([not w.complete for w in windows], device=device)
        centers, boxes = detector_loss(
            outputs, targets, incomplete, center_target=self._center_target
        )
        return {"centers": centers, "boxes": BOX_WEIGHT * boxes}

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Return box AP50, and the share of pictures without instances and without a find."""
        if self._val is None:
            return {}
        name, view = self._spec.view(None)
        plain = replace(self._spec, size_exponent=0.0)
        detector = PicoDetector(_session(network), plain, name, view.class_names)
        found = find(detector, self._val.pictures)
        threshold = self._spec.confidence
        figures = score(self._val.truth, found, min_side=self._val.min_side, threshold=threshold)
        return {k: v for k, v in figures.items() if isinstance(v, float)}


def find(detector: PicoDetector, dataset: Dataset) -> Predictions:
    """Return the boxes of a detector alone, in the shape that ``metrics.score`` takes."""
    request, settings, rows = Request(LOW_CONFIDENCE), Settings.from_env(), []
    for picture in dataset.pictures:
        (found,) = detector.detect([load_picture(picture, settings)], request)
        for box, value in zip(xywh_from_xyxy(found.boxes), found.scores, strict=True):
            row = {"image_id": picture.image_id, "bbox": box.tolist(), "score": float(value)}
            rows.append({**row, "keypoints": []})
    return {"keypoints": [], "results": rows}


def _session(network: nn.Module) -> Session:
    artifact = Artifact(
        onnx=b"", name="the network in training", torch_module=lambda: ByteInput(network)
    )
    device = str(next(network.parameters()).device)
    return open_session(artifact, runtime="torch", device=device, precision="f32")
