"""The restricted reader refuses every attack with a sentence of its own, and nothing runs."""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import struct
import sys
import time

import numpy as np
import pytest

from openkeypoints.errors import UnsafeCheckpointError, WeightsError
from openkeypoints.weights.safe import read_pickle
from tests.pickled import (
    Call,
    Global,
    Storage,
    Tensor,
    call,
    dumps,
    module,
    name,
    parameter,
    program,
    tensor,
    text,
    write_archive,
    write_checkpoint,
)

CONV = "torch.nn.modules.conv.Conv2d"
NAMED = name("torch.nn.modules.conv", "Conv2d")
NODE = NAMED + b")\x81"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "best.pt"


_watched: list[list[str]] = []
"""While something is watched, one list of what it ran; otherwise empty."""
CODE_RUNS = {
    "import", "exec", "compile", "os.system", "os.exec", "os.fork", "os.posix_spawn",
    "subprocess.Popen", "pickle.find_class", "ctypes.dlopen", "socket.connect",
}  # fmt: skip


def _watch(event, args):
    if _watched and event in CODE_RUNS:
        _watched[-1].append(f"{event} {args!r:.80}")


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path, monkeypatch):
    """Fail the test when reading a file imports or runs anything, or leaves a trace."""
    trace = tmp_path / "ran"
    monkeypatch.setenv("TRACE", str(trace))
    monkeypatch.chdir(tmp_path)
    # What Python itself loads at the first archive (a table of characters) is no finding.
    read_pickle(write_archive(tmp_path / "first.pt", program(b"N")))
    yield
    assert not trace.exists()


def run_watched(action):
    """Do something that may import and run nothing."""
    seen = []
    _watched.append(seen)
    try:
        return action()
    finally:
        _watched.clear()
        assert seen == []


def refuse(path, data, storages=None):
    """Return what is said when a file with this pickle is refused."""
    write_archive(path, data, storages)
    with pytest.raises(WeightsError, match=r"^best\.pt: ") as caught:
        run_watched(lambda: read_pickle(path))
    return caught.value


def refuse_unsafe(path, data, storages=None):
    error = refuse(path, data, storages)
    assert isinstance(error, UnsafeCheckpointError)
    return str(error)


class Planted:
    """What people plant: it runs a command when it is loaded by pickle."""

    def __reduce__(self):
        return os.system, ('touch "$TRACE"',)


class Evaluated:
    def __reduce__(self):
        return eval, ("__import__('os').system('touch \"$TRACE\"')",)


class Imported:
    def __reduce__(self):
        return importlib.import_module, ("this",)


# ---- calls


@pytest.mark.parametrize("planted", [Planted, Evaluated])
def test_the_planted_commands_are_real_ones(tmp_path, planted):
    pickle.loads(pickle.dumps(planted()))  # as a reader without restrictions does
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()


def test_what_runs_is_seen():
    with pytest.raises(AssertionError, match="find_class"):
        run_watched(lambda: pickle.loads(pickle.dumps(len)))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("planted", "said"),
    [
        (Planted, rf"names {os.system.__module__}\.system, which no checkpoint"),
        (Evaluated, r"names (__builtin__|builtins)\.eval, which no checkpoint"),
        (Imported, r"names importlib\.import_module, which no checkpoint"),
    ],
)
def test_a_planted_call_is_refused_by_name(path, planted, said, protocol):
    tree = {"model": module(CONV), "ema": planted()}
    write_checkpoint(path, tree, protocol=protocol)
    with pytest.raises(UnsafeCheckpointError, match=said):
        run_watched(lambda: read_pickle(path))


@pytest.mark.parametrize(
    ("folder", "thing"),
    [
        ("os", "system"), ("subprocess", "Popen"), ("builtins", "exec"), ("builtins", "__import__"),
        ("builtins", "object"), ("builtins", "type"), ("builtins", "setattr"), ("torch", "load"),
        ("torch", "Tensor"), ("torch.hub", "load"), ("torch._utils", "_rebuild_device_tensor"),
        ("torch._utils", "_import_dotted_name"), ("torch.serialization", "load"), ("torch", "_C"),
        ("torch.nn", "Module"), ("torch.nn.modulesX", "Y"), ("ultralyticsX", "Y"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "fromfile"), ("functools", "partial"), ("operator", "attrgetter"),
        ("pathlib", "Path"), ("collections", "Counter"), ("copyreg", "_reconstructor"),
        ("torch.nn.modules", "__builtins__"), ("torch.nn.modules.conv", "_os"),
        ("", ""), ("torch.nn.modules.", "A"),
    ],
)  # fmt: skip
def test_names_outside_the_table_are_refused(path, folder, thing):
    said = refuse_unsafe(path, program(name(folder, thing)))
    assert f"names {folder}.{thing}, which no checkpoint" in said
    assert "nothing of it was run" in said
    assert "ONNX" in said


@pytest.mark.parametrize("folder", ["__main__", "__mp_main__"])
def test_a_class_of_the_program_that_wrote_the_file_is_named(path, folder):
    said = refuse_unsafe(path, program(name(folder, "MyBlock"), b")\x81"))
    assert f"the class {folder}.MyBlock of the program that wrote it" in said


@pytest.mark.parametrize(
    ("folder", "dotted"),
    [
        ("torch.nn.modules", "conv.os.system"),
        ("collections", "OrderedDict.__class__"),
        ("torch", "nn.modules.conv.Conv2d"),
    ],
)
def test_dotted_names_of_protocol_4_are_refused(path, folder, dotted):
    data = program(text(folder), text(dotted), b"\x93", protocol=4)
    assert "one name after another" in refuse_unsafe(path, data)


def test_names_that_are_no_text_are_refused(path):
    data = program(b"K\x01", text("system"), b"\x93", protocol=4)
    assert "no text" in refuse_unsafe(path, data)


@pytest.mark.parametrize("folder", ["ultralytics\x00", "\x1b[2Jos", "torch\u202e", "o\rs"])
def test_names_that_cannot_be_shown_are_refused_and_not_shown(path, folder):
    said = refuse_unsafe(path, program(text(folder), text("A"), b"\x93", protocol=4))
    assert "characters that cannot be shown" in said
    assert said.isprintable()


@pytest.mark.parametrize("data", [name("a" * 300, "b"), text("a" * 300) + text("b") + b"\x93"])
def test_endless_names_are_refused(path, data):
    assert "name of over 200" in refuse_unsafe(path, program(data))


@pytest.mark.parametrize("called", [NODE, b"K\x01", text("os.system"), b"N", b"]"])
def test_values_cannot_be_called(path, called):
    assert "calls " in refuse_unsafe(path, program(called, b")R"))


@pytest.mark.parametrize("thing", ["FloatStorage", "float32"])
def test_names_that_only_stand_for_themselves_cannot_be_called(path, thing):
    assert f"calls torch.{thing}" in refuse_unsafe(path, program(name("torch", thing), b")R"))


def test_arguments_that_are_no_tuple_are_refused(path):
    assert "do not fit together" in str(refuse(path, program(NAMED, b"]R")))


# ---- getattr


GETATTR = name("builtins", "getattr")


@pytest.mark.parametrize(
    "args",
    [
        (name("collections", "OrderedDict"), text("__class__")),
        (name("collections", "OrderedDict"), text("fromkeys")),
        (name("torch._utils", "_rebuild_tensor_v2"), text("x")),
        (NODE, text("__class__")),
        (NODE, text("_modules")),
        (NODE, text("a.b")),
        (NODE, text("a" * 500)),
        (NODE, b"K\x01"),
        (NODE, text("a"), b"N"),
        (text("text"), text("format")),
        (b"]", text("append")),
        (NAMED, text("__init__")),
    ],
)
def test_attributes_of_anything_but_networks_are_refused(path, args):
    assert "takes an attribute" in refuse_unsafe(path, program(call(GETATTR, *args)))


def test_a_chain_of_attributes_ends_at_the_first_link(path):
    first = call(GETATTR, NAMED, text("forward"))
    data = program(call(GETATTR, first, text("globals")))
    assert "takes an attribute" in refuse_unsafe(path, data)


def test_an_attribute_cannot_be_called(path):
    data = program(call(GETATTR, NAMED, text("forward")), b")R")
    assert "calls a value" in refuse_unsafe(path, data)


def test_a_chain_to_the_environment_ends_at_its_module(path):
    data = program(call(GETATTR, name("os", "environ"), text("get")))
    assert "names os.environ" in refuse_unsafe(path, data)


# ---- state


STATE = b"}" + text("make") + b"K\x01sb"


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (name("torch._utils", "_rebuild_tensor_v2"), "torch._utils._rebuild_tensor_v2"),
        (name("builtins", "getattr"), "builtins.getattr"),
        (NAMED, CONV),
        (name("collections", "OrderedDict"), "collections.OrderedDict"),
        (name("collections", "OrderedDict") + b")R", "OrderedDict"),
        (b"}", "dict"),
        (b"]", "list"),
        (text("a"), "str"),
    ],
)
def test_functions_classes_and_values_take_no_state(path, target, kind):
    said = refuse_unsafe(path, program(target, STATE))
    assert f"gives attributes to {kind}, which takes none" in said


@pytest.mark.parametrize("state", [b"]", b"K\x01", b"}K\x01K\x02s", b"}}\x86", b"NN\x86"])
def test_a_state_that_is_no_mapping_of_names_is_refused(path, state):
    assert "no mapping of names" in refuse_unsafe(path, program(NODE, state, b"b"))


def test_a_second_state_is_refused(path):
    assert "state twice" in refuse_unsafe(path, program(NODE, STATE, STATE))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (NODE + b"K\x01a", "items to torch.nn.modules.conv.Conv2d"),
        (NAMED + b"(K\x01K\x02u", "entries to torch.nn.modules.conv.Conv2d"),
        (b"K\x05(K\x01\x90", "members to int"),
        (b")K\x01a", "items to tuple"),
    ],
)
def test_only_containers_take_content(path, data, what):
    assert f"gives {what}, which takes none" in refuse_unsafe(path, program(data))


# ---- instructions


@pytest.mark.parametrize("code", [b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"])
def test_numbers_of_the_extension_registry_are_refused(path, code):
    assert "extension registry" in refuse_unsafe(path, program(code))


@pytest.mark.parametrize(
    "code",
    [b"ios\nsystem\n", b"(os\nsystem\no", b"P1\n", b"I1\n", b"S'a'\n", b"\x97", b"2", b"\xff"],
)
def test_instructions_that_no_checkpoint_has_are_refused(path, code):
    assert "has the instruction 0x" in refuse_unsafe(path, program(b"(", code))


@pytest.mark.parametrize("size", [33, 255])
def test_huge_integers_are_refused(path, size):
    data = program(b"\x8a" + bytes([size]) + b"\x7f" * size)
    assert f"integer of {size} bytes" in refuse_unsafe(path, data)


def test_huge_long_integers_are_refused_before_they_are_made(path):
    assert "integer of 4294967295 bytes" in refuse_unsafe(path, program(b"\x8b\xff\xff\xff\xff"))


@pytest.mark.parametrize(
    "key", [b")", b"]", NODE, b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", b"K\x01K\x02\x86"]
)
def test_keys_whose_hashes_a_file_can_choose_are_refused(path, key):
    assert "has a key of the kind" in refuse_unsafe(path, program(b"}", key, b"Ns"))
    assert "has a key of the kind" in refuse_unsafe(path, program(b"(", key, b"\x91", protocol=4))


# ---- persistent ids


STORAGE_ID = (text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), b"K\x04")
ARRAY = b"(" + b"".join(STORAGE_ID) + b"tQ"


@pytest.mark.parametrize(
    "data",
    [
        b"K\x01",
        text("0"),
        b"(" + b"".join(STORAGE_ID[:4]) + b"t",
        b"(" + b"".join([text("module"), *STORAGE_ID[1:]]) + b"t",
        b"(" + b"".join([STORAGE_ID[0], text("FloatStorage"), *STORAGE_ID[2:]]) + b"t",
        b"(" + b"".join([STORAGE_ID[0], NAMED, *STORAGE_ID[2:]]) + b"t",
        b"(" + b"".join([*STORAGE_ID[:2], text("../0"), *STORAGE_ID[3:]]) + b"t",
        b"(" + b"".join([*STORAGE_ID[:4], text("4")]) + b"t",
        b"](" + b"".join(STORAGE_ID) + b"e",
        b"(" + ARRAY + b"".join(STORAGE_ID[1:]) + b"t",
    ],
)
def test_references_to_anything_but_storages_are_refused(path, data):
    said = refuse_unsafe(path, program(data, b"Q"), {"0": bytes(16)})
    assert "no storage of PyTorch" in said


@pytest.mark.parametrize(
    "data",
    [
        name("_codecs", "encode") + text("a") + ARRAY + b"\x86R",
        name("numpy", "dtype") + text("f4") + b"\x89\x88\x87R" + b"(K\x03" + ARRAY + b"tb",
    ],
)
def test_arrays_in_place_of_words_are_refused(path, data):
    refuse_unsafe(path, program(data), {"0": bytes(16)})


# ---- tensors


def view(size, stride, offset=0, count=16):
    return dumps(Tensor(Storage(bytes(4 * count), "FloatStorage", count), size, stride, offset))


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((17,), (1,), 0),
        ((16,), (1,), 1),
        ((4, 4), (5, 1), 0),
        ((2,), (16,), 0),
        ((1,), (1,), 16),
        ((), (), 16),
        ((1000, 1000, 1000), (0, 0, 0), 0),
        ((17,), (0,), 0),
        ((1 << 40, 1 << 40), (1, 1), 0),
        ((0, 1 << 40), (1, 1), 0),
        ((0,) + (1 << 20,) * 3, (1,) * 4, 0),
    ],
)
def test_tensors_that_reach_outside_of_their_storage_are_refused(path, size, stride, offset):
    assert "reaches outside of its storage" in refuse_unsafe(path, *view(size, stride, offset))


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((4,), (-1,), 4),
        ((-4,), (1,), 0),
        ((4,), (1,), -1),
        ((4,), (1, 1), 0),
        ((2.0,), (1,), 0),
        ((True,), (1,), 0),
        ((1,), (1,), None),
        ((1 << 70,), (1,), 0),
        ((1,) * 17, (1,) * 17, 0),
        ([4], (1,), 0),
    ],
)
def test_tensors_with_impossible_shapes_are_refused(path, size, stride, offset):
    said = refuse_unsafe(path, *view(size, stride, offset))
    assert "_rebuild_tensor_v2 in a way in which PyTorch does not" in said


REBUILD = Global("torch._utils", "_rebuild_tensor_v2")
PARAMETER = Global("torch._utils", "_rebuild_parameter")
MULTIARRAY = "numpy.core.multiarray"


@pytest.mark.parametrize(
    "tree",
    [
        Call(REBUILD),
        Call(REBUILD, (1, 0, (1,), (1,), False, None)),
        Call(REBUILD, (tensor(np.ones((2, 2))), 0, (1,), (1,), False, None)),
        Call(PARAMETER, (1, True, None)),
        Call(PARAMETER, (tensor(np.ones(2)),)),
        Call(Global("torch", "Size"), ([1],)),
        Call(Global("torch", "Size"), ((-1,),)),
        Call(Global("torch", "device"), (1,)),
        Call(Global("torch", "device"), ("a" * 200,)),
        Call(Global("collections", "OrderedDict"), ([("a", 1)],)),
        Call(Global("collections", "defaultdict"), (3,)),
        Call(Global("builtins", "set"), ("text",)),
        Call(Global("builtins", "bytes"), (10**9,)),
        Call(Global("pathlib", "PosixPath"), (1,)),
        Call(Global("pathlib", "PosixPath"), ("a" * 5000,)),
        Call(Global("_codecs", "encode"), ("a", "rot13")),
        Call(Global("_codecs", "encode"), ("ü€", "latin1")),
        Call(Global("_codecs", "encode"), ("a",)),
        Call(Global(MULTIARRAY, "scalar"), (np.dtype("f8"), b"123")),
        Call(Global(MULTIARRAY, "scalar"), (1, b"12345678")),
        np.dtype(">f8"),
    ],
    ids=lambda tree: getattr(getattr(tree, "function", None), "name", "dtype"),
)
def test_known_names_take_only_what_pytorch_gives_them(path, tree):
    said = refuse_unsafe(path, *dumps(tree))
    assert "in a way in which PyTorch does not write it" in said


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([object()]), np.zeros(2, "c8"),
                                   np.zeros(1, [("a", "f8")])])  # fmt: skip
def test_numpy_arrays_of_other_things_than_numbers_are_refused(path, array):
    # What an object would hold does not matter: its type is refused before.
    pickled = pickle.dumps(array.dtype, 2)
    assert "something else than numbers" in refuse_unsafe(path, pickled)


@pytest.mark.parametrize(
    "state",
    [(1, (3,), np.dtype("f8"), False, b"12345678"), (1, (1 << 61,), np.dtype("f8"), False, b"")],
)
def test_numpy_arrays_of_another_size_than_said_are_refused(path, state):
    make = call(name(MULTIARRAY, "_reconstruct"), name("numpy", "ndarray"), b"K\x00\x85C\x01b")
    data = program(make, dumps(state)[0][2:-1], b"b")
    assert "numpy.ndarray in a way" in refuse_unsafe(path, data)


def test_an_array_without_content_is_refused(path):
    make = call(name(MULTIARRAY, "_reconstruct"), name("numpy", "ndarray"), b"K\x00\x85C\x01b")
    assert "numpy.ndarray without content" in refuse_unsafe(path, program(make))


# ---- files made to exhaust the machine


def test_a_list_that_contains_itself_is_refused(path):
    assert "contains itself" in refuse_unsafe(path, program(b"]q\x00h\x00a"))


@pytest.mark.parametrize(
    "data",
    [
        b"}q\x00" + text("a") + b"h\x00s",
        NODE + b"q\x00}" + text("a") + b"h\x00sb",
        b"]q\x00h\x00\x85a",
        b"]q\x00}" + text("a") + b"h\x00sa",
    ],
    ids=["dict", "object", "tuple", "two"],
)
def test_every_other_circle_is_refused(path, data):
    assert "contains itself" in refuse_unsafe(path, program(data))


def test_a_network_that_contains_itself_is_refused(path):
    network = module(CONV)
    network.state["_modules"]["self"] = network
    assert "contains itself" in refuse_unsafe(path, *dumps(network))


def doubling(levels):
    """Return a list of two lists, which are one list of two lists, and so on."""
    pair = (b"](h%ch%ceq%c" % (level, level, level + 1) for level in range(levels))
    # All lists stay on the stack: the tuple takes them, the innermost first.
    return program(b"(]q\x00", *pair, b"t")


@pytest.mark.parametrize("levels", [22, 60, 200])
def test_a_value_that_unfolds_without_end_is_refused(path, levels):
    assert "repeats its parts" in refuse_unsafe(path, doubling(levels))


def test_a_value_that_unfolds_a_little_is_read(path):
    write_archive(path, doubling(10))
    assert len(read_pickle(path)) == 11


@pytest.mark.parametrize(
    "data",
    [
        b"]" * 100_000 + b"a" * 99_999,
        b")" + b"\x85" * 100_000,
        (b"}" + text("a")) * 100_000 + b"N" + b"s" * 100_000,
        b"]" + b"\x85" * 301,
    ],
    ids=["lists", "tuples", "dicts", "just"],
)
def test_deep_nesting_is_refused(path, data):
    assert "nested in over 300 levels" in refuse_unsafe(path, program(data))


def repeated(before, body, times):
    return program(before, b"(", body * times, b"t")


@pytest.mark.parametrize(
    "data",
    [
        repeated(b"", b"]", 1_000_001),
        repeated(name("_codecs", "encode") + b"q\x00" + text("a" * 10**6) + text("latin1") +
                 b"\x86q\x01", b"h\x00h\x01R", 1000),
        repeated(name("pathlib", "PosixPath") + b"q\x00" + text("a" * 4000) + b"\x85q\x01",
                 b"h\x00h\x01R", 100_000),
        repeated(name("builtins", "set") + b"q\x00](" + b"N" * 10**5 + b"e\x85q\x01",
                 b"h\x00h\x01R", 1000),
        repeated(NAMED + b"q\x00(" + b"N" * 10**5 + b"tq\x01", b"h\x00h\x01R", 1000),
        repeated(NAMED + b"q\x00}(" + b"".join(text(str(i)) + b"N" for i in range(10**5)) +
                 b"uq\x01", b"h\x00)\x81h\x01b", 1000),
    ],
    ids=["lists", "texts", "paths", "sets", "arguments", "states"],
)  # fmt: skip
def test_repeating_a_large_value_is_paid_for(path, data):
    gc.freeze()  # a million lists make the collector walk the heap of all tests before, too
    start = time.process_time()
    try:
        assert "takes more than 1000000 steps" in refuse_unsafe(path, data)
        assert time.process_time() - start < 5
    finally:
        gc.unfreeze()


def test_tensors_that_are_all_the_same_numbers_are_refused(path):
    storage = Storage(bytes(1 << 20), "FloatStorage", 1 << 18)
    tree = [Tensor(storage, (1 << 18,), (1,)) for _ in range(70)]
    assert "many times as large as the numbers" in refuse_unsafe(path, *dumps(tree))


def test_tied_weights_are_read(path):
    storage = Storage(bytes(1 << 20), "FloatStorage", 1 << 18)
    write_checkpoint(path, [Tensor(storage, (1 << 18,), (1,)) for _ in range(3)])
    assert len(read_pickle(path)) == 3


def test_a_place_in_the_memo_costs_nothing(path):
    write_archive(path, program(b"]r\xff\xff\xff\xff"))
    assert read_pickle(path) == []


# ---- damage


@pytest.mark.parametrize("end", [3, 10, 60, 200])
def test_a_truncated_pickle_is_called_truncated(path, end):
    data, storages = dumps({"model": module(CONV, parameters={"w": parameter(np.ones(3))})})
    said = str(refuse(path, data[:end], storages))
    assert "pickle is truncated: it ends after" in said
    assert "fetch or copy" in said


def test_a_pickle_that_claims_more_text_than_it_has_is_called_truncated(path):
    data = b"\x80\x04\x8d" + struct.pack("<Q", 1 << 63)
    assert "truncated" in str(refuse(path, data))


def test_a_pickle_with_something_after_its_end_is_called_padded(path):
    said = str(refuse(path, program(b"N") + pickle.dumps(Planted())))
    assert "pickle is padded" in said


@pytest.mark.parametrize("data", [b"", b"text", b"\x80\x01N.", b"\x80\x06N.", b"(lp0\n."])
def test_pickles_of_other_protocols_are_refused(path, data):
    assert "no protocol of 2 to 5" in str(refuse(path, data))


@pytest.mark.parametrize(
    "data",
    [b"", b"NN", b"(N", b"e", b"t", b"h\x05", b"N(\x86", b"q\x00", b"](N\x86e", b"}(Nu", b"s", b"0",
     b"1", b"b", b"R", b"Q", b"]a", b"\x93", b"}Ns"],
)  # fmt: skip
def test_instructions_that_do_not_fit_together_are_called_damage(path, data):
    assert "do not fit together" in str(refuse(path, program(data)))


def test_text_that_is_none_is_called_damage(path):
    assert "no UTF-8" in str(refuse(path, program(b"X\x01\x00\x00\x00\xff")))
