from __future__ import annotations

import logging
import os

import numpy as np
import pytest

from openkeypoints.errors import RuntimeUnavailableError
from openkeypoints.runtimes import Artifact, open_session
from openkeypoints.runtimes.openvino import pick_device
from tests.unit.runtimes.graphs import graph, picture, tiny, weights


def open_cached(artifact, folder, **choices):
    return open_session(
        artifact, runtime="openvino", device="cpu", precision="f32", cache_dir=folder, **choices
    )


def blobs(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_opening_writes_into_the_cache_folder_alone(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    folder = tmp_path / "cache" / "compiled"
    open_cached(tiny(), folder).run({"image": picture(1, 8, 8)})
    assert len(blobs(folder)) == 1
    assert list(elsewhere.iterdir()) == []


def test_opening_again_uses_the_compiled_network(tmp_path):
    image = {"image": picture(1, 8, 8)}
    first = open_cached(tiny(), tmp_path).run(image)
    before = blobs(tmp_path)
    second = open_cached(tiny(), tmp_path).run(image)
    assert blobs(tmp_path) == before
    np.testing.assert_array_equal(second["maps"], first["maps"])


def test_networks_that_differ_in_one_weight_are_compiled_apart(tmp_path):
    changed = weights()
    changed["second"][0, 0, 0, 0] += 1
    image = {"image": picture(1, 8, 8)}
    one = open_cached(tiny(), tmp_path).run(image)["maps"]
    other = open_cached(Artifact(graph(changed), "tiny"), tmp_path).run(image)["maps"]
    assert len(blobs(tmp_path)) == 2
    assert np.abs(one - other).max() > 0.01


def test_a_compiled_network_serves_any_number_of_streams(tmp_path):
    image = {"image": picture(1, 8, 8)}
    one = open_cached(tiny(), tmp_path).run(image)
    two = open_cached(tiny(), tmp_path, streams=2).run(image)
    np.testing.assert_array_equal(one["maps"], two["maps"])


@pytest.mark.parametrize("kept", [0, 100, 2000])
def test_a_file_cut_short_is_compiled_again(tmp_path, kept):
    image = {"image": picture(1, 8, 8)}
    expected = open_cached(tiny(), tmp_path).run(image)
    (blob,) = tmp_path.iterdir()
    blob.chmod(0o644)
    os.truncate(blob, kept)
    np.testing.assert_array_equal(
        open_cached(tiny(), tmp_path).run(image)["maps"], expected["maps"]
    )


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_cached(tiny(), None).run({"image": picture(1, 8, 8)})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    with caplog.at_level(logging.INFO, "openkeypoints"):
        opened = open_cached(tiny(), tmp_path / "file" / "compiled")
    assert opened.run({"image": picture(1, 8, 8)})["peak"].shape == (1, 5)
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize(
    ("asked", "listed", "picked"),
    [
        ("auto", ["cpu"], "cpu"),
        ("auto", ["gpu", "cpu"], "gpu"),
        ("cpu", ["gpu", "cpu"], "cpu"),
        ("gpu:0", ["gpu", "cpu"], "gpu"),
        ("gpu", ["gpu:0", "gpu:1", "cpu"], "gpu:0"),
        ("gpu:1", ["gpu:0", "gpu:1", "cpu"], "gpu:1"),
    ],
)
def test_a_gpu_is_taken_only_where_it_is_listed(asked, listed, picked):
    assert pick_device(asked, listed) == picked


def test_a_gpu_that_is_not_listed_is_unavailable():
    with pytest.raises(RuntimeUnavailableError, match="no device 'gpu' here; it lists cpu"):
        pick_device("gpu", ["cpu"])
