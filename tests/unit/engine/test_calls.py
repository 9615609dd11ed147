"""What a call gets: its pictures decoded, in order, with errors that say which one is bad."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

import openkeypoints as okp
from openkeypoints.engine import Answer, Call, Engine, Limits
from openkeypoints.errors import (
    ImageDecodeError,
    ImageTooLargeError,
    InferenceError,
    InputError,
    OverloadedError,
)
from openkeypoints.models import InferOptions, Request
from openkeypoints.settings import Settings
from tests.unit.engine.stubs import LIMITS, Shop, call, limits, picture, run

device = "cpu"


@pytest.fixture(autouse=True, params=["cpu", "cuda:0"], ids=["at its turn", "ahead"])
def _decoding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU pictures are decoded at their turns, for a GPU ahead of them: calls are alike."""
    monkeypatch.setitem(globals(), "device", request.param)


def infer(*calls: Call, shop: Shop | None = None, limits: Limits = LIMITS) -> list[Answer]:
    async def work() -> list[Answer]:
        engine = Engine((shop or Shop(device=device)).open, limits)
        return [await engine.infer(c) for c in calls]

    return run(work())


def encoded(value: int = 0, **save: Any) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(picture(value)).save(buffer, "png", **save)
    return buffer.getvalue()


def test_bytes_and_arrays_come_back_in_order_with_their_pictures() -> None:
    (answer,) = infer(Call("a", (encoded(1), picture(2), encoded(3))), limits=limits(streams=3))
    assert [p.details["value"] for p in answer.predictions] == [1, 2, 3]
    assert [int(i[0, 0, 0]) for i in answer.images] == [1, 2, 3]


def test_the_timings_of_the_model_stay_and_decoding_is_that_of_the_engine() -> None:
    (answer,) = infer(Call("a", (encoded(), picture())))
    first, second = (p.timings for p in answer.predictions)
    assert first["run"] == 1.0
    assert first["decode"] > 0 == second["decode"]


def test_only_the_first_call_finds_the_model_cold() -> None:
    first, second = infer(call(), call())
    assert (first.cold_start, second.cold_start) == (True, False)
    assert first.waited_ms >= 0


def test_the_model_gets_rgb_and_what_the_call_says() -> None:
    shop = Shop(device=device)
    asked = Request(0.1, 0.2, 0.3, 4, ("thing",), InferOptions(max_persons=5))
    infer(call("a", request=asked), shop=shop)
    assert shop.opened[0].requests == [asked]


def test_each_picture_gets_its_own_boxes() -> None:
    shop = Shop(device=device)
    boxes = [np.full((1, 4), i, np.float32) for i in (1, 2)]
    infer(call("a", 1, 2, request=Request(options=InferOptions(boxes=boxes))), shop=shop)
    given = [request.options.boxes for request in shop.opened[0].requests]
    assert [(len(b), b[0][0, 0]) for b in given] == [(1, 1.0), (1, 2.0)]


@pytest.mark.parametrize(("orient", "shape"), [(True, (6, 4, 3)), (False, (4, 6, 3))])
def test_orientation_is_applied_unless_the_call_says_no(orient: bool, shape: Any) -> None:
    exif = PilImage.Exif()
    exif[0x0112] = 6
    (answer,) = infer(Call("a", (encoded(exif=exif),), orient=orient))
    assert answer.images[0].shape == shape


def test_one_bad_picture_fails_the_call_and_is_named() -> None:
    with pytest.raises(ImageDecodeError, match=r"^images\[1\]: ") as caught:
        infer(Call("a", (encoded(), b"nothing", encoded())))
    assert caught.value.code == "unreadable"


def test_a_single_bad_picture_has_no_number() -> None:
    with pytest.raises(ImageDecodeError, match=r"^the picture"):
        infer(Call("a", (b"",)))


def test_text_and_paths_are_never_read(tmp_path: Path) -> None:
    source: Any = str(okp.sample("people"))
    with pytest.raises(InputError, match=r"images\[0\] is a str"):
        infer(Call("a", (source,)))


@pytest.mark.parametrize("count", [0, 17])
def test_a_call_has_one_to_sixteen_pictures(count: int) -> None:
    with pytest.raises(InputError, match=f"has {count} images: give 1 to 16"):
        infer(Call("a", (picture(),) * count))


def test_boxes_must_be_as_many_as_pictures() -> None:
    with pytest.raises(InputError, match="boxes has 1 arrays for 2 pictures"):
        infer(call("a", 1, 2, request=Request(options=InferOptions(boxes=[np.zeros((0, 4))]))))


def test_a_picture_over_the_pixel_limit_is_not_decoded() -> None:
    with pytest.raises(ImageTooLargeError, match="6 x 4 pixels; at most 20"):
        infer(Call("a", (encoded(),)), limits=limits(max_pixels=20))


def test_pixels_count_before_they_are_decoded() -> None:
    with pytest.raises(ImageTooLargeError, match="send fewer or smaller"):
        infer(Call("a", (encoded(),)), limits=limits(inflight_bytes=len(encoded()) + 71))
    infer(Call("a", (encoded(),)), limits=limits(inflight_bytes=len(encoded()) + 72))


def test_what_the_model_says_of_one_of_several_pictures_is_numbered() -> None:
    async def work() -> None:
        shop = Shop(device=device)
        engine = Engine(shop.open, LIMITS)
        await engine.load("a")
        shop.opened[0].error = InputError("no such class")
        with pytest.raises(InputError, match=r"^images\[0\]: no such class"):
            await engine.infer(call("a", 1, 2))

    run(work())


def test_a_model_that_breaks_fails_that_call_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        shop = Shop(device=device)
        engine = Engine(shop.open, LIMITS)
        await engine.load("a")
        shop.opened[0].error = ZeroDivisionError("the inside")
        with pytest.raises(InferenceError) as caught:
            await engine.infer(call())
        assert "inside" not in str(caught.value)
        shop.opened[0].error = None
        await engine.infer(call())
        stats = engine.stats()
        assert (stats.failed, stats.answered, stats.models["a"].failures) == (1, 1, 1)

    with caplog.at_level(logging.ERROR, "openkeypoints"):
        run(work())
    assert "the inside" in caplog.text


def test_a_failure_teaches_nothing_of_how_long_a_run_takes() -> None:
    async def work() -> None:
        shop = Shop(device=device)
        engine = Engine(shop.open, LIMITS)
        await engine.load("a")
        shop.opened[0].error = InputError("no")
        with pytest.raises(InputError):
            await engine.infer(call())
        assert engine.stats().models["a"].service_s is None

    run(work())


def test_even_a_model_that_wants_to_exit_does_not_lose_its_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work() -> None:
        shop = Shop(device=device)
        engine = Engine(shop.open, LIMITS)
        await engine.load("a")
        shop.opened[0].error = SystemExit()
        with pytest.raises(InferenceError):
            await engine.infer(call())
        shop.opened[0].error = None
        assert (await engine.infer(call("a", 3))).predictions[0].details["value"] == 3

    run(work())


def test_the_memory_of_a_call_is_given_back_whatever_comes() -> None:
    async def work() -> None:
        engine = Engine(Shop(device=device).open, LIMITS)
        await engine.infer(Call("a", (encoded(),)))
        with pytest.raises(ImageDecodeError):
            await engine.infer(Call("a", (encoded(), b"nothing")))
        stats = engine.stats()
        assert (stats.inflight_bytes, stats.active, stats.models["a"].waiting) == (0, 0, 0)

    run(work())


def test_a_real_model_gives_what_it_gives_outside(tiny_okp: Path, tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path, streams=2, threads=2)
    data = okp.sample("people").read_bytes()
    with okp.get_model(tiny_okp, settings=settings) as model:
        expected = model.infer(data)[0]

    async def work() -> Answer:
        engine = Engine(
            lambda path: okp.get_model(path, settings=settings), Limits(streams=2, deadline_s=30)
        )
        answer = await engine.infer(Call(str(tiny_okp), (data, data)))
        await engine.drain(5)
        return answer

    answer = run(work())
    for found in answer.predictions:
        assert np.array_equal(found.boxes, expected.boxes)
        assert np.array_equal(found.keypoints, expected.keypoints)


def test_calls_are_refused_for_their_memory_while_others_hold_it() -> None:
    async def work() -> None:
        engine = Engine(Shop(device=device).open, limits(inflight_bytes=150))
        with engine._budget.claim() as other:
            other.add(100)
            with pytest.raises(OverloadedError) as caught:
                await engine.infer(call())
        assert caught.value.reason == "inflight"
        await engine.infer(call())

    run(work())
