"""A whole training run of a pico model: keypoint network, detector, calibration, ``best.okp``."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from openkeypoints.errors import InputError, RuntimeUnavailableError
from openkeypoints.metrics import calibration
from openkeypoints.models import find_variant, get_model
from openkeypoints.models.pico.network import build, load_weights
from openkeypoints.models.pico.spec import PicoSpec, spec_from_okp
from openkeypoints.models.topdown import View
from openkeypoints.runtimes import cpu_flags
from openkeypoints.skeletons import load_skeleton, skeleton_from_coco_category
from openkeypoints.train.coco import Dataset, read_dataset
from openkeypoints.train.config import Part, SourceConfig, TrainConfig
from openkeypoints.train.detector_samples import WindowSampler
from openkeypoints.train.evaluate import joint_marks, predict
from openkeypoints.train.keypoint_samples import KeypointSampler
from openkeypoints.train.logs import RunLog, draw_curves, draw_samples
from openkeypoints.train.loop import Progress, Schedule, Task, fit, seconds_per_step
from openkeypoints.train.package import write_pico
from openkeypoints.train.sources import PictureCache, Source
from openkeypoints.train.tasks import DetectorTask, KeypointTask
from openkeypoints.weights.okp import OkpFile, open_okp
from openkeypoints.weights.tensors import Arrays, tensors_from_bytes

log = logging.getLogger(__name__)

Report = Callable[[Part, Progress], None]

BF16_FLAGS = ("amx_bf16", "avx512_bf16")
"""CPU flags with which bfloat16 is multiplied natively. ``auto`` takes it with the first alone."""
SPARE = 0.12
"""Part of the wall time kept for evaluation, calibration and writing."""
PARTS: tuple[Part, ...] = ("pose", "detector")
DETECTOR_WIDTHS = (16, 32, 64, 96, 128)
DETECTOR_DEPTHS = (0, 1, 3, 2, 1)
IDENTITY = np.array([[0.0, 1.0], [0.0, 1.0]])


@dataclass(frozen=True, slots=True)
class _Data:
    """What is learned from and measured on."""

    train: Mapping[Part, list[Source]]
    val: Dataset | None
    truth: Mapping[str, Any] | None
    first: Dataset


def train(config: TrainConfig, *, report: Report = lambda _part, _line: None) -> Path:
    """Train a pico model; a run that was interrupted goes on where its folder stands.

    Args:
        config: what to learn from, for how long, into which folder.
        report: called with the part that is trained and its progress.

    Returns:
        The path of ``best.okp``.

    Raises:
        InputError: nothing to learn from, or a precision that does not exist.
        RuntimeUnavailableError: a precision or device that is not here.
    """
    if not config.sources:
        raise InputError("There is nothing to train on: name at least one annotation file.")
    bf16, device = _bf16(config.precision), _device(config.device)
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    # Denormals in the optimiser's moments slow CPUs down and change nothing that is seen.
    torch.set_flush_denormal(True)
    start = _start_file(config.init)
    data = _read(config)
    spec = _specification(config, data, start)
    networks = {part: _network(part, spec, start, config.seed) for part in PARTS}
    tasks: dict[Part, Task] = {
        "pose": _keypoint_task(config, spec, data, networks["pose"]),
        "detector": _detector_task(config, spec, data, networks["detector"]),
    }
    schedules = _schedules(config, tasks, bf16=bf16, device=device)
    weights: dict[str, Arrays] = {}
    for part in PARTS:
        folder = config.out / part
        run_log = RunLog(folder)

        def tell(line: Progress, part: Part = part, run_log: RunLog = run_log) -> None:
            run_log.write(line)
            report(part, line)

        log.info("%s: %d steps in %s", part, schedules[part].steps, "bf16" if bf16 else "f32")
        weights[part] = fit(
            tasks[part], schedules[part], folder, bf16=bf16, device=device, report=tell
        )
        run_log.close()
        if run_log.path.exists():
            draw_curves(run_log.path, folder / "curves.png")
    return _finish(config, spec, data, weights, networks)


def _finish(
    config: TrainConfig,
    spec: PicoSpec,
    data: _Data,
    weights: Mapping[str, Arrays],
    networks: Mapping[Part, nn.Module],
) -> Path:
    """Calibrate the scores, write ``best.okp`` and draw samples."""
    if data.val is not None and data.truth is not None:
        network = networks["pose"].cpu()
        load_weights(network, weights["pose"])
        plain = replace(spec, calibration=IDENTITY)
        model = _keypoint_task(config, plain, data, network).model(network.eval())
        marks = joint_marks(data.truth, predict(model, data.val, boxes="given"))
        knots = calibration.fit_monotone(*marks)
        spec = replace(spec, calibration=np.array(knots))
    path = config.out / "best.okp"
    write_pico(path, spec, weights)
    if data.val is not None:
        with get_model(path) as model:
            draw_samples(model, data.val, config.out / "samples.jpg")
    return path


def _read(config: TrainConfig) -> _Data:
    names = None
    if config.views:
        names = load_skeleton(list(config.views.values())[-1]).keypoints
    mixtures: dict[Part, list[Source]] = {"pose": [], "detector": []}
    first: Dataset | None = None
    for source in config.sources:
        dataset = _dataset(source, names)
        first = first or dataset
        names = names or first.keypoint_names
        if dataset.class_names != first.class_names:
            raise InputError(
                f"{source.annotations.name} has the classes {', '.join(dataset.class_names)}, "
                f"the first file {', '.join(first.class_names)}: all files need the same."
            )
        if source.pose > 0:
            mixtures["pose"].append(Source(dataset, source.pose))
        if source.detector > 0:
            mixtures["detector"].append(Source(dataset, source.detector))
    if first is None or not first.keypoint_names:
        raise InputError("The categories name no keypoints: there is nothing to learn.")
    val = _dataset(config.val, None) if config.val else None
    truth = json.loads(config.val.annotations.read_bytes()) if config.val else None
    return _Data(mixtures, val, truth, first)


def _dataset(source: SourceConfig, names: tuple[str, ...] | None) -> Dataset:
    return read_dataset(
        source.annotations,
        pictures=source.pictures,
        keypoint_names=names,
        complete=source.complete,
        min_side=source.min_side,
    )


def _specification(config: TrainConfig, data: _Data, start: OkpFile | None) -> PicoSpec:
    """Return what the model will be, apart from its weights."""
    slots = {name: i for i, name in enumerate(data.first.keypoint_names)}
    if config.views:
        views = {}
        for view_id, name in config.views.items():
            skeleton = load_skeleton(name)
            maps = tuple(slots[keypoint] for keypoint in skeleton.keypoints)
            views[view_id] = View(data.first.class_names, {0: skeleton}, {0: maps})
    else:
        found = map(skeleton_from_coco_category, data.first.categories)
        skeletons = {i: skeleton for i, skeleton in enumerate(found) if skeleton is not None}
        maps_of = {i: tuple(slots[k] for k in s.keypoints) for i, s in skeletons.items()}
        view = View(
            data.first.class_names,
            skeletons,
            {i: maps_of.get(i, ()) for i in range(len(data.first.class_names))},
        )
        views = {config.sources[0].annotations.parent.name or "model": view}
    flip = list(range(len(slots)))
    for view in views.values():
        for class_id, skeleton in view.skeletons.items():
            for i, partner in enumerate(skeleton.flip):
                flip[view.maps[class_id][i]] = view.maps[class_id][partner]
    before = spec_from_okp(start) if start else None
    return PicoSpec(
        views=views,
        detector_size=config.detector_size,
        crop_size=(config.crops.size, config.crops.size),
        fill=config.crops.fill,
        flip=tuple(flip),
        calibration=before.calibration if before else IDENTITY,
        confidence=before.confidence if before else 0.3,
        iou_threshold=before.iou_threshold if before else 0.6,
        networks={
            "pose": {**(before.networks["pose"] if before else {}), "keypoints": len(slots)},
            "detector": {
                **(
                    before.networks["detector"]
                    if before
                    else {"widths": list(DETECTOR_WIDTHS), "depths": list(DETECTOR_DEPTHS)}
                ),
                "classes": len(data.first.class_names),
            },
        },
        licence="unknown: trained by its owner",
        card={"seed": config.seed, "init": config.init},
    )


def _network(part: Part, spec: PicoSpec, start: OkpFile | None, seed: int) -> nn.Module:
    """Build a network, with the weights of another file wherever name and shape agree."""
    torch.manual_seed(seed)
    network = build(part, spec.networks[part])
    if start is not None:
        name = f"{part}.safetensors"
        load_weights(network, tensors_from_bytes(start.read(name), name))
    return network


def _start_file(init: str | None) -> OkpFile | None:
    if init is None or init == "none":
        return None
    path = Path(init)
    if not path.is_file():
        variant = find_variant(init)
        if variant.file is None or variant.family != "pico":
            raise InputError(f"--init {init!r} is no pico model: give 'person' or a .okp file.")
        path = variant.file
    return open_okp(path)


def _keypoint_task(
    config: TrainConfig, spec: PicoSpec, data: _Data, network: nn.Module
) -> KeypointTask:
    cache = PictureCache(config.cache_bytes // 2)
    sampler = KeypointSampler(data.train["pose"], spec.flip, config.crops, cache, seed=config.seed)
    return KeypointTask(network, sampler, spec, cap=config.cap, truth=data.truth, val=data.val)


def _detector_task(
    config: TrainConfig, spec: PicoSpec, data: _Data, network: nn.Module
) -> DetectorTask:
    cache = PictureCache(config.cache_bytes // 2)
    sampler = WindowSampler(data.train["detector"], config.windows, cache, seed=config.seed)
    return DetectorTask(network, sampler, spec, truth=data.truth, val=data.val)


def _schedules(
    config: TrainConfig, tasks: Mapping[Part, Task], *, bf16: bool, device: str
) -> dict[Part, Schedule]:
    """Return the schedules; steps that follow from the wall time are measured once and kept."""
    chosen: dict[Part, Schedule] = {"pose": config.pose, "detector": config.detector}
    if all(s.steps for s in chosen.values()):
        return chosen
    if config.minutes is None:
        raise InputError("Say how long to train: minutes, or the steps of both networks.")
    config.out.mkdir(parents=True, exist_ok=True)
    kept = config.out / "steps.json"
    if kept.is_file():
        steps = json.loads(kept.read_bytes())
    else:
        budget = config.minutes * 60 * (1 - SPARE) / len(PARTS)
        steps = {
            part: max(
                20,
                int(budget / seconds_per_step(tasks[part], chosen[part], bf16=bf16, device=device)),
            )
            for part in PARTS
        }
        kept.write_text(json.dumps(steps))
    return {
        part: replace(
            schedule,
            steps=steps[part],
            warmup=min(schedule.warmup, steps[part] // 10),
            # A long memory would still hold the random start at the end of a short run.
            average=min(schedule.average, 1 - 10 / max(20, steps[part])),
            evaluate_every=max(1, steps[part] // 4),
        )
        for part, schedule in chosen.items()
    }


def _bf16(precision: str) -> bool:
    if precision not in ("auto", "f32", "bf16"):
        raise InputError(f"precision {precision!r} cannot be trained in: use auto, f32 or bf16.")
    if precision == "bf16" and not any(flag in cpu_flags() for flag in BF16_FLAGS):
        raise RuntimeUnavailableError(
            f"precision='bf16' needs a CPU with {' or '.join(BF16_FLAGS)}: it would be emulated, "
            "several times slower than f32. Use 'auto'."
        )
    return precision == "bf16" or (precision == "auto" and BF16_FLAGS[0] in cpu_flags())


def _device(device: str) -> str:
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeUnavailableError(f"device={device!r}: this torch sees no CUDA device here.")
    return device
