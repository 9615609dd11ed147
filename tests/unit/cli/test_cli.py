"""The group: help, versions, exit codes and messages of every command."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

import openkeypoints
from openkeypoints.cli import COMMANDS
from openkeypoints.samples import sample

PAGES = [*([name] for name in COMMANDS), ["models", "list"], ["models", "info"]]


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
def test_every_help_ends_its_text_with_an_example(okp, page):
    text = okp(*page, "--help").stdout
    assert re.search(rf"\n  Example:\n    okp {' '.join(page)}\b.*\n\nOptions:", text)


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
def test_every_command_can_write_json_to_stdout(okp, page):
    assert "--json" in okp(*page, "--help").stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_does(okp, name):
    assert f"{name} " in okp("--help").stdout
    assert COMMANDS[name] in okp("--help").stdout


def test_the_version_is_the_one_of_the_package(okp):
    assert okp("--version").stdout.strip().endswith(openkeypoints.__version__)


def test_an_unknown_command_is_wrong_usage_and_names_the_closest(okp):
    done = okp("predct")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "did you mean predict" in done.stderr


def test_an_unknown_option_is_wrong_usage_and_names_the_closest(okp):
    done = okp("predict", "--confidenc", "0.3", "x.jpg")
    assert done.exit_code == 2
    assert "--confidence" in done.stderr


def test_an_unknown_model_is_not_found_and_said_in_one_line(okp):
    done = okp("models", "info", "persn")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "person" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_choice_that_the_machine_lacks_is_a_failure_of_ours(okp, tiny_okp):
    done = okp("predict", "--model", tiny_okp, "--device", "cuda:7", sample("people"))
    assert done.exit_code == 1
    assert "cuda:7" in done.stderr


def test_the_help_loads_nothing_heavy():
    program = (
        "import sys\nfrom openkeypoints.cli import main\nsys.argv = ['okp', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('numpy', 'cv2', 'rich', 'torch', 'openvino') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stdout.endswith("\n[]\n")


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background ignores it
from openkeypoints.cli import main
sys.argv[0] = "okp"
main()
"""


def test_an_interrupt_ends_with_its_own_code(tiny_okp, put, tmp_path):
    names = [str(put(f"pictures/{number}.jpg")) for number in range(300)]
    with subprocess.Popen(
        [sys.executable, "-u", "-c", INTERRUPTED, "predict", "--model", tiny_okp, *names],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        message = child.communicate(timeout=50)[1]
    assert (child.returncode, message) == (130, "okp: interrupted.\n")
