"""The queue before a model: bounded, fair, with deadlines and callers who leave."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import numpy as np
import pytest

from openkeypoints.engine import Call, Engine
from openkeypoints.engine.admission import ByteBudget
from openkeypoints.engine.executor import Executor
from openkeypoints.engine.jobs import Job
from openkeypoints.errors import InputError, OverloadedError
from openkeypoints.models import InferOptions, Request
from tests.unit.engine.stubs import Shop, call, entered, limits, one_running, run, until


def waiting(engine: Engine, model_id: str = "a") -> int:
    return engine.stats().models[model_id].waiting


async def start(engine: Engine, asked: Call) -> asyncio.Task[Any]:
    """Begin a call and let it get as far as it can."""
    task = asyncio.create_task(engine.infer(asked))
    await asyncio.sleep(0)
    return task


def test_as_many_run_at_once_as_there_are_streams() -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits(streams=3))
        model = await one_running(engine, shop)
        answer = asyncio.create_task(engine.infer(call("a", 1, 2, 3, 4)))
        for _ in range(3):
            await entered(model)
        assert (engine.stats().models["a"].running, waiting(engine)) == (3, 1)
        model.gate.set()
        await answer
        assert len(model.threads) == 3

    run(work())


def test_calls_take_turns_image_by_image() -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits())
        model = await one_running(engine, shop)
        tasks = [await start(engine, call("a", 1))]
        await entered(model)
        tasks += [await start(engine, c) for c in (call("a", 11, 12, 13), call("a", 21, 22))]
        await until(lambda: waiting(engine) == 5)
        model.gate.set()
        await asyncio.gather(*tasks)
        assert [v for (v,) in model.seen] == [1, 11, 21, 12, 22, 13]

    run(work())


def test_a_full_queue_refuses_at_once() -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits(queue=2))
        model = await one_running(engine, shop)
        tasks = [await start(engine, call())]
        await entered(model)
        tasks += [await start(engine, call()) for _ in range(2)]
        await until(lambda: waiting(engine) == 2)
        with pytest.raises(OverloadedError, match="has room for 2") as caught:
            await engine.infer(call())
        assert (caught.value.reason, caught.value.retry_after_s >= 1) == ("queue", True)
        with pytest.raises(OverloadedError, match="has room for 2"):
            engine.refuse_if_full("a")
        model.gate.set()
        await asyncio.gather(*tasks)
        engine.refuse_if_full("a")
        engine.refuse_if_full("of which nothing is known")
        stats = engine.stats()
        assert (stats.rejected, stats.calls) == ({"queue": 2}, 5)

    run(work())


def test_a_call_larger_than_the_queue_goes_alone() -> None:
    async def work() -> None:
        answer = await Engine(Shop().open, limits(queue=2)).infer(call("a", 1, 2, 3, 4))
        assert len(answer.predictions) == 4

    run(work())


@pytest.mark.parametrize(("allowed", "text"), [({}, "2.0 s"), ({"deadline_s": 0.5}, "0.5 s")])
def test_a_call_that_would_wait_too_long_is_refused(allowed: dict[str, float], text: str) -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits())
        model = await one_running(engine, shop)
        executor = engine._pool._table["a"].executor
        assert executor is not None
        executor._service.add(1, 3.0)
        task = await start(engine, call())
        await entered(model)
        with pytest.raises(OverloadedError, match=f"would wait 3.0 s .* {text}") as caught:
            await engine.infer(call(**allowed))
        assert caught.value.retry_after_s == pytest.approx(3.0)
        model.gate.set()
        await task

    run(work())


def test_runs_teach_how_long_they_take() -> None:
    async def work() -> None:
        engine = Engine(Shop().open, limits())
        await engine.load("a")
        assert engine.stats().models["a"].service_s is None
        await engine.infer(call())
        service = engine.stats().models["a"].service_s
        assert service is not None
        assert 0 < service < 5

    run(work())


def test_a_deadline_that_passes_in_the_queue_ends_the_call_there() -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits())
        model = await one_running(engine, shop)
        first = await start(engine, call("a", 1))
        await entered(model)
        with pytest.raises(OverloadedError) as caught:
            await engine.infer(call("a", 2, deadline_s=0.02))
        assert caught.value.reason == "deadline"
        assert waiting(engine) == 0
        model.gate.set()
        await first
        await engine.infer(call("a", 3))
        assert model.seen == [[1], [3]]

    run(work())


def test_the_turn_of_a_call_that_is_too_late_is_passed_over() -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits())
        await engine.load("a")
        executor = engine._pool._table["a"].executor
        assert executor is not None
        with ByteBudget(1000).claim() as claim, executor.admit(1, 1e12) as ticket:
            job = Job(call(), claim, deadline=0.0)
            executor.submit(job, ticket)
            with pytest.raises(OverloadedError):
                await executor.outcome(job)
        assert shop.opened[0].seen == []

    run(work())


def test_a_thread_looks_at_the_deadline_before_it_begins() -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits())
        model = await one_running(engine, shop)
        first = await start(engine, call("a", 1))
        await entered(model)
        late = await start(engine, call("a", 2, deadline_s=0.05))
        await until(lambda: waiting(engine) == 1)
        time.sleep(0.1)  # noqa: ASYNC251  # the loop itself cannot end the call
        model.gate.set()
        while waiting(engine):
            time.sleep(0.001)  # noqa: ASYNC251
        with pytest.raises(OverloadedError):
            await late
        await first
        assert model.seen == [[1]]

    run(work())


def test_an_error_that_comes_when_nobody_waits_is_not_overlooked() -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits())
        model = await one_running(engine, shop)
        task = await start(engine, call())
        await entered(model)
        executor = engine._pool._table["a"].executor
        assert executor is not None
        (job,) = executor._active
        job.refuse(InputError("no"))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        model.gate.set()
        await until(lambda: engine.stats().models["a"].running == 0)
        del job
        gc.collect()

    run(work())


def test_a_thread_that_breaks_down_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Executor, turns: object) -> None:
        monkeypatch.undo()
        raise RuntimeError("a bug of ours")

    async def work() -> None:
        engine = Engine(Shop().open, limits())
        await engine.load("a")
        monkeypatch.setattr(Executor, "_infer", broken)
        with pytest.raises(OverloadedError, match="is being replaced"):
            await engine.infer(call())
        await engine.infer(call())

    run(work())
    assert "a bug of ours" in caplog.text


def test_a_run_that_began_in_time_gets_the_grace() -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits(grace_s=10.0))
        model = await one_running(engine, shop)
        task = await start(engine, call("a", 1, deadline_s=0.05))
        await entered(model)
        await asyncio.sleep(0.1)
        assert not task.done()
        model.gate.set()
        assert len((await task).predictions) == 1

    run(work())


def test_a_caller_who_leaves_takes_the_waiting_images_along() -> None:
    async def work() -> None:
        shop = Shop()
        engine = Engine(shop.open, limits())
        model = await one_running(engine, shop)
        leaving = await start(engine, call("a", 1, 2, 3))
        await entered(model)
        staying = await start(engine, call("a", 4))
        await until(lambda: waiting(engine) == 3)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert waiting(engine) == 1
        model.gate.set()
        await staying
        assert model.seen == [[1], [4]]
        stats = engine.stats()
        assert (stats.cancelled, stats.answered, stats.active) == (1, 1, 0)
        assert (stats.models["a"].running, stats.models["a"].calls) == (0, 0)

    run(work())


def test_pictures_that_wait_to_be_decoded_count_as_waiting() -> None:
    async def work() -> None:
        engine = Engine(Shop().open, limits(queue=1))
        await engine.load("a")
        executor = engine._pool._table["a"].executor
        assert executor is not None
        with executor.admit(1, 1e12):
            assert waiting(engine) == 1
            with pytest.raises(OverloadedError):
                await engine.infer(call())
        assert waiting(engine) == 0

    run(work())


# ---------------------------------------------------------------- on a GPU


def gpu(**changes: Any) -> tuple[Engine, Shop]:
    shop = Shop(device="cuda:0")
    return Engine(shop.open, limits(streams=4, batch_delay_s=0.0, **changes)), shop


def test_calls_with_the_same_thresholds_run_together() -> None:
    async def work() -> None:
        engine, shop = gpu()
        model = await one_running(engine, shop)
        tasks = [await start(engine, call("a", 1))]
        await entered(model)
        others = [call("a", 2), call("a", 3, request=Request(0.9)), call("a", 4, 5), call("a", 6)]
        tasks += [await start(engine, c) for c in others]
        await until(lambda: waiting(engine) == 5)
        model.gate.set()
        answers = await asyncio.gather(*tasks)
        assert [sorted(v) for v in model.seen] == [[1], [2, 4, 5, 6], [3]]
        assert [p.details["value"] for p in answers[3].predictions] == [4, 5]

    run(work())


def test_a_run_on_a_gpu_has_at_most_eight() -> None:
    async def work() -> None:
        engine, shop = gpu()
        model = await one_running(engine, shop)
        task = await start(engine, call("a", 0))
        await entered(model)
        many = await start(engine, call("a", *range(1, 13)))
        await until(lambda: waiting(engine) == 12)
        model.gate.set()
        await asyncio.gather(task, many)
        assert [len(values) for values in model.seen] == [1, 8, 4]

    run(work())


def test_a_run_waits_a_moment_for_more() -> None:
    async def work() -> None:
        shop = Shop(device="cuda:0")
        engine = Engine(shop.open, limits(batch_delay_s=10.0, max_batch=2))
        await engine.load("a")
        await asyncio.gather(engine.infer(call("a", 1)), engine.infer(call("a", 2)))
        assert [sorted(values) for values in shop.opened[0].seen] == [[1, 2]]

    run(work())


def test_a_caller_who_leaves_a_run_that_waits_for_more_is_not_run() -> None:
    async def work() -> None:
        shop = Shop(device="cuda:0")
        engine = Engine(shop.open, limits(batch_delay_s=10.0, max_batch=2))
        await engine.load("a")
        leaving = await start(engine, call("a", 1))
        await until(lambda: engine.stats().models["a"].running == 1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await engine.infer(call("a", 2))
        assert shop.opened[0].seen == [[2]]
        assert engine.stats().models["a"].running == 0

    run(work())


def test_calls_with_boxes_of_their_own_run_alone() -> None:
    async def work() -> None:
        engine, shop = gpu()
        model = await one_running(engine, shop)
        tasks = [await start(engine, call("a", 1))]
        await entered(model)
        request = Request(options=InferOptions(boxes=[np.zeros((2, 4))]))
        tasks += [await start(engine, call("a", v, request=request)) for v in (2, 3)]
        await until(lambda: waiting(engine) == 2)
        model.gate.set()
        await asyncio.gather(*tasks)
        assert model.seen == [[1], [2], [3]]

    run(work())


def test_an_error_in_a_shared_run_is_that_of_one_call() -> None:
    async def work() -> None:
        engine, shop = gpu()
        model = await one_running(engine, shop)
        run_all = model.run

        def picky(images: Any, *arguments: Any) -> Any:
            found = run_all(images, *arguments)
            if any(image[0, 0, 0] == 13 for image in images):
                raise InputError("unlucky")
            return found

        model.run = picky  # type: ignore[method-assign]
        tasks = [await start(engine, call("a", 1))]
        await entered(model)
        tasks += [await start(engine, call("a", v)) for v in (12, 13, 14)]
        await until(lambda: waiting(engine) == 3)
        model.gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(o, InputError) for o in outcomes] == [False, False, True, False]

    run(work())
