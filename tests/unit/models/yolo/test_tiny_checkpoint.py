"""The tiny checkpoints of the contract tests: what the tests take for a checkpoint is one."""

from __future__ import annotations

import pytest

from openkeypoints.models.facts import read_facts
from openkeypoints.models.yolo.checkpoint import claims, heads, read_checkpoint
from openkeypoints.models.yolo.layers import needed_tensors
from tests.tiny_yolo import tiny_yolo
from tests.yolo_yamls import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", ["pose", "detect", "segment"])
def test_a_tiny_checkpoint_has_every_tensor_of_its_yaml(tmp_path, family, task):
    path = tiny_yolo(tmp_path / "tiny.pt", family=family, task=task, nc=2)
    checkpoint = read_checkpoint(path)
    assert claims(read_facts(path))
    assert {n: t.shape for n, t in checkpoint.tensors.items()} == needed_tensors(checkpoint.yaml)
    assert len(heads(checkpoint)) == (2 if family == "26" else 1)
    assert checkpoint.input_size == (64, 64)
    assert path.stat().st_size < 1_000_000


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    first = tiny_yolo(tmp_path / "m.pt").read_bytes()
    assert tiny_yolo(tmp_path / "m.pt").read_bytes() == first


def test_another_seed_gives_other_numbers(tmp_path):
    a, b = (tiny_yolo(tmp_path / f"{seed}.pt", seed=seed) for seed in (0, 1))
    assert a.read_bytes() != b.read_bytes()
