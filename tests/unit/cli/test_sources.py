"""What stands behind the names that a person gives."""

from __future__ import annotations

from pathlib import Path

from openkeypoints.cli.sources import find_sources


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


def test_what_is_to_be_left_out_is_not_taken_from_a_folder(put, tmp_path):
    kept, left = put("in/a.jpg"), put("in/b.jpg")
    assert names(find_sources([str(tmp_path / "in")], leave_out={left.resolve()})) == [str(kept)]
