"""Everything at once: models come and go under calls that come, fail, leave and finish."""

from __future__ import annotations

import asyncio
import random

import pytest

from openkeypoints.engine import Engine, pool
from openkeypoints.errors import InputError, OverloadedError
from openkeypoints.models import Request
from tests.unit.engine.stubs import Shop, call, limits, run, until

MODELS = {"a": 2, "b": 2, "c": 3, "d": 1}
MB = 1 << 20


def test_every_answer_is_of_the_right_model_and_nothing_is_left_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "give_back_memory", lambda: None)  # slow, and of no matter here
    chance = random.Random(3)
    shop = Shop()

    async def visit(engine: Engine, number: int) -> str:
        model_id = chance.choice([*MODELS])
        values = [chance.randrange(256) for _ in range(chance.choice([1, 1, 1, 4]))]
        pictures = call(model_id, *values)
        if number % 17 == 0:
            pictures = call(model_id, *values, request=Request(class_filter=("bad",)))
        deadline = chance.choice([None, 0.001, 0.02])
        try:
            async with asyncio.timeout(deadline):  # a client who leaves
                answer = await engine.infer(pictures)
        except (OverloadedError, InputError, TimeoutError) as error:
            return type(error).__name__
        assert [p.details["value"] for p in answer.predictions] == values
        assert {p.model_id for p in answer.predictions} == {model_id}
        return "answered"

    async def work() -> None:
        engine = Engine(
            shop.open,
            limits(streams=2, memory_bytes=5 * MB),
            predict_bytes=lambda name: MODELS[name] * 4 * MB // 4,
        )
        engine._pool._held_bytes = lambda: 0
        tasks = []
        for number in range(400):
            tasks.append(asyncio.create_task(visit(engine, number)))
            if number % 40 == 0:
                tasks.append(asyncio.create_task(_unload(engine, chance.choice([*MODELS]))))
            if number % 3 == 0:
                await asyncio.sleep(0.001)
        outcomes = await asyncio.gather(*tasks)
        assert outcomes.count("answered") > 50
        await engine.clear()
        await until(lambda: not engine.stats().model_bytes)
        stats = engine.stats()
        assert (stats.active, stats.inflight_bytes, stats.models) == (0, 0, {})
        ends = stats.answered + stats.failed + stats.cancelled + sum(stats.rejected.values())
        assert ends == stats.calls == 400
        assert all(model.closed for model in shop.opened)

    run(work())


async def _unload(engine: Engine, model_id: str) -> str:
    await engine.unload(model_id)
    return "unloaded"
