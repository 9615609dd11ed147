"""``okp doctor``: true facts and no secrets."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from openkeypoints.cli import machine
from openkeypoints.runtimes import available_runtimes, cpu_flags

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]


@pytest.fixture
def facts(okp):
    return json.loads(okp("doctor", "--json").stdout)


def packages(lines) -> set[str]:
    return {re.match(r"[\w-]+", line)[0] for line in lines}


def test_the_base_packages_are_those_of_the_project():
    assert set(machine.BASE) == packages(PROJECT["dependencies"])


def test_the_extras_are_those_of_the_project():
    stated = {k: packages(v) for k, v in PROJECT["optional-dependencies"].items() if k != "all"}
    assert {name: set(names) for name, names in machine.EXTRAS.items()} == stated


def test_every_installed_runtime_has_its_devices(facts):
    assert list(facts["runtimes"]) == available_runtimes()
    assert all("cpu" in devices for devices in facts["runtimes"].values())


def test_the_bf16_units_are_those_of_the_processor(facts):
    assert facts["cpu"]["bf16_units"] == ("amx_bf16" in cpu_flags())


def test_the_cache_folder_is_measured(okp, monkeypatch, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "file").write_bytes(bytes(1234))
    monkeypatch.setenv("OKP_CACHE_DIR", str(tmp_path / "cache"))
    facts = json.loads(okp("doctor", "--json").stdout)
    assert facts["cache"] == {"folder": str(tmp_path / "cache"), "files": 1, "bytes": 1234}


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_a_key_is_never_shown(okp, monkeypatch, arguments):
    monkeypatch.setenv("ROBOFLOW_API_KEY", "very-secret")
    done = okp("doctor", *arguments)
    assert "very-secret" not in done.stdout + done.stderr


def test_the_page_says_which_extras_are_there(okp):
    assert re.search(r"\n  torch +installed\n", okp("doctor").stdout)
