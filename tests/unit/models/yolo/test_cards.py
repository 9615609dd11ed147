from __future__ import annotations

import pytest

from openkeypoints.errors import InputError, UnknownSkeletonError
from openkeypoints.models.yolo.cards import with_card
from openkeypoints.models.yolo.names import skeletons_for
from openkeypoints.models.yolo.spec import InputSpec, OutputSpec, YoloSpec


def spec(count=2, *, static=False):
    names = ("tube", "cap")
    output = OutputSpec(
        "columns", {"table": "output0"}, "one2many", 2, keypoints=(count, 3) if count else None
    )
    return YoloSpec(
        task="keypoint-detection",
        class_names=names,
        skeletons=skeletons_for(names, count) if count else {},
        input=InputSpec("images", (640, 640), static=static),
        outputs={"one2many": output},
    )


def test_an_empty_card_changes_nothing():
    assert with_card(spec(), {}) == spec()


def test_names_by_id_are_taken_too():
    assert with_card(spec(), {"class_names": {1: "b", 0: "a"}}).class_names == ("a", "b")


def test_names_of_keypoints_hold_for_every_class():
    made = with_card(spec(), {"keypoints": ["head", "tail"]}).skeletons
    assert [s.keypoints for s in made.values()] == [("head", "tail")] * 2


def test_names_of_keypoints_may_differ_by_class():
    made = with_card(spec(), {"keypoints": {"tube": ["head", "tail"], "cap": ["middle"]}}).skeletons
    assert [s.keypoints for s in made.values()] == [("head", "tail"), ("middle",)]


def test_a_class_that_the_card_leaves_out_keeps_its_keypoints():
    made = with_card(spec(), {"keypoints": {"cap": ["middle"]}}).skeletons
    assert made[0] == spec().skeletons[0]


@pytest.mark.parametrize("edge", [[0, 1], ["head", "tail"]])
def test_edges_are_given_by_number_or_name(edge):
    card = {"keypoints": ["head", "tail"], "skeleton": [edge]}
    assert with_card(spec(), card).skeletons[0].edges == ((0, 1),)


def test_edges_alone_keep_the_names():
    made = with_card(spec(), {"skeleton": [[0, 1]]}).skeletons[0]
    assert (made.keypoints, made.edges) == (("keypoint_0", "keypoint_1"), ((0, 1),))


def test_a_packaged_skeleton_is_taken_by_name():
    made = with_card(spec(17), {"skeleton": {"tube": "coco17"}}).skeletons
    assert (made[0].name, len(made[1])) == ("coco17", 17)


def test_the_input_is_changed():
    card = {"resize": "stretch", "fill": 0, "color": "bgr", "input_size": 320}
    entry = with_card(spec(), card).input
    assert (entry.fit, entry.fill, entry.bgr, entry.size) == ("stretch", 0, True, (320, 320))


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"class_names": ["one"]}, "has 1 class_names: give 2"),
        ({"class_names": "tube"}, "must be a list of names"),
        ({"keypoints": ["a", "b", "c"]}, "3 keypoints for 'tube'; the model has 2"),
        ({"keypoints": {"lid": ["a"]}}, "for the class 'lid'; the classes are tube, cap"),
        ({"keypoints": []}, "give a list of names"),
        ({"skeleton": [[0, 5]]}, r"the edge \[0, 5\].* from 0 to 1"),
        ({"skeleton": [["head", "tail"]]}, "give pairs of keypoint names"),
        ({"skeleton": [3]}, "the edge 3"),
        ({"input_size": [1, 2, 3]}, r"give one number, or \[width, height\]"),
        ({"confidence": "high"}, "confidence is 'high'"),
        ({"resize": "crop"}, "give letterbox or stretch"),
        ({"color": "cmyk"}, "give rgb or bgr"),
        ({"fill": 300}, "grey level from 0 to 255"),
        ({"family": "pico"}, "give yolo"),
        ({"colour": "rgb"}, "'colour', which a yolo model does not take; it takes class_names"),
    ],
)
def test_a_card_that_does_not_fit_says_what_would(card, message):
    with pytest.raises(InputError, match=message):
        with_card(spec(), card)


def test_a_skeleton_that_is_not_in_the_package_names_the_closest():
    with pytest.raises(UnknownSkeletonError, match="coco17"):
        with_card(spec(17), {"skeleton": "coco"})


def test_keypoints_of_a_model_without_any_are_refused():
    with pytest.raises(InputError, match="the model finds no keypoints"):
        with_card(spec(0), {"keypoints": ["a"]})


def test_a_graph_of_one_size_takes_no_other():
    with pytest.raises(InputError, match=r"takes \(640, 640\) and no other"):
        with_card(spec(static=True), {"input_size": 320})
