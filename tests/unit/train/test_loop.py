"""The loop: its schedule, its best weights, and that a resumed run is an unbroken one."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

from openkeypoints.errors import InputError
from openkeypoints.train.loop import Schedule, averaged, fit, seconds_per_step
from openkeypoints.train.state import Average
from openkeypoints.weights.tensors import read_tensors

SCHEDULE = Schedule(
    steps=24, batch=4, warmup=5, average=0.9, save_every=5, evaluate_every=8, learning_rate=0.01
)


class Brightness:
    """Learns the mean of a picture; everything that a real network has: norms, biases, counts."""

    figure = "good"

    def __init__(self, *, figures=None, width=6):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = nn.Sequential(
                nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 1, 6)
            )
        self.figures = iter(figures) if figures is not None else None
        self.progress = []

    def batch(self, step, count):
        rng = np.random.default_rng((3, step))
        return {"images": rng.integers(0, 256, (count, 8, 8, 3), np.uint8)}

    def losses(self, outputs, batch, progress):
        self.progress.append(progress)
        means = torch.from_numpy(batch["images"].mean((1, 2, 3), dtype=np.float32)) / 127.5 - 1
        return {"square": ((outputs[:, 0, 0, 0] - means) ** 2).mean()}

    def evaluate(self, network):
        assert not network.training
        return {} if self.figures is None else {"good": next(self.figures)}


class SwitchedOffError(Exception):
    """The machine was switched off."""


class Stopping(Brightness):
    """Ends at a step, as an interrupted run does."""

    def __init__(self, step):
        super().__init__()
        self.last = step

    def batch(self, step, count):
        if step == self.last:
            raise SwitchedOffError
        return super().batch(step, count)


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("stops", [[1], [5], [7], [13, 16], [23], [4, 9, 14, 19]])
def test_a_run_interrupted_and_resumed_has_the_weights_of_an_unbroken_one(tmp_path, stops):
    whole = fit(Brightness(), SCHEDULE, tmp_path / "whole")
    for step in stops:
        with pytest.raises(SwitchedOffError):
            fit(Stopping(step), SCHEDULE, tmp_path / "parts")
    parts = fit(Brightness(), SCHEDULE, tmp_path / "parts")
    assert same(parts, whole)
    states = [read_tensors(tmp_path / n / "last.safetensors") for n in ("whole", "parts")]
    assert same(*states)


def test_a_finished_run_is_not_run_again(tmp_path):
    first = fit(Brightness(), SCHEDULE, tmp_path)
    again = Brightness()
    assert same(fit(again, SCHEDULE, tmp_path), first)
    assert again.progress == []


def test_the_loss_falls(tmp_path):
    lines = []
    fit(Brightness(), Schedule(steps=100, warmup=5, average=0.9), tmp_path, report=lines.append)
    values = [line.losses["square"] for line in lines]
    assert values[-1] < values[0] / 2


def test_the_best_weights_are_those_of_the_best_figure(tmp_path):
    kept = {}

    class Watched(Brightness):
        def evaluate(self, network):
            figures = super().evaluate(network)
            kept[figures["good"]] = network.state_dict()["0.weight"].numpy().copy()
            return figures

    best = fit(Watched(figures=[0.2, 0.7, 0.4]), SCHEDULE, tmp_path)
    assert np.array_equal(best["0.weight"], kept[0.7])
    assert not np.array_equal(best["0.weight"], kept[0.4])


def test_the_best_figure_survives_an_interruption(tmp_path):
    class Late(Stopping):
        def evaluate(self, network):
            return {"good": 0.9}

    with pytest.raises(SwitchedOffError):
        fit(Late(12), SCHEDULE, tmp_path)
    before = read_tensors(tmp_path / "best.safetensors")
    assert same(fit(Brightness(figures=[0.3, 0.4]), SCHEDULE, tmp_path), before)


def test_without_figures_the_last_average_is_the_best(tmp_path):
    best = fit(Brightness(), SCHEDULE, tmp_path)
    last = read_tensors(tmp_path / "last.safetensors")
    assert all(np.array_equal(best[k], last[f"average.{k}"]) for k in best)


def test_reports_come_regularly_after_evaluations_and_at_the_end(tmp_path):
    lines = []
    fit(Brightness(figures=[0.1] * 3), SCHEDULE, tmp_path, report=lines.append)
    assert [line.step for line in lines] == [8, 16, 20, 24]
    assert [bool(line.figures) for line in lines] == [True, True, False, True]
    assert {line.steps for line in lines} == {24}


def test_progress_goes_from_nought_to_one(tmp_path):
    task = Brightness()
    fit(task, SCHEDULE, tmp_path)
    assert task.progress[0] == 0
    assert task.progress[-1] == pytest.approx(23 / 24)


def test_a_folder_with_another_network_is_refused(tmp_path):
    fit(Brightness(), SCHEDULE, tmp_path)
    with pytest.raises(InputError, match="another network"):
        fit(Brightness(width=7), SCHEDULE, tmp_path)


def test_another_schedule_in_the_same_folder_is_said(tmp_path, caplog):
    fit(Brightness(), SCHEDULE, tmp_path)
    longer = Schedule(steps=26, batch=4, warmup=5, save_every=5, evaluate_every=8)
    with caplog.at_level(logging.WARNING):
        fit(Brightness(), longer, tmp_path)
    assert "another schedule" in caplog.text


def test_the_rate_warms_up_and_falls_as_a_cosine():
    schedule = Schedule(steps=1000, warmup=100, learning_rate=1.0, final=0.02)
    rates = [schedule.rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[100] == 1.0
    assert rates[550] == pytest.approx(0.51)
    assert rates[-1] == pytest.approx(0.02, abs=1e-4)
    assert np.all(np.diff(rates[100:]) < 0)


def test_timing_a_step_changes_nothing(tmp_path):
    task = Brightness()
    before = {k: v.clone() for k, v in task.network.state_dict().items()}
    assert seconds_per_step(task, SCHEDULE, bf16=False, device="cpu") > 0
    assert all(torch.equal(v, before[k]) for k, v in task.network.state_dict().items())


def test_the_average_follows_slowly_and_forgets_its_start():
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(0.0)
    average = Average(network, 0.99)
    network.weight.data.fill_(1.0)
    average.update(network, 0)
    early = float(average.values["weight"])
    assert early == pytest.approx(0.9)  # (1 + 0) / (10 + 0) of the start is left
    for step in range(1, 60):
        average.update(network, step)
    assert float(average.values["weight"]) == pytest.approx(1.0, abs=1e-3)


def test_the_averaged_network_is_a_copy_ready_to_run():
    network = nn.BatchNorm1d(2)
    average = Average(network, 0.5)
    average.values["running_mean"].fill_(7)
    twin = averaged(network, average)
    assert not twin.training
    assert twin.running_mean.tolist() == [7, 7]
    assert network.running_mean.tolist() == [0, 0]


def test_a_schedule_without_steps_can_be_timed():
    assert seconds_per_step(Brightness(), Schedule(steps=0), bf16=False, device="cpu") > 0
