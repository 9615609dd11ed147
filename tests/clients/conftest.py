"""What the tests with real clients share: `okp serve` as people start it, and their programs."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.environments import READY
from tests.synthetic import KEY, weights_api, write_package

START = re.compile(r"serves at (\S+)")


@pytest.fixture(scope="session", autouse=True)
def environments() -> None:
    """Fail, and never skip, where the real programs are not there."""
    assert READY.exists(), "run `make test-real`, or tests/clients/environments.py before"


@pytest.fixture(scope="session")
def package(tmp_path_factory) -> Path:
    """Return the package of the synthetic model."""
    return write_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def okp_serve(package: Path, tmp_path_factory):
    """Return what runs ``okp serve`` with some options and gives its address."""
    cache = tmp_path_factory.mktemp("cache")

    @contextlib.contextmanager
    def serve(*options: str) -> Iterator[str]:
        with weights_api(package) as api:
            env = {
                **os.environ,
                "OKP_ROBOFLOW_URL": api,
                "OKP_RELEASES_URL": "http://127.0.0.1:1",
                "ROBOFLOW_API_KEY": KEY,
                "OKP_CACHE_DIR": str(cache),
                "PYTHONUNBUFFERED": "1",
            }
            command = [sys.executable, "-m", "openkeypoints.cli", "serve", "--port", "0", *options]
            process = subprocess.Popen(
                command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            try:
                yield _address(process)
            finally:
                process.terminate()
                assert process.stdout is not None
                process.stdout.read()
                process.stdout.close()
                assert process.wait(20) is not None

    return serve


@pytest.fixture(scope="session")
def server(okp_serve, package: Path) -> Iterator[str]:
    """Return the address of a server with the synthetic model under two names."""
    with okp_serve("--model", f"yolov8x-pose-640={package}", "--model", "my-pose/3") as url:
        yield url


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := START.search(line):
            return found[1]
    raise AssertionError(f"the server ended with {process.wait()}")
