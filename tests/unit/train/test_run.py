"""A whole training run on drawn pictures: `best.okp` finds what was learned, in every runtime."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from openkeypoints.errors import InputError, NotFoundError, RuntimeUnavailableError, WeightsError
from openkeypoints.models import InferOptions, get_model
from openkeypoints.train import run
from openkeypoints.train.config import NetworkConfig, SourceConfig, TrainConfig, config_from_mapping
from openkeypoints.train.detector_samples import WindowPolicy
from openkeypoints.train.evaluate import Protocol, evaluate
from openkeypoints.train.keypoint_samples import CropPolicy
from openkeypoints.train.loop import Schedule
from openkeypoints.train.run import train
from openkeypoints.weights.okp import open_okp
from openkeypoints.weights.tensors import tensors_from_bytes
from tests.drawn import write_coco, write_sticks

SIZE = 64
PLAIN = {"hide": 0.0, "rotation": 10.0}
CROPS = CropPolicy(size=SIZE, any_rotation=0, half=0, **PLAIN)
WINDOWS = WindowPolicy(size=96, mosaic=0.1, zoom=0.3, **PLAIN)


def schedule(steps, **changes):
    base = Schedule(
        steps=steps,
        batch=8,
        learning_rate=0.01,
        warmup=5,
        average=0.95,
        evaluate_every=max(1, steps // 2),
        save_every=max(1, steps // 4),
    )
    return replace(base, **changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sticks")
    write_sticks(folder, 40)
    write_sticks(folder, 10, seed=1, name="val")
    return folder


@pytest.fixture
def config(data, tiny_okp, tmp_path):
    return TrainConfig(
        sources=(SourceConfig(data / "train.json"),),
        val=SourceConfig(data / "val.json"),
        out=tmp_path / "run",
        init=str(tiny_okp),
        pose=schedule(8),
        detector=schedule(8),
        crops=CROPS,
        windows=WINDOWS,
        detector_size=(96, 96),
        precision="f32",
        device="cpu",
        threads=1,
    )


@pytest.fixture(scope="module")
def learned(data, tiny_okp, tmp_path_factory):
    """The one longer run, and what it reported."""
    lines = []
    config = TrainConfig(
        sources=(SourceConfig(data / "train.json"),),
        val=SourceConfig(data / "val.json"),
        out=tmp_path_factory.mktemp("run"),
        init=str(tiny_okp),
        pose=schedule(80, batch=16),
        detector=schedule(100, batch=16),
        crops=CROPS,
        windows=WINDOWS,
        detector_size=(96, 96),
        precision="f32",
        device="cpu",
        threads=1,
    )
    return train(config, report=lambda part, line: lines.append((part, line))), lines


def test_a_run_writes_its_model_logs_and_pictures(learned):
    best, _ = learned
    assert best.name == "best.okp"
    names = {p.relative_to(best.parent).as_posix() for p in best.parent.rglob("*")}
    assert "samples.jpg" in names
    for part in ("pose", "detector"):
        files = {"log.csv", "curves.png", "best.safetensors", "last.safetensors"}
        assert {f"{part}/{name}" for name in files} <= names


def test_the_loss_of_both_parts_falls(learned):
    _, lines = learned
    for part in ("pose", "detector"):
        totals = [sum(line.losses.values()) for p, line in lines if p == part]
        assert totals[-1] < 0.9 * totals[0]


def test_the_log_has_a_row_for_each_report(learned):
    best, lines = learned
    with (best.parent / "pose" / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(r["step"]) for r in rows] == [line.step for part, line in lines if part == "pose"]


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime", "openvino"])
def test_the_model_finds_the_ends_of_sticks_in_every_runtime(learned, data, runtime):
    best, _ = learned
    with get_model(best, runtime=runtime, device="cpu", precision="f32") as model:
        assert model.skeletons[0].keypoints == ("head", "tail")
        given = evaluate(model, data / "val.json", protocol=Protocol("given", min_side=0))
        found = evaluate(model, data / "val.json", protocol=Protocol("found", min_side=0))
    # By chance about 0.04 of the points lie within a tenth of the box, and 0.12 within a fifth.
    assert given.figures["within.1"] > 0.6
    assert given.figures["within.2"] > 0.8
    assert found.figures["box_ap50"] > 0.3


def test_the_scores_of_keypoints_are_calibrated(learned, data):
    best, _ = learned
    with get_model(best) as model:
        figures = evaluate(model, data / "val.json", protocol=Protocol("given")).figures
    # Measured on the pictures that it was fitted on: the map does what it is there for.
    assert figures["calibration"]["error"] < 0.1


def test_the_model_says_how_it_was_made_and_names_no_folder(learned, tiny_okp):
    best, _ = learned
    file = open_okp(best)
    assert file.model["card"] == {"seed": 0, "init": tiny_okp.name}
    assert str(tiny_okp.parent).encode() not in best.read_bytes()


class SwitchedOffError(Exception):
    """The machine was switched off."""


def test_a_run_interrupted_twice_writes_the_same_bytes(config, tmp_path):
    whole = train(replace(config, out=tmp_path / "whole"))

    def stop_at(part, step):
        def report(where, line):
            if (where, line.step) == (part, step):
                raise SwitchedOffError

        return report

    for part in ("pose", "detector"):
        with pytest.raises(SwitchedOffError):
            train(config, report=stop_at(part, 4))
    again = train(config)
    assert again.read_bytes() == whole.read_bytes()


def test_what_torch_keeps_for_the_process_is_set_back():
    state = torch.get_rng_state()
    with run._torch_settings(2):
        assert torch.get_num_threads() == 2
        torch.manual_seed(9)
    assert torch.get_num_threads() == 1
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_leaves_the_callers_random_numbers_alone(config):
    state = torch.get_rng_state()
    train(replace(config, pose=schedule(1), detector=schedule(1), val=None))
    assert torch.equal(torch.get_rng_state(), state)


def test_without_val_the_last_weights_and_no_samples(config):
    best = train(replace(config, val=None))
    assert not (best.parent / "samples.jpg").exists()
    assert open_okp(best).model["pose"]["calibration"] == [[0, 1], [0, 1]]


def test_minutes_choose_the_steps_once(config, monkeypatch):
    monkeypatch.setattr(run, "MIN_STEPS", 3)
    open_ended = replace(config, pose=schedule(0), minutes=1e-6, detector=schedule(2), val=None)
    train(open_ended)
    kept = json.loads((config.out / "steps.json").read_text())
    assert kept == {"pose": 3}
    train(replace(open_ended, minutes=100))  # the run is finished, so nothing more is done
    assert json.loads((config.out / "steps.json").read_text()) == kept


def test_wall_time_is_shared_after_what_is_fixed():
    chosen = {"pose": schedule(0), "detector": schedule(100)}
    steps = run._steps(1000, chosen, {"pose": 2.0, "detector": 1.0})
    assert steps == {"pose": int((1000 * (1 - run.SPARE) - 100) / 2)}


def test_classes_with_and_without_keypoints_can_be_learned_together(config, data, tmp_path):
    truth = json.loads((data / "train.json").read_text())
    truth["categories"].append({"id": 2, "name": "spot"})
    spot = {"category_id": 2, "bbox": [5, 5, 20, 20], "keypoints": []}
    truth["annotations"] += [{"id": 900 + i, "image_id": i, **spot} for i in range(1, 10)]
    file = write_coco(tmp_path / "two.json", **truth)
    source = SourceConfig(file, pictures=data / "train")
    best = train(replace(config, sources=(source,), val=None))
    with get_model(best) as model:
        assert model.class_names == ("stick", "spot")
        assert set(model.skeletons) == {0}
        (found,) = model.infer(np.zeros((96, 96, 3), np.uint8), confidence=0.0, max_detections=9)
        assert found.keypoints.shape[1:] == (2, 2)


def test_views_show_parts_of_one_network(config, tmp_path, data):
    truth = json.loads((data / "train.json").read_text())
    truth["categories"][0]["keypoints"] = ["left_wrist", "right_wrist"]
    file = write_coco(tmp_path / "people.json", **truth)
    source = SourceConfig(file, pictures=data / "train")
    views = {"person": "coco17", "person-19": "person19"}
    best = train(replace(config, sources=(source,), views=views, val=None))
    assert [v["id"] for v in open_okp(best).model["views"]] == ["person", "person-19"]
    with get_model(best) as model:
        box = InferOptions(boxes=[np.array([[10, 10, 80, 80]])])
        assert model.infer(np.zeros((96, 96, 3), np.uint8), options=box)[0].keypoints.shape == (
            1,
            17,
            2,
        )


REFUSED = {
    "no sources": ({"sources": ()}, InputError, "nothing to train on"),
    "no time": ({"pose": schedule(0)}, InputError, "minutes, or the steps"),
    "a precision that does not exist": ({"precision": "int8"}, InputError, "int8"),
    "a device that is not here": ({"device": "cuda:99"}, RuntimeUnavailableError, "cuda:99"),
    "a device that is no word": ({"device": "quantum"}, RuntimeUnavailableError, "quantum"),
    "a start of no name": ({"init": "persn"}, NotFoundError, "persn"),
    "views in the wrong order": (
        {"views": {"a": "person19", "b": "coco17"}},
        InputError,
        "put the one with all keypoints last",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_refused_before_it_begins(config, case):
    changes, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        train(replace(config, **changes))
    assert not config.out.exists()


def test_a_start_that_is_no_pico_file_is_refused(config, tmp_path):
    (tmp_path / "x.okp").write_bytes(b"no")
    with pytest.raises(WeightsError, match=r"x\.okp"):
        train(replace(config, init=str(tmp_path / "x.okp")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["annotations"].clear(), "labelled keypoint"),
        (lambda t: t["categories"][0].pop("keypoints"), "name no keypoints"),
    ],
)
def test_data_that_teaches_nothing_is_refused(config, data, tmp_path, change, message):
    truth = json.loads((data / "train.json").read_text())
    change(truth)
    source = SourceConfig(write_coco(tmp_path / "t.json", **truth), pictures=data / "train")
    with pytest.raises(InputError, match=message):
        train(replace(config, sources=(source,), val=None))


def test_files_with_other_classes_do_not_mix(config, data, tmp_path):
    truth = json.loads((data / "train.json").read_text())
    truth["categories"][0]["name"] = "tube"
    other = SourceConfig(write_coco(tmp_path / "t.json", **truth), pictures=data / "train")
    with pytest.raises(InputError, match=r"classes tube, the first file stick"):
        train(replace(config, sources=(*config.sources, other)))


@pytest.mark.parametrize(
    ("flags", "precision", "bf16"),
    [
        ({"amx_bf16"}, "auto", True),
        ({"avx512_bf16"}, "auto", False),
        ({"avx512_bf16"}, "bf16", True),
        (set(), "auto", False),
        ({"amx_bf16"}, "f32", False),
    ],
)
def test_bf16_is_used_where_the_cpu_multiplies_in_it(monkeypatch, flags, precision, bf16):
    monkeypatch.setattr(run, "cpu_flags", lambda: frozenset(flags))
    assert run._bf16(precision, "cpu") == bf16


def test_bf16_without_units_is_refused_by_the_name_of_the_flag(monkeypatch):
    monkeypatch.setattr(run, "cpu_flags", frozenset)
    with pytest.raises(RuntimeUnavailableError, match="amx_bf16"):
        run._bf16("bf16", "cpu")


@pytest.mark.parametrize(("part", "other"), [("pose", "detector"), ("detector", "pose")])
def test_a_run_of_one_part_leaves_the_other_as_it_was(config, tiny_okp, part, other):
    made = open_okp(train(replace(config, parts=(part,))))
    before = open_okp(tiny_okp)

    def moved(name):
        # The heads are new where the number of keypoints is another one.
        old, new = (tensors_from_bytes(f.read(f"{name}.safetensors"), name) for f in (before, made))
        backbone = [key for key in old if key.startswith("backbone") and old[key].ndim == 4]
        return any((old[key] != new[key]).any() for key in backbone)

    assert moved(part)
    assert not moved(other)
    assert not (config.out / other).exists()


def test_parts_are_read_from_a_configuration(tmp_path):
    assert config_from_mapping({"parts": ["detector"]}, tmp_path).parts == ("detector",)
    with pytest.raises(InputError, match="head"):
        config_from_mapping({"parts": ["head"]}, tmp_path)


WIDE = NetworkConfig(widths=(8, 8, 16, 16, 24), depths=(0, 1, 0, 1, 1))


def test_a_stated_size_goes_over_the_one_of_the_start(config, tiny_okp):
    best = train(replace(config, networks={"detector": WIDE}, val=None))
    before, made = (open_okp(path).model for path in (tiny_okp, best))
    expected = {"widths": [8, 8, 16, 16, 24], "depths": [0, 1, 0, 1, 1]}
    assert made["detector"]["network"] == before["detector"]["network"] | expected
    kept = before["pose"]["network"] | {"keypoints": 2}
    assert made["pose"]["network"] == kept
    with get_model(best) as model:
        model.infer(np.zeros((96, 96, 3), np.uint8))


def test_a_stated_size_goes_over_the_default(config):
    best = train(
        replace(config, init=None, networks={"detector": WIDE}, val=None, parts=("detector",))
    )
    assert open_okp(best).model["detector"]["network"] == {
        "widths": [8, 8, 16, 16, 24],
        "depths": [0, 1, 0, 1, 1],
        "classes": 1,
    }


def test_the_target_of_centres_reaches_the_loss(config):
    reported = {}
    for target in ("one", "iou"):
        lines = []
        changed = replace(config, center_target=target, out=config.out / target, val=None)
        train(
            replace(changed, parts=("detector",), detector=schedule(1)),
            report=lambda _, line, lines=lines: lines.append(line.losses),
        )
        reported[target] = lines[0]
    # The first step is the same but for the centres of instances.
    assert reported["one"]["boxes"] == reported["iou"]["boxes"]
    assert reported["one"]["centers"] != reported["iou"]["centers"]
