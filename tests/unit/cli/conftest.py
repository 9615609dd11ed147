"""What the tests of the command line share: a runner, a model that is quick, pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from openkeypoints.cli import cli

Okp = Callable[..., Result]


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Return a cache folder that all tests share, so that networks are compiled once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def okp(monkeypatch, cache, tmp_path) -> Okp:
    """Return a function that runs ``okp`` in an empty folder."""
    monkeypatch.setenv("OKP_CACHE_DIR", str(cache))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Result:
        done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run


@pytest.fixture
def predict(okp, tiny_okp) -> Okp:
    """Return a function that runs ``okp predict`` with the quick model."""
    return lambda *arguments: okp("predict", "--model", tiny_okp, *arguments)


def files(folder: Path) -> list[str]:
    """Return the ways to the files below a folder, sorted."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
