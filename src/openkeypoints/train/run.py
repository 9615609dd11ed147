"""A whole training run of a pico model: keypoint network, detector, calibration, ``best.okp``."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
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
from openkeypoints.runtimes import cpu_flags, devices
from openkeypoints.skeletons import load_skeleton, skeleton_from_coco_category
from openkeypoints.train.coco import Dataset, load_coco, read_dataset
from openkeypoints.train.config import PARTS, NetworkConfig, Part, SourceConfig, TrainConfig
from openkeypoints.train.detector_samples import WindowSampler
from openkeypoints.train.evaluate import joint_marks, predict
from openkeypoints.train.keypoint_samples import KeypointSampler
from openkeypoints.train.logs import RunLog, draw_curves, draw_samples
from openkeypoints.train.loop import Progress, Schedule, Task, fit, seconds_per_step
from openkeypoints.train.package import write_pico
from openkeypoints.train.sources import PictureCache, Source
from openkeypoints.train.state import arrays_from, read_facts
from openkeypoints.train.tasks import DetectorTask, KeypointTask, Validation, pose_model
from openkeypoints.weights.okp import OkpFile, open_okp
from openkeypoints.weights.tensors import Arrays, tensors_from_bytes

log = logging.getLogger(__name__)

Report = Callable[[Part, Progress], None]

BF16_FLAGS = ("amx_bf16", "avx512_bf16")
"""CPU flags with which bfloat16 is multiplied natively. ``auto`` takes it with the first alone."""
SPARE = 0.12
"""Part of the wall time kept for evaluation, calibration and writing."""
MIN_STEPS = 20
"""Steps of the shortest run."""
DETECTOR_WIDTHS = (16, 32, 64, 96, 128)
DETECTOR_DEPTHS = (0, 1, 3, 2, 1)
IDENTITY = np.array([[0.0, 1.0], [0.0, 1.0]])


@dataclass(frozen=True, slots=True)
class _Data:
    """What is learned from and measured on."""

    train: Mapping[Part, list[Source]]
    val: Validation | None
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
    device = _device(config.device)
    bf16 = _bf16(config.precision, device)
    with _torch_settings(config.threads):
        start = _start_file(config.init)
        data = _read(config)
        spec = _specification(config, data, start)
        tasks = {part: _TASKS[part](config, spec, data, start) for part in config.parts}
        schedules = _schedules(config, tasks, bf16=bf16, device=device)
        weights: dict[str, Arrays] = {
            part: arrays_from(_network(part, spec, start, config.seed).state_dict())
            for part in PARTS
            if part not in config.parts
        }
        for part in config.parts:
            log.info("%s: %d steps in %s", part, schedules[part].steps, _words(bf16, device))
            folder = config.out / part
            with RunLog(folder, step=(read_facts(folder) or {}).get("step", 0)) as run_log:

                def tell(line: Progress, part: Part = part, run_log: RunLog = run_log) -> None:
                    run_log.write(line)
                    report(part, line)

                weights[part] = fit(
                    tasks[part], schedules[part], folder, bf16=bf16, device=device, report=tell
                )
            if run_log.path.exists():
                draw_curves(run_log.path, folder / "curves.png")
        return _finish(config, spec, data, weights)


@contextlib.contextmanager
def _torch_settings(threads: int) -> Iterator[None]:
    """Set what torch keeps for the whole process, and set it back."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    # Denormals in the optimiser's moments slow CPUs down and change nothing that is seen.
    torch.set_flush_denormal(True)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def _finish(
    config: TrainConfig, spec: PicoSpec, data: _Data, weights: Mapping[str, Arrays]
) -> Path:
    """Calibrate the scores, write ``best.okp`` and draw samples."""
    if data.val is not None:
        network = build("pose", spec.networks["pose"])
        load_weights(network, weights["pose"])
        model = pose_model(network.eval(), replace(spec, calibration=IDENTITY))
        scores, hits = joint_marks(data.val.truth, predict(model, data.val.pictures, boxes="given"))
        if len(scores):
            knots = calibration.fit_monotone(scores, hits)
            spec = replace(spec, calibration=np.array(knots))
    path = config.out / "best.okp"
    write_pico(path, spec, weights)
    if data.val is not None:
        with get_model(path) as model:
            draw_samples(model, data.val.pictures, config.out / "samples.jpg")
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
    return _Data(mixtures, _validation(config.val), first)


def _validation(source: SourceConfig | None) -> Validation | None:
    if source is None:
        return None
    return Validation(load_coco(source.annotations), _dataset(source, None), source.min_side)


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
    views = _views(config, data.first, slots)
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
            "pose": {**_size("pose", config, before), "keypoints": len(slots)},
            "detector": {
                **_size("detector", config, before),
                "classes": len(data.first.class_names),
            },
        },
        licence="unknown: trained by its owner",
        card={"seed": config.seed, "init": Path(config.init).name if config.init else None},
    )


def _size(part: Part, config: TrainConfig, before: PicoSpec | None) -> dict[str, Any]:
    """Return the size of a network: as stated, else as the run starts from, else the default."""
    size: dict[str, Any] = {}
    if before is not None:
        size |= before.networks[part]
    elif part == "detector":
        size |= {"widths": list(DETECTOR_WIDTHS), "depths": list(DETECTOR_DEPTHS)}
    stated = asdict(config.networks.get(part, NetworkConfig()))
    return size | {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in stated.items()
        if value is not None
    }


def _views(config: TrainConfig, first: Dataset, slots: Mapping[str, int]) -> dict[str, View]:
    """Return the views that the configuration names, or one with all that the data has."""
    classes = first.class_names
    if not config.views:
        found = map(skeleton_from_coco_category, first.categories)
        skeletons = {i: skeleton for i, skeleton in enumerate(found) if skeleton is not None}
        every = {i: tuple(slots[k] for k in s.keypoints) for i, s in skeletons.items()}
        maps = {i: every.get(i, ()) for i in range(len(classes))}
        return {
            config.sources[0].annotations.parent.name or "model": View(classes, skeletons, maps)
        }
    if len(classes) != 1:
        raise InputError(
            f"views are for data with one class, here are {', '.join(classes)}: leave them out."
        )
    views = {}
    for view_id, name in config.views.items():
        skeleton = load_skeleton(name)
        if missing := [k for k in skeleton.keypoints if k not in slots]:
            raise InputError(
                f"The view {view_id!r} shows {missing[0]!r}, which the last view lacks: put the "
                "one with all keypoints last."
            )
        every = {0: tuple(slots[k] for k in skeleton.keypoints)}
        views[view_id] = View(classes, {0: skeleton}, every)
    return views


def _network(part: Part, spec: PicoSpec, start: OkpFile | None, seed: int) -> nn.Module:
    """Build a network, with the weights of another file wherever name and shape agree."""
    torch.manual_seed(seed)
    network = build(part, spec.networks[part])
    if start is not None:
        name = f"{part}.safetensors"
        fresh = load_weights(network, tensors_from_bytes(start.read(name), name))
        log.info("%s: new, as the file has no weights for them: %s", part, ", ".join(fresh) or "-")
    return network


def _start_file(init: str | None) -> OkpFile | None:
    if init is None or init == "none":
        return None
    path = Path(init)
    if not path.is_file():
        variant = find_variant(init)
        if variant.file is None or variant.family != "pico":
            raise InputError(f"init is {init!r}, no pico model: give 'person' or a .okp file.")
        path = variant.file
    return open_okp(path)


def _keypoint_task(
    config: TrainConfig, spec: PicoSpec, data: _Data, start: OkpFile | None
) -> KeypointTask:
    cache = PictureCache(config.cache_bytes // 2)
    sampler = KeypointSampler(data.train["pose"], spec.flip, config.crops, cache, seed=config.seed)
    if not sampler.items:
        raise InputError("No instance of the sources has a labelled keypoint and a share of pose.")
    network = _network("pose", spec, start, config.seed)
    return KeypointTask(network, sampler, spec, cap=config.cap, val=data.val)


def _detector_task(
    config: TrainConfig, spec: PicoSpec, data: _Data, start: OkpFile | None
) -> DetectorTask:
    cache = PictureCache(config.cache_bytes // 2)
    sampler = WindowSampler(data.train["detector"], config.windows, cache, seed=config.seed)
    if not sampler.items:
        raise InputError("No picture of the sources has a share of the detector.")
    network = _network("detector", spec, start, config.seed)
    return DetectorTask(network, sampler, spec, center_target=config.center_target, val=data.val)


_TASKS: Mapping[Part, Callable[[TrainConfig, PicoSpec, _Data, OkpFile | None], Task]] = {
    "pose": _keypoint_task,
    "detector": _detector_task,
}


def _schedules(
    config: TrainConfig, tasks: Mapping[Part, Task], *, bf16: bool, device: str
) -> dict[Part, Schedule]:
    """Return the schedules; steps that follow from the wall time are measured once and kept."""
    every: dict[Part, Schedule] = {"pose": config.pose, "detector": config.detector}
    chosen = {part: every[part] for part in config.parts}
    if all(schedule.steps for schedule in chosen.values()):
        return chosen
    if config.minutes is None:
        raise InputError("Say how long to train: minutes, or the steps of each network.")
    kept = config.out / "steps.json"
    steps = json.loads(kept.read_bytes()) if kept.is_file() else {}
    if any(not schedule.steps and part not in steps for part, schedule in chosen.items()):
        seconds = {
            part: seconds_per_step(task, chosen[part], bf16=bf16, device=device)
            for part, task in tasks.items()
        }
        steps = _steps(config.minutes * 60, chosen, seconds)
        config.out.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(steps))
    return {
        part: schedule if schedule.steps else schedule.of(steps[part])
        for part, schedule in chosen.items()
    }


def _steps(
    wall_s: float, chosen: Mapping[Part, Schedule], seconds: Mapping[Part, float]
) -> dict[Part, int]:
    """Share the wall time among the parts whose steps are open; the others take theirs first."""
    left = wall_s * (1 - SPARE) - sum(s.steps * seconds[part] for part, s in chosen.items())
    free = [part for part, schedule in chosen.items() if not schedule.steps]
    return {part: max(MIN_STEPS, int(left / len(free) / seconds[part])) for part in free}


def _bf16(precision: str, device: str) -> bool:
    """Return whether to multiply in bfloat16."""
    if precision not in ("auto", "f32", "bf16"):
        raise InputError(f"precision {precision!r} cannot be trained in: use auto, f32 or bf16.")
    if device.startswith("cuda"):
        able = fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able, fast = not cpu_flags().isdisjoint(BF16_FLAGS), BF16_FLAGS[0] in cpu_flags()
    if precision == "bf16" and not able:
        raise RuntimeUnavailableError(
            f"precision='bf16' needs a CPU with {' or '.join(BF16_FLAGS)}, or a GPU that has it: "
            "here it would be emulated, several times slower than f32. Use 'auto'."
        )
    return precision == "bf16" or (precision == "auto" and fast)


def _words(bf16: bool, device: str) -> str:
    """Say the precision, and why a CPU is not faster."""
    if bf16:
        return "bf16"
    slow = device == "cpu" and BF16_FLAGS[0] not in cpu_flags()
    return f"f32 (this CPU has no {BF16_FLAGS[0]})" if slow else "f32"


def _device(device: str) -> str:
    """Return the device to train on; ``auto`` is a GPU where torch lists one."""
    listed = devices("torch")
    if device == "auto":
        return listed[0] if listed[0].startswith("cuda") else "cpu"
    asked = "cuda:0" if device == "cuda" else device
    if asked not in listed:
        raise RuntimeUnavailableError(
            f"device={device!r}: torch has no such device here; it lists {', '.join(listed)}."
        )
    return asked
