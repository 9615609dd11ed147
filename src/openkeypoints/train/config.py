"""What a training run is made of, as typed records read from a YAML file or the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from openkeypoints.errors import InputError
from openkeypoints.train.detector_samples import WindowPolicy
from openkeypoints.train.keypoint_samples import CropPolicy
from openkeypoints.train.loop import Schedule
from openkeypoints.train.pico import CENTER_TARGETS, CenterTarget

Part = Literal["pose", "detector"]
PARTS: tuple[Part, ...] = ("pose", "detector")
STAGES = 5
"""Stages of a network, at strides 2 to 32."""


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One annotation file of the mixture.

    Attributes:
        annotations: COCO-keypoints JSON.
        pictures: folder of its pictures, None where the file tells.
        pose: share of the keypoint network's samples, 0 = not used.
        detector: share of the detector's samples, 0 = not used.
        complete: False where instances may be missing from the labels.
        min_side: instances with a shorter box side, px, are ignored by the detector.
    """

    annotations: Path
    pictures: Path | None = None
    pose: float = 1.0
    detector: float = 1.0
    complete: bool = True
    min_side: float = 0.0


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """How large a network is. What is None stays as ``init`` has it, or as the family does.

    Attributes:
        widths: channels at strides 2, 4, 8, 16 and 32.
        depths: residual blocks at each of these strides.
        features: channels of the map at stride 8 that the heads read.
    """

    widths: tuple[int, ...] | None = None
    depths: tuple[int, ...] | None = None
    features: int | None = None

    def __post_init__(self) -> None:
        for name, numbers, lowest in (("widths", self.widths, 1), ("depths", self.depths, 0)):
            if numbers is None:
                continue
            if len(numbers) != STAGES or not all(_whole(n, lowest) for n in numbers):
                raise InputError(
                    f"The {name} of a network are {list(numbers)}: give {STAGES} whole numbers "
                    f"of {lowest} or more."
                )
        if self.features is not None and not _whole(self.features, 1):
            raise InputError(
                f"The features of a network are {self.features!r}: give a whole number of 1 or "
                "more."
            )


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A training run of a pico model.

    Attributes:
        sources: what is learned from.
        val: what is measured on, None = nothing.
        out: folder of checkpoints, logs, pictures and ``best.okp``.
        views: id -> name of a skeleton, the last one having all keypoint slots; empty = one view
            with the classes and keypoints of the first source.
        parts: networks that the run trains; the others stay as ``init`` has them.
        init: ``.okp`` file or catalogue id to start from, None = random weights.
        networks: part -> how large it is; weights of ``init`` of another shape are left out.
        minutes: wall time of the whole run; sets the number of steps where a schedule has none.
        pose: schedule of the keypoint network, steps 0 = from ``minutes``.
        detector: schedule of the detector, steps 0 = from ``minutes``.
        crops: how crops are drawn.
        windows: how windows are drawn.
        center_target: what the detector's centre score learns, ``one`` = 1 for every instance,
            ``iou`` = how well the box found there fits.
        detector_size: (width, height) of the detector's input in use.
        cap: divergence above which a label does not pull, None = every label pulls.
        precision: ``auto``, ``f32`` or ``bf16``.
        device: ``auto``, ``cpu``, ``cuda:N``.
        threads: CPU threads, 0 = all.
        seed: of weights and samples.
        cache_bytes: memory for decoded pictures.
    """

    sources: tuple[SourceConfig, ...]
    val: SourceConfig | None = None
    out: Path = Path("runs")
    views: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = PARTS
    init: str | None = None
    networks: Mapping[Part, NetworkConfig] = field(default_factory=dict)
    minutes: float | None = None
    pose: Schedule = field(default_factory=lambda: Schedule(steps=0))
    detector: Schedule = field(default_factory=lambda: Schedule(steps=0))
    crops: CropPolicy = field(default_factory=CropPolicy)
    windows: WindowPolicy = field(default_factory=WindowPolicy)
    center_target: CenterTarget = "one"
    detector_size: tuple[int, int] = (256, 256)
    cap: float | None = None
    precision: str = "auto"
    device: str = "auto"
    threads: int = 0
    seed: int = 0
    cache_bytes: int = 2 << 30


def config_from_mapping(data: Mapping[str, Any], root: Path) -> TrainConfig:
    """Read a configuration; the paths of data are relative to ``root``, ``out`` is not.

    Raises:
        InputError: a key is unknown or a value has the wrong form.
    """
    readers: Mapping[str, Callable[[Any], Any]] = {
        "pose": lambda value: Schedule(**value),
        "detector": lambda value: Schedule(**value),
        "crops": lambda value: _with_pairs(CropPolicy(), value),
        "windows": lambda value: _with_pairs(WindowPolicy(), value),
        "sources": lambda value: tuple(_source(source, root) for source in value),
        "val": lambda value: _source(value, root) if value else None,
        "out": Path,
        "center_target": _center_target,
        "detector_size": tuple,
        "networks": _networks,
        "parts": lambda value: tuple(map(_part, value)),
    }
    try:
        values = {name: readers.get(name, lambda v: v)(value) for name, value in data.items()}
        values.setdefault("sources", ())
        return TrainConfig(**values)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        known = ", ".join(f.name for f in fields(TrainConfig))
        raise InputError(
            f"The training configuration is wrong ({error}); its keys are {known}."
        ) from error


def _whole(number: object, lowest: int) -> bool:
    return isinstance(number, int) and number >= lowest


def _part(name: str) -> str:
    if name not in PARTS:
        raise ValueError(f"no part is called {name!r}, they are {', '.join(PARTS)}")
    return name


def _center_target(name: str) -> str:
    if name not in CENTER_TARGETS:
        raise ValueError(f"center_target is {name!r}, it may be {' or '.join(CENTER_TARGETS)}")
    return name


def _networks(data: Mapping[str, Mapping[str, Any]]) -> dict[str, NetworkConfig]:
    return {_part(name): _with_pairs(NetworkConfig(), size) for name, size in data.items()}


def _source(data: Mapping[str, Any], root: Path) -> SourceConfig:
    paths = {k: root / data[k] for k in ("annotations", "pictures") if data.get(k)}
    return SourceConfig(**{**data, **paths})


def _with_pairs(policy: Any, data: Mapping[str, Any]) -> Any:
    return replace(policy, **{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})
