"""The training configuration: typed, with relative paths, and wrong keys named."""

from __future__ import annotations

from pathlib import Path

import pytest

from openkeypoints.errors import InputError
from openkeypoints.train.config import NetworkConfig, TrainConfig, config_from_mapping
from openkeypoints.train.loop import Schedule

ROOT = Path("/data")


def test_an_empty_mapping_is_the_default():
    assert config_from_mapping({}, ROOT) == TrainConfig(sources=())


def test_every_part_is_typed():
    config = config_from_mapping(
        {
            "sources": [{"annotations": "a.json", "pose": 0.5, "complete": False}],
            "val": {"annotations": "sub/v.json", "pictures": "p"},
            "out": "runs/x",
            "views": {"person": "coco17"},
            "pose": {"steps": 10, "batch": 4},
            "crops": {"size": 128, "scale": [0.5, 1.5], "paste": 0.3},
            "windows": {"zoom_range": [0.1, 1.0]},
            "detector_size": [256, 192],
            "minutes": 2.5,
            "networks": {"detector": {"widths": [8, 8, 16, 16, 24], "features": 16}},
            "center_target": "iou",
        },
        ROOT,
    )
    assert config.sources[0].annotations == ROOT / "a.json"
    assert (config.sources[0].pose, config.sources[0].complete) == (0.5, False)
    assert config.val is not None
    assert config.val.pictures == ROOT / "p"
    assert config.out == Path("runs/x")
    assert config.pose == Schedule(steps=10, batch=4)
    assert (config.crops.scale, config.crops.paste) == ((0.5, 1.5), 0.3)
    assert config.windows.zoom_range == (0.1, 1.0)
    assert config.detector_size == (256, 192)
    size = NetworkConfig(widths=(8, 8, 16, 16, 24), features=16)
    assert config.networks == {"detector": size}
    assert config.center_target == "iou"


@pytest.mark.parametrize(
    "wrong",
    [
        {"colour": 1},
        {"pose": {"steps": 3, "epochs": 2}},
        {"pose": {"batch": 3}},
        {"crops": {"zoom": 2}},
        {"sources": [{"pose": 1}]},
        {"sources": [{"annotations": "a.json", "weight": 1}]},
        {"sources": 3},
        {"networks": {"head": {"features": 8}}},
        {"networks": {"pose": {"layers": 3}}},
        {"networks": {"pose": {"widths": 3}}},
        {"networks": 3},
        {"center_target": "two"},
    ],
)
def test_what_is_wrong_is_refused_with_the_keys_that_there_are(wrong):
    with pytest.raises(InputError, match="its keys are sources, val, out"):
        config_from_mapping(wrong, ROOT)


@pytest.mark.parametrize(
    "size",
    [
        {"widths": [8, 8, 16, 16]},
        {"widths": [8, 8, 16, 16, 0]},
        {"depths": [0, 1, 2, 2, -1]},
        {"depths": [0, 1, 2, 2, 1.5]},
        {"features": 0},
    ],
)
def test_a_network_of_an_impossible_size_is_refused(size):
    with pytest.raises(InputError, match=f"The {next(iter(size))} of a network are"):
        config_from_mapping({"networks": {"pose": size}}, ROOT)
