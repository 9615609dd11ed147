"""Names of outputs, and that nothing is written over what is not ours."""

from __future__ import annotations

import json
import os

import pytest

from openkeypoints.errors import InputError, OutputExistsError
from openkeypoints.outputs import RECORD, OutputFolder, output_names
from openkeypoints.sources import Source, find_sources
from tests.unit.cli.conftest import files


def named(*paths) -> dict[str, str]:
    found = find_sources([str(path) for path in paths])
    return {s.name: name.as_posix() for s, name in output_names(found.sources).items()}


def test_a_single_file_keeps_its_name(put):
    path = put("in/a.jpg")
    assert named(path) == {str(path): "a"}


def test_files_of_a_folder_keep_their_way_from_it(put, tmp_path):
    path = put("in/deep/a.jpg")
    assert named(tmp_path / "in") == {str(path): "deep/a"}


def test_files_of_the_same_name_stay_apart_by_their_folders(put):
    one, two = put("one/a.jpg"), put("two/a.jpg")
    assert named(one, two) == {str(one): "one/a", str(two): "two/a"}


def test_files_that_differ_by_their_ending_carry_it_in_the_name(put):
    jpg, png = put("a.jpg"), put("a.png")
    assert named(jpg, png) == {str(jpg): "a_jpg", str(png): "a_png"}


def test_names_that_are_still_the_same_are_numbered():
    sources = [Source("http://one.org/a.jpg"), Source("http://two.org/a.jpg?x=1")]
    assert sorted(n.as_posix() for n in output_names(sources).values()) == ["a_jpg", "a_jpg_2"]


def test_no_name_begins_as_an_option_does():
    names = output_names([Source("-"), Source("http://one.org/-rf.jpg")]).values()
    assert [name.as_posix() for name in names] == ["picture", "rf"]


def test_an_address_cannot_name_another_folder():
    (name,) = output_names([Source("http://one.org/..%2f..%2f/..\\..\\etc?x=/../y")]).values()
    assert "/" not in name.as_posix().replace("\\", "/")


def folder_for(path, *inputs, overwrite=False) -> OutputFolder:
    return OutputFolder(path, inputs=inputs, overwrite=overwrite)


def write(folder: OutputFolder, name: str, origin, data: bytes = b"new"):
    path = folder.claim(name, [origin])
    folder.write(path, data)
    return path


def test_a_run_with_the_same_input_replaces_its_output(put, tmp_path):
    source = put("in/a.jpg")
    write(folder_for(tmp_path / "out"), "a.json", source, b"old")
    path = write(folder_for(tmp_path / "out"), "a.json", source)
    assert path.read_bytes() == b"new"


def test_a_run_with_another_input_is_refused(put, tmp_path):
    write(folder_for(tmp_path / "out"), "a.json", put("in/a.jpg"))
    with pytest.raises(OutputExistsError, match="--overwrite"):
        folder_for(tmp_path / "out").claim("a.json", [put("other/a.jpg")])


def test_a_file_that_a_person_made_is_not_replaced(put, tmp_path):
    (tmp_path / "a.json").write_text("mine")
    with pytest.raises(OutputExistsError):
        folder_for(tmp_path).claim("a.json", [put("in/a.jpg")])


def test_overwrite_replaces_a_file_that_a_person_made(put, tmp_path):
    (tmp_path / "a.json").write_text("mine")
    path = write(folder_for(tmp_path, overwrite=True), "a.json", put("in/a.jpg"))
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("link", [os.link, os.symlink], ids=["hard", "symbolic"])
def test_a_link_to_an_input_is_never_replaced(put, tmp_path, link):
    source = put("in/a.jpg")
    (tmp_path / "out").mkdir()
    link(source, tmp_path / "out" / "a.jpg")
    with pytest.raises(OutputExistsError, match="input of this run"):
        folder_for(tmp_path / "out", source, overwrite=True).claim("a.jpg", [source])


def test_a_link_to_a_foreign_file_is_replaced_and_not_followed(put, tmp_path):
    foreign = tmp_path / "precious.json"
    foreign.write_text("mine")
    (tmp_path / "a.json").symlink_to(foreign)
    path = write(folder_for(tmp_path, overwrite=True), "a.json", put("in/a.jpg"))
    assert (foreign.read_text(), path.is_symlink()) == ("mine", False)


def test_folders_may_move_together_and_stay_known(put, tmp_path):
    write(folder_for(tmp_path / "home" / "out"), "a.json", put("home/in/a.jpg"))
    (tmp_path / "home").rename(tmp_path / "moved")
    moved = folder_for(tmp_path / "moved" / "out")
    assert moved.claim("a.json", [tmp_path / "moved" / "in" / "a.jpg"])


def test_a_damaged_record_vouches_for_nothing(put, tmp_path):
    source = put("in/a.jpg")
    write(folder_for(tmp_path / "out"), "a.json", source)
    (tmp_path / "out" / RECORD).write_text("{")
    with pytest.raises(OutputExistsError):
        folder_for(tmp_path / "out").claim("a.json", [source])


def test_what_was_claimed_and_not_written_is_forgotten(put, tmp_path):
    folder = folder_for(tmp_path / "out")
    folder.claim("bad.json", [put("in/bad.jpg")])
    write(folder, "a.json", put("in/a.jpg"))
    folder.finish()
    assert list(json.loads((tmp_path / "out" / RECORD).read_text())["made_from"]) == ["a.json"]


def test_the_record_holds_no_address(tmp_path):
    folder = folder_for(tmp_path / "out")
    write(folder, "a.json", Source("https://example.org/a.jpg?key=secret"))
    assert "example" not in (tmp_path / "out" / RECORD).read_text()


def test_a_file_cannot_be_the_folder(put):
    with pytest.raises(InputError, match="no folder"):
        folder_for(put("a.jpg"))


def test_a_folder_that_cannot_be_made_is_bad_input(put, tmp_path):
    put("a.jpg")
    folder = folder_for(tmp_path / "a.jpg" / "out")
    with pytest.raises(InputError, match="cannot be written"):
        write(folder, "x.json", put("in/x.jpg"))


def test_nothing_but_the_file_and_the_record_stays_behind(put, tmp_path):
    write(folder_for(tmp_path / "out"), "a.json", put("in/a.jpg"))
    assert files(tmp_path / "out") == [RECORD, "a.json"]


def test_what_came_from_standard_input_is_never_taken_for_the_same_again(tmp_path):
    write(folder_for(tmp_path / "out"), "a.json", Source("-"))
    with pytest.raises(OutputExistsError, match="not made from the same input"):
        write(folder_for(tmp_path / "out"), "a.json", Source("-"))
