"""A top-down model, with doubles for its two halves: boxes, crops, order, thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from openkeypoints.errors import InputError
from openkeypoints.models import InferOptions
from openkeypoints.models.topdown import ModelFinder, NoFinder, TopDown, read_keypoints
from tests.doubles import SKELETON, DotReader, FixedFinder, model, view
from tests.drawn import dots

POINTS = np.array([[61.3, 40.8], [92.6, 71.2], [75.0, 95.5]])
BOX = [40, 25, 115, 112]
FAR = [180, 5, 198, 30]
PICTURE = dots((200, 140), POINTS)


def run(finder, picture=PICTURE, *, shown=None, reader=None, **arguments):
    (found,) = model(finder, reader, shown).infer(picture, color="rgb", **arguments)
    return found


def given(*boxes, **more):
    return InferOptions(boxes=[np.array(boxes, float).reshape(-1, 4)], **more)


def test_keypoints_return_to_pixels_of_the_picture():
    found = run(FixedFinder([BOX]))
    assert np.abs(found.keypoints[0] - POINTS).max() < 0.5


def test_a_shifted_picture_shifts_the_keypoints():
    shifted = np.roll(PICTURE, 17, axis=1)
    there = run(FixedFinder([[x + 17 * (i % 2 == 0) for i, x in enumerate(BOX)]]), shifted)
    here = run(FixedFinder([BOX]))
    assert np.abs(there.keypoints - here.keypoints - [17, 0]).max() < 0.01


@pytest.mark.parametrize("box", [BOX, [0, 0, 200, 140], [60, 0, 95, 140], [-30, -20, 150, 120]])
def test_whatever_the_shape_of_the_box_the_points_are_the_same(box):
    assert np.abs(run(FixedFinder([box])).keypoints[0] - POINTS).max() < 0.5


def test_covariances_scale_with_the_crop():
    found = run(FixedFinder([BOX]))
    scale = DotReader.fill * min(128 / 75, 96 / 87)  # of crop_matrix: the tighter side
    assert np.allclose(found.covariances[0, 0], np.diag([4, 9]) / scale**2, rtol=1e-5)


def test_detections_keep_their_scores_and_come_best_first():
    found = run(FixedFinder([FAR, BOX], [0.5, 0.8]))
    assert found.scores.tolist() == pytest.approx([0.8, 0.5])
    assert found.boxes.tolist() == [BOX, FAR]


def test_given_boxes_skip_the_detector_and_tell_which_box_is_which():
    finder = FixedFinder([BOX])
    found = run(finder, options=given(FAR, BOX))
    assert not finder.requests
    assert found.extras["box_index"].tolist() == [1, 0]
    assert found.boxes.tolist() == [BOX, FAR]


def test_the_score_in_a_given_box_is_the_mean_of_the_keypoint_scores():
    found = run(FixedFinder([]), options=given(BOX, FAR))
    assert found.scores.tolist() == pytest.approx([0.7, 0.0])


def test_no_threshold_or_filter_applies_to_given_boxes():
    found = run(FixedFinder([]), options=given(FAR, FAR), confidence=0.99, max_detections=1)
    assert len(found) == 2


def test_no_given_box_gives_no_instance():
    found = run(FixedFinder([BOX]), options=given())
    assert len(found) == 0
    assert found.extras["box_index"].dtype == np.int64


@pytest.mark.parametrize(
    "wrong",
    [[[1, 2, 3]], [[0, 0, np.nan, 5]], [[10, 0, 5, 9]], [[3, 3, 3, 9]], "text", [[[0, 0, 1, 1]]]],
)
def test_boxes_that_are_none_are_refused(wrong):
    with pytest.raises(InputError, match=r"options\.boxes"):
        run(FixedFinder([]), options=InferOptions(boxes=[wrong]))


def test_an_empty_picture_keeps_ranks_and_types():
    found = run(FixedFinder([]))
    assert found.keypoints.shape == (0, 3, 2)
    assert found.covariances.shape == (0, 3, 2, 2)
    assert found.class_ids.dtype == np.int64
    assert found.scores.dtype == np.float32


def test_an_empty_picture_among_others_takes_nothing_from_them():
    empty = np.full_like(PICTURE, 60)
    both = model(FixedFinder([BOX])).infer([empty, PICTURE], color="rgb")
    assert np.abs(both[1].keypoints[0] - POINTS).max() < 0.5
    assert both[0].keypoint_scores.max() == 0


def test_nothing_found_is_no_whole_picture_unless_asked():
    options = InferOptions(whole_image=True)
    found = run(FixedFinder([]), options=options)
    assert found.boxes.tolist() == [[0, 0, 200, 140]]
    assert found.scores.tolist() == pytest.approx([0.7])
    assert np.abs(found.keypoints[0] - POINTS).max() < 0.5


def test_the_whole_picture_is_taken_only_where_nothing_is_found():
    found = run(FixedFinder([BOX]), options=InferOptions(whole_image=True))
    assert found.boxes.tolist() == [BOX]


def test_the_confidence_reaches_the_finder():
    assert len(run(FixedFinder([BOX, FAR], [0.5, 0.35]), confidence=0.4)) == 1


def test_box_threshold_stands_in_for_the_confidence():
    finder = FixedFinder([BOX, FAR], [0.5, 0.2])
    assert len(run(finder, confidence=0.9, options=InferOptions(box_threshold=0.1))) == 2


def test_max_persons_limits_the_crops_that_are_read():
    reader = DotReader()
    options = InferOptions(max_persons=1)
    found = run(FixedFinder([FAR, BOX], [0.5, 0.8]), reader=reader, options=options)
    assert (len(found), reader.crops) == (1, 1)
    assert found.boxes.tolist() == [BOX]


def test_max_detections_limits_the_crops_that_are_read():
    reader = DotReader()
    run(FixedFinder([FAR, BOX], [0.5, 0.8]), reader=reader, max_detections=1)
    assert reader.crops == 1


def test_oks_nms_drops_the_weaker_of_two_equal_poses():
    wider = [38, 22, 118, 115]
    finder = FixedFinder([BOX, wider, FAR], [0.8, 0.9, 0.5])
    assert len(run(finder)) == 3
    found = run(finder, options=InferOptions(oks_nms=0.9))
    assert found.scores.tolist() == pytest.approx([0.9, 0.5])


def test_oks_nms_compares_only_instances_of_one_class():
    finder = FixedFinder([BOX, BOX, BOX], [0.9, 0.8, 0.7], [0, 1, 1])
    shown = view(("person", "dog"))
    found = run(finder, shown=shown, options=InferOptions(oks_nms=0.9))
    assert found.class_ids.tolist() == [0, 1]


def test_a_filtered_class_does_not_use_up_the_places_of_the_others():
    finder = FixedFinder([BOX, FAR], [0.9, 0.8], [0, 1])
    shown = view(("person", "dog"))
    found = run(finder, shown=shown, class_filter="dog", options=InferOptions(max_persons=1))
    assert found.class_ids.tolist() == [1]


def test_a_class_without_keypoints_has_empty_slots():
    finder = FixedFinder([BOX, FAR], [0.9, 0.8], [0, 1])
    found = run(finder, shown=view(("person", "ball"), {0: SKELETON}))
    assert np.isnan(found.keypoints[1]).all()
    assert found.keypoint_scores[1].tolist() == [0, 0, 0]


def test_a_finders_options_are_honoured_with_our_own():
    finder = FixedFinder([BOX])
    run(finder, options=InferOptions(input_size=(96, 64)))
    assert finder.requests[0].options.input_size == (96, 64)


def test_details_tell_head_and_sizes():
    details = run(FixedFinder([BOX])).details
    assert details == {"head": "top-down", "crop_size": (128, 96), "input_size": (64, 64)}


def test_timings_are_all_there_and_never_negative():
    timings = run(FixedFinder([BOX])).timings
    assert set(timings) == {"decode", "prepare", "run", "finish"}
    assert min(timings.values()) >= 0


def test_many_crops_go_through_in_parts_and_stay_in_order():
    boxes = [[40 - i, 25, 115, 112 + i] for i in range(35)]
    (found, _) = read_keypoints(DotReader(), [PICTURE], [(0, np.array(b)) for b in boxes])
    assert found.points.shape == (35, 3, 2)
    assert np.abs(found.points - POINTS).max() < 0.5


def test_warmup_warms_the_crop_reader_too():
    reader = DotReader()
    model(FixedFinder([]), reader).warmup()
    assert reader.crops == 1


def test_closing_closes_both_halves():
    finder, reader = FixedFinder([]), DotReader()
    model(finder, reader).close()
    assert (finder.closed, reader.closed) == (True, True)


def test_another_model_finds_the_persons_of_a_top_down_one():
    detector = model(FixedFinder([BOX, FAR], [0.9, 0.8], [1, 0]), shown=view(("dog", "person")))
    joined = model(ModelFinder(detector))
    (found,) = joined.infer(PICTURE, color="rgb")
    assert found.boxes.tolist() == [BOX]
    assert np.abs(found.keypoints[0] - POINTS).max() < 0.5


def test_another_model_gets_the_threshold_and_not_the_options():
    finder = FixedFinder([BOX], [0.9])
    joined = model(ModelFinder(model(finder)))
    joined.infer(PICTURE, confidence=0.55, options=InferOptions(max_persons=3))
    asked = finder.requests[0]
    assert (asked.confidence, asked.options) == (0.55, InferOptions())


def test_a_detector_without_persons_is_refused():
    with pytest.raises(InputError, match="finds dog and no 'person'"):
        ModelFinder(model(FixedFinder([]), shown=view(("dog",))))


@pytest.mark.parametrize("owned", [False, True])
def test_a_detector_is_closed_only_by_its_owner(owned):
    finder = FixedFinder([])
    ModelFinder(model(finder), owned=owned).close()
    assert finder.closed == owned


def test_without_a_detector_the_boxes_have_to_be_given():
    half = TopDown("half", view(), NoFinder((64, 64)), DotReader())
    whole = model(FixedFinder([]))
    whole.predictor = half
    with pytest.raises(InputError, match=r"give the boxes as options\.boxes"):
        whole.infer(PICTURE)
    assert len(whole.infer(PICTURE, options=given(BOX))[0]) == 1
