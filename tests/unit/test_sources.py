"""What stands behind the names that a person gives."""

from __future__ import annotations

import json
from pathlib import Path

from openkeypoints.errors import NotFoundError
from openkeypoints.outputs import RECORD
from openkeypoints.sources import Source, find_sources


def names(found) -> list[str]:
    return [source.name for source in found.sources]


def test_a_folder_stands_for_the_pictures_below_it_in_order(put, tmp_path):
    for way in ("in/b.jpg", "in/a.PNG", "in/deep/er/c.tif", "in/text.txt"):
        put(way)
    found = find_sources([str(tmp_path / "in")])
    ways = [Path(name).relative_to(tmp_path).as_posix() for name in names(found)]
    assert ways == ["in/a.PNG", "in/b.jpg", "in/deep/er/c.tif"]


def test_hidden_files_and_folders_are_no_pictures(put, tmp_path):
    for way in ("in/.a.jpg", "in/.trash/b.jpg", "in/c.jpg"):
        put(way)
    assert len(find_sources([str(tmp_path / "in")]).sources) == 1


def test_a_picture_named_twice_is_taken_once(put, tmp_path):
    path = put("in/a.jpg")
    (tmp_path / "link.jpg").symlink_to(path)
    found = find_sources([str(path), str(tmp_path / "in"), str(tmp_path / "link.jpg")])
    assert names(found) == [str(path)]


def test_an_address_is_a_source_without_a_file():
    (source,) = find_sources(["https://example.org/a.jpg?key=secret"]).sources
    assert source.path is None


def test_the_label_of_an_address_has_no_query():
    (source,) = find_sources(["https://user:pw@example.org/a.jpg?key=secret"]).sources
    assert source.label == "https://example.org/a.jpg"


def test_a_folder_without_pictures_is_a_fault(tmp_path):
    found = find_sources([str(tmp_path)])
    assert found.sources == ()
    assert "holds no pictures" in str(found.faults[0])


def test_videos_in_a_folder_are_passed_over_with_a_note(put, tmp_path):
    put("in/a.jpg")
    put("in/clip.mp4")
    found = find_sources([str(tmp_path / "in")])
    assert len(found.sources) == 1
    assert "1 videos" in found.notes[0]


def wrote(folder: Path, *ways: str) -> None:
    record = {"made_from": {way: ["x.jpg"] for way in ways}}
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")


def test_what_we_wrote_is_left_out_as_the_record_of_any_folder_says(put, tmp_path):
    kept = put("in/deep/a.jpg")
    put("in/b.jpg")
    put("in/deep/er/c.jpg")
    wrote(tmp_path / "in", "b.jpg")
    wrote(tmp_path / "in/deep/er", "c.jpg")
    found = find_sources([str(tmp_path / "in")])
    assert names(found) == [str(kept)]
    assert "2 pictures" in found.notes[0]


def test_the_record_above_a_named_folder_counts_too(put, tmp_path):
    put("out/deep/a.jpg")
    wrote(tmp_path / "out", "deep/a.jpg")
    assert find_sources([str(tmp_path / "out/deep")]).sources == ()


def test_what_we_wrote_is_taken_where_somebody_names_it(put, tmp_path):
    path = put("in/a.jpg")
    wrote(tmp_path / "in", "a.jpg")
    assert names(find_sources([str(path)])) == [str(path)]


def test_a_pattern_stands_for_the_files_that_fit_in_order(put, tmp_path):
    for way in ("in/b.jpg", "in/a.jpg", "in/c.png", "in/deep/d.jpg"):
        put(way)
    found = find_sources([str(tmp_path / "in" / "*.jpg")])
    assert [Path(name).name for name in names(found)] == ["a.jpg", "b.jpg"]
    everywhere = find_sources([str(tmp_path / "in" / "**" / "*.jpg")])
    assert [Path(name).name for name in names(everywhere)] == ["a.jpg", "b.jpg", "d.jpg"]


def test_a_pattern_that_nothing_fits_is_not_found(tmp_path):
    (fault,) = find_sources([str(tmp_path / "*.jpg")]).faults
    assert isinstance(fault, NotFoundError)


def test_a_file_whose_name_looks_like_a_pattern_or_a_list_is_a_file(put, tmp_path, monkeypatch):
    odd = [put("shot[1].jpg"), put("@a.jpg")]
    monkeypatch.chdir(tmp_path)
    assert names(find_sources([path.name for path in odd])) == [path.name for path in odd]


def test_a_list_names_sources_from_its_own_folder_on(put, tmp_path):
    put("in/a.jpg")
    put("in/more/b.jpg")
    listed = tmp_path / "in" / "list.txt"
    listed.write_text("# mine\na.jpg\n\nmore\nhttps://example.org/c.jpg\n-\n", encoding="utf-8")
    found = find_sources([f"@{listed}"])
    assert names(found)[2] == "https://example.org/c.jpg"
    assert [Path(name).name for name in names(found)] == ["a.jpg", "b.jpg", "c.jpg"]
    assert "names '-': name files" in str(found.faults[0])


def test_a_list_may_begin_with_the_mark_of_its_encoding(put, tmp_path):
    picture = put("a.jpg")
    (tmp_path / "list.txt").write_text("a.jpg\n", encoding="utf-8-sig")
    assert names(find_sources([f"@{tmp_path / 'list.txt'}"])) == [str(picture)]


def test_a_list_that_is_not_there_is_not_found(tmp_path):
    (fault,) = find_sources([f"@{tmp_path / 'list.txt'}"]).faults
    assert isinstance(fault, NotFoundError)


def test_other_rooms_find_what_only_they_can_read(put):
    class Frame(Source):
        pass

    def finder(name):
        return [Frame(f"{name}#0"), Frame(f"{name}#1")] if name.endswith(".mp4") else None

    picture = put("a.jpg")
    found = find_sources([str(picture), "clip.mp4"], finders=[finder])
    assert names(found) == [str(picture), "clip.mp4#0", "clip.mp4#1"]
