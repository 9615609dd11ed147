"""The reader of COCO-keypoints files, on the defects of real ones."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest

from openkeypoints.errors import FormatError, NotFoundError
from openkeypoints.train.coco import load_coco, read_dataset
from tests.drawn import category, write_coco

IMAGE = {"id": 1, "file_name": "1.png", "width": 40, "height": 30}


def row(**fields):
    keypoints = [1, 2, 2, 3, 4, 1, 0, 0, 0]
    base = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 20]}
    return {**base, "keypoints": keypoints, **fields}


@pytest.fixture
def read(tmp_path):
    (tmp_path / "1.png").write_bytes(b"one")

    def dataset(*rows, categories=None, images=(IMAGE,), arguments=None, **more):
        path = write_coco(
            tmp_path / "train.json",
            images=list(images),
            annotations=list(rows),
            categories=categories or [category(["a", "b", "c"])],
            **more,
        )
        return read_dataset(path, **(arguments or {}))

    return dataset


def only(dataset):
    (picture,) = dataset.pictures
    return picture


def test_an_annotation_becomes_arrays(read):
    dataset = read(row())
    picture = only(dataset)
    assert (dataset.class_names, dataset.keypoint_names) == (("thing",), ("a", "b", "c"))
    assert (picture.image_id, picture.size, picture.read()) == (1, (40, 30), b"one")
    assert picture.boxes.tolist() == [[2, 3, 12, 23]]
    assert picture.keypoints.tolist() == [[[1, 2], [3, 4], [0, 0]]]
    assert picture.weights.tolist() == [[1, 1, 0]]
    assert picture.annotation_ids.tolist() == [5]
    assert not picture.ignore[0]


def test_a_picture_without_annotations_has_empty_arrays(read):
    picture = only(read())
    assert picture.boxes.shape == (0, 4)
    assert picture.keypoints.shape == (0, 3, 2)
    assert picture.weights.shape == (0, 3)
    assert picture.ignore.dtype == bool


def test_edges_that_name_no_keypoint_do_not_matter(read):
    wild = category(["a", "b", "c"], skeleton=[[1, 2], [2, 17], [0, 99]])
    assert len(only(read(row(), categories=[wild])).boxes) == 1


def test_a_category_without_keypoints_gives_boxes_alone(read):
    bare = {"id": 1, "name": "box"}
    dataset = read(row(keypoints=[]), categories=[bare])
    assert dataset.keypoint_names == ()
    assert only(dataset).weights.shape == (1, 0)


def test_categories_with_and_without_keypoints_live_together(read):
    rows = [row(), row(id=6, category_id=2, keypoints=[])]
    dataset = read(*rows, categories=[category(["a", "b", "c"]), {"id": 2, "name": "ball"}])
    assert only(dataset).class_ids.tolist() == [0, 1]
    assert only(dataset).weights.sum(1).tolist() == [2, 0]


def test_a_category_without_a_name_gets_one(read):
    dataset = read(row(), categories=[{"id": 1, "keypoints": ["a", "b", "c"]}])
    assert dataset.class_names == ("class 1",)


@pytest.mark.parametrize("keypoints", [[0] * 9, [], None, [1, 2, 2]])
def test_an_instance_without_usable_keypoints_is_a_box_all_the_same(read, keypoints):
    picture = only(read(row(keypoints=keypoints, num_keypoints=0)))
    assert len(picture.boxes) == 1
    assert picture.weights.sum() == 0


def test_fractional_visibility_means_labelled(read):
    picture = only(read(row(keypoints=[1, 2, 0.37, 3, 4, 0.0, 5, 6, 1.8])))
    assert picture.weights.tolist() == [[1, 0, 1]]


@pytest.mark.parametrize("flag", ["iscrowd", "ignore"])
def test_crowds_and_ignored_instances_are_kept_as_such(read, flag):
    assert only(read(row(**{flag: 1}))).ignore.tolist() == [True]


@pytest.mark.parametrize(
    "box", [[2, 3, 0, 5], [2, 3, 5, -1], [], None, [1, 2, 3], [float("nan"), 3, 4, 5]]
)
def test_a_box_without_area_is_left_out(read, box):
    assert len(only(read(row(bbox=box))).boxes) == 0


def test_an_unknown_category_is_left_out(read):
    assert len(only(read(row(category_id=9))).boxes) == 0


def test_an_annotation_of_no_picture_is_left_out(read):
    assert len(only(read(row(image_id=77))).boxes) == 0


def test_a_keypoint_that_is_no_number_is_not_labelled(read):
    picture = only(read(row(keypoints=[float("nan"), 2, 2, 3, 4, 2, 5, 6, 2])))
    assert picture.weights.tolist() == [[0, 1, 1]]
    assert np.isfinite(picture.keypoints).all()


def test_weights_are_taken_where_they_fit(read):
    picture = only(read(row(weights=[0.4, 0.0, 0.9])))
    assert np.allclose(picture.weights, [[0.4, 0, 0]])
    assert only(read(row(weights=[0.4]))).weights.tolist() == [[1, 1, 0]]


def test_small_instances_are_ignored(read):
    picture = only(read(row(), row(id=6, bbox=[0, 0, 9, 30]), arguments={"min_side": 10}))
    assert picture.ignore.tolist() == [False, True]


def test_keypoints_are_matched_by_name_into_given_slots(read):
    dataset = read(row(), arguments={"keypoint_names": ("x", "b", "a")})
    assert only(dataset).keypoints.tolist() == [[[0, 0], [3, 4], [1, 2]]]
    assert only(dataset).weights.tolist() == [[0, 1, 1]]


def test_keypoints_of_all_classes_share_slots_by_name(read):
    categories = [category(["a", "b"]), category(["b", "c"], id=2)]
    rows = [row(keypoints=[1, 1, 2, 2, 2, 2]), row(category_id=2, keypoints=[3, 3, 2, 4, 4, 2])]
    dataset = read(*rows, categories=categories)
    assert dataset.keypoint_names == ("a", "b", "c")
    assert only(dataset).weights.tolist() == [[1, 1, 0], [0, 1, 1]]
    assert only(dataset).keypoints[1, 1].tolist() == [3, 3]


def test_ids_of_pictures_may_be_text(read):
    image = {**IMAGE, "id": "abc"}
    picture = only(read(row(image_id="abc"), images=[image]))
    assert picture.image_id == "abc"
    assert len(picture.boxes) == 1


@pytest.mark.parametrize("info", [None, [], {}, {"pictures": None}])
def test_info_may_be_anything(read, info):
    assert only(read(row(), info=info)).read() == b"one"


@pytest.mark.parametrize(
    ("rows", "images", "named"),
    [
        ([row(bbox=["a", 1, 2, 3])], [IMAGE], r"annotations\[0\]"),
        ([row(), "text"], [IMAGE], r"annotations\[1\]"),
        ([{"category_id": 1, "bbox": [1, 1, 2, 2]}], [IMAGE], r"annotations\[0\]"),
        ([], [IMAGE, {"id": 2, "file_name": "1.png"}], r"images\[1\]"),
        ([], [{**IMAGE, "file_name": 7}], r"images\[0\]"),
    ],
)
def test_a_row_that_nobody_understands_is_named(read, rows, images, named):
    with pytest.raises(FormatError, match=named):
        read(*rows, images=images)


def test_categories_that_nobody_understands_are_named(read):
    with pytest.raises(FormatError, match="categories"):
        read(row(), categories=[{"name": "without id"}])


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"images": [], "annotations": {}}'])
def test_what_is_no_coco_file_is_refused_by_name(tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(FormatError, match=r"t\.json"):
        load_coco(tmp_path / "t.json")


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match=r"t\.json"):
        read_dataset(tmp_path / "t.json")


# ---------------------------------------------------------------- where pictures lie


@pytest.mark.parametrize(
    ("place", "file"),
    [
        ("", "train.json"),
        ("train", "train.json"),
        ("images", "train.json"),
        ("images/train", "train.json"),
        ("train", "train_small.json"),
        ("train2017", "annotations/person_keypoints_train2017.json"),
        ("images/val2017", "annotations/person_keypoints_val2017.json"),
    ],
)
def test_pictures_are_found_in_the_usual_folders(tmp_path, place, file):
    for folder in ("other", "train", "annotations", place):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "other" / "1.png").write_bytes(b"another")
    (tmp_path / place / "1.png").write_bytes(b"there")
    path = write_coco(tmp_path / file, images=[IMAGE])
    assert only(read_dataset(path)).read() == b"there"


def test_the_file_may_say_where_its_pictures_are(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "1.png").write_bytes(b"other")
    (tmp_path / "labels").mkdir()
    path = write_coco(tmp_path / "labels" / "t.json", images=[IMAGE], info={"pictures": "../other"})
    assert only(read_dataset(path)).read() == b"other"


def test_the_caller_may_say_where_the_pictures_are(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "1.png").write_bytes(b"given")
    path = write_coco(tmp_path / "t.json", images=[IMAGE], info={"pictures": "wrong"})
    assert only(read_dataset(path, pictures=tmp_path / "p")).read() == b"given"


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_pictures_are_found_in_tars(tmp_path):
    write_tar(tmp_path / "a.tar", {"images/0.png": b"zero", "images/1.png": b"one"})
    write_tar(tmp_path / "b.tar", {"2.png": b"two"})
    images = [{**IMAGE, "id": i, "file_name": f"{i}.png"} for i in (2, 1, 0)]
    dataset = read_dataset(write_coco(tmp_path / "t.json", images=images))
    assert [p.read() for p in dataset.pictures] == [b"two", b"one", b"zero"]


def test_equal_names_in_a_tar_are_told_apart_by_their_folders(tmp_path):
    write_tar(tmp_path / "a.tar", {"x/val/1.png": b"val", "x/train/1.png": b"train"})
    image = {**IMAGE, "file_name": "train/1.png"}
    path = write_coco(tmp_path / "t.json", images=[image])
    assert only(read_dataset(path)).read() == b"train"


def test_a_compressed_tar_is_refused_by_name(tmp_path):
    write_tar(tmp_path / "a.tar", {"1.png": b"x" * 2000}, "w:gz")
    with pytest.raises(FormatError, match=r"a\.tar is no uncompressed tar"):
        read_dataset(write_coco(tmp_path / "t.json", images=[IMAGE]))


def test_a_missing_picture_is_named_before_any_training(tmp_path):
    with pytest.raises(NotFoundError, match=r"1\.png"):
        read_dataset(write_coco(tmp_path / "t.json", images=[IMAGE]))


# ---------------------------------------------------------------- real files


@pytest.mark.slow
@pytest.mark.oracle
def test_every_annotation_file_of_the_packs_is_read_and_its_pictures_found(shared):
    files = [
        path
        for path in sorted((shared / "data").rglob("*.json"))
        if b'"annotations"' in path.read_bytes()
    ]
    assert len(files) >= 30
    for path in files:
        data = json.loads(path.read_bytes())
        dataset = read_dataset(path)
        assert len(dataset.pictures) == len(data["images"]), path
        boxes = sum(len(p.boxes) for p in dataset.pictures)
        assert boxes == sum(min(a["bbox"][2:]) > 0 for a in data["annotations"]), path
        labelled = sum(int((p.weights > 0).sum()) for p in dataset.pictures)
        names = {c["id"]: c.get("keypoints", []) for c in data["categories"]}
        assert labelled == sum(
            v > 0 and w > 0
            for a in data["annotations"]
            if len(a.get("keypoints", ())) == 3 * len(names[a["category_id"]])
            for v, w in zip(
                a.get("keypoints", [])[2::3],
                a.get("weights", [1] * len(names[a["category_id"]])),
                strict=True,
            )
        ), path
        if dataset.pictures:
            assert len(dataset.pictures[-1].read()) > 100
