from __future__ import annotations

import json
from importlib import resources

import pytest

from openkeypoints.errors import UnknownSkeletonError
from openkeypoints.skeletons import list_skeletons, load_skeleton


def test_the_packaged_skeletons_are_listed() -> None:
    assert {"coco17", "lsp14", "person19", "sapiens308"} <= set(list_skeletons())


@pytest.mark.parametrize("name", list_skeletons())
def test_each_file_is_complete_and_says_where_it_comes_from(name: str) -> None:
    text = resources.files("openkeypoints.skeletons").joinpath(f"{name}.json").read_text("utf-8")
    row = json.loads(text)
    assert row["source"]
    assert row["licence"]
    assert row["name"] == name
    skeleton = load_skeleton(name)
    assert len(set(skeleton.keypoints)) == len(skeleton)
    assert len(row["sigmas"]) == len(row["colors"]) == len(row["flip"]) == len(skeleton)


@pytest.mark.parametrize("name", list_skeletons())
def test_no_group_is_named_like_a_keypoint(name: str) -> None:
    skeleton = load_skeleton(name)
    assert not set(skeleton.groups) & set(skeleton.keypoints)


@pytest.mark.parametrize("name", list_skeletons())
def test_partners_in_a_mirror_have_the_colours_of_the_two_sides(name: str) -> None:
    skeleton = load_skeleton(name)
    sided = [i for i, n in enumerate(skeleton.keypoints) if n.startswith("left_")]
    pairs = {(skeleton.colors[i], skeleton.colors[skeleton.flip[i]]) for i in sided}
    assert len(pairs) == 1
    assert len(set(next(iter(pairs)))) == 2


def test_the_first_points_of_person19_are_coco17() -> None:
    coco, person = load_skeleton("coco17"), load_skeleton("person19")
    assert person.keypoints == (*coco.keypoints, "neck", "head_top")
    assert person.sigmas[:17] == coco.sigmas


def test_sapiens308_contains_coco17_in_its_order() -> None:
    sapiens = load_skeleton("sapiens308")
    names = tuple(sapiens.keypoints[i] for i in sapiens.groups["coco17"])
    assert names == load_skeleton("coco17").keypoints


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(UnknownSkeletonError, match=r"'COCO-17'.*coco17"):
        load_skeleton("COCO-17")


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("coco17", "coco_mini/val.json"),
        ("lsp14", "lspet/val.json"),
        ("person19", "labels19/lspet_val.json"),
    ],
)
def test_names_are_in_the_order_of_the_data(name: str, file: str, shared) -> None:
    category = json.loads((shared / "data" / file).read_text("utf-8"))["categories"][0]
    assert tuple(category["keypoints"]) == load_skeleton(name).keypoints


@pytest.mark.oracle
def test_sapiens308_holds_the_published_facts_and_none_of_their_colours(shared) -> None:
    published = json.loads((shared / "models" / "sapiens308.json").read_text("utf-8"))
    skeleton = load_skeleton("sapiens308")
    assert list(skeleton.flip) == published["flip_indices"]
    assert list(skeleton.keypoints) == [k["name"] for k in published["keypoints"]]
    assert list(skeleton.sigmas) == [k["sigma"] for k in published["keypoints"]]
    assert [list(e) for e in skeleton.edges] == [[e["a"], e["b"]] for e in published["edges"]]
    theirs = {"#{:02x}{:02x}{:02x}".format(*k["color_rgb"]) for k in published["keypoints"]}
    assert not theirs & set(skeleton.colors)
