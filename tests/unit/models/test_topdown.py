"""A top-down model, with doubles for its two halves: boxes, crops, order, thresholds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openkeypoints.errors import InputError
from openkeypoints.models import InferOptions
from openkeypoints.models.crops import CropKeypoints, read_keypoints
from openkeypoints.models.topdown import ModelDetector, detector_of
from openkeypoints.results import Boxes
from tests.doubles import SKELETON, DotReader, FixedDetector, model, view
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
    found = run(FixedDetector([BOX]))
    assert np.abs(found.keypoints[0] - POINTS).max() < 0.5


def test_a_shifted_picture_shifts_the_keypoints():
    shifted = np.roll(PICTURE, 17, axis=1)
    there = run(FixedDetector([[x + 17 * (i % 2 == 0) for i, x in enumerate(BOX)]]), shifted)
    here = run(FixedDetector([BOX]))
    assert np.abs(there.keypoints - here.keypoints - [17, 0]).max() < 0.01


@pytest.mark.parametrize("box", [BOX, [0, 0, 200, 140], [60, 0, 95, 140], [-30, -20, 150, 120]])
def test_whatever_the_shape_of_the_box_the_points_are_the_same(box):
    assert np.abs(run(FixedDetector([box])).keypoints[0] - POINTS).max() < 0.5


def test_covariances_scale_with_the_crop():
    found = run(FixedDetector([BOX]))
    scale = min(128 / 75, 96 / 87) / DotReader.crop.padding  # the tighter side
    assert np.allclose(found.covariances[0, 0], np.diag([4, 9]) / scale**2, rtol=1e-5)


def test_detections_keep_their_scores_and_come_best_first():
    found = run(FixedDetector([FAR, BOX], [0.5, 0.8]))
    assert found.scores.tolist() == pytest.approx([0.8, 0.5])
    assert found.boxes.tolist() == [BOX, FAR]


def test_given_boxes_skip_the_detector_and_tell_which_box_is_which():
    finder = FixedDetector([BOX])
    found = run(finder, options=given(FAR, BOX))
    assert not finder.requests
    assert found.extras["box_index"].tolist() == [1, 0]
    assert found.boxes.tolist() == [BOX, FAR]


def test_the_score_in_a_given_box_is_the_mean_of_the_keypoint_scores():
    found = run(FixedDetector([]), options=given(BOX, FAR))
    assert found.scores.tolist() == pytest.approx([0.7, 0.0])


def test_no_threshold_or_filter_applies_to_given_boxes():
    found = run(FixedDetector([]), options=given(FAR, FAR), confidence=0.99, max_detections=1)
    assert len(found) == 2


def test_no_given_box_gives_no_instance():
    found = run(FixedDetector([BOX]), options=given())
    assert len(found) == 0
    assert found.extras["box_index"].dtype == np.int64


@pytest.mark.parametrize(
    "wrong",
    [[[1, 2, 3]], [[0, 0, np.nan, 5]], [[10, 0, 5, 9]], [[3, 3, 3, 9]], "text", [[[0, 0, 1, 1]]]],
)
def test_boxes_that_are_none_are_refused(wrong):
    with pytest.raises(InputError, match=r"options\.boxes"):
        run(FixedDetector([]), options=InferOptions(boxes=[wrong]))


def test_an_empty_picture_keeps_ranks_and_types():
    found = run(FixedDetector([]))
    assert found.keypoints.shape == (0, 3, 2)
    assert found.covariances.shape == (0, 3, 2, 2)
    assert found.class_ids.dtype == np.int64
    assert found.scores.dtype == np.float32


def test_an_empty_picture_among_others_takes_nothing_from_them():
    empty = np.full_like(PICTURE, 60)
    both = model(FixedDetector([BOX])).infer([empty, PICTURE], color="rgb")
    assert np.abs(both[1].keypoints[0] - POINTS).max() < 0.5
    assert both[0].keypoint_scores.max() == 0


def test_nothing_found_is_no_whole_picture_unless_asked():
    options = InferOptions(whole_image=True)
    found = run(FixedDetector([]), options=options)
    assert found.boxes.tolist() == [[0, 0, 200, 140]]
    assert found.scores.tolist() == pytest.approx([0.7])
    assert np.abs(found.keypoints[0] - POINTS).max() < 0.5


def test_the_whole_picture_is_taken_only_where_nothing_is_found():
    found = run(FixedDetector([BOX]), options=InferOptions(whole_image=True))
    assert found.boxes.tolist() == [BOX]


def test_the_confidence_reaches_the_finder():
    assert len(run(FixedDetector([BOX, FAR], [0.5, 0.35]), confidence=0.4)) == 1


def test_box_threshold_stands_in_for_the_confidence():
    finder = FixedDetector([BOX, FAR], [0.5, 0.2])
    assert len(run(finder, confidence=0.9, options=InferOptions(box_threshold=0.1))) == 2


def test_max_persons_limits_the_crops_that_are_read():
    reader = DotReader()
    options = InferOptions(max_persons=1)
    found = run(FixedDetector([FAR, BOX], [0.5, 0.8]), reader=reader, options=options)
    assert (len(found), reader.crops) == (1, 1)
    assert found.boxes.tolist() == [BOX]


def test_max_detections_limits_the_crops_that_are_read():
    reader = DotReader()
    run(FixedDetector([FAR, BOX], [0.5, 0.8]), reader=reader, max_detections=1)
    assert reader.crops == 1


def test_oks_nms_drops_the_weaker_of_two_equal_poses():
    wider = [38, 22, 118, 115]
    finder = FixedDetector([BOX, wider, FAR], [0.8, 0.9, 0.5])
    assert len(run(finder)) == 3
    found = run(finder, options=InferOptions(oks_nms=0.9))
    assert found.scores.tolist() == pytest.approx([0.9, 0.5])


def test_oks_nms_compares_only_instances_of_one_class():
    finder = FixedDetector([BOX, BOX, BOX], [0.9, 0.8, 0.7], [0, 1, 1], ("person", "dog"))
    shown = view(("person", "dog"))
    found = run(finder, shown=shown, options=InferOptions(oks_nms=0.9))
    assert found.class_ids.tolist() == [0, 1]


def test_a_filtered_class_does_not_use_up_the_places_of_the_others():
    finder = FixedDetector([BOX, FAR], [0.9, 0.8], [0, 1], ("person", "dog"))
    shown = view(("person", "dog"))
    found = run(finder, shown=shown, class_filter="dog", options=InferOptions(max_persons=1))
    assert found.class_ids.tolist() == [1]


def test_a_class_without_keypoints_has_empty_slots():
    finder = FixedDetector([BOX, FAR], [0.9, 0.8], [0, 1], ("person", "ball"))
    found = run(finder, shown=view(("person", "ball"), {0: SKELETON}))
    assert np.isnan(found.keypoints[1]).all()
    assert found.keypoint_scores[1].tolist() == [0, 0, 0]


def test_a_finders_options_are_honoured_with_our_own():
    finder = FixedDetector([BOX])
    run(finder, options=InferOptions(input_size=(96, 64)))
    assert finder.requests[0].options.input_size == (96, 64)


def test_details_tell_head_and_sizes():
    details = run(FixedDetector([BOX])).details
    assert details == {"head": "top-down", "crop_size": (128, 96), "input_size": (64, 64)}


def test_timings_are_all_there_and_never_negative():
    timings = run(FixedDetector([BOX])).timings
    assert set(timings) == {"decode", "prepare", "run", "finish"}
    assert min(timings.values()) >= 0


def test_many_crops_go_through_in_parts_and_stay_in_order():
    boxes = [[40 - i, 25, 115, 112 + i] for i in range(35)]
    (found, _) = read_keypoints(DotReader(), [PICTURE], [(0, np.array(b)) for b in boxes])
    assert found.points.shape == (35, 3, 2)
    assert np.abs(found.points - POINTS).max() < 0.5


def test_warmup_warms_the_crop_reader_too():
    reader = DotReader()
    model(FixedDetector([]), reader).warmup()
    assert reader.crops == 1


def test_closing_closes_both_halves():
    finder, reader = FixedDetector([]), DotReader()
    model(finder, reader).close()
    assert (finder.closed, reader.closed) == (True, True)


def test_classes_meet_by_name_whatever_their_numbers():
    detector = FixedDetector([BOX, FAR, BOX], [0.9, 0.8, 0.7], [1, 0, 2], ("dog", "horse", "cat"))
    found = run(detector, shown=view(("cat", "horse")))
    assert found.class_ids.tolist() == [1, 0]
    assert found.boxes.tolist() == [BOX, BOX]
    assert set(detector.requests[0].class_filter) == {1, 2}


def test_a_filter_reaches_the_detector_under_its_own_numbers():
    detector = FixedDetector([BOX, FAR], [0.9, 0.8], [1, 0], ("dog", "horse"))
    assert len(run(detector, shown=view(("horse", "bird")), class_filter="horse")) == 1
    assert detector.requests[0].class_filter == (1,)


def test_a_class_that_the_detector_does_not_find_is_found_nowhere():
    detector = FixedDetector([BOX], [0.9], [1], ("dog", "horse"))
    assert len(run(detector, shown=view(("horse", "bird")), class_filter="bird")) == 0


def test_the_threshold_is_the_detectors_own_unless_somebody_says_another():
    detector = FixedDetector([BOX, FAR], [0.9, 0.2])
    assert len(run(detector)) == 1
    detector.confidence = 0.1
    assert len(run(detector)) == 2
    assert [r.confidence for r in detector.requests] == [None, None]


def test_the_boxes_of_a_top_down_model_are_taken_without_its_keypoints():
    reader = DotReader()
    detector = FixedDetector([BOX, FAR], [0.9, 0.8])
    inner = model(detector, reader)
    joined = model(detector_of(inner), owns_detector=False)
    (found,) = joined.infer(PICTURE, color="rgb", confidence=0.55)
    assert found.boxes.tolist() == [BOX, FAR]
    assert reader.crops == 0
    joined.close()
    assert not detector.closed


def test_a_model_of_one_stage_gives_its_boxes_and_hears_what_concerns_them():
    detector = FixedDetector([BOX], [0.9])
    inner = ModelDetector(model(detector))
    joined = model(inner)
    options = InferOptions(max_persons=3, input_size=(96, 96))
    (found,) = joined.infer(PICTURE, color="rgb", confidence=0.55, options=options)
    assert found.boxes.tolist() == [BOX]
    asked = detector.requests[0]
    assert (asked.confidence, asked.options) == (0.55, InferOptions(input_size=(96, 96)))
    joined.close()
    assert detector.closed


def test_boxes_without_area_of_a_model_of_one_stage_are_left_out():
    inner = model(FixedDetector([BOX], [0.9]))
    (one,) = inner.infer(PICTURE, color="rgb")
    flat = replace(one, boxes=np.array([[200, 5, 200, 30]], np.float32))
    inner.predictor.predict = lambda images, request: [flat for _ in images]
    assert len(model(ModelDetector(inner)).infer(PICTURE)[0]) == 0


def test_a_detector_of_other_things_is_refused():
    with pytest.raises(InputError, match="finds dog, the keypoint model reads person"):
        model(FixedDetector([], class_names=("dog",)))


def test_without_a_detector_the_boxes_have_to_be_given():
    half = model(None)
    with pytest.raises(InputError, match="has no detector: name one"):
        half.infer(PICTURE)
    assert len(half.infer(PICTURE, options=given(BOX))[0]) == 1
    with pytest.raises(InputError, match="finds none itself"):
        detector_of(half)


def test_without_a_detector_the_whole_picture_can_be_read_and_the_network_warmed():
    reader = DotReader()
    half = model(None, reader)
    half.warmup()
    assert reader.crops == 1
    (found,) = half.infer(PICTURE, color="rgb", options=InferOptions(whole_image=True))
    assert found.boxes.tolist() == [[0, 0, 200, 140]]


def test_given_boxes_keep_the_scores_and_classes_that_they_bring():
    shown = view(("person", "dog"))
    boxes = Boxes([FAR, BOX], [0.3, 0.6], [1, 0])
    found = run(None, shown=shown, options=InferOptions(boxes=[boxes]))
    assert found.scores.tolist() == pytest.approx([0.6, 0.3])
    assert found.class_ids.tolist() == [0, 1]
    assert found.extras["box_index"].tolist() == [1, 0]


def test_a_given_class_that_there_is_not_is_refused():
    boxes = Boxes([BOX], class_ids=[2])
    with pytest.raises(InputError, match="has the class 2; the model's are 0 to 0"):
        run(None, options=InferOptions(boxes=[boxes]))


def test_a_reader_may_know_nothing_of_covariances_and_say_more_than_scores():
    class Plain(DotReader):
        empty = CropKeypoints(
            np.zeros((0, 3, 2), "f4"), np.zeros((0, 3), "f4"), None, {"z": np.zeros((0, 3), "f4")}
        )

        def read(self, crops, *, flip_test=False):
            read = super().read(crops)
            depth = np.tile(np.arange(3, dtype="f4"), (len(crops), 1))
            return CropKeypoints(read.points, read.scores, None, {"z": depth})

    shown = view(("person", "ball"), {0: SKELETON})
    detector = FixedDetector([BOX, FAR], [0.9, 0.8], [0, 1], ("person", "ball"))
    found = run(detector, shown=shown, reader=Plain())
    assert found.covariances is None
    assert found.extras["z"][0].tolist() == [0, 1, 2]
    assert np.isnan(found.extras["z"][1]).all()
    empty = run(FixedDetector([]), reader=Plain())
    assert (empty.covariances, empty.extras["z"].shape) == (None, (0, 3))


def test_numbers_that_are_none_become_missing_points():
    class Broken(DotReader):
        def read(self, crops, *, flip_test=False):
            read = super().read(crops)
            read.points[:, 0, 1], read.scores[:, 2] = np.inf, np.nan
            return read

    found = run(FixedDetector([BOX]), reader=Broken())
    assert np.isnan(found.keypoints[0, [0, 2]]).all()
    assert found.keypoint_scores[0].tolist() == pytest.approx([0, 0.7, 0])
    assert np.isfinite(found.keypoints[0, 1]).all()


def test_each_reader_says_how_many_crops_go_through_at_once():
    class Few(DotReader):
        per_run = 2

    boxes = [np.array([40 - i, 25, 115, 112 + i], "f4") for i in range(5)]
    read, _ = read_keypoints(Few(), [PICTURE], [(0, box) for box in boxes])
    assert read.points.shape == (5, 3, 2)


def test_an_infinite_score_is_no_score():
    with pytest.raises(InputError, match="scores hold an infinite number"):
        Boxes([BOX], [np.inf])


def test_what_a_detector_finds_of_other_classes_is_left_out_though_nobody_asked_for_it():
    class Deaf(FixedDetector):
        def detect(self, images, request):
            return super().detect(images, replace(request, class_filter=None))

    detector = Deaf([FAR, BOX], [0.9, 0.8], [0, 1], ("dog", "person"))
    found = run(detector, options=InferOptions(max_persons=1))
    assert found.boxes.tolist() == [BOX]
