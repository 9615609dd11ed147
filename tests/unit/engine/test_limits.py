"""Limits are checked, and what is left open follows the machine or container."""

from __future__ import annotations

from pathlib import Path

import pytest

from openkeypoints.engine.limits import Limits
from openkeypoints.engine.machine import cores, give_back_memory, memory_limit, resident_bytes
from openkeypoints.errors import InputError


def test_zeros_become_the_defaults_of_the_machine() -> None:
    limits = Limits()
    assert limits.streams == cores()
    assert 1 <= limits.decode_threads <= 4
    assert limits.memory_bytes == memory_limit() * 6 // 10
    assert limits.inflight_bytes >= 256_000_000


def test_a_negative_limit_is_named() -> None:
    with pytest.raises(InputError, match="max_wait_s is -1"):
        Limits(max_wait_s=-1)


@pytest.mark.parametrize(("slots", "room"), [(1, 16), (4, 16), (8, 32)])
def test_the_queue_has_room_for_four_of_each_slot(slots: int, room: int) -> None:
    assert Limits().room(slots) == room
    assert Limits(queue=3).room(slots) == 3


def test_a_containers_share_of_cores_and_memory_counts(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    assert (cores(tmp_path), memory_limit(tmp_path)) == (1, 1_000_000)


def test_a_container_without_limits_has_the_machine(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    nothing = tmp_path / "nothing"
    assert (cores(tmp_path), memory_limit(tmp_path)) == (cores(nothing), memory_limit(nothing))


def test_memory_can_be_measured_and_given_back() -> None:
    give_back_memory()
    assert resident_bytes() >= 0
