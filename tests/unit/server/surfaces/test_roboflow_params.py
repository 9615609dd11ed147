"""What clients ask for: scales, words and wrong values of both routes."""

from __future__ import annotations

import pytest

from openkeypoints.server.surfaces.roboflow_params import (
    MAX_STROKE,
    FieldError,
    Wanted,
    from_body,
    from_query,
)


@pytest.mark.parametrize(
    ("sent", "meant"),
    [("40", 0.4), ("0.4", 0.4), ("1", 0.01), ("0", 0.01), ("100", 1.0), ("0.95", 0.95)],
)
def test_legacy_confidence_of_1_and_more_is_per_cent_and_never_below_one(sent, meant):
    assert from_query({"confidence": sent}).request.confidence == pytest.approx(meant)


@pytest.mark.parametrize(
    ("sent", "meant"), [(40, 0.4), (0.4, 0.4), (1.0, 1.0), (0, 0.0), ("0.3", 0.3)]
)
def test_confidence_of_a_body_is_per_cent_above_1_alone(sent, meant):
    assert from_body({"confidence": sent}).request.confidence == pytest.approx(meant)


def test_default_means_the_threshold_of_the_model():
    assert from_query({"confidence": "default"}).request.confidence is None
    assert from_body({"confidence": "default"}).request.confidence is None


def test_what_nobody_sent_has_the_defaults_of_the_vendor():
    assert from_query({}) == from_body({}) == Wanted()
    usual = Wanted().request
    assert (usual.confidence, usual.iou_threshold, usual.max_detections) == (0.4, 0.3, 300)


@pytest.mark.parametrize(("sent", "meant"), [("30", 0.3), ("0.3", 0.3), ("1", 0.01), ("0", 0.0)])
def test_legacy_overlap_of_1_and_more_is_per_cent(sent, meant):
    assert from_query({"overlap": sent}).request.iou_threshold == pytest.approx(meant)


@pytest.mark.parametrize(("sent", "meant"), [("50", 0.5), ("0.5", 0.5), ("1", 1.0), ("0", 0.0)])
def test_legacy_keypoint_confidence_above_1_is_per_cent(sent, meant):
    assert from_query({"keypoint_confidence": sent}).request.keypoint_confidence == pytest.approx(
        meant
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confidence", "abc"),
        ("confidence", ""),
        ("confidence", "nan"),
        ("confidence", "inf"),
        ("confidence", "-1"),
        ("confidence", "101"),
        ("confidence", "best"),
        ("overlap", "abc"),
        ("keypoint_confidence", "101"),
        ("max_detections", "abc"),
        ("max_detections", "1.5"),
        ("max_detections", "-1"),
        ("stroke", "abc"),
        ("labels", "foo"),
        ("disable_preproc_auto_orient", "maybe"),
    ],
)
def test_wrong_parameter_is_named_and_its_value_is_not_repeated(name, value):
    with pytest.raises(FieldError) as raised:
        from_query({name: value})
    (detail,) = raised.value.details
    assert detail["loc"] == ["query", name]
    assert set(detail) == {"type", "loc", "msg"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confidence", None),
        ("confidence", True),
        ("confidence", [0.4]),
        ("iou_threshold", "abc"),
        ("max_detections", 10**400),
        ("max_candidates", 0),
        ("class_filter", "dog"),
        ("class_filter", [1]),
        ("visualize_predictions", "foo"),
        ("id", 7),
    ],
)
def test_wrong_field_of_a_body_is_named(name, value):
    with pytest.raises(FieldError) as raised:
        from_body({name: value})
    assert raised.value.details[0]["loc"] == ["body", name]


@pytest.mark.parametrize("word", ["true", "True", "1", "on", "yes"])
def test_every_way_to_say_yes_is_yes(word):
    assert from_query({"labels": word}).labels


@pytest.mark.parametrize("word", ["false", "False", "0", "off", "no"])
def test_every_way_to_say_no_is_no(word):
    assert not from_query({"labels": word}).labels


@pytest.mark.parametrize(
    ("word", "picture", "bare"),
    [
        ("json", False, False),
        ("image", True, True),
        ("image_and_json", True, False),
        ("xml", False, False),
    ],
)
def test_format_says_what_the_answer_holds(word, picture, bare):
    wanted = from_query({"format": word})
    assert (wanted.picture, wanted.bare) == (picture, bare)


def test_classes_are_a_list_with_commas_or_a_list():
    assert from_query({"classes": "person, dog,"}).request.class_filter == ("person", "dog")
    assert from_query({"class_filter": "dog"}).request.class_filter == ("dog",)
    assert from_body({"class_filter": ["dog"]}).request.class_filter == ("dog",)
    assert from_query({"classes": ""}).request.class_filter is None


def test_stroke_stays_within_what_can_be_drawn():
    assert from_query({"stroke": "-4"}).stroke == 1
    assert from_body({"visualization_stroke_width": 9999}).stroke == MAX_STROKE


def test_options_of_a_body_reach_the_model():
    wanted = from_body({"class_agnostic_nms": True, "max_candidates": 100, "id": "mine"})
    assert (wanted.request.options.class_agnostic, wanted.request.options.max_candidates) == (
        True,
        100,
    )
    assert wanted.inference_id == "mine"


def test_no_detections_at_all_are_asked_for_by_a_word_of_their_own():
    for wanted in (from_query({"max_detections": "0"}), from_body({"max_detections": 0})):
        assert (wanted.nothing, wanted.request.max_detections) == (True, 1)
    assert not from_body({}).nothing
