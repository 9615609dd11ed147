"""``okp predict``: what it writes where, and how it ends."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import supervision as sv

from openkeypoints import load
from openkeypoints.cli.options import PRECISIONS, RUNTIMES
from openkeypoints.errors import ImageDecodeError
from openkeypoints.images import read_image
from openkeypoints.outputs import RECORD
from openkeypoints.runtimes import RUNTIMES as ALL_RUNTIMES
from openkeypoints.runtimes.base import PRECISIONS as ALL_PRECISIONS
from openkeypoints.samples import sample
from openkeypoints.settings import Settings
from tests.unit.cli.conftest import files


def test_the_choices_are_those_of_the_library():
    assert ("auto", *ALL_RUNTIMES) == RUNTIMES
    assert ALL_PRECISIONS == PRECISIONS


def test_without_a_source_it_shows_an_example_that_runs(okp):
    done = okp("predict")
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"okp predict '{sample('people')}'" in done.stderr


def test_a_line_per_picture_says_what_was_found(predict):
    done = predict(sample("people"))
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{sample('people')}: 5 person (0.50, ")


def test_a_threshold_above_all_scores_finds_nothing(predict):
    assert predict(sample("people"), "--confidence", "99").stdout.endswith(": nothing found\n")


def test_the_best_instances_are_kept_where_their_number_is_limited(predict):
    all_found, best = (
        json.loads(predict(sample("people"), "--json", *limit).stdout)["predictions"]
        for limit in ((), ("--max-detections", "2"))
    )
    assert [row["confidence"] for row in best] == [row["confidence"] for row in all_found[:2]]


@pytest.mark.parametrize("value", ["-1", "101", "much"])
def test_a_threshold_that_is_no_share_is_wrong_usage(predict, value):
    assert predict(sample("people"), "--confidence", value).exit_code == 2


def test_json_is_one_line_per_picture_with_its_source(predict, put):
    paths = [str(put("a.jpg")), str(put("b.jpg"))]
    lines = [json.loads(line) for line in predict(*paths, "--json").stdout.splitlines()]
    assert [line["source"] for line in lines] == paths


def test_json_has_the_keys_of_roboflow(predict):
    (row, *_) = json.loads(predict(sample("people"), "--json").stdout)["predictions"]
    assert {"x", "y", "width", "height", "confidence", "class", "class_id", "keypoints"} <= set(row)
    assert {"x", "y", "confidence", "class", "class_id"} <= set(row["keypoints"][0])


def test_saved_json_loads_as_supervision_keypoints(predict, tmp_path):
    predict(sample("people"), "--save", "out")
    data = json.loads((tmp_path / "out" / "people.json").read_text())
    assert sv.KeyPoints.from_inference(data).xy.shape == (5, 17, 2)


def test_a_format_without_a_folder_is_written_to_stdout(predict):
    text = predict(sample("people"), "--format", "openkeypoints").stdout
    assert len(load({k: v for k, v in json.loads(text).items() if k != "source"}, "openkeypoints"))


def test_coco_on_stdout_is_one_list_for_all_pictures(predict, put):
    rows = json.loads(predict(put("a.jpg"), put("b.jpg"), "--format", "coco", "--json").stdout)
    assert {row["image_id"] for row in rows} == {1, 2}
    assert [row["id"] for row in rows] == list(range(1, len(rows) + 1))


def test_ultralytics_is_one_object_per_picture_with_its_rows(predict, put):
    line = json.loads(predict(put("a.jpg"), "--format", "ultralytics", "--json").stdout)
    assert list(line) == ["source", "results"]
    assert {"name", "class", "confidence", "box"} <= set(line["results"][0])


def test_coco_takes_the_numbers_in_the_names_for_ids(predict, put):
    rows = json.loads(predict(put("000000000042.jpg"), put("7.jpg"), "--format", "coco").stdout)
    assert {row["image_id"] for row in rows} == {42, 7}


def test_coco_saves_pictures_and_one_list(predict, put, tmp_path):
    predict(put("in/a.jpg"), put("in/b.jpg"), "--format", "coco", "--save", "out")
    assert files(tmp_path / "out") == [RECORD, "a.jpg", "b.jpg", "predictions.json"]


def test_the_saved_picture_is_the_input_with_something_drawn_on_it(predict, tmp_path):
    predict(sample("people"), "--save", "out")
    settings = Settings(cache_dir=tmp_path)
    before = read_image(sample("people"), settings=settings)
    after = read_image(tmp_path / "out" / "people.jpg", settings=settings)
    changed = np.abs(before.astype(int) - after).max(axis=2) > 60
    assert 0.001 < changed.mean() < 0.5


@pytest.mark.parametrize(("ending", "kept"), [(".png", ".png"), (".JPG", ".JPG"), (".gif", ".jpg")])
def test_a_drawing_keeps_its_ending_where_it_can_be_written(predict, put, tmp_path, ending, kept):
    predict(put(f"in/a{ending}"), "--save", "out")
    assert (tmp_path / "out" / f"a{kept}").is_file()


def test_a_bad_file_is_reported_and_skipped(predict, put, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    done = predict(tmp_path / "bad.jpg", put("good.jpg"), "--json")
    assert (done.exit_code, done.stdout.count("\n")) == (4, 1)
    assert done.stderr.startswith("okp: ")
    assert "bad.jpg" in done.stderr


def test_a_missing_file_beside_a_good_one_is_bad_input(predict, put):
    done = predict("missing.jpg", put("good.jpg"))
    assert (done.exit_code, done.stdout.count("\n")) == (4, 1)


def test_nothing_but_missing_files_is_not_found(predict):
    assert predict("missing.jpg", "gone.jpg").exit_code == 3


def test_an_empty_folder_is_bad_input(predict, tmp_path):
    (tmp_path / "empty").mkdir()
    assert predict("empty").exit_code == 4


def test_a_video_is_refused_with_the_command_that_will_read_it(predict, tmp_path):
    (tmp_path / "clip.dat").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    done = predict("clip.dat")
    assert done.exit_code == 4
    assert "okp stream" in done.stderr


def test_an_address_is_fetched(predict, tmp_path):
    shutil.copy(sample("people"), tmp_path / "a.jpg")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/a.jpg?key=secret"
        done = predict(address, "--save", "out")
        server.shutdown()
    assert done.exit_code == 0
    assert files(tmp_path / "out") == [RECORD, "a.jpg", "a.json"]


# ------------------------------------------------------------------ never over an input


def contents(folder) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder)}


@pytest.mark.parametrize("how", ["folder", "file", "dot", "linked folder"])
def test_saving_beside_the_inputs_leaves_them_as_they_are(predict, put, tmp_path, how):
    put("in/a.jpg")
    put("in/deep/b.png")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    before = contents(tmp_path / "in")
    names = {"folder": ("in", "in"), "file": ("in/a.jpg", "in"), "dot": ("in/a.jpg", "in/../in/.")}
    source, folder = names.get(how, ("in", "link"))
    assert predict(source, "--save", folder, "--overwrite").exit_code == 0
    after = contents(tmp_path / "in")
    assert {name: after[name] for name in before} == before
    assert "a_keypoints.jpg" in after
    assert "a_keypoints.json" in after


def test_beside_the_input_the_name_is_another_also_where_the_ending_is(predict, put, tmp_path):
    put("in/a.gif")  # drawn as .jpg, so that the input's own name would be free
    predict("in/a.gif", "--save", "in")
    assert files(tmp_path / "in") == [RECORD, "a.gif", "a_keypoints.jpg", "a_keypoints.json"]


def test_a_second_run_beside_the_inputs_does_not_take_the_first_ones_files(predict, put, tmp_path):
    put("in/a.jpg")
    predict("in", "--save", "in")
    assert predict("in", "--save", "in").exit_code == 0
    assert files(tmp_path / "in") == [RECORD, "a.jpg", "a_keypoints.jpg", "a_keypoints.json"]


@pytest.mark.parametrize("link", ["hardlink_to", "symlink_to"])
def test_an_output_that_is_a_link_to_an_input_gets_another_name(predict, put, tmp_path, link):
    source = put("in/a.jpg")
    (tmp_path / "out").mkdir()
    getattr(tmp_path / "out" / "a.jpg", link)(source)
    before = source.read_bytes()
    assert predict("in", "--save", "out", "--overwrite").exit_code == 0
    assert source.read_bytes() == before == (tmp_path / "out" / "a.jpg").read_bytes()
    assert (tmp_path / "out" / "a_keypoints.jpg").is_file()


def test_a_picture_that_is_the_output_of_another_is_never_replaced(predict, put):
    first, second = put("in/a.jpg"), put("in/a_keypoints.jpg")
    before = second.read_bytes()
    assert predict(first, second, "--save", "in", "--overwrite").exit_code == 4
    assert second.read_bytes() == before


def test_the_card_is_never_replaced(predict, put, tmp_path):
    (tmp_path / "out").mkdir()
    card = tmp_path / "out" / "a.json"
    card.write_text('{"licence": "mine"}')
    done = predict(put("in/a.jpg"), "--save", "out", "--card", card, "--overwrite")
    assert (done.exit_code, card.read_text()) == (4, '{"licence": "mine"}')


def test_outputs_of_another_picture_are_kept_and_nothing_is_done(predict, put, tmp_path):
    predict(put("one/a.jpg"), "--save", "out")
    before = contents(tmp_path / "out")
    done = predict(put("two/a.jpg"), "--save", "out")
    assert (done.exit_code, done.stdout) == (4, "")
    assert contents(tmp_path / "out") == before


def test_overwrite_replaces_outputs_of_another_picture(predict, put):
    predict(put("one/a.jpg"), "--save", "out")
    assert predict(put("two/a.jpg"), "--save", "out", "--overwrite").exit_code == 0


def test_a_file_with_a_wrong_ending_is_read_all_the_same(predict, put):
    assert predict(put("a.unknown")).exit_code == 0


def test_the_reason_for_a_bad_file_is_the_librarys(predict, tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(ImageDecodeError) as raised:
        read_image(tmp_path / "empty.jpg", settings=Settings(cache_dir=tmp_path))
    name = str(tmp_path / "empty.jpg")
    assert predict(name).stderr == f"okp: {raised.value}\n"


WRITE_ONLY = """
import openkeypoints.formats as formats
formats.FORMATS["count"] = formats.Format(lambda p: {"count": len(p)}, None, frozenset())
from openkeypoints.cli import main
main()
"""


def test_a_format_that_is_only_written_reaches_the_command_by_its_line_in_the_table(tmp_path):
    arguments = ["predict", str(sample("people")), "--format", "count"]
    done = subprocess.run(
        [sys.executable, "-c", WRITE_ONLY, *arguments], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {"source": str(sample("people")), "count": 2}


def test_what_an_earlier_run_wrote_is_no_input_wherever_the_new_one_writes(predict, put, tmp_path):
    put("in/a.jpg")
    predict("in", "--save", "in")
    assert files(tmp_path / "in") == [RECORD, "a.jpg", "a_keypoints.jpg", "a_keypoints.json"]
    again = predict("in", "--save", "out")
    assert "1 pictures in 'in' passed over: okp wrote them" in again.stderr
    assert files(tmp_path / "out") == [RECORD, "a.jpg", "a.json"]


def test_a_picture_may_come_from_standard_input(tiny_okp):
    command = [sys.executable, "-m", "openkeypoints.cli", "predict", "-", "--model", tiny_okp]
    done = subprocess.run(
        [*command, "--json"], input=sample("people").read_bytes(), capture_output=True, check=True
    )
    assert json.loads(done.stdout)["source"] == "-"
    broken = subprocess.run(command, input=b"no picture", capture_output=True, check=False)
    assert broken.returncode == 4
    assert b"standard input" in broken.stderr
