"""The restricted reader on files that are damaged at random: errors of ours and no others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openkeypoints.errors import OpenKeypointsError
from openkeypoints.weights.safe import Node, read_pickle, state_dict
from tests.pickled import dumps, module, parameter, write_archive


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "a.pt"


def small_checkpoint():
    conv = module(
        "torch.nn.modules.conv.Conv2d",
        parameters={"weight": parameter(np.ones((2, 3), np.float16)), "bias": None},
    )
    network = module("ultralytics.nn.tasks.PoseModel", children={"0": conv}, names={0: "tube"})
    fitness = np.float64(0.5)
    return dumps({"model": network, "ema": None, "fitness": fitness, "array": np.arange(3)})


GOOD_PICKLE, GOOD_STORAGES = small_checkpoint()
edits = st.lists(
    st.tuples(
        st.integers(0, len(GOOD_PICKLE) - 1),
        st.sampled_from(["change", "cut", "insert", "repeat"]),
        st.binary(min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=4,
)


def edited(data, changes):
    for at, kind, piece in changes:
        if kind == "change":
            data = data[:at] + piece + data[at + len(piece) :]
        elif kind == "cut":
            data = data[:at] + data[at + len(piece) :]
        elif kind == "insert":
            data = data[:at] + piece + data[at:]
        else:
            data = data[:at] + data[at : at + 20] * len(piece) + data[at:]
    return data


def read_all(path):
    """Read a file as the families do; only errors of ours may come out."""
    try:
        tree = read_pickle(path)
        if isinstance(tree, dict) and isinstance(tree.get("model"), Node):
            state_dict(tree["model"])
    except OpenKeypointsError:
        return False
    return True


def test_the_file_that_is_damaged_below_is_whole(path):
    assert read_all(write_archive(path, GOOD_PICKLE, GOOD_STORAGES))


@settings(max_examples=150, deadline=None)
@given(changes=edits)
def test_damaged_pickles_raise_errors_of_ours_alone(path, changes):
    read_all(write_archive(path, edited(GOOD_PICKLE, changes), GOOD_STORAGES))


@settings(max_examples=100, deadline=None)
@given(changes=edits)
def test_damaged_archives_raise_errors_of_ours_alone(path, changes):
    write_archive(path, GOOD_PICKLE, GOOD_STORAGES)
    content = path.read_bytes()
    # The places of the edits are meant for the pickle: spread them over the archive.
    spread = [(at * len(content) // len(GOOD_PICKLE), kind, piece) for at, kind, piece in changes]
    path.write_bytes(edited(content, spread))
    read_all(path)
