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
            "OKP_STREAMS": "4",
        }
    )
    assert settings.cache_dir == Path("/somewhere")
    assert (settings.offline, settings.timeout_s, settings.threads) == (True, 2.5, 1)
    assert settings.streams == 4


def test_a_model_has_at_least_one_stream() -> None:
    assert Settings.from_env({}).streams == Settings.from_env({"OKP_STREAMS": "0"}).streams == 1


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


def test_sources_limits_and_licences_of_weights_come_from_the_environment() -> None:
    settings = Settings.from_env(
        {
            "OKP_RELEASES_URL": "http://127.0.0.1:1/r/",
            "OKP_ROBOFLOW_URL": "http://127.0.0.1:2",
            "OKP_HUB_URL": "https://hub.example.org",
            "HF_TOKEN": "t",
            "HF_HOME": "/hf",
            "MODEL_CACHE_DIR": "/a",
            "INFERENCE_HOME": "/b",
            "OKP_ALLOWED_LICENCES": "Apache-2.0, MIT",
            "OKP_MAX_WEIGHTS_BYTES": "5",
        }
    )
    assert settings.releases_url == "http://127.0.0.1:1/r"
    assert settings.roboflow_url == "http://127.0.0.1:2"
    assert (settings.hub_url, settings.hub_token) == ("https://hub.example.org", "t")
    assert settings.hub_cache == Path("/hf/hub")
    assert settings.roboflow_caches == (Path("/a"), Path("/b"))
    assert settings.allowed_licences == ("Apache-2.0", "MIT")
    assert settings.max_weights_bytes == 5


def test_every_licence_is_allowed_unless_some_are_named() -> None:
    assert Settings.from_env({}).allowed_licences is None
    assert Settings.from_env({"OKP_ALLOWED_LICENCES": ","}).allowed_licences == ()


def test_a_token_is_never_shown() -> None:
    assert "secret" not in repr(Settings(hub_token="secret"))


@pytest.mark.parametrize("name", ["OKP_RELEASES_URL", "OKP_ROBOFLOW_URL", "OKP_HUB_URL"])
def test_a_source_that_is_no_address_is_named(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}='ftp://x'"):
        Settings.from_env({name: "ftp://x"})
