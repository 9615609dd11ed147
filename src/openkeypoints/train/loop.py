"""The training loop: one readable loop for every network of every family."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from openkeypoints.train.state import (
    Average,
    load_average,
    load_state,
    read_facts,
    save_average,
    save_state,
)
from openkeypoints.weights.tensors import Arrays

log = logging.getLogger(__name__)

REPORT_EVERY = 20


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps: number of optimiser steps.
        batch: samples per step.
        learning_rate: the highest; linear warm-up, then cosine to ``final`` times it.
        final: last learning rate as a part of the highest.
        warmup: steps of the warm-up.
        weight_decay: of AdamW, on matrices only.
        clip: largest gradient norm.
        average: decay of the moving average of the weights.
        save_every: steps between checkpoints.
        evaluate_every: steps between evaluations of the average.
    """

    steps: int
    batch: int = 32
    learning_rate: float = 2e-3
    final: float = 0.02
    warmup: int = 100
    weight_decay: float = 0.02
    clip: float = 5.0
    average: float = 0.9995
    save_every: int = 500
    evaluate_every: int = 1000

    def of(self, steps: int) -> Schedule:
        """Return a schedule of so many steps, its habits fitted to a run that may be short."""
        return replace(
            self,
            steps=steps,
            warmup=min(self.warmup, steps // 10),
            # A long memory would still hold the random start at the end of a short run.
            average=min(self.average, 1 - 10 / max(20, steps)),
            evaluate_every=max(1, min(self.evaluate_every, steps // 4)),
            save_every=max(1, min(self.save_every, steps // 10)),
        )

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        part = (step - self.warmup) / max(1, self.steps - self.warmup)
        cosine = (1 + math.cos(math.pi * min(1.0, part))) / 2
        return self.learning_rate * (self.final + (1 - self.final) * cosine)


class Task(Protocol):
    """What is trained: where samples come from, what is wrong with an answer, how good it is."""

    network: nn.Module

    figure: str
    """Name of the figure by which the best weights are chosen."""

    def batch(self, step: int, count: int) -> Mapping[str, Any]:
        """Return the samples of a step; ``images`` are (N, H, W, 3) uint8."""
        ...

    def losses(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], progress: float
    ) -> dict[str, Tensor]:
        """Return the terms whose sum is minimised; ``progress`` goes from 0 to 1."""
        ...

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Return figures of the averaged network on pictures that it does not learn from."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of the log: the state after ``step`` steps."""

    step: int
    steps: int
    rate: float
    losses: Mapping[str, float]
    figures: Mapping[str, float]
    seconds: float


def fit(
    task: Task,
    schedule: Schedule,
    folder: Path,
    *,
    bf16: bool = False,
    device: str = "cpu",
    report: Callable[[Progress], None] = lambda _: None,
) -> Arrays:
    """Train, continuing from ``folder`` where it holds a checkpoint; return the best average.

    The best is the one with the highest ``task.figure``, the last where nothing is measured.

    Args:
        task: what to train.
        schedule: how long and how fast.
        folder: receives ``last.safetensors`` and ``best.safetensors``.
        bf16: multiply in bfloat16 (the weights stay float32).
        device: ``cpu`` or ``cuda:N``.
        report: called every 20 steps, after each evaluation and at the end.

    Raises:
        InputError: the checkpoint in the folder is of another network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = task.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _optimizer(network, schedule)
    average = Average(network, schedule.average)
    start, seconds, best = 0, 0.0, -1.0
    if (facts := read_facts(folder)) is not None:
        load_state(folder, network, average, optimizer)
        start, seconds, best = facts["step"], facts["seconds"], facts["best"]
        log.info("continuing from step %d", start)
        if facts["schedule"] != asdict(schedule):
            log.warning("the run in %s began with another schedule", folder.name)
    began = time.monotonic() - seconds
    network.train()
    for step in range(start, schedule.steps):
        losses = _step(task, network, optimizer, schedule, step, (device, bf16))
        average.update(network, step)
        done = step + 1
        last = done == schedule.steps
        figures = {}
        if done % schedule.evaluate_every == 0 or last:
            figures = task.evaluate(averaged(network, average))
            # Without figures the newest weights are the best there are.
            if (figure := figures.get(task.figure, best)) >= best:
                best = figure
                save_average(folder, average)
        if done % REPORT_EVERY == 0 or figures or last:
            values = {k: float(v.detach()) for k, v in losses.items()}
            rate, elapsed = schedule.rate(step), time.monotonic() - began
            report(Progress(done, schedule.steps, rate, values, figures, elapsed))
        if done % schedule.save_every == 0 or last:
            elapsed = time.monotonic() - began
            now = {"step": done, "seconds": elapsed, "best": best, "schedule": asdict(schedule)}
            save_state(folder, network, average, optimizer, now)
    return load_average(folder)


def seconds_per_step(task: Task, schedule: Schedule, *, bf16: bool, device: str) -> float:
    """Time a few steps on a copy of the network, so that the run itself starts as it would have.

    The schedule may still be without a number of steps.
    """
    network = copy.deepcopy(task.network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _optimizer(network, schedule)
    times = []
    for step in range(4):
        began = time.perf_counter()
        _step(task, network, optimizer, schedule, step, (device, bf16))
        times.append(time.perf_counter() - began)
    return sorted(times[1:])[1]


def averaged(network: nn.Module, average: Average) -> nn.Module:
    """Return a copy of the network with the averaged weights, ready to run."""
    twin = copy.deepcopy(network)
    twin.load_state_dict(average.values)
    return twin.eval()


def _optimizer(network: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": schedule.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate)


def _step(
    task: Task,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    step: int,
    where: tuple[str, bool],
) -> dict[str, Tensor]:
    device, bf16 = where
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(step)
    batch = task.batch(step, schedule.batch)
    images = torch.from_numpy(batch["images"]).to(device)
    # The same arithmetic as ByteInput, in the layout that convolutions like best.
    x = (images.permute(0, 3, 1, 2).float() / 127.5 - 1.0).contiguous(
        memory_format=torch.channels_last
    )
    with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=bf16):
        outputs = network(x)
    losses = task.losses(outputs, batch, step / max(1, schedule.steps))
    optimizer.zero_grad()
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), schedule.clip)
    optimizer.step()
    return losses
