"""The keypoints that a caller asks for by name or by group."""

from __future__ import annotations

import pytest

from openkeypoints.errors import InputError
from openkeypoints.models.selection import part_of
from openkeypoints.results import Skeleton
from openkeypoints.skeletons import load_skeleton

TUBE = Skeleton("tube", ("head", "tail"))


def test_names_are_taken_in_the_order_of_the_skeleton():
    skeletons, rows = part_of({0: load_skeleton("coco17")}, ["left_ear", "nose"])
    assert skeletons[0].keypoints == ("nose", "left_ear")
    assert rows == {0: (0, 3)}


def test_a_group_stands_for_its_keypoints():
    whole = Skeleton("face", ("nose", "chin", "hand"), groups={"head": (0, 1)})
    skeletons, rows = part_of({0: whole}, ["head"])
    assert skeletons[0].keypoints == ("nose", "chin")
    assert rows == {0: (0, 1)}


def test_a_class_that_has_none_of_them_is_left_without():
    skeletons, rows = part_of({0: TUBE, 3: load_skeleton("coco17")}, ["tail"])
    assert (skeletons[0].keypoints, skeletons[3].keypoints) == (("tail",), ())
    assert rows == {0: (1,), 3: ()}


@pytest.mark.parametrize("wrong", [["nose", "tip"], []])
def test_unknown_names_and_none_are_refused(wrong):
    with pytest.raises(InputError, match="keypoints names"):
        part_of({0: TUBE}, wrong)
