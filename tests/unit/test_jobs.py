"""One run over sources: each has its answer, in order, whatever the others are."""

from __future__ import annotations

import pytest

from openkeypoints.errors import ImageDecodeError, InputError, NotFoundError
from openkeypoints.jobs import Answered, Unread, answers, run
from openkeypoints.models import Request
from openkeypoints.sources import Source
from tests.doubles import FixedDetector, model

BOX = [40, 25, 115, 112]


def sources(put, tmp_path) -> list[Source]:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    paths = [put("a.jpg"), tmp_path / "broken.jpg", tmp_path / "missing.jpg", put("b.jpg")]
    return [Source(str(path), path) for path in paths]


def test_a_bad_source_does_not_end_the_others(put, tmp_path):
    found = list(run(model(FixedDetector([BOX])), sources(put, tmp_path), Request()))
    first, broken, missing, last = found
    assert isinstance(broken, ImageDecodeError)
    assert isinstance(missing, NotFoundError)
    assert [p.boxes.tolist() for p in (first, last)] == [[BOX], [BOX]]
    assert (first.source, last.source) == (str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg"))
    assert first.timings["decode"] > 0


def test_the_pictures_come_along_for_those_who_draw(put, tmp_path):
    first, broken, *_ = answers(model(FixedDetector([BOX])), sources(put, tmp_path), Request())
    assert isinstance(first, Answered)
    assert first.image.shape == (425, 640, 3)
    assert isinstance(broken, Unread)


def test_sources_are_read_one_by_one(put):
    asked = []

    def some():
        for number in range(3):
            asked.append(number)
            path = put(f"{number}.jpg")
            yield Source(str(path), path)

    running = run(model(FixedDetector([BOX])), some(), Request())
    next(running)
    assert asked == [0]


def test_a_request_that_does_not_fit_ends_the_run_before_it_begins(put):
    path = put("a.jpg")
    running = run(model(FixedDetector([BOX])), [Source("a", path)], Request(class_filter=("cat",)))
    with pytest.raises(InputError, match="class_filter names 'cat'"):
        next(running)
