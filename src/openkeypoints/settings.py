"""Settings of the library: the only reader of the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openkeypoints.errors import InputError


@dataclass(frozen=True)
class Settings:
    """What a caller may change for a whole process. Nothing is read on import.

    Attributes:
        cache_dir: where downloads, converted models and compiled kernels are kept
            (``OKP_CACHE_DIR``; default: the platform's cache folder).
        offline: never open a connection (``OKP_OFFLINE=1``).
        api_key: key for Roboflow's models (``ROBOFLOW_API_KEY``, then ``API_KEY``).
        hub_token: token for the hub's closed models (``HF_TOKEN``).
        releases_url: folder of the release files, one folder per tag in it
            (``OKP_RELEASES_URL``).
        hub_url: the hub of model repositories (``OKP_HUB_URL``).
        roboflow_url: Roboflow's API (``OKP_ROBOFLOW_URL``).
        hub_cache: where the hub's own software keeps its downloads (``HF_HOME``, the folder
            ``hub`` in it).
        roboflow_caches: where Roboflow's own software keeps its downloads (``MODEL_CACHE_DIR``,
            ``INFERENCE_HOME``); empty: the folder ``cache`` in the system's temporary folder.
        allowed_licences: licences of models that may be used, None = all
            (``OKP_ALLOWED_LICENCES``, separated by commas).
        max_weights_bytes: largest model that is fetched (``OKP_MAX_WEIGHTS_BYTES``), 20 GB.
        max_pixels: largest picture that is decoded (``OKP_MAX_PIXELS``), 64 megapixels.
        max_download_bytes: largest picture that is fetched (``OKP_MAX_DOWNLOAD_BYTES``), 20 MB.
        timeout_s: time limit of fetching a picture, and of each wait for the next bytes of a
            model, seconds (``OKP_TIMEOUT``).
        threads: CPU threads of one model, 0 = all (``OKP_THREADS``).
        streams: how many pictures one model computes at once, at least 1 (``OKP_STREAMS``); further
            ones wait. The threads are shared out among them.
    """

    cache_dir: Path = field(default_factory=lambda: default_cache_dir(os.environ))  # noqa: TID251
    offline: bool = False
    api_key: str | None = field(default=None, repr=False)
    hub_token: str | None = field(default=None, repr=False)
    releases_url: str = "https://github.com/ultralytics/assets/releases/download"
    hub_url: str = "https://huggingface.co"
    roboflow_url: str = "https://api.roboflow.com"
    hub_cache: Path = field(default_factory=lambda: _hub_cache(os.environ))  # noqa: TID251
    roboflow_caches: tuple[Path, ...] = ()
    allowed_licences: tuple[str, ...] | None = None
    max_weights_bytes: int = 20_000_000_000
    max_pixels: int = 64_000_000
    max_download_bytes: int = 20_000_000
    timeout_s: float = 10.0
    threads: int = 0
    streams: int = 1

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Return the settings that the environment asks for."""
        env = os.environ if environ is None else environ  # noqa: TID251
        return cls(
            cache_dir=default_cache_dir(env),
            offline=env.get("OKP_OFFLINE", "") not in ("", "0", "false"),
            api_key=env.get("ROBOFLOW_API_KEY") or env.get("API_KEY"),
            hub_token=env.get("HF_TOKEN"),
            releases_url=_address(env, "OKP_RELEASES_URL", cls.releases_url),
            hub_url=_address(env, "OKP_HUB_URL", cls.hub_url),
            roboflow_url=_address(env, "OKP_ROBOFLOW_URL", cls.roboflow_url),
            hub_cache=_hub_cache(env),
            roboflow_caches=_folders(env, "MODEL_CACHE_DIR", "INFERENCE_HOME"),
            allowed_licences=_words(env, "OKP_ALLOWED_LICENCES"),
            max_weights_bytes=int(_number(env, "OKP_MAX_WEIGHTS_BYTES", cls.max_weights_bytes)),
            max_pixels=int(_number(env, "OKP_MAX_PIXELS", cls.max_pixels)),
            max_download_bytes=int(_number(env, "OKP_MAX_DOWNLOAD_BYTES", cls.max_download_bytes)),
            timeout_s=_number(env, "OKP_TIMEOUT", cls.timeout_s),
            threads=int(_number(env, "OKP_THREADS", cls.threads)),
            streams=max(1, int(_number(env, "OKP_STREAMS", cls.streams))),
        )


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "")
    try:
        number = float(text) if text else default
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise InputError(f"The environment says {name}={text!r}: give a number of at least 0.")
    return number


def _address(env: Mapping[str, str], name: str, default: str) -> str:
    text = env.get(name) or default
    if not text.startswith(("https://", "http://")):
        raise InputError(f"The environment says {name}={text!r}: give an http(s) address.")
    return text.rstrip("/")


def _words(env: Mapping[str, str], name: str) -> tuple[str, ...] | None:
    text = env.get(name)
    return tuple(word.strip() for word in text.split(",") if word.strip()) if text else None


def _folders(env: Mapping[str, str], *names: str) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(Path(env[name]) for name in names if env.get(name)))


def _hub_cache(env: Mapping[str, str]) -> Path:
    return Path(env.get("HF_HOME") or "~/.cache/huggingface").expanduser() / "hub"


def default_cache_dir(env: Mapping[str, str]) -> Path:
    """Return ``OKP_CACHE_DIR`` or the platform's cache folder."""
    if chosen := env.get("OKP_CACHE_DIR"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(env.get("LOCALAPPDATA", "~/AppData/Local")).expanduser()
    elif sys.platform == "darwin":
        base = Path("~/Library/Caches").expanduser()
    else:
        base = Path(env.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return base / "openkeypoints"
