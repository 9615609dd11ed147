from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from openkeypoints.results import DEFAULT_SIGMA, Skeleton, empty_prediction
from openkeypoints.skeletons import load_skeleton
from tests.unit.predictions import people


def test_skeleton_fills_what_is_not_given() -> None:
    skeleton = Skeleton("pair", ("a", "b"))
    assert (skeleton.flip, skeleton.sigmas) == ((0, 1), (DEFAULT_SIGMA, DEFAULT_SIGMA))
    assert len(skeleton.colors) == len(skeleton) == 2


@pytest.mark.parametrize(
    "wrong",
    [{"edges": ((0, 2),)}, {"flip": (1, 1)}, {"sigmas": (0.1,)}, {"groups": {"g": (-1,)}}],
)
def test_skeleton_refuses_parts_that_do_not_fit(wrong: dict) -> None:
    with pytest.raises(ValueError, match="skeleton 'pair'"):
        Skeleton("pair", ("a", "b"), **wrong)


def test_skeleton_groups_are_read_only() -> None:
    with pytest.raises(TypeError):
        load_skeleton("coco17").groups["arms"] = ()  # type: ignore[index]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("boxes", np.zeros((3, 5), np.float32)),
        ("boxes", np.zeros((3, 4), np.float64)),
        ("boxes", np.full((3, 4), np.nan, np.float32)),
        ("class_ids", np.array([0, 1, 2])),
        ("class_ids", np.array([0, -1, 0])),
        ("scores", np.array([0.1, 0.2, 0.3], np.float32)),
        ("keypoints", np.zeros((2, 17, 2), np.float32)),
        ("keypoint_scores", np.full((3, 17), np.nan, np.float32)),
        ("covariances", np.zeros((3, 17, 2), np.float32)),
        ("track_ids", np.zeros(2, np.int64)),
        ("masks", np.zeros((2, 4, 4), bool)),
        ("extras", {"plain_scores": np.zeros(2)}),
    ],
)
def test_prediction_refuses_an_array_that_breaks_the_invariants(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        replace(people(3), **{field: value})


def test_prediction_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        people(1).model_id = "other"  # type: ignore[misc]


@pytest.mark.parametrize("index", [1, -2, np.int64(1), slice(1, 2), [1], np.arange(3) == 1])
def test_every_kind_of_index_takes_the_same_row_of_every_array(index: object) -> None:
    whole = people(3, full=True)
    part = whole[index]
    assert len(part) == 1
    for name in ("boxes", "scores", "class_ids", "keypoints", "keypoint_scores", "covariances"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[1:2])
    for name in ("track_ids", "masks"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[1:2])
    assert part.extras["original_order"].tolist() == [1]


def test_an_index_array_keeps_the_order_by_score() -> None:
    assert people(3)[[2, 0]].scores.tolist() == people(3).scores[[0, 2]].tolist()


def test_an_empty_index_gives_no_instances_of_the_same_shapes() -> None:
    part = people(3, full=True)[[]]
    assert part.keypoints.shape == (0, 17, 2)
    assert part.masks is not None
    assert part.masks.shape == (0, 6, 9)


def test_an_index_outside_raises_so_that_iteration_ends() -> None:
    assert [len(one) for one in people(3)] == [1, 1, 1]


def test_empty_prediction_keeps_rank_and_type() -> None:
    empty = empty_prediction(
        (4, 3), "m", ("person",), {0: load_skeleton("coco17")}, covariances=True
    )
    assert len(empty) == 0
    assert empty.boxes.shape == (0, 4)
    assert empty.covariances is not None
    assert empty.covariances.shape == (0, 17, 2, 2)
    assert (empty.class_ids.dtype, empty.keypoints.dtype) == (np.int64, np.float32)


def test_skeleton_of_a_row_is_that_of_its_class() -> None:
    names = [skeleton.name for i in range(3) if (skeleton := people(3).skeleton(i))]
    assert names == ["coco17", "tube", "coco17"]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_prediction_can_be_copied_and_sent_to_another_process(copied) -> None:
    whole = people(2, full=True)
    other = copied(whole)
    np.testing.assert_array_equal(other.keypoints, whole.keypoints)
    assert other.skeletons == whole.skeletons
    assert other.details == whole.details


def test_json_methods_and_views_speak_roboflow() -> None:
    result = people(2)
    assert result.dict()["predictions"][0]["class"] == "person"
    assert '"class_name":"nose"' in result.json()
    assert result.predictions[0].keypoints[0].class_name == "nose"
    assert (result.image.width, result.image.height) == (640, 480)
