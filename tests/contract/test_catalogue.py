"""What every row of the catalogue owes: a complete record, and a file that keeps its word."""

from __future__ import annotations

import pytest

from openkeypoints.models import FAMILIES, family, get_model, list_models
from openkeypoints.skeletons import load_skeleton
from openkeypoints.weights.okp import sha256_of

ROWS = pytest.mark.parametrize("row", list_models(), ids=lambda row: row.id)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_bears_the_name_it_is_listed_under(name):
    record = family(name)
    assert record.name == name
    assert {v.family for v in record.variants} == {name}


def test_no_two_rows_share_a_name():
    names = [n for row in list_models() for n in (row.id, *row.aliases)]
    assert len(names) == len(set(names))


@ROWS
def test_a_row_says_where_it_comes_from_and_under_which_licence(row):
    assert row.source
    assert row.licence
    assert row.task in ("keypoint-detection", "object-detection", "instance-segmentation")


@ROWS
def test_a_row_names_a_skeleton_that_there_is(row):
    assert len(load_skeleton(row.skeleton)) > 0


@ROWS
def test_a_row_has_a_file_in_the_package_or_the_hash_of_one_to_fetch(row):
    assert row.file is not None or row.sha256 is not None


@ROWS
def test_what_a_row_states_of_its_packaged_file_is_true(row):
    if row.file is None:
        return  # it is fetched on first use, and checked then
    assert row.file.is_file()
    assert row.sha256 in (None, sha256_of(row.file))
    assert row.size_bytes in (None, row.file.stat().st_size)


@ROWS
def test_a_packaged_model_is_what_its_row_says(row):
    if row.file is None:
        return
    with get_model(row.id) as model:
        assert (model.id, model.task, model.licence) == (row.id, row.task, row.licence)
        assert model.skeletons[0].keypoints == load_skeleton(row.skeleton).keypoints
        assert 0 < model.description.confidence < 1
        assert 0 < model.description.iou_threshold < 1
        assert model.runtime == "openvino"
