"""What every test gets: the reference folder, a time limit, and oracle tests left out by name."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
LIMIT_S = 60.0
SLOW_LIMIT_S = 300.0

_left_out = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder with reference data; only tests marked ``oracle`` may ask for it."""
    return SHARED


@pytest.hookimpl(trylast=True)  # after -m and -k
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("oracle"):
            raise pytest.UsageError(f"{item.nodeid} uses `shared` and is not marked `oracle`")
    if SHARED.is_dir():
        return
    oracles = [item for item in items if item.get_closest_marker("oracle")]
    if oracles and os.environ.get("OKP_REQUIRE_SHARED") == "1":
        raise pytest.UsageError(
            f"OKP_REQUIRE_SHARED=1, but there is no ../shared for {len(oracles)} oracle tests"
        )
    if oracles:
        items[:] = [item for item in items if not item.get_closest_marker("oracle")]
        config.stash[_left_out] = [item.nodeid for item in oracles]
        config.hook.pytest_deselected(items=oracles)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    names = config.stash.get(_left_out, [])
    if not names:
        return
    terminalreporter.write_line(f"left out: {len(names)} oracle tests (no ../shared)")
    for name, cases in sorted(Counter(name.partition("[")[0] for name in names).items()):
        terminalreporter.write_line(f"  {name}" + (f" ({cases} cases)" if cases > 1 else ""))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Fail a test, with its fixtures, that runs longer than its limit."""
    if not hasattr(signal, "setitimer"):  # Windows: only pytest's own backstop
        return (yield)
    limit = SLOW_LIMIT_S if item.get_closest_marker("slow") else LIMIT_S
    if chosen := item.get_closest_marker("timeout"):
        limit = float(chosen.args[0])

    def stop(_signal: int, _frame: FrameType | None) -> None:
        pytest.fail(f"ran longer than {limit:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def tiny_okp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small pico file with the views of ``person`` and random weights."""
    from tests.tiny_pico import write_tiny_pico  # torch, which few tests need

    return write_tiny_pico(tmp_path_factory.mktemp("models") / "tiny.okp")


@pytest.fixture(scope="session")
def tiny_pt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small YOLO checkpoint with keypoints and random weights."""
    from tests.tiny_yolo import tiny_yolo

    return tiny_yolo(tmp_path_factory.mktemp("yolo") / "tiny.pt")


@pytest.fixture
def put(tmp_path) -> Callable[[str], Path]:
    """Return a function that puts the photograph at a way below the test's folder."""

    from openkeypoints.samples import sample

    def copy(way: str) -> Path:
        path = tmp_path / way
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample("people"), path)
        return path

    return copy
