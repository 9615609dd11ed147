"""Opening a pico file: views, subsets of keypoints, cards, other detectors, weights that fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from openkeypoints.errors import InputError, RuntimeUnavailableError, WeightsError
from openkeypoints.models import InferOptions, ModelSpec, Request, get_model, open_model
from openkeypoints.models.pico import part_of_view
from openkeypoints.models.pico.network import KeypointNetwork, build, load_weights
from openkeypoints.settings import Settings
from openkeypoints.skeletons import load_skeleton
from openkeypoints.weights.okp import open_okp, write_okp
from tests.doubles import FixedDetector, model, view

PICTURE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
BOXES = InferOptions(boxes=[np.array([[5, 5, 40, 55], [30, 2, 78, 50]], np.float32)])
NAMES = load_skeleton("person19").keypoints


@pytest.fixture(scope="module")
def person(tiny_okp):
    with get_model(tiny_okp) as opened:
        yield opened


def given(opened):
    (found,) = opened.infer(PICTURE, options=BOXES)
    return found


def test_a_path_opens_the_first_view(person):
    assert person.skeletons[0].keypoints == NAMES[:17]


def test_the_other_view_of_the_same_file_shows_more_of_the_same(tiny_okp, person):
    spec = ModelSpec(str(tiny_okp))
    with open_model(spec, Settings.from_env(), name="person-19") as more:
        every, some = given(more), given(person)
    assert more.id == "person-19"
    assert every.keypoints.shape == (2, 19, 2)
    order = [every.extras["box_index"].tolist().index(i) for i in some.extras["box_index"]]
    assert np.array_equal(every.keypoints[order, :17], some.keypoints)


def test_a_model_describes_itself(person, tiny_okp):
    assert person.id == str(tiny_okp)
    assert person.class_names == ("person",)
    assert person.input_size == (64, 64)
    assert person.card == {"note": "random weights"}


def test_names_of_keypoints_choose_a_subset_in_the_order_of_the_skeleton(tiny_okp, person):
    with get_model(tiny_okp, keypoints=["right_wrist", "nose", "left_wrist"]) as part:
        some, every = given(part), given(person)
    assert part.skeletons[0].keypoints == ("nose", "left_wrist", "right_wrist")
    assert part.skeletons[0].flip == (0, 2, 1)
    rows = np.argsort(some.extras["box_index"]), np.argsort(every.extras["box_index"])
    assert np.array_equal(some.keypoints[rows[0]], every.keypoints[rows[1]][:, [0, 9, 10]])


def test_the_name_of_a_group_chooses_its_keypoints(tiny_okp, person):
    groups = person.skeletons[0].groups
    name = next(iter(groups))
    with get_model(tiny_okp, keypoints=name) as part:
        wanted = tuple(NAMES[i] for i in sorted(groups[name]))
        assert part.skeletons[0].keypoints == wanted


def test_a_subset_scores_its_own_keypoints(tiny_okp):
    with get_model(tiny_okp, keypoints=["nose"]) as part:
        found = given(part)
    assert np.allclose(found.scores, found.keypoint_scores[:, 0])


@pytest.mark.parametrize("wrong", [["tail"], "", []])
def test_keypoints_that_the_model_does_not_know_are_refused(tiny_okp, wrong):
    with pytest.raises(InputError, match="keypoints names"):
        get_model(tiny_okp, keypoints=wrong)


def test_a_subset_leaves_classes_without_keypoints_alone():
    part = part_of_view(view(("person", "ball"), {0: view().skeletons[0]}), ["middle"])
    assert part.maps == {0: (2,), 1: ()}


def test_a_card_changes_thresholds_licence_and_names(tiny_okp, tmp_path):
    card = tmp_path / "card.json"
    facts = {"confidence": 55, "iou_threshold": 0.4, "licence": "mine", "class_names": ["rider"]}
    card.write_text(json.dumps(facts))
    with get_model(tiny_okp, card=card) as changed:
        said = changed.description
    assert (said.confidence, said.iou_threshold) == (0.55, 0.4)
    assert (said.licence, said.class_names) == ("mine", ("rider",))


@pytest.mark.parametrize(
    "wrong",
    [{"colour": 1}, {"confidence": "high"}, {"class_names": "person"}, {"class_names": ["a", "b"]}],
)
def test_a_card_that_does_not_fit_is_refused(tiny_okp, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        get_model(tiny_okp, card=wrong)


def test_another_model_may_find_the_boxes(tiny_okp):
    finder = FixedDetector([[10, 5, 60, 50]])
    with get_model(tiny_okp, detector=model(finder)) as joined:
        (found,) = joined.infer(PICTURE)
    assert found.boxes.tolist() == [[10, 5, 60, 50]]
    assert not finder.closed


def test_a_detector_may_be_named_by_path_and_then_belongs_to_the_model(tiny_okp, person):
    with get_model(tiny_okp, detector=tiny_okp) as joined:
        (mine,), (same,) = joined.infer(PICTURE), person.infer(PICTURE)
        inner = joined.predictor.detector
    assert np.array_equal(mine.boxes, same.boxes)
    with pytest.raises(RuntimeUnavailableError, match="closed"):
        inner.detect([PICTURE], Request())


def test_a_detector_of_another_kind_is_refused(tiny_okp):
    with pytest.raises(InputError, match="detector is a int"):
        get_model(tiny_okp, detector=3)


def test_a_file_without_one_of_its_graphs_names_it(tiny_okp, tmp_path):
    file = open_okp(tiny_okp)
    path = tmp_path / "half.okp"
    write_okp(path, dict(file.model), {"detector.onnx": file.read("detector.onnx")})
    with pytest.raises(WeightsError, match=r"half\.okp holds no 'pose\.onnx'"):
        get_model(path)


def test_a_network_never_runs_with_weights_of_another(tiny_okp):
    config = {"keypoints": 3, "widths": [8] * 5, "depths": [0] * 5, "features": 8}
    weights = {n: v.numpy() for n, v in KeypointNetwork(**config).state_dict().items()}
    with pytest.raises(WeightsError, match="do not fit the pose network"):
        build("pose", {**config, "keypoints": 4}, weights)


def test_a_start_takes_what_fits_and_says_what_does_not():
    config = {"widths": [8] * 5, "depths": [0] * 5, "features": 8}
    old, new = KeypointNetwork(3, **config), KeypointNetwork(4, **config)
    fresh = load_weights(new, {n: v.numpy() for n, v in old.state_dict().items()})
    assert sorted(fresh) == ["head.1.bias", "head.1.weight"]
    assert torch.equal(new.head[0].first.conv.weight, old.head[0].first.conv.weight)
