from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from openkeypoints.errors import FormatError
from openkeypoints.formats import coco
from openkeypoints.skeletons import load_skeleton
from tests.unit.predictions import TUBE, masked, people


def test_annotations_are_result_rows_of_the_picture() -> None:
    rows = coco.dump(people(2), image_id=42)["annotations"]
    assert {row["image_id"] for row in rows} == {42}
    assert [row["category_id"] for row in rows] == [1, 2]
    assert [len(row["keypoints"]) for row in rows] == [51, 6]


def test_ids_count_on_from_the_first() -> None:
    rows = coco.results_rows(people(2), image_id=1, first_id=10)
    assert [row["id"] for row in rows] == [10, 11]


def test_the_third_number_of_a_keypoint_is_its_score() -> None:
    row = coco.dump(people(1))["annotations"][0]
    assert row["keypoints"][2::3] == people(1).keypoint_scores[0].tolist()
    assert row["num_keypoints"] == 17


def test_keypoints_below_the_asked_confidence_are_marked_as_absent() -> None:
    prediction = replace(people(1), keypoint_confidence=0.5)
    triples = np.reshape(coco.dump(prediction)["annotations"][0]["keypoints"], (17, 3))
    low = prediction.keypoint_scores[0] < 0.5
    assert (triples[low] == 0).all()
    assert (triples[~low, 2] >= 0.5).all()


def test_skeletons_keep_names_edges_flips_and_sigmas() -> None:
    loaded = coco.load(coco.dump(people(2))).skeletons
    assert loaded[0] == load_skeleton("coco17")
    assert (loaded[1].keypoints, loaded[1].edges) == (TUBE.keypoints, TUBE.edges)
    assert (loaded[1].flip, loaded[1].sigmas) == (TUBE.flip, TUBE.sigmas)


def test_edges_are_written_from_one() -> None:
    assert coco.dump(people(2))["categories"][1]["skeleton"] == [[1, 2]]


def test_ground_truth_scores_one_where_it_is_labelled() -> None:
    data = coco.dump(people(1))
    annotation = data["annotations"][0]
    del annotation["score"]
    annotation["keypoints"] = [7, 8, 2, 5, 6, 1, 3, 4, 0] + [0] * 42
    loaded = coco.load(data)
    assert loaded.scores.tolist() == [1]
    assert loaded.keypoint_scores[0].tolist() == [1, 1] + [0] * 15
    assert loaded.keypoints[0, 1].tolist() == [5, 6]
    assert np.isnan(loaded.keypoints[0, 2:]).all()


def test_one_of_several_pictures_is_chosen_by_its_id() -> None:
    data = coco.dump(people(2), image_id=3)
    other = coco.dump(people(1), image_id=4)
    data["images"] += other["images"]
    data["annotations"] += other["annotations"]
    assert len(coco.load(data, image_id=4)) == 1
    with pytest.raises(FormatError, match="name it with image_id"):
        coco.load(data)
    with pytest.raises(FormatError, match="id 5"):
        coco.load(data, image_id=5)


def test_categories_may_have_any_ids_and_no_name() -> None:
    data = copy.deepcopy(coco.dump(people(2)))
    data["categories"][1] = {"id": 90}
    data["annotations"][1]["category_id"] = 90
    loaded = coco.load(data)
    assert loaded.class_ids.tolist() == [0, 1]
    assert loaded.class_names == ("person", "class_1")


def test_a_row_of_an_unknown_category_is_named() -> None:
    data = coco.dump(people(1))
    data["annotations"][0]["category_id"] = 9
    with pytest.raises(FormatError, match=r"annotations\[0\].category_id is 9"):
        coco.load(data)


def test_the_evaluator_reads_our_rows(tmp_path) -> None:
    from pycocotools.coco import COCO

    data = coco.dump(people(3)[people(3).class_ids == 0])
    truth = COCO()
    truth.dataset = data
    truth.createIndex()
    found = truth.loadRes(copy.deepcopy(data["annotations"]))
    assert len(found.getAnnIds()) == 2


# Its own decoder is behind the times.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_are_run_lengths_at_the_size_of_the_picture() -> None:
    from pycocotools.coco import COCO

    data = coco.dump(masked())
    truth = COCO()
    truth.dataset = data
    truth.createIndex()
    mask = truth.annToMask(data["annotations"][0]).astype(bool)
    assert mask.shape == (480, 640)
    assert mask[122:158, 102:198].all()
    assert not mask[165:175, 145:155].any()
    assert data["annotations"][0]["area"] == mask.sum()


def test_the_evaluator_compares_our_masks() -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data = coco.dump(masked())
    truth = COCO()
    truth.dataset = data
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(data["annotations"])), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
