"""Evaluation: the figures of the reference scorer, COCO's evaluator and calibration."""

from __future__ import annotations

import json

import numpy as np
import pytest

from openkeypoints.errors import FormatError, NotFoundError
from openkeypoints.images import encode_image
from openkeypoints.metrics import score
from openkeypoints.results import Skeleton
from openkeypoints.train.coco import load_coco
from openkeypoints.train.evaluate import (
    Protocol,
    coco_keypoint_ap,
    evaluate,
    joint_marks,
    reliability,
)
from tests.data import score as reference
from tests.doubles import FixedDetector, model, view
from tests.drawn import category, dots, write_coco

NAMES = ("left_shoulder", "right_hip", "nose")
SIZE = (160, 140)
BOX = [20.0, 15, 120, 110]


def write_people(folder, *, count=12, noise=8.0, stored=SIZE, neighbours=False):
    """Write pictures of one dotted person each whose labels are off by a few pixels.

    Every fourth picture is empty; with neighbours, an unlabelled and a crowd box are beside.
    """
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(1, count + 1):
        places = np.array([[50, 40], [100, 95], [110, 35]]) + rng.uniform(-12, 12, (3, 2))
        zoom = np.array(stored) / SIZE
        people = number % 4 > 0
        picture = dots(stored, places * zoom if people else [], radius=5)
        (folder / f"{number}.png").write_bytes(encode_image(picture, "png"))
        images.append(
            {"id": number, "file_name": f"{number}.png", "width": SIZE[0], "height": SIZE[1]}
        )
        if not people:
            continue
        labels = places + rng.normal(0, noise, (3, 2))
        values = [v for p in labels for v in (*p.tolist(), 2)]
        if number % 3 == 0:
            values[8] = 0
        base = {"image_id": number, "category_id": 1, "iscrowd": 0}
        annotations.append(
            {**base, "id": 10 * number, "bbox": BOX, "area": BOX[2] * BOX[3], "keypoints": values}
        )
        if neighbours:
            nobody = {"keypoints": [0] * 9, "num_keypoints": 0, "area": 900.0}
            annotations.append({**base, "id": 10 * number + 1, "bbox": [0, 0, 30, 30], **nobody})
            crowd = {**base, "id": 10 * number + 2, "bbox": [0, 70, 60, 60], "iscrowd": 1}
            annotations.append({**crowd, **nobody})
    people = category(NAMES, name="person", skeleton=[[1, 2], [2, 3]])
    return write_coco(
        folder / "val.json", images=images, annotations=annotations, categories=[people]
    )


@pytest.fixture
def person():
    shown = view(("person",), {0: Skeleton("three", NAMES)})
    x, y, w, h = BOX
    boxes = [[x + 4, y, x + w, y + h - 6], [0, 60, 70, 138], [100, 2, 130, 30]]
    return model(FixedDetector(boxes, [0.9, 0.4, 0.2]), shown=shown)


@pytest.mark.parametrize("neighbours", [False, True])
@pytest.mark.parametrize("boxes", ["given", "found"])
@pytest.mark.parametrize("min_side", [0.0, 48.0])
def test_figures_are_those_of_the_reference_scorer(tmp_path, person, boxes, min_side, neighbours):
    file = write_people(tmp_path, neighbours=neighbours)
    protocol = Protocol(boxes, min_side=min_side, threshold=0.35)
    result = evaluate(person, file, protocol=protocol)
    truth = load_coco(file)
    expected = reference.score(truth, result.predictions, min_side, 0.35)
    assert 0.1 < expected["within.1"] < 1
    assert {"torso.2", "oks", "joints"} <= expected.keys()
    for name, value in expected.items():
        if name == "oks_ap" and (boxes == "found" or neighbours):
            continue  # there it is the COCO evaluator's
        assert result.figures[name] == pytest.approx(value, abs=1e-3), name
    ours = score(truth, result.predictions, min_side=min_side, threshold=0.35)
    assert ours["within.1"] == result.figures["within.1"]


def test_found_boxes_have_detector_figures_and_given_ones_none(tmp_path, person):
    file = write_people(tmp_path)
    found = evaluate(person, file, protocol=Protocol("found", threshold=0.35)).figures
    given = evaluate(person, file, protocol=Protocol("given")).figures
    assert {"box_ap50", "clean"} <= found.keys()
    assert not {"box_ap50", "clean"} & given.keys()
    assert "calibration" in given


def test_the_threshold_is_the_models_unless_said_otherwise(tmp_path, person):
    file = write_people(tmp_path)
    figures = [
        evaluate(person, file, protocol=Protocol("found", threshold=t)).figures["clean"]
        for t in (None, 0.3, 0.95)
    ]
    assert figures == [0, 0, 1]  # 0.3 is the double's own


def test_alone_in_its_given_box_oks_ap_is_that_of_cocos_evaluator(tmp_path, person):
    figures = evaluate(person, write_people(tmp_path), protocol=Protocol("given")).figures
    assert 0.05 < figures["oks_ap"] < 0.95
    assert figures["oks_ap"] == pytest.approx(figures["coco"]["ap"], abs=0.02)


def test_elsewhere_oks_ap_is_the_figure_of_cocos_evaluator(tmp_path, person):
    figures = evaluate(person, write_people(tmp_path), protocol=Protocol("found")).figures
    assert figures["oks_ap"] == figures["coco"]["ap"]


def test_a_picture_stored_at_another_size_gives_the_same_figures(tmp_path, person):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    same = write_people(tmp_path / "a", noise=3)
    double = write_people(tmp_path / "b", noise=3, stored=(320, 280))
    for boxes in ("given", "found"):
        one, other = (
            evaluate(person, file, protocol=Protocol(boxes)).figures for file in (same, double)
        )
        assert one["within.1"] == other["within.1"]
        assert one["oks"] == pytest.approx(other["oks"], abs=0.01)


def test_progress_is_reported_for_every_picture(tmp_path, person):
    seen = []
    evaluate(person, write_people(tmp_path), report=lambda done, all_: seen.append((done, all_)))
    assert seen == [(i, 12) for i in range(1, 13)]


def test_a_missing_file_and_one_that_is_no_coco_are_told_apart(tmp_path, person):
    with pytest.raises(NotFoundError, match=r"no\.json"):
        evaluate(person, tmp_path / "no.json")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(FormatError, match=r"x\.json"):
        evaluate(person, tmp_path / "x.json")


# ---------------------------------------------------------------- COCO's evaluator


@pytest.fixture
def truth(tmp_path):
    return load_coco(write_people(tmp_path, noise=0))


def perfect(truth, *, shift=0.0, names=NAMES):
    rows = [
        {
            "image_id": a["image_id"],
            "annotation_id": a["id"],
            "bbox": a["bbox"],
            "keypoints": [v + shift if i % 3 == 0 else v for i, v in enumerate(a["keypoints"])],
            "score": 0.9,
        }
        for a in truth["annotations"]
    ]
    return {"keypoints": list(names), "results": rows}


def test_perfect_predictions_have_a_perfect_ap(truth):
    assert coco_keypoint_ap(truth, perfect(truth)) == {"ap": 1, "ap50": 1, "ap75": 1, "ar": 1}


def test_predictions_far_away_have_none(truth):
    assert coco_keypoint_ap(truth, perfect(truth, shift=100))["ap"] == 0


def test_no_predictions_have_none(truth):
    found = coco_keypoint_ap(truth, {"keypoints": list(NAMES), "results": []})
    assert found == {"ap": 0, "ap50": 0, "ap75": 0, "ar": 0}


def test_without_a_shared_keypoint_there_is_no_figure(truth):
    assert coco_keypoint_ap(truth, {"keypoints": ["tail"], "results": []}) is None


def test_only_shared_keypoints_count_whatever_their_order(truth):
    predictions = perfect(truth)
    for row in predictions["results"]:
        nose = row["keypoints"][6:]
        row["keypoints"] = [*nose, 1, 1, 1]
    predictions["keypoints"] = ["nose", "tail"]
    assert coco_keypoint_ap(truth, predictions)["ap"] == 1


def test_the_evaluator_keeps_stdout_clean(truth, capsys):
    coco_keypoint_ap(truth, perfect(truth))
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------- calibration


def test_marks_pair_each_score_with_whether_it_was_right(truth):
    predictions = perfect(truth)
    first = predictions["results"][0]
    first["keypoints"][0] += 50
    first["keypoints"][2::3] = [0.2, 0.9, 0.7]
    scores, hits = joint_marks(truth, predictions)
    assert len(scores) == sum(v > 0 for a in truth["annotations"] for v in a["keypoints"][2::3])
    assert (scores[:3].tolist(), hits[:3].tolist()) == ([0.2, 0.9, 0.7], [0, 1, 1])


def test_marks_read_each_category_by_its_own_names(truth):
    truth["categories"].append({"id": 2, "name": "head", "keypoints": ["nose"]})
    person = truth["annotations"][0]
    head = {**person, "id": 99, "category_id": 2, "keypoints": [*person["keypoints"][6:8], 2]}
    truth["annotations"] = [head]
    row = {"annotation_id": 99, "keypoints": [0, 0, 0, 0, 0, 0, *head["keypoints"][:2], 0.8]}
    scores, hits = joint_marks(truth, {"keypoints": list(NAMES), "results": [row]})
    assert (scores.tolist(), hits.tolist()) == ([0.8], [1])


def test_honest_scores_have_no_calibration_error(truth):
    predictions = perfect(truth)
    for number, row in enumerate(predictions["results"]):
        row["keypoints"][2::3] = [0.5] * 3
        if number % 2:
            row["keypoints"][0::3] = [x + 60 for x in row["keypoints"][0::3]]
    table = reliability(truth, predictions)
    hits = joint_marks(truth, predictions)[1]
    assert table["error"] == pytest.approx(abs(hits.mean() - 0.5), abs=1e-3)
    assert table["claimed"] == [0.5]
    assert sum(table["count"]) == len(hits)
    json.dumps(table)
