"""What every row of the catalogue owes: a complete record, and a file that keeps its word."""

from __future__ import annotations

import pytest

from openkeypoints.models import FAMILIES, family, find_variant, get_model, list_models
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
def test_a_row_with_keypoints_names_a_skeleton_that_there_is(row):
    assert (row.skeleton is not None) == (row.task == "keypoint-detection")
    assert row.skeleton is None or len(load_skeleton(row.skeleton)) > 0


@ROWS
def test_a_row_has_a_file_in_the_package_or_a_place_to_fetch_one_from(row):
    assert row.file is not None or row.refs


IDS = [
    *(f"yolov8{size}-pose-640" for size in "nsmlx"),
    *(f"yolo{name}{size}-pose-640" for name in ("11", "v11", "26", "v26") for size in "nsmlx"),
    *(f"coco-pose-detection/{number}" for number in (1, 2, 3, 4, 5, 6, 12, 13, 14, 15, 16)),
    *(f"yolo{name}" for name in ("v8n", "v8n.pt", "11s-seg", "26x.pt", "v8n-pose", "v8n-seg.pt")),
    *("yolov8x-pose-1280", "yolov8x-pose-p6", "yolov8x-pose-p6.pt", "yolov8m-640"),
    *("yolo11l-seg-640", "yolov26s-640", "person", "person-19"),
]


@pytest.mark.parametrize("name", IDS)
def test_the_names_that_people_have_are_known(name):
    assert find_variant(name).family in FAMILIES


def test_the_aliases_of_the_contract_mean_the_same_model():
    assert find_variant("coco-pose-detection/5").id == "yolov8x-pose-640"
    assert find_variant("coco-pose-detection/6").id == "yolov8x-pose-1280"
    assert find_variant("yolov26n-pose-640").id == find_variant("coco-pose-detection/12").id


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
