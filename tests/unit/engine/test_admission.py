"""Runs are predicted from those that were, and memory is shared out."""

from __future__ import annotations

import pytest

from openkeypoints.engine.admission import RUNS, ByteBudget, ServiceTime, predicted_wait
from openkeypoints.errors import ImageTooLargeError, OverloadedError


def test_nothing_is_predicted_before_the_first_run() -> None:
    service = ServiceTime()
    assert service.seconds(1) is None
    assert predicted_wait(100, service, streams=1, batch=1) == 0.0


def test_runs_of_several_sizes_give_a_line() -> None:
    service = ServiceTime()
    for n in (1, 2, 4, 8):
        service.add(n, 0.01 * n + 0.03)
    assert service.seconds(6) == pytest.approx(0.09)


def test_runs_of_one_size_are_averaged() -> None:
    service = ServiceTime()
    for seconds in (0.1, 0.3):
        service.add(1, seconds)
    assert service.seconds(1) == pytest.approx(0.2)


def test_old_runs_are_forgotten() -> None:
    service = ServiceTime()
    service.add(1, 100.0)
    for _ in range(RUNS):
        service.add(1, 0.1)
    assert service.seconds(1) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("backlog", "streams", "wait"),
    [(0, 1, 0.0), (1, 1, 0.1), (4, 1, 0.4), (1, 2, 0.0), (3, 2, 0.1)],
)
def test_the_wait_is_the_work_ahead_over_the_streams(
    backlog: int, streams: int, wait: float
) -> None:
    service = ServiceTime()
    service.add(1, 0.1)
    assert predicted_wait(backlog, service, streams=streams, batch=1) == pytest.approx(wait)


def test_the_wait_before_a_gpu_counts_full_batches() -> None:
    service = ServiceTime()
    for n in (1, 8):
        service.add(n, 0.01 * n + 0.08)
    assert predicted_wait(16, service, streams=1, batch=8) == pytest.approx(2 * 0.16)


def test_a_claim_is_given_back() -> None:
    budget = ByteBudget(100)
    with budget.claim() as claim:
        claim.add(60)
        claim.add(40)
        assert budget.used == 100
    assert budget.used == 0


def test_memory_that_others_hold_is_refused_for_now() -> None:
    budget = ByteBudget(100)
    with budget.claim() as first, budget.claim() as second:
        first.add(60)
        with pytest.raises(OverloadedError) as caught:
            second.add(50)
        assert (caught.value.reason, caught.value.retry_after_s) == ("inflight", 1.0)
    assert budget.used == 0


def test_memory_that_nobody_may_have_is_refused_for_good() -> None:
    with ByteBudget(100).claim() as claim, pytest.raises(ImageTooLargeError):
        claim.add(101)


def test_a_thread_that_comes_late_claims_nothing() -> None:
    budget = ByteBudget(100)
    with budget.claim() as claim:
        pass
    with pytest.raises(OverloadedError):
        claim.add(1)
    assert budget.used == 0
