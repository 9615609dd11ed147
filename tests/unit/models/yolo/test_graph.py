"""The network of a checkpoint as an ONNX graph, in both runtimes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest

from openkeypoints.errors import CheckpointKeyError, InputError, WeightsError
from openkeypoints.models.yolo.checkpoint import (
    Checkpoint,
    heads,
    input_spec,
    output_spec,
    read_checkpoint,
)
from openkeypoints.models.yolo.graph import write_graph
from openkeypoints.models.yolo.layers import needed_tensors, read_network
from tests.pickled import write_archive
from tests.yolo_yamls import random_tensors, yolo_yaml

NETWORKS = [
    ("v8", "pose"), ("v8", "detect"), ("v8", "segment"), ("v8-p6", "pose"), ("11", "pose"),
    ("11", "detect"), ("11", "segment"), ("26", "pose"), ("26", "detect"), ("26", "segment"),
]  # fmt: skip
ORACLES = [
    "yolov8n_pose_tubes", "yolo11n_pose_tubes", "yolo26n_pose_tubes", "yolo26n_detect_random",
    "yolo11_seg_narrow_random", "yolov8n_pose_official_layout",
]  # fmt: skip
ROOT = Path(__file__).resolve().parents[4]
RUNTIMES = ("openvino", "onnxruntime")
PICTURE = np.random.default_rng(3).integers(0, 256, (2, 64, 128, 3), dtype=np.uint8)


@cache
def tiny(family, task, **changes) -> Checkpoint:
    """Return a checkpoint of a narrow network with drawn numbers."""
    yaml = yolo_yaml(family, task, nc=2, kpt_shape=[3, 3], width=0.0625, depth=0.34) | changes
    network = read_network(yaml)
    return Checkpoint(
        tensors=random_tensors(yaml),
        yaml=yaml,
        class_names=("a", "b"),
        task=network.head.task,
        keypoint_shape=network.head.keypoints,
        strides=network.strides,
    )


def opened(graph: bytes, runtime="onnxruntime"):
    """Return a function from pictures to the outputs of a graph by name, on one thread."""
    if runtime == "onnxruntime":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda x: dict(zip(names, session.run(None, {"images": x}), strict=True))
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(graph), "CPU", config)
    names = [port.get_any_name() for port in compiled.outputs]
    return lambda x: dict(zip(names, compiled({"images": x}).values(), strict=True))


def run(graph: bytes, pictures, runtime="onnxruntime"):
    """Return the outputs of a graph by name."""
    return opened(graph, runtime)(pictures)


@cache
def drawn_maps(family, task, head, runtime="onnxruntime"):
    """Return the outputs of a drawn network for the two pictures."""
    return run(write_graph(tiny(family, task), head), PICTURE, runtime)


def assert_close(found, wanted, tolerance):
    """Compare outputs, the tolerance a part of the largest number but at least of 1."""
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        atol = tolerance * max(1, np.abs(array).max())
        np.testing.assert_allclose(found[name], array, rtol=0, atol=atol, err_msg=name)


# ---------------------------------------------------------------------------- drawn networks


@pytest.mark.parametrize(("family", "task"), NETWORKS)
def test_both_runtimes_give_the_same_maps(family, task):
    for head in heads(tiny(family, task)):
        theirs = drawn_maps(family, task, head, "onnxruntime")
        assert_close(drawn_maps(family, task, head, "openvino"), theirs, 2e-5)


@pytest.mark.parametrize(("family", "task"), NETWORKS)
def test_the_outputs_are_what_their_description_says(family, task):
    checkpoint = tiny(family, task)
    pictures = PICTURE.repeat(2, 1)[:1]  # 128 x 128
    for head in heads(checkpoint):
        spec = output_spec(checkpoint, head)
        cells = sum((128 // stride) ** 2 for stride in spec.strides)
        wanted = {"boxes": (1, 4 * spec.bins, cells), "scores": (1, 2, cells)}
        if task == "pose":
            wanted["keypoints"] = (1, 9, cells)
        if task == "segment":
            wanted |= {"coefficients": (1, 32, cells), "prototypes": (1, 32, 32, 32)}
        found = run(write_graph(checkpoint, head), pictures)
        assert {name: array.shape for name, array in found.items()} == wanted
        assert dict(spec.names) == {name: name for name in wanted}


@pytest.mark.parametrize(("family", "task"), NETWORKS)
def test_a_graph_is_valid_onnx(family, task):
    for half in (False, True):
        graph = write_graph(tiny(family, task), "one2many", half=half)
        onnx.checker.check_model(onnx.load_from_string(graph), full_check=True)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("family", ["v8", "26"])
def test_two_pictures_give_what_each_gives_alone(family, runtime):
    network = opened(write_graph(tiny(family, "pose"), "one2many"), runtime)
    alone = [network(PICTURE[i : i + 1]) for i in range(2)]
    joined = {name: np.concatenate([one[name] for one in alone]) for name in alone[0]}
    assert_close(drawn_maps(family, "pose", "one2many", runtime), joined, 1e-5)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_one_graph_takes_any_size_of_the_stride(runtime):
    network = opened(write_graph(tiny("11", "pose"), "one2many"), runtime)
    for height, width in ((32, 32), (96, 64), (64, 160)):
        picture = np.zeros((1, height, width, 3), np.uint8)
        cells = sum(height * width // stride**2 for stride in (8, 16, 32))
        assert network(picture)["scores"].shape == (1, 2, cells)


def sparse_maps(checkpoint, pictures, threshold, runtime):
    """Return the maps of the graph that looks around candidates only."""
    graph = write_graph(checkpoint, "one2many", sparse=True)
    feeds = {"images": pictures, "threshold": np.array([threshold], np.float32)}
    if runtime == "onnxruntime":
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, feeds), strict=True))
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(openvino.Core().read_model(graph), "CPU", config)
    names = [port.get_any_name() for port in compiled.outputs]
    return dict(zip(names, compiled(feeds).values(), strict=True))


LARGER = np.random.default_rng(5).integers(0, 256, (2, 320, 192, 3), dtype=np.uint8)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("family", "task"), [("v8", "pose"), ("26", "pose"), ("11", "segment")])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 0.999, 1.0])
def test_around_candidates_the_sparse_maps_are_the_dense_ones(family, task, share, runtime):
    checkpoint = tiny(family, task)
    dense = run(write_graph(checkpoint, "one2many"), LARGER, runtime)
    best = dense["scores"].max(axis=(0, 1))
    threshold = float(np.quantile(best, share)) if share < 1 else float(best.max()) + 1
    sparse = sparse_maps(checkpoint, LARGER, threshold, runtime)
    assert sparse.keys() == dense.keys()
    for role, whole in dense.items():
        assert sparse[role].shape == whole.shape, role
        cells = best > threshold if role not in ("scores", "prototypes") else slice(None)
        np.testing.assert_allclose(sparse[role][..., cells], whole[..., cells], atol=1e-4)
    if share == 1.0:  # one row of each level is left where nothing can be found
        assert (sparse["boxes"] == 0).mean() > 0.8


def test_sixteen_bit_weights_take_half_the_bytes_and_change_little():
    checkpoint = tiny("26", "segment")
    graph, half = (write_graph(checkpoint, "one2many", half=h) for h in (False, True))
    assert len(half) < 0.7 * len(graph)
    assert_close(run(half, PICTURE), run(graph, PICTURE), 0.02)


def test_the_same_checkpoint_gives_the_same_bytes():
    assert write_graph(tiny("11", "pose"), "one2many") == write_graph(
        tiny("11", "pose"), "one2many"
    )


WRITE = """
import hashlib, sys
from tests.unit.models.yolo.test_graph import tiny, write_graph
graphs = [write_graph(tiny("v8", t), "one2many", sparse=True) for t in ("pose", "segment")]
print(*[hashlib.sha256(graph).hexdigest() for graph in graphs])
"""


def test_every_process_writes_the_same_bytes():
    def written(seed: str) -> str:
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", WRITE],
            cwd=ROOT, env=env, capture_output=True, text=True, check=True, timeout=50,
        )  # fmt: skip
        return done.stdout

    assert written("0") == written("1")


# Mean and standard deviation of the maps of drawn networks, from the version of the writer that
# gave the numbers of the originals.
GOLDEN: dict[str, dict[str, list[float]]] = {
    "v8 pose one2many": {
        "boxes": [0.020967, 0.16405],
        "scores": [-0.03031, 0.19275],
        "keypoints": [-0.035629, 0.18573],
    },
    "v8 detect one2many": {
        "boxes": [0.020967, 0.16405],
        "scores": [-0.03031, 0.19275],
    },
    "v8 segment one2many": {
        "boxes": [-0.04366, 0.20851],
        "scores": [0.0036648, 0.13146],
        "coefficients": [-0.033367, 0.17777],
        "prototypes": [0.00050569, 0.15485],
    },
    "v8-p6 pose one2many": {
        "boxes": [-0.022361, 0.1966],
        "scores": [-0.023155, 0.090394],
        "keypoints": [0.10155, 0.21522],
    },
    "11 pose one2many": {
        "boxes": [0.022501, 0.20319],
        "scores": [-0.013738, 0.12591],
        "keypoints": [0.016509, 0.19047],
    },
    "11 detect one2many": {
        "boxes": [0.022501, 0.20319],
        "scores": [-0.013738, 0.12591],
    },
    "11 segment one2many": {
        "boxes": [0.0034221, 0.24602],
        "scores": [0.080804, 0.13469],
        "coefficients": [0.0045816, 0.26184],
        "prototypes": [0.034496, 0.14409],
    },
    "26 pose one2many": {
        "boxes": [-0.074121, 2.6483],
        "scores": [0.32434, 1.9965],
        "keypoints": [0.0043061, 2.6304],
    },
    "26 pose one2one": {
        "boxes": [0.017991, 4.0589],
        "scores": [0.12232, 2.1458],
        "keypoints": [0.048676, 2.7944],
    },
    "26 detect one2many": {
        "boxes": [-0.074121, 2.6483],
        "scores": [0.32434, 1.9965],
    },
    "26 detect one2one": {
        "boxes": [0.17745, 4.117],
        "scores": [-0.24154, 4.5456],
    },
    "26 segment one2many": {
        "boxes": [0.19892, 4.0731],
        "scores": [-0.25194, 1.7874],
        "coefficients": [-0.06223, 3.5459],
        "prototypes": [5.9744, 9.6434],
    },
    "26 segment one2one": {
        "boxes": [-0.24186, 6.1647],
        "scores": [-0.067752, 0.7592],
        "coefficients": [-0.0071144, 2.4818],
        "prototypes": [5.9744, 9.6434],
    },
}


@pytest.mark.parametrize(("family", "task"), NETWORKS)
def test_the_numbers_stay_what_they_are(family, task):
    for head in heads(tiny(family, task)):
        for name, array in drawn_maps(family, task, head).items():
            mean_and_spread = [float(array.mean()), float(array.std())]
            wanted = GOLDEN[f"{family} {task} {head}"][name]
            assert mean_and_spread == pytest.approx(wanted, rel=1e-3, abs=1e-4), name


# ---------------------------------------------------------------------------- kinds of files


def fused(checkpoint: Checkpoint, dropped=()) -> Checkpoint:
    """Return a checkpoint as fusing leaves it, without the branches that are dropped."""
    tensors = {}
    for conv in read_network(checkpoint.yaml).convolutions():
        old, path = checkpoint.tensors, conv.path
        if conv.kind != "unit":
            tensors |= {f"{path}.{n}": old[f"{path}.{n}"] for n in ("weight", "bias")}
            continue
        gain = old[f"{path}.bn.weight"] / np.sqrt(old[f"{path}.bn.running_var"] + 1e-3)
        weight = old[f"{path}.conv.weight"] * gain[:, None, None, None]
        bias = old[f"{path}.bn.bias"] - gain * old[f"{path}.bn.running_mean"]
        tensors |= {f"{path}.conv.weight": weight, f"{path}.conv.bias": bias}
    kept = {n: t for n, t in tensors.items() if not n.startswith(tuple(dropped))}
    return replace(checkpoint, tensors=kept)


@pytest.mark.parametrize("family", ["v8", "26"])
def test_a_fused_file_gives_the_same_numbers(family):
    checkpoint = tiny(family, "pose")
    found = run(write_graph(fused(checkpoint), "one2many"), PICTURE)
    assert_close(found, drawn_maps(family, "pose", "one2many"), 1e-5)


def test_a_fused_file_may_hold_one_head_alone():
    checkpoint = tiny("26", "pose")
    first = [f"model.23.cv{n}" for n in "234"]
    second = [f"model.23.one2one_cv{n}" for n in "234"]
    assert heads(fused(checkpoint)) == ("one2many", "one2one")
    assert heads(fused(checkpoint, first)) == ("one2one",)
    assert heads(fused(checkpoint, second)) == ("one2many",)
    alone = run(write_graph(fused(checkpoint, first), "one2one"), PICTURE)
    assert_close(alone, drawn_maps("26", "pose", "one2one"), 1e-5)


def test_a_head_that_the_file_does_not_hold_is_refused():
    with pytest.raises(InputError, match=r"one2one.*one2many"):
        write_graph(tiny("v8", "pose"), "one2one")


def test_the_activation_of_the_stored_object_wins_over_the_yaml():
    checkpoint = tiny("11", "detect")
    other = replace(checkpoint, activations={"model.9.cv1": "Identity"})
    plain, changed = (run(write_graph(c, "one2many"), PICTURE) for c in (checkpoint, other))
    assert np.abs(plain["boxes"] - changed["boxes"]).max() > 1e-2


def test_an_unknown_activation_is_named():
    checkpoint = replace(tiny("v8", "detect"), activations={"model.0": "Swoosh"})
    with pytest.raises(WeightsError, match=r"Swoosh.*model\.0.*SiLU"):
        write_graph(checkpoint, "one2many")


def test_a_network_for_grey_pictures_sees_the_grey_of_coloured_ones():
    graph = write_graph(tiny("v8", "detect", channels=1), "one2many")
    grey = PICTURE @ np.array([0.299, 0.587, 0.114])
    same = np.repeat(np.round(grey).astype(np.uint8)[..., None], 3, -1)
    assert_close(run(graph, PICTURE), run(graph, same), 0.05)


def test_two_values_per_keypoint_and_many_classes_are_written():
    yaml = yolo_yaml("11", "pose", nc=120, kpt_shape=[4, 2], width=0.0625)
    checkpoint = replace(
        tiny("11", "pose"), yaml=yaml, tensors=random_tensors(yaml), keypoint_shape=(4, 2)
    )
    found = run(write_graph(checkpoint, "one2many"), PICTURE)
    assert (found["scores"].shape[1], found["keypoints"].shape[1]) == (120, 8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("model.4.cv1.bn.running_var"), r"1 missing \(model\.4\.cv1\.bn\.runn"),
        (lambda t: t.pop("model.23.one2one_cv2.0.2.bias"), r"1 missing \(model\.23\.one2one_cv2"),
        (lambda t: t.update(extra=np.zeros(1)), r"1 unexpected \(extra\)"),
        (
            lambda t: t.update({"model.0.conv.weight": np.zeros((8, 3, 1, 1))}),
            r"model\.0\.conv\.weight \(8, 3, 1, 1\) instead of \(8, 3, 3, 3\)",
        ),
        (lambda t: t.clear(), r"missing \(model\.0\.conv\.weight, .*, \.\.\.\)"),
    ],
)
def test_tensors_that_do_not_fit_are_listed(change, said):
    checkpoint = tiny("26", "pose")
    tensors = dict(checkpoint.tensors)
    change(tensors)
    with pytest.raises(CheckpointKeyError, match=said):
        heads(replace(checkpoint, tensors=tensors))


def test_what_only_training_reads_may_be_missing_or_of_any_shape():
    checkpoint = tiny("26", "segment")
    tensors = {**checkpoint.tensors, "model.23.proto.semseg.0.conv.weight": np.zeros((9, 9))}
    assert heads(replace(checkpoint, tensors=tensors)) == ("one2many", "one2one")
    pose = tiny("26", "pose")
    kept = {n: t for n, t in pose.tensors.items() if "flow_model" not in n and "sigma" not in n}
    assert heads(replace(pose, tensors=kept)) == ("one2many", "one2one")


# ---------------------------------------------------------------------------- the originals


@pytest.fixture(scope="module")
def original(shared):
    """Return a function: name of a folder -> its checkpoint and its numbers."""
    folder = shared / "oracles"
    return cache(
        lambda name: (
            read_checkpoint(folder / name / "model.pt"), dict(np.load(folder / name / "raw.npz"))
        )
    )  # fmt: skip


def decoded(outputs, spec, size, *, corners=False):
    """Return a table as the original decodes it, (4 + C + ..., A)."""
    height, width = size
    grids = [np.mgrid[: height // s, : width // s].reshape(2, -1)[::-1] + 0.5 for s in spec.strides]
    centre = np.concatenate(grids, 1)
    stride = np.repeat(spec.strides, [grid.shape[1] for grid in grids])
    sides = outputs["boxes"][0].reshape(4, spec.bins, -1)
    if spec.bins > 1:
        share = np.exp(sides - sides.max(1, keepdims=True))
        sides = (share / share.sum(1, keepdims=True)) * np.arange(spec.bins)[:, None]
    sides = sides.sum(1)
    low, high = centre - sides[:2], centre + sides[2:]
    boxes = [low, high] if corners else [(low + high) / 2, high - low]
    rows = [np.concatenate(boxes) * stride, 1 / (1 + np.exp(-outputs["scores"][0]))]
    if spec.keypoints:
        points = outputs["keypoints"][0].reshape(*spec.keypoints, -1)
        xy = points[:, :2] + centre if spec.centred else 2 * points[:, :2] + centre - 0.5
        seen = 1 / (1 + np.exp(-points[:, 2:]))
        points = np.concatenate([xy * stride, seen], 1)
        rows.append(points.reshape(-1, points.shape[-1]))
    if spec.coefficients:
        rows.append(outputs["coefficients"][0])
    return np.concatenate(rows)


def tolerances(spec, pixels):
    """Return what may differ, per row of a decoded table: (rows, 1)."""
    rows = [pixels] * 4 + [1e-4] * spec.classes
    if spec.keypoints:
        count, values = spec.keypoints
        rows += ([pixels] * 2 + [1e-4] * (values - 2)) * count
    return np.array(rows + [1e-3] * spec.coefficients)[:, None]


@pytest.mark.oracle
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", ORACLES)
def test_the_maps_are_those_of_the_original(original, name, runtime):
    checkpoint, wanted = original(name)
    picture = np.ascontiguousarray(wanted["input_uint8_rgb_chw"].transpose(1, 2, 0)[None])
    pixels = 0.05 if name.endswith("random") else 0.02
    for head in heads(checkpoint):
        spec = output_spec(checkpoint, head)
        found = run(write_graph(checkpoint, head), picture, runtime)
        prefix = f"raw.{head}." if len(heads(checkpoint)) > 1 else "raw."
        theirs = {"boxes": "boxes", "scores": "scores", "keypoints": "kpts"}
        for role, key in theirs.items():
            if prefix + key in wanted:
                np.testing.assert_allclose(found[role], wanted[prefix + key], rtol=0, atol=1e-3)
        if head == "one2many":
            table = decoded(found, spec, picture.shape[1:3])
            for key in wanted.keys() & {"decoded", "decoded_fused"}:
                assert (np.abs(table - wanted[key][0]) <= tolerances(spec, pixels)).all()
        if "proto" in wanted:
            np.testing.assert_allclose(found["prototypes"], wanted["proto"], rtol=0, atol=1e-3)


@pytest.mark.oracle
def test_the_second_head_of_the_original_gives_its_best_rows(original):
    checkpoint, wanted = original("yolo26n_pose_tubes")
    picture = np.ascontiguousarray(wanted["input_uint8_rgb_chw"].transpose(1, 2, 0)[None])
    spec = output_spec(checkpoint, "one2one")
    found = run(write_graph(checkpoint, "one2one"), picture, "openvino")
    table = decoded(found, spec, picture.shape[1:3], corners=True)
    rows = wanted["decoded_one2one_top300"][0]
    best = table[:, np.argsort(-table[4], kind="stable")[:20]].T
    np.testing.assert_allclose(best, np.delete(rows[:20], 5, 1), rtol=0, atol=0.02)


@pytest.mark.oracle
@pytest.mark.parametrize("head", ["one2many", "one2one"])
def test_sixteen_bit_weights_of_a_trained_network_move_it_little(original, head):
    checkpoint, wanted = original("yolo26n_pose_tubes")
    picture = np.ascontiguousarray(wanted["input_uint8_rgb_chw"].transpose(1, 2, 0)[None])
    spec = output_spec(checkpoint, head)
    table, half = (
        decoded(run(write_graph(checkpoint, head, half=h), picture), spec, picture.shape[1:3])
        for h in (False, True)
    )
    assert np.abs(table - half)[[0, 1, 2, 3, 5, 6, 8, 9]].max() < 0.1
    assert np.abs(table - half)[[4, 7, 10]].max() < 2e-3


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov8n-pose_2023-04", "yolov8x_2022-12", "yolo26m_2026-01"])
def test_the_published_files_are_built_and_run(shared, name, tmp_path):
    folder = shared / "oracles" / "yolo_official_pickles"
    expected = json.loads((folder / "expected.json").read_text())[name]
    rng = np.random.default_rng(0)
    kinds = {"HalfStorage": np.float16, "FloatStorage": np.float32, "LongStorage": np.int64}
    storages = {  # small and positive, because there are variances among them
        key: rng.uniform(0.001, 0.002, count).astype(kinds[kind]).tobytes()
        for key, (kind, count) in expected["storages"].items()
    }
    graph_of_objects = (folder / f"{name}.pkl").read_bytes()
    path = write_archive(tmp_path / "a.pt", graph_of_objects, storages, stem=expected["stem"])
    checkpoint = read_checkpoint(path)
    wanted = {key: tuple(shape) for key, (shape, _) in expected["state_dict"].items()}
    assert needed_tensors(checkpoint.yaml) == wanted
    assert len(checkpoint.class_names) == expected["names"]
    assert input_spec(checkpoint).size == (640, 640)
    for head in heads(checkpoint):
        found = run(write_graph(checkpoint, head), PICTURE[:1, :64, :64], "openvino")
        assert all(np.isfinite(array).all() for array in found.values())
        assert found["scores"].shape == (1, expected["names"], 84)
