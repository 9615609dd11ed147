from __future__ import annotations

import logging

import pytest

from openkeypoints.results import DEFAULT_SIGMA
from openkeypoints.skeletons import (
    load_skeleton,
    skeleton_from_coco_category,
    skeleton_from_names,
)

COCO = load_skeleton("coco17")


def category(**changes: object) -> dict[str, object]:
    skeleton = [[a + 1, b + 1] for a, b in COCO.edges]
    return {
        "id": 1,
        "name": "person",
        "keypoints": list(COCO.keypoints),
        "skeleton": skeleton,
        **changes,
    }


def test_names_of_a_packaged_skeleton_give_that_skeleton() -> None:
    assert skeleton_from_names("anything", COCO.keypoints) is COCO


def test_other_edges_keep_the_flips_and_colours_of_the_packaged_skeleton() -> None:
    made = skeleton_from_names("mine", COCO.keypoints, [(0, 1)])
    assert (made.name, made.edges) == ("mine", ((0, 1),))
    assert (made.flip, made.colors, made.groups) == (COCO.flip, COCO.colors, COCO.groups)


@pytest.mark.parametrize(
    "names",
    [
        ("left_paw", "right_paw", "tail"),
        ("paw-left", "paw-right", "tail"),
        ("l_paw", "r_paw", "tail"),
        ("LPaw Left", "LPaw Right", "tail"),
        ("pawR", "pawL", "tail"),
    ],
)
def test_flips_come_from_the_sides_in_names(names: tuple[str, ...]) -> None:
    expected = (0, 1, 2) if names[0] == "pawR" else (1, 0, 2)  # no mark parts R from the name
    assert skeleton_from_names("cat", names).flip == expected


def test_a_side_without_its_partner_stays_itself() -> None:
    assert skeleton_from_names("cat", ("left_paw", "bright_spot")).flip == (0, 1)


def test_known_joints_take_their_sigma_and_others_the_default() -> None:
    made = skeleton_from_names("mine", ("left_wrist", "antenna"))
    assert made.sigmas == (0.062, DEFAULT_SIGMA)


def test_sides_are_coloured_apart_and_sideless_points_each_for_itself() -> None:
    assert len(set(skeleton_from_names("a", ("left_x", "right_x", "middle")).colors)) == 3
    assert len(set(skeleton_from_names("b", ("top", "bottom", "middle")).colors)) == 3


def test_a_coco_category_of_the_packaged_skeleton_is_it() -> None:
    assert skeleton_from_coco_category(category()) is COCO


@pytest.mark.parametrize(
    "empty", [{"id": 1}, {"keypoints": []}, {"keypoints": None}, {"keypoints": "nose"}]
)
def test_a_category_without_keypoints_has_no_skeleton(empty: dict[str, object]) -> None:
    assert skeleton_from_coco_category(empty) is None


def test_edges_counted_from_zero_are_repaired() -> None:
    zero_based = [list(edge) for edge in COCO.edges]
    made = skeleton_from_coco_category(category(skeleton=zero_based))
    assert made is not None
    assert set(made.edges) == set(COCO.edges)


def test_edges_that_join_no_keypoints_are_dropped_and_told(caplog) -> None:
    skeleton = [[1, 2], [2, 18], [0, 17], [3, 3], [1, 2, 3], "x", None, ["a", "b"]]
    with caplog.at_level(logging.WARNING, logger="openkeypoints"):
        made = skeleton_from_coco_category(category(skeleton=skeleton))
    assert made is not None
    assert made.edges == ((0, 1),)
    assert "dropped 7 skeleton edges" in caplog.text


@pytest.mark.parametrize(
    "mirror",
    [
        {"flip_idx": [1, 0, 2]},
        {"flip_pairs": [[0, 1]]},
        {"flip_idx": [1, 2, 0]},
        {"flip_idx": [1, 0]},
        {"flip_pairs": [[0, 9]]},
        {"flip_pairs": "01"},
        {},
    ],
)
def test_flips_are_read_or_else_derived(mirror: dict[str, object]) -> None:
    names = ["left_paw", "right_paw", "tail"]
    made = skeleton_from_coco_category({"name": "cat", "keypoints": names, **mirror})
    assert made is not None
    assert made.flip == (1, 0, 2)


def test_flip_pairs_outrank_the_names() -> None:
    made = skeleton_from_coco_category({"keypoints": ["a", "b"], "flip_pairs": [[0, 1]]})
    assert made is not None
    assert made.flip == (1, 0)


@pytest.mark.parametrize(
    ("sigmas", "expected"), [([0.3, 0.4], (0.3, 0.4)), ([0.3], None), ([0.3, -1], None)]
)
def test_sigmas_are_optional(sigmas: list[float], expected: tuple[float, ...] | None) -> None:
    made = skeleton_from_coco_category({"keypoints": ["a", "b"], "sigmas": sigmas})
    assert made is not None
    assert made.sigmas == (expected or (DEFAULT_SIGMA, DEFAULT_SIGMA))
