"""Settings come from the environment that is handed in, and say what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from openkeypoints.errors import InputError
from openkeypoints.settings import Settings


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_env({})
    assert (settings.max_pixels, settings.max_download_bytes) == (64_000_000, 20_000_000)
    assert (settings.offline, settings.api_key, settings.threads) == (False, None, 0)


def test_the_environment_changes_what_it_names() -> None:
    settings = Settings.from_env(
        {
            "OKP_CACHE_DIR": "/somewhere",
            "OKP_OFFLINE": "1",
            "OKP_TIMEOUT": "2.5",
            "OKP_THREADS": "1",
        }
    )
    assert settings.cache_dir == Path("/somewhere")
    assert (settings.offline, settings.timeout_s, settings.threads) == (True, 2.5, 1)


@pytest.mark.parametrize("off", ["", "0", "false"])
def test_offline_can_be_turned_off(off: str) -> None:
    assert not Settings.from_env({"OKP_OFFLINE": off}).offline


def test_roboflows_own_name_of_the_key_goes_first() -> None:
    assert Settings.from_env({"ROBOFLOW_API_KEY": "a", "API_KEY": "b"}).api_key == "a"
    assert Settings.from_env({"API_KEY": "b"}).api_key == "b"


def test_a_key_is_never_shown() -> None:
    assert "secret" not in repr(Settings(api_key="secret"))


@pytest.mark.parametrize("text", ["abc", "-1", "inf", "nan"])
@pytest.mark.parametrize("name", ["OKP_THREADS", "OKP_MAX_PIXELS", "OKP_TIMEOUT"])
def test_a_value_that_is_no_number_is_named(name: str, text: str) -> None:
    with pytest.raises(InputError, match=f"{name}='{text}'"):
        Settings.from_env({name: text})
