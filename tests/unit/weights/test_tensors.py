"""Named arrays in safetensors: exact, whole or refused."""

from __future__ import annotations

import numpy as np
import pytest

from openkeypoints.errors import WeightsError
from openkeypoints.weights.tensors import (
    bytes_from_tensors,
    read_note,
    read_tensors,
    tensors_from_bytes,
    write_tensors,
)

RNG = np.random.default_rng(0)
TENSORS = {
    "matrix": RNG.normal(size=(3, 4)).astype(np.float32),
    "half": RNG.normal(size=(2, 2, 3, 3)).astype(np.float16),
    "count": np.array(7, np.int64),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "none": np.zeros((0, 4), np.float32),
}


def same(a, b):
    return a.keys() == b.keys() and all(
        a[k].shape == b[k].shape and a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k])
        for k in a
    )


def test_arrays_return_with_shape_type_and_bits():
    assert same(tensors_from_bytes(bytes_from_tensors(TENSORS), "x"), TENSORS)


def test_arrays_on_disk_return_too(tmp_path):
    write_tensors(tmp_path / "a.safetensors", TENSORS)
    assert same(read_tensors(tmp_path / "a.safetensors"), TENSORS)


def test_the_note_is_read_without_the_arrays(tmp_path):
    write_tensors(tmp_path / "a.safetensors", TENSORS, "step 5")
    assert read_note(tmp_path / "a.safetensors") == "step 5"


def test_a_file_without_a_note_has_an_empty_one(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(bytes_from_tensors(TENSORS))
    assert read_note(tmp_path / "a.safetensors") == ""


def test_a_crash_while_writing_leaves_the_former_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_tensors(path, TENSORS)

    def crash(*_):
        raise OSError("no space left")

    monkeypatch.setattr(type(path), "replace", crash)
    with pytest.raises(OSError, match="no space"):
        write_tensors(path, {"other": np.zeros(3)})
    assert same(read_tensors(path), TENSORS)


@pytest.mark.parametrize("part", [0, 5, 100])
def test_a_cut_file_is_refused_by_name(tmp_path, part):
    path = tmp_path / "a.safetensors"
    path.write_bytes(bytes_from_tensors(TENSORS)[:part])
    for read in (read_tensors, read_note):
        with pytest.raises(WeightsError, match=r"a\.safetensors is no whole"):
            read(path)
