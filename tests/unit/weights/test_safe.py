"""The restricted reader: what comes out of good checkpoints, of today and of years ago."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import OrderedDict, defaultdict
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest

from openkeypoints.errors import NotFoundError, UnsafeCheckpointError, WeightsError
from openkeypoints.weights.safe import (
    Node,
    pickle_of,
    read_pickle,
    state_dict,
)
from tests.pickled import (
    Call,
    Global,
    Storage,
    Tensor,
    Thing,
    module,
    parameter,
    tensor,
    write_archive,
    write_checkpoint,
)

RNG = np.random.default_rng(0)
CONV = "torch.nn.modules.conv.Conv2d"
BLOCK = "ultralytics.nn.modules.conv.Conv"
TRAINED = (
    "yolov8n_pose_tubes", "yolo11n_pose_tubes", "yolo26n_pose_tubes", "yolo26n_detect_random",
    "yolo11_seg_narrow_random", "yolov8n_pose_official_layout",
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "best.pt"


def read(path, tree, protocol=2):
    return read_pickle(write_checkpoint(path, tree, protocol=protocol))


# ---- values


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, 255, 65535, -1, 2**31 - 1, -(2**31), 2**40, -(2**200), 0.5, "",
        "Jürg", "a" * 300, b"", b"\x00\xff", b"a" * 300, [], [1, [2]], (), (1,), (1, 2), (1, 2, 3),
        (1, 2, 3, 4), {}, {"a": {1: None, 2.5: 3}}, {1, "a"}, frozenset({1}), OrderedDict(a=1),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_plain_values_come_back(path, value, protocol):
    back = read(path, value, protocol)
    assert back == value
    assert type(back) is type(value)


def test_a_value_at_two_places_is_one_value(path):
    shared = [1]
    back = read(path, {"a": shared, "b": shared})
    assert back["a"] is back["b"]


def test_paths_become_text(path):
    tree = [PurePosixPath("runs/a/best.pt"), PureWindowsPath("C:/runs/best.pt"), Path("/a/b")]
    assert read(path, tree) == ["runs/a/best.pt", "C:/runs/best.pt", "/a/b"]


@pytest.mark.parametrize("folder", ["pathlib", "pathlib._local"])
def test_paths_of_every_python_become_text(path, folder):
    assert read(path, Call(Global(folder, "PosixPath"), ("a", "b"))) == "a/b"


def test_devices_become_text(path):
    device = Global("torch", "device")
    assert read(path, [Call(device, ("cpu",)), Call(device, ("cuda", 1))]) == ["cpu", "cuda:1"]


@pytest.mark.parametrize("folder", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numpy_numbers_of_every_numpy_become_numbers(path, folder):
    data = np.float64(0.868).tobytes()
    scalar = Call(Global(folder, "scalar"), (np.dtype("f8"), data))
    assert read(path, scalar) == 0.868


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.zeros(0)],
    ids=["c", "fortran", "empty"],
)
def test_numpy_arrays_come_back(path, array):
    # torch.save writes them by numpy's own recipe, as our writer does for plain arrays.
    back = read(path, {"a": array, "same": array})
    assert np.array_equal(back["a"], array)
    assert back["a"].dtype == array.dtype
    assert back["same"] is back["a"]


def test_a_default_dict_is_a_plain_one(path):
    assert read(path, defaultdict(list, a=[1])) == {"a": [1]}


def test_a_set_as_python_2_named_it_comes_back(path):
    assert read(path, Call(Global("__builtin__", "set"), (["a", 1],))) == {"a", 1}


# ---- objects


def test_an_object_is_the_name_of_its_class_and_its_attributes(path):
    back = read(path, Thing(Global("ultralytics.nn.modules.block", "C2f"), {"c": 16}))
    assert isinstance(back, Node)
    assert (back.path, back.name) == ("ultralytics.nn.modules.block.C2f", "C2f")
    assert back.state == {"c": 16}
    assert (back.get("c"), back.get("d"), back.get("d", 3)) == (16, None, 3)


def test_a_child_of_a_module_is_found_as_an_attribute(path):
    back = read(path, module(BLOCK, children={"conv": module(CONV)}))
    assert back.get("conv").name == "Conv2d"


def test_what_a_node_shows_is_short(path):
    back = read(path, Thing(Global("ultralytics.nn.tasks", "PoseModel"), {"a": list(range(999))}))
    assert repr(back) == "Node(path='ultralytics.nn.tasks.PoseModel')"


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("ultralytics.nn.tasks", "PoseModel"),
        ("ultralytics.nn.modules", "Conv"),
        ("ultralytics.yolo.utils", "IterableSimpleNamespace"),
        ("ultralytics.yolo.utils.loss", "v8PoseLoss"),
        ("torch.nn.modules.activation", "SiLU"),
        ("types", "SimpleNamespace"),
    ],
)
def test_classes_of_every_year_are_known(path, folder, name):
    assert read(path, Thing(Global(folder, name), {"a": 1})).get("a") == 1


def test_a_namespace_of_arguments_is_read(path):
    assert read(path, argparse.Namespace(imgsz=640)).state == {"imgsz": 640}


def test_a_stored_bound_method_is_text(path):
    head = Global("ultralytics.nn.modules.head", "Detect")
    method = Call(Global("__builtin__", "getattr"), (head, "forward"))
    assert read(path, method) == "ultralytics.nn.modules.head.Detect.forward"


def test_a_bound_method_of_the_object_that_holds_it_is_no_circle(path):
    head = Thing(Global("ultralytics.nn.modules.head", "Detect"))
    head.state["detect"] = Call(Global("builtins", "getattr"), (head, "forward"))
    assert read(path, head).get("detect") == "ultralytics.nn.modules.head.Detect.forward"


# ---- tensors


@pytest.mark.parametrize("kind", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1"])
def test_tensors_of_every_type_come_back_bit_for_bit(path, kind):
    array = RNG.integers(0, 2, (3, 4)).astype(kind)
    back = read(path, tensor(array))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_bfloat16_is_widened_exactly(path):
    values = np.array([1.0, -2.5, 3.140625, 0.0, np.inf], np.float32)
    data = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    back = read(path, Tensor(Storage(data, "BFloat16Storage", 5), (5,), (1,)))
    assert back.dtype == np.float32
    assert np.array_equal(back, values)


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((3, 4), (4, 1), 0), ((4, 3), (1, 4), 0), ((2, 2), (8, 2), 1), ((), (), 5), ((12,), (1,), 0)],
    ids=["plain", "transposed", "sliced", "number", "flat"],
)
def test_views_of_a_storage_are_right(path, size, stride, offset):
    numbers = np.arange(12, dtype=np.float32)
    back = read(path, Tensor(Storage(numbers.tobytes(), "FloatStorage", 12), size, stride, offset))
    steps = [4 * s for s in stride]
    assert np.array_equal(back, np.ndarray(size, np.float32, numbers.data, 4 * offset, steps))


def test_an_empty_tensor_keeps_its_shape(path):
    assert read(path, Tensor(Storage(b"", "FloatStorage", 0), (0, 4), (4, 1))).shape == (0, 4)


def test_views_of_one_storage_share_its_memory(path):
    storage = Storage(bytes(4096), "FloatStorage", 1024)
    a, b = read(path, [Tensor(storage, (1024,), (1,)), Tensor(storage, (32, 32), (32, 1))])
    assert np.shares_memory(a, b)


def test_tensors_cannot_be_written_to(path):
    assert not read(path, tensor(np.ones(3))).flags.writeable


def test_a_parameter_is_its_tensor(path):
    assert np.array_equal(read(path, parameter(np.arange(4.0))), np.arange(4.0))


def test_storages_that_nobody_refers_to_are_not_read(path):
    write_checkpoint(path, {"a": 1})
    write_archive(path, b"\x80\x02K\x01.", {"0": bytes(64)})
    assert read_pickle(path) == 1


def test_a_plain_state_dict_with_its_metadata_is_read(path):
    tree = OrderedDict(a=tensor(np.ones(2)))
    tree._metadata = OrderedDict({"": {"version": 1}})
    assert read(path, tree).keys() == {"a"}


# ---- state dicts


def small_network():
    norm = module(
        "torch.nn.modules.batchnorm.BatchNorm2d",
        parameters={"weight": parameter(np.ones(2, np.float16)), "bias": None},
        buffers={
            "running_mean": tensor(np.zeros(2, np.float16)),
            "num_batches_tracked": tensor(np.array(7)),
        },
    )
    conv = module(CONV, parameters={"weight": parameter(np.ones((2, 3, 1, 1), np.float16))})
    block = module(BLOCK, children={"conv": conv, "bn": norm, "act": None})
    return module(
        "ultralytics.nn.tasks.PoseModel",
        buffers={"late": tensor(np.ones(1)), "hidden": tensor(np.ones(1))},
        parameters={"early": parameter(np.ones(1))},
        children={"model": block},
        _non_persistent_buffers_set={"hidden"},
    )


def test_a_state_dict_has_torchs_names_in_torchs_order(path):
    assert list(state_dict(read(path, small_network()))) == [
        "early", "late", "model.conv.weight", "model.bn.weight", "model.bn.running_mean",
        "model.bn.num_batches_tracked",
    ]  # fmt: skip


def test_a_state_dict_keeps_the_types(path):
    tensors = state_dict(read(path, small_network()))
    assert tensors["model.bn.weight"].dtype == np.float16
    assert tensors["model.bn.num_batches_tracked"].dtype == np.int64
    assert tensors["model.bn.num_batches_tracked"].shape == ()


def test_modules_without_a_list_of_hidden_buffers_are_read(path):
    network = small_network()
    del network.state["_non_persistent_buffers_set"]
    assert "hidden" in state_dict(read(path, network))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_modules": None}, "no module of a network: it has no _modules"),
        ({"_modules": {"a": 3}}, "_modules .* holds a int"),
        ({"_parameters": {"a": "text"}}, "_parameters .* holds a str"),
        ({"_buffers": {1: None}}, "_buffers .* holds a"),
        ({"_non_persistent_buffers_set": [1]}, "no module of a network"),
    ],
)
def test_what_is_no_module_has_no_state_dict(path, change, words):
    network = small_network()
    network.state.update(change)
    node = read(path, network)
    with pytest.raises(WeightsError, match=words):
        state_dict(node)


def test_a_network_that_multiplies_its_tensors_is_refused(path):
    weight = parameter(np.zeros(1 << 20, np.float32))
    conv = module(CONV, parameters={"weight": weight})
    network = module(BLOCK, children={str(i): conv for i in range(18)})
    node = read(path, network)
    with pytest.raises(UnsafeCheckpointError, match="repeats its tensors"):
        state_dict(node)


def test_a_network_with_endless_names_is_refused(path):
    node = read(
        path, module(BLOCK, children={"a" * 900: module(BLOCK, children={"b" * 900: None})})
    )
    assert state_dict(node) == {}
    deep = module(BLOCK, children={"a" * 900: module(BLOCK, children={"b" * 900: module(BLOCK)})})
    with pytest.raises(UnsafeCheckpointError, match="letters"):
        state_dict(read(path, deep))


# ---- what PyTorch itself writes


def test_a_module_that_torch_saved_has_torchs_state_dict(path):
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Sequential(torch.nn.PReLU())
    ).to(memory_format=torch.channels_last)
    network[1].register_buffer("hidden", torch.ones(2), persistent=False)
    network[2].half()
    torch.save({"model": network, "ema": None}, path)
    expected = {name: value.numpy() for name, value in network.state_dict().items()}
    found = state_dict(read_pickle(path)["model"])
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_a_checkpoint_of_a_training_that_torch_saved_is_read(path):
    import torch

    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    tree = {
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(size=(640, 640), device=torch.device("cpu"), kind=torch.float16),
        "fitness": np.float64(0.5),
        "half": torch.ones(3, dtype=torch.bfloat16) * 1.5,
        "size": torch.ones(2, 3).shape,
    }
    torch.save(tree, path)
    back = read_pickle(path)
    assert np.array_equal(back["model"]["weight"], network.weight.detach().numpy())
    step = optimizer.state_dict()["state"][0]
    assert np.array_equal(back["optimizer"]["state"][0]["exp_avg"], step["exp_avg"].numpy())
    assert back["args"].get("device") == "cpu"
    assert back["args"].get("size") == (640, 640)
    assert (back["fitness"], back["size"]) == (0.5, (2, 3))
    assert np.array_equal(back["half"], np.full(3, 1.5, np.float32))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("old", [False, True])
def test_what_torch_loads_only_by_running_it_is_refused(path, old):
    import torch

    if old:
        torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    else:
        traced = torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2))
        torch.jit.save(traced, path)
    with pytest.raises(WeightsError, match="before PyTorch 1.6" if old else "TorchScript program"):
        read_pickle(path)


# ---- looking in


def test_a_checkpoint_is_recognised_by_its_pickle(path):
    write_checkpoint(path, Thing(Global("ultralytics.nn.tasks", "PoseModel")))
    assert b"ultralytics" in pickle_of(path)


@pytest.mark.parametrize("content", [None, b"", b"nothing", b"PK\x03\x04 and no more"])
def test_other_files_mention_nothing(path, content):
    if content is not None:
        path.write_bytes(content)
    assert pickle_of(path) == b""


def test_a_missing_file_is_not_found(path):
    with pytest.raises(NotFoundError, match=r"best\.pt"):
        read_pickle(path)


def test_reading_loads_no_torch():
    code = (
        "import sys, openkeypoints.weights.safe\n"
        "sys.exit(bool({'torch', 'ultralytics'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- real files


@pytest.mark.oracle
@pytest.mark.parametrize("folder", TRAINED)
def test_trained_checkpoints_are_read(shared, folder):
    path = shared / "oracles" / folder / "model.pt"
    tree = read_pickle(path)
    tensors = state_dict(tree["ema"] or tree["model"])
    kinds = {array.dtype.name for name, array in tensors.items()}
    assert kinds == {"float16", "int64"}
    assert all(array.dtype == np.int64 for n, array in tensors.items() if n.endswith("tracked"))
    assert b"ultralytics" in pickle_of(path)


@pytest.mark.oracle
def test_the_official_layout_has_its_keys_in_order(shared):
    folder = shared / "oracles" / "yolov8n_pose_official_layout"
    tensors = state_dict(read_pickle(folder / "model.pt")["model"])
    expected = json.loads((folder / "keys.json").read_text())["keys"]
    assert [(n, list(a.shape)) for n, a in tensors.items()] == list(map(tuple, expected.items()))


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["yolov8n-pose_2023-04", "yolov8x_2022-12", "yolo26m_2026-01"])
def test_published_object_graphs_give_exactly_their_state_dicts(shared, tmp_path, name):
    folder = shared / "oracles" / "yolo_official_pickles"
    expected = json.loads((folder / "expected.json").read_text())[name]
    rng = np.random.default_rng(0)
    sizes = {"HalfStorage": 2, "FloatStorage": 4, "LongStorage": 8}
    storages = {
        key: rng.bytes(count * sizes[kind]) for key, (kind, count) in expected["storages"].items()
    }
    assert sum(map(len, storages.values())) == expected["member_bytes"]
    path = write_archive(
        tmp_path / "a.pt", (folder / f"{name}.pkl").read_bytes(), storages, stem=expected["stem"]
    )
    tree = read_pickle(path)
    network = tree["ema"] or tree["model"]
    found = {n: [list(a.shape), f"torch.{a.dtype}"] for n, a in state_dict(network).items()}
    assert list(found.items()) == list(expected["state_dict"].items())
    first = state_dict(network)["model.0.conv.weight"]
    assert first.tobytes() == storages["0"]
    assert network.name == expected["class"]
    assert len(network.get("names")) == expected["names"]
