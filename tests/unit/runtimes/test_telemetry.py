"""Nothing is sent and nothing is written beside the cache, in a process of its own.

The children run without pytest and without the variables of a CI, because both silence the
libraries' reporting by themselves, with a spy on the sockets that notes and refuses every attempt.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.runtimes.graphs import graph

SPY = """
import atexit, os, socket

def refuse(name):
    def attempt(*args, **named):
        with open(os.environ["OKP_TEST_SPY"], "a") as file:
            file.write(f"{name} {args[-2:]}\\n")
        raise OSError("the spy refuses every connection")
    return attempt

for name in ("getaddrinfo", "gethostbyname", "create_connection"):
    setattr(socket, name, refuse(name))

class Socket(socket.socket):
    connect = refuse("connect")
    connect_ex = refuse("connect_ex")
    sendto = refuse("sendto")

socket.socket = Socket
"""

RUN = """
import sys, time
from pathlib import Path
import numpy as np
from openkeypoints.runtimes import Artifact, open_session
from openkeypoints.settings import Settings

path, runtime = Path(sys.argv[1]), sys.argv[2]
folder = Settings.from_env().cache_dir / "compiled"
for source in (path, path.read_bytes()):
    session = open_session(Artifact(source, "tiny"), runtime=runtime, cache_dir=folder)
    session.run({"image": np.zeros((1, 16, 16, 3), np.uint8)})
    session.close()
time.sleep(0.5)
"""

PREDICT = """
import sys, time
from openkeypoints.cli import main
from openkeypoints.samples import sample

sys.argv = ["okp", "predict", str(sample("people")), "--save", sys.argv[2], "--json"]
try:
    main()
finally:
    time.sleep(0.5)
"""

CONVERT = """
import sys
from openkeypoints.runtimes.openvino import disable_telemetry
disable_telemetry()
import openvino as ov
model = ov.convert_model(sys.argv[1])
assert len(model.outputs) == 2
import time; time.sleep(0.5)
"""

BARE = "import openvino, time; time.sleep(0.5)"


class Child:
    """One program in an empty home."""

    def __init__(self, folder: Path):
        self.home = folder / "home"
        self.cache = folder / "cache"
        self.attempts = folder / "attempts.txt"
        self.model = folder / "tiny.onnx"
        self.spy = folder / "spy"
        self.home.mkdir()
        self.spy.mkdir()
        (self.spy / "sitecustomize.py").write_text(SPY)
        self.model.write_bytes(graph())

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        source = Path(__file__).resolve().parents[3] / "src"
        env = {
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(self.spy), str(source)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OKP_CACHE_DIR": str(self.cache),
            "OKP_TEST_SPY": str(self.attempts),
        }
        return subprocess.run(
            [sys.executable, "-c", program, str(self.model), *arguments],
            cwd=self.home, env=env, capture_output=True, text=True, check=True, timeout=50,
        )  # fmt: skip

    def home_files(self) -> list[str]:
        return sorted(p.relative_to(self.home).as_posix() for p in self.home.rglob("*"))

    def connections(self) -> str:
        return self.attempts.read_text() if self.attempts.exists() else ""


@pytest.fixture
def child(tmp_path):
    return Child(tmp_path)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_run_opens_no_connection_writes_no_home_and_prints_nothing(child, runtime):
    done = child.run(RUN, runtime)
    assert (child.connections(), child.home_files(), done.stdout, done.stderr) == ("", [], "", "")


def test_a_run_of_openvino_writes_into_the_cache_folder(child):
    child.run(RUN, "openvino")
    assert [path.suffix for path in (child.cache / "compiled").iterdir()] == [".blob"]


def test_okp_predict_opens_no_connection_and_writes_where_it_was_told(child, tmp_path):
    done = child.run(PREDICT, str(tmp_path / "out"))
    assert (child.connections(), child.home_files(), done.stderr) == ("", [], "")
    assert done.stdout.startswith('{"source":')
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [".okp-outputs.json", "people.jpg", "people.json"]


def test_the_converter_of_openvino_is_silent_too(child):
    child.run(CONVERT)
    assert (child.connections(), child.home_files()) == ("", [])


def test_the_spy_and_the_empty_home_notice_what_openvino_does_by_itself(child):
    child.run(BARE)
    assert child.connections()
    assert child.home_files()
