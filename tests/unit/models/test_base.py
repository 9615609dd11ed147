"""What `Model.infer` takes, refuses and hands on."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openkeypoints.errors import InputError, NotFoundError
from openkeypoints.images import encode_image
from openkeypoints.models import InferOptions
from openkeypoints.models.base import Description, Model
from openkeypoints.results import Boxes, Prediction, Skeleton, empty_prediction
from openkeypoints.samples import sample
from openkeypoints.settings import Settings

PICTURE = np.full((20, 30, 3), 7, np.uint8)
SKELETON = Skeleton("pair", ("a", "b"))


class Echo:
    """A predictor that finds nothing and remembers what it was asked."""

    honours = frozenset({"boxes", "input_size", "end2end", "max_persons"})
    runtime, device, precision = "echo", "cpu", "f32"

    def __init__(self):
        self.images, self.request, self.closed = [], None, False

    def predict(self, images, request):
        self.images, self.request = list(images), request
        sizes = [(i.shape[1], i.shape[0]) for i in images]
        return [empty_prediction(s, "echo", ("cat", "dog"), {0: SKELETON}) for s in sizes]

    def close(self):
        self.closed = True


DESCRIPTION = Description(
    id="echo",
    task="keypoint-detection",
    class_names=("cat", "dog"),
    skeletons={0: SKELETON},
    input_size=(32, 16),
    confidence=0.25,
    iou_threshold=0.7,
    licence="MIT",
    card={"note": "x"},
)


@pytest.fixture
def model():
    return Model(DESCRIPTION, Echo(), Settings())


def test_a_predictor_is_told_when_nobody_gave_a_threshold(model):
    model.infer(PICTURE)
    asked = model.predictor.request
    assert (asked.confidence, asked.iou_threshold, asked.max_detections) == (None, None, 300)
    settled = asked.settled(0.25, 0.7)
    assert (settled.confidence, settled.iou_threshold) == (0.25, 0.7)


def test_a_threshold_that_was_given_outlives_the_default(model):
    model.infer(PICTURE, confidence=0, iou_threshold=90)
    settled = model.predictor.request.settled(0.25, 0.7)
    assert (settled.confidence, settled.iou_threshold) == (0.0, 0.9)


def test_a_bad_picture_among_others_is_named_by_its_place_and_source(model, tmp_path):
    missing = tmp_path / "missing.jpg"
    with pytest.raises(NotFoundError, match=r"^images\[1\]: .*missing\.jpg"):
        model.infer([PICTURE, missing, PICTURE])


def test_skipped_pictures_have_their_error_in_their_place(model):
    model.predictor.honours |= {"boxes"}
    boxes = [np.full((1, 4), i, np.float32) for i in range(3)]
    options = InferOptions(boxes=boxes)
    first, second, third = model.infer(
        [PICTURE, b"no picture", PICTURE[:5]], options=options, on_error="skip"
    )
    assert isinstance(second, InputError)
    assert (first.image_size, third.image_size) == ((30, 20), (30, 5))
    given = model.predictor.request.options.boxes
    assert [float(b[0, 0]) for b in given] == [0.0, 2.0]


def test_pictures_that_are_all_bad_ask_nothing_of_the_predictor(model):
    (only,) = model.infer([b"no picture"], on_error="skip")
    assert isinstance(only, InputError)
    assert model.predictor.request is None


def test_another_word_for_what_to_do_about_errors_is_refused(model):
    with pytest.raises(InputError, match="on_error is 'ignore'"):
        model.infer(PICTURE, on_error="ignore")


def test_every_model_with_keypoints_drops_poses_that_stand_twice():
    points = np.array([[[2, 2], [8, 8]], [[2, 2.1], [8, 8]], [[20, 2], [28, 8]]], np.float32)
    twice = Prediction(
        image_size=(30, 20),
        model_id="twice",
        class_names=("cat", "dog"),
        skeletons={0: SKELETON},
        boxes=np.array([[0, 0, 10, 10], [0, 0, 10, 10], [18, 0, 30, 10]], np.float32),
        scores=np.array([0.9, 0.8, 0.7], np.float32),
        class_ids=np.zeros(3, np.int64),
        keypoints=points,
        keypoint_scores=np.ones((3, 2), np.float32),
    )

    class Twice(Echo):
        def predict(self, images, request):
            return [twice for _ in images]

    model = Model(DESCRIPTION, Twice(), Settings())
    assert len(model.infer(PICTURE)[0]) == 3
    (found,) = model.infer(PICTURE, options=InferOptions(oks_nms=0.5))
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])
    bare = Model(replace(DESCRIPTION, skeletons={}), Twice(), Settings())
    with pytest.raises(InputError, match="oks_nms"):
        bare.infer(PICTURE, options=InferOptions(oks_nms=0.5))


@pytest.mark.parametrize(
    ("given", "meant"), [(0.4, 0.4), (40, 0.4), (0, 0.0), (1, 1.0), (100, 1.0), (np.float32(0), 0)]
)
def test_thresholds_are_shares_or_percentages(model, given, meant):
    model.infer(PICTURE, confidence=given, iou_threshold=given, keypoint_confidence=given)
    asked = model.predictor.request
    assert asked.confidence == asked.iou_threshold == asked.keypoint_confidence == meant


@pytest.mark.parametrize("wrong", [-0.1, 101, float("nan"), "0.4", True, [0.4]])
@pytest.mark.parametrize("name", ["confidence", "iou_threshold", "keypoint_confidence"])
def test_a_threshold_that_is_no_share_is_named(model, name, wrong):
    with pytest.raises(InputError, match=name):
        model.infer(PICTURE, **{name: wrong})


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, None])
def test_max_detections_is_a_whole_number_of_at_least_one(model, wrong):
    with pytest.raises(InputError, match="max_detections"):
        model.infer(PICTURE, max_detections=wrong)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (None, None),
        ("dog", {1}),
        (0, {0}),
        (["cat", 1], {0, 1}),
        ((np.int64(1),), {1}),
        ([], set()),
    ],
)
def test_class_filter_takes_names_and_ids(model, given, meant):
    model.infer(PICTURE, class_filter=given)
    assert model.predictor.request.class_ids == meant


@pytest.mark.parametrize("wrong", ["bird", 2, -1, True, [None]])
def test_class_filter_names_what_it_does_not_know_and_what_there_is(model, wrong):
    with pytest.raises(InputError, match="cat, dog"):
        model.infer(PICTURE, class_filter=wrong)


def test_an_option_that_the_model_cannot_honour_is_refused_with_those_it_knows(model):
    with pytest.raises(InputError, match=r"no option retina_masks; it knows boxes, end2end"):
        model.infer(PICTURE, options=InferOptions(retina_masks=True))


def test_options_at_their_defaults_are_no_choice():
    assert InferOptions().chosen() == frozenset()


def test_a_choice_that_equals_nothing_counts_as_one():
    options = InferOptions(end2end=False, box_threshold=0.0, oks_nms=0)
    assert options.chosen() == {"end2end", "box_threshold", "oks_nms"}


def test_boxes_as_one_array_of_all_pictures_are_a_choice():
    assert InferOptions(boxes=np.zeros((1, 2, 4))).chosen() == {"boxes"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"letterbox": "round"},
        {"input_size": 640},
        {"input_size": (640, 0)},
        {"input_size": (640,)},
        {"max_persons": 0},
        {"max_candidates": -3},
        {"box_threshold": 101},
        {"oks_nms": "much"},
    ],
)
def test_an_option_with_an_impossible_value_is_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        InferOptions(**wrong)


def test_percentages_are_understood_in_options():
    assert InferOptions(box_threshold=30).box_threshold == 0.3


def test_boxes_come_once_for_each_picture(model):
    with pytest.raises(InputError, match="1 arrays for 2 pictures"):
        model.infer([PICTURE, PICTURE], options=InferOptions(boxes=[np.zeros((0, 4))]))


def test_one_picture_gives_a_list_of_one(model):
    assert [p.image_size for p in model.infer(PICTURE)] == [(30, 20)]


def test_a_list_may_mix_kinds_and_keeps_its_order(model, tmp_path):
    wide = np.zeros((5, 40, 3), np.uint8)
    path = tmp_path / "p.png"
    path.write_bytes(encode_image(wide, "png"))
    text = base64.b64encode(encode_image(wide, "png")).decode()
    found = model.infer([PICTURE, path, str(path), path.read_bytes(), text, PICTURE[..., 0]])
    assert [p.image_size for p in found] == [(30, 20), *[(40, 5)] * 4, (30, 20)]


def test_no_picture_gives_no_prediction(model):
    assert model.infer([]) == []


def test_a_call_is_infer(model):
    assert len(model((PICTURE, PICTURE))) == 2


def test_arrays_are_bgr_unless_said_otherwise(model):
    blue = np.zeros((4, 4, 3), np.uint8)
    blue[..., 0] = 255
    model.infer(blue)
    assert model.predictor.images[0][0, 0].tolist() == [0, 0, 255]
    model.infer(blue, color="rgb")
    assert model.predictor.images[0][0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("wrong", [None, 3, {"a": 1}, PICTURE.astype(float)])
def test_what_is_no_picture_is_an_input_error(model, wrong):
    with pytest.raises(InputError):
        model.infer(wrong)


def test_the_time_of_decoding_stands_in_the_timings(model):
    (found,) = model.infer(PICTURE)
    assert found.timings["decode"] >= 0


def test_attributes_come_from_the_description_and_the_predictor(model):
    assert (model.id, model.task, model.licence) == ("echo", "keypoint-detection", "MIT")
    assert (model.runtime, model.device, model.precision) == ("echo", "cpu", "f32")
    assert (model.class_names, dict(model.skeletons)) == (("cat", "dog"), {0: SKELETON})
    assert model.input_size == (32, 16)
    assert repr(model) == "<Model 'echo': keypoint-detection, 2 classes, echo on cpu in f32>"


def test_the_card_cannot_be_changed_through_the_model(model):
    with pytest.raises(TypeError):
        model.card["note"] = "y"


def test_warmup_runs_a_picture_of_the_input_size(model):
    model.warmup()
    assert [i.shape for i in model.predictor.images] == [(16, 32, 3)]


def test_leaving_the_context_closes(model):
    with model as same:
        assert same is model
    assert model.predictor.closed


def test_a_missing_file_is_not_taken_for_something_else(model):
    with pytest.raises(Exception, match="does not exist") as caught:
        model.infer(Path("no/such/picture.jpg"))
    assert caught.type.__name__ == "NotFoundError"


def test_pictures_may_come_in_objects_with_a_type(model):
    value = base64.b64encode(encode_image(PICTURE, "png")).decode()
    model.infer([{"type": "base64", "value": value}, {"type": "numpy_object", "value": PICTURE}])
    assert all((image == PICTURE).all() for image in model.predictor.images)
    assert len(model.predictor.images) == 2


def test_a_prediction_says_what_it_was_read_from(model):
    path = sample("people")
    data = path.read_bytes()
    found = model.infer([path, str(path), data, base64.b64encode(data).decode(), PICTURE])
    assert [p.source for p in found] == [str(path), str(path), None, None, None]


@pytest.mark.parametrize("wrong", [3, Boxes([[0, 0, 5, 5]])])
def test_given_boxes_are_a_list_with_an_entry_per_picture(model, wrong):
    with pytest.raises(InputError, match=r"give a list with one .* per picture"):
        model.infer(PICTURE, options=InferOptions(boxes=wrong))
