"""Models are loaded once for all, evicted by a budget, replaced when they hang, and drained."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from openkeypoints.engine import Engine
from openkeypoints.errors import InferenceError, OverloadedError, WeightsError
from tests.unit.engine.stubs import Shop, call, entered, limits, one_running, run, until

MB = 1 << 20


def sized(shop: Shop, sizes: Mapping[str, int], **changes: Any) -> Engine:
    """An engine whose models take so many MB, as predicted."""
    engine = Engine(shop.open, limits(**changes), predict_bytes=lambda name: sizes[name] * MB)
    engine._pool._held_bytes = lambda: sum(sizes[model.id] for model in shop.opened) * MB
    return engine


# ---------------------------------------------------------------- loading


def test_all_who_ask_wait_for_one_loading() -> None:
    async def work() -> None:
        shop = Shop()
        shop.gate.clear()
        engine = Engine(shop.open, limits())
        tasks = [asyncio.create_task(engine.infer(call("a", v))) for v in range(5)]
        tasks.append(asyncio.create_task(engine.load("a")))
        await until(lambda: shop.began.acquire(blocking=False))
        assert engine.stats().models["a"].state == "loading"
        assert not engine.loaded()
        shop.gate.set()
        answers = await asyncio.gather(*tasks)
        assert len(shop.opened) == 1
        assert [a.cold_start for a in answers[:5]] == [True] * 5
        assert engine.loaded()["a"].model is shop.opened[0]

    run(work())


def test_a_model_is_warm_before_it_is_ready() -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits())
        await engine.load("a")
        assert shop.opened[0].warmed
        assert engine.stats().models["a"].state == "ready"

    run(work())


def test_a_deadline_passes_while_the_model_goes_on_loading() -> None:
    async def work() -> None:
        shop = Shop()
        shop.gate.clear()
        engine = Engine(shop.open, limits())
        with pytest.raises(OverloadedError, match="still being loaded") as caught:
            await engine.infer(call(deadline_s=0.02))
        assert caught.value.reason == "loading"
        shop.gate.set()
        await engine.infer(call())
        assert len(shop.opened) == 1

    run(work())


def test_a_caller_who_leaves_does_not_end_the_loading() -> None:
    async def work() -> None:
        shop = Shop()
        shop.gate.clear()
        engine = Engine(shop.open, limits())
        task = asyncio.create_task(engine.infer(call()))
        await until(lambda: shop.began.acquire(blocking=False))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        shop.gate.set()
        await until(engine.loaded)
        assert engine.stats().models["a"].calls == 0

    run(work())


def test_no_more_calls_wait_for_a_loading_than_for_its_model() -> None:
    async def work() -> None:
        shop = Shop()
        shop.gate.clear()
        engine = Engine(shop.open, limits(queue=2))
        tasks = [asyncio.create_task(engine.infer(call())) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="2 calls wait for it"):
            await engine.infer(call())
        shop.gate.set()
        await asyncio.gather(*tasks)

    run(work())


def test_only_so_many_models_load_at_once() -> None:
    async def work() -> None:
        shop = Shop()
        shop.gate.clear()
        engine = Engine(shop.open, limits(max_loading=1))
        task = asyncio.create_task(engine.load("a"))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="are being loaded"):
            await engine.load("b")
        shop.gate.set()
        await task

    run(work())


def test_a_failed_loading_is_not_tried_again_at_once() -> None:
    async def work() -> None:
        shop = Shop()
        shop.error = WeightsError("the file is cut short")
        engine = Engine(shop.open, limits(backoff_s=60.0))
        for _ in range(3):
            with pytest.raises(WeightsError, match="cut short"):
                await engine.infer(call())
        assert shop.began._value == 1
        stats = engine.stats()
        assert (stats.models["a"].state, stats.load_failures, stats.failed) == ("failed", 1, 3)

    run(work())


def test_a_mended_model_loads_after_the_pause_which_doubles_up_to_a_limit() -> None:
    async def work() -> None:
        shop = Shop()
        shop.error = WeightsError("the file is cut short")
        engine = Engine(shop.open, limits(backoff_s=0.01, max_backoff_s=0.03))
        for pause in (0.01, 0.02, 0.03, 0.03):
            with pytest.raises(WeightsError):
                await engine.load("a")
            assert engine._pool._failures["a"].backoff_s == pause
            await asyncio.sleep(pause)
        shop.error = None
        await engine.load("a")
        assert "a" not in engine._pool._failures

    run(work())


def test_a_loading_that_breaks_says_nothing_of_the_inside() -> None:
    async def work() -> None:
        shop = Shop()
        shop.error = OSError(28, "No space left on device: '/secret'")
        engine = Engine(shop.open, limits())
        with pytest.raises(InferenceError, match="could not be loaded") as caught:
            await engine.infer(call())
        assert "secret" not in str(caught.value)

    run(work())


def test_failures_of_names_that_clients_make_up_do_not_pile_up() -> None:
    async def work() -> None:
        shop = Shop()
        shop.error = WeightsError("no such thing")
        engine = Engine(shop.open, limits(backoff_s=60.0))
        for i in range(300):
            with pytest.raises(WeightsError):
                await engine.load(f"m{i}")
        assert len(engine.stats().models) == 256

    run(work())


# ---------------------------------------------------------------- memory


def test_the_least_recently_used_model_makes_room() -> None:
    async def work() -> None:
        shop = Shop()
        engine = sized(shop, {"a": 2, "b": 2, "c": 2}, memory_bytes=5 * MB)
        for name in ("a", "b", "a", "c"):
            await engine.infer(call(name))
        assert list(engine.loaded()) == ["a", "c"]
        (evicted,) = shop.of("b")
        assert evicted.closed
        assert engine.stats().evictions == 1

    run(work())


def test_a_pinned_model_stays() -> None:
    async def work() -> None:
        shop = Shop()
        sizes = {"a": 2, "b": 2, "c": 2}
        engine = sized(shop, sizes, memory_bytes=5 * MB, pinned=frozenset({"a"}))
        for name in ("a", "b", "c"):
            await engine.load(name)
        assert list(engine.loaded()) == ["a", "c"]
        assert engine.loaded()["a"].pinned

    run(work())


def test_a_model_at_work_stays_and_the_newcomer_is_refused() -> None:
    async def work() -> None:
        shop = Shop()
        engine = sized(shop, {"a": 2, "b": 3}, memory_bytes=4 * MB)
        model = await one_running(engine, shop)
        task = asyncio.create_task(engine.infer(call("a", 7)))
        await entered(model)
        with pytest.raises(
            OverloadedError, match="'b' needs about 3 MB; of the 4 MB for models 2 MB"
        ) as caught:
            await engine.infer(call("b"))
        assert caught.value.reason == "memory"
        model.gate.set()
        assert (await task).predictions[0].details["value"] == 7
        await engine.infer(call("b"))
        assert list(engine.loaded()) == ["b"]

    run(work())


def test_a_model_that_can_never_fit_is_not_even_opened() -> None:
    async def work() -> None:
        shop = Shop()
        engine = sized(shop, {"a": 9}, memory_bytes=8 * MB)
        with pytest.raises(OverloadedError, match="'a' needs about 9 MB"):
            await engine.load("a")
        assert not shop.opened
        assert engine.stats().model_bytes == 0

    run(work())


def test_what_was_measured_counts_and_is_known_the_next_time() -> None:
    async def work() -> None:
        shop = Shop()
        engine = sized(shop, {"a": 0, "b": 0}, memory_bytes=100 * MB)
        engine._pool._held_bytes = lambda: 60 * MB * len(shop.opened)
        await engine.load("a")
        assert engine.loaded()["a"].bytes == 60 * MB
        await engine.load("b")  # found out afterwards that both do not fit
        assert list(engine.loaded()) == ["b"]
        before = len(shop.opened)
        await engine.load("a")  # known beforehand
        assert (list(engine.loaded()), len(shop.opened)) == (["a"], before + 1)

    run(work())


def test_a_file_that_is_gone_fails_when_it_is_opened_not_when_it_is_measured() -> None:
    async def work() -> None:
        def gone(_: str) -> int:
            raise FileNotFoundError

        shop = Shop()
        shop.error = WeightsError("the file is gone")
        with pytest.raises(WeightsError, match="gone"):
            await Engine(shop.open, limits(), predict_bytes=gone).load("a")

    run(work())


def test_a_model_that_turns_out_too_large_is_closed_again() -> None:
    async def work() -> None:
        shop = Shop()
        engine = sized(shop, {"a": 0}, memory_bytes=50 * MB)
        engine._pool._held_bytes = lambda: 60 * MB * len(shop.opened)
        with pytest.raises(OverloadedError):
            await engine.load("a")
        await until(lambda: shop.opened[0].closed)
        assert not engine.loaded()

    run(work())


# ---------------------------------------------------------------- unloading


def test_an_unloaded_model_finishes_its_calls_and_new_ones_load_it_anew() -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits())
        model = await one_running(engine, shop)
        task = asyncio.create_task(engine.infer(call("a", 1)))
        await entered(model)
        unloading = asyncio.create_task(engine.unload("a"))
        await asyncio.sleep(0)
        assert not engine.loaded()
        await engine.infer(call("a", 2))
        assert not model.closed
        model.gate.set()
        await asyncio.gather(task, unloading)
        assert (model.closed, shop.opened[1].closed) == (True, False)

    run(work())


def test_unloading_during_the_loading_serves_those_who_wait() -> None:
    async def work() -> None:
        shop = Shop()
        shop.gate.clear()
        engine = Engine(shop.open, limits())
        task = asyncio.create_task(engine.infer(call("a", 1)))
        await until(lambda: shop.began.acquire(blocking=False))
        unloading = asyncio.create_task(engine.unload("a"))
        await asyncio.sleep(0)
        shop.gate.set()
        assert (await task).cold_start
        await unloading
        assert shop.opened[0].closed

    run(work())


def test_clearing_takes_pinned_models_too_and_their_next_call_loads_them() -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits(pinned=frozenset({"a"})))
        await asyncio.gather(engine.load("a"), engine.load("b"))
        await engine.clear()
        assert not engine.loaded()
        assert all(model.closed for model in shop.opened)
        assert engine.stats().model_bytes == 0
        await engine.infer(call("a"))
        assert engine.loaded()["a"].pinned

    run(work())


def test_unloading_what_is_not_there_does_nothing() -> None:
    run(Engine(Shop().open, limits()).unload("nothing"))


# ---------------------------------------------------------------- hanging


def test_a_hanging_model_is_replaced_and_others_go_on() -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits(deadline_s=0.3, grace_s=0.1))
        await engine.load("b")
        model = await one_running(engine, shop)
        hanging = asyncio.create_task(engine.infer(call("a", 1)))
        await entered(model)
        queued = asyncio.create_task(engine.infer(call("a", 2)))
        await engine.infer(call("b"))
        outcomes = await asyncio.gather(hanging, queued, return_exceptions=True)
        assert [type(o) for o in outcomes] == [OverloadedError, OverloadedError]
        await until(lambda: len(shop.of("a")) == 2)
        assert (await engine.infer(call("a", 3))).predictions[0].details["value"] == 3
        await engine.infer(call("b"))
        assert (engine.stats().stuck, len(shop.of("b"))) == (1, 1)
        model.gate.set()
        await until(lambda: model.closed)
        await until(lambda: engine.stats().stuck == 0)

    run(work())


def test_a_model_that_hangs_again_and_again_is_given_up() -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits(deadline_s=0.05, grace_s=0.05))
        for copy in (1, 2):
            model = await one_running(engine, shop)
            with pytest.raises(OverloadedError):
                await engine.infer(call())
            await until(lambda: engine.stats().stuck == copy)  # noqa: B023
        with pytest.raises(OverloadedError, match="again and again") as caught:
            await engine.infer(call())
        assert caught.value.reason == "stuck"
        for model in shop.opened:
            model.gate.set()
        await until(lambda: engine.stats().stuck == 0)
        await engine.infer(call())

    run(work())


def test_a_short_deadline_of_a_client_does_not_make_a_slow_run_a_hang() -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits(grace_s=0.01))
        model = await one_running(engine, shop)
        with pytest.raises(OverloadedError) as caught:
            await engine.infer(call(deadline_s=0.01))
        assert caught.value.reason == "deadline"
        assert engine.stats().stuck == 0
        model.gate.set()
        await engine.infer(call())
        assert len(shop.opened) == 1

    run(work())


# ---------------------------------------------------------------- draining


def test_draining_refuses_new_calls_and_finishes_the_accepted_ones() -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits())
        model = await one_running(engine, shop)
        tasks = [asyncio.create_task(engine.infer(call("a", v))) for v in (1, 2)]
        await entered(model)
        draining = asyncio.create_task(engine.drain(10))
        await asyncio.sleep(0)
        assert engine.draining
        for refused in (engine.infer(call()), engine.load("a")):
            with pytest.raises(OverloadedError) as caught:
                await refused
            assert caught.value.reason == "draining"
        model.gate.set()
        assert len(await asyncio.gather(*tasks)) == 2
        await draining
        assert model.closed
        assert engine.stats().active == 0

    run(work())


def test_calls_that_load_when_draining_begins_are_finished() -> None:
    async def work() -> None:
        shop = Shop()
        shop.gate.clear()
        engine = Engine(shop.open, limits())
        task = asyncio.create_task(engine.infer(call()))
        await until(lambda: shop.began.acquire(blocking=False))
        draining = asyncio.create_task(engine.drain(10))
        await asyncio.sleep(0)
        shop.gate.set()
        assert (await task).cold_start
        await draining

    run(work())


@pytest.mark.parametrize("stage", ["loading", "running"])
def test_what_is_not_finished_when_the_time_is_up_is_refused(stage: str) -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits())
        if stage == "running":
            await one_running(engine, shop)
        else:
            shop.gate.clear()
        task = asyncio.create_task(engine.infer(call()))
        await asyncio.sleep(0)
        draining = asyncio.create_task(engine.drain(0.05))
        with pytest.raises(OverloadedError) as caught:
            await task
        assert caught.value.reason == "draining"
        shop.gate.set()
        for model in shop.opened:
            model.gate.set()
        await draining

    run(work())
