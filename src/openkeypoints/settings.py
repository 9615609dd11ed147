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
        max_pixels: largest picture that is decoded (``OKP_MAX_PIXELS``), 64 megapixels.
        max_download_bytes: largest picture that is fetched (``OKP_MAX_DOWNLOAD_BYTES``), 20 MB.
        timeout_s: time limit of one fetch, seconds (``OKP_TIMEOUT``).
        threads: CPU threads of one model, 0 = all (``OKP_THREADS``).
    """

    cache_dir: Path = field(default_factory=lambda: default_cache_dir(os.environ))  # noqa: TID251
    offline: bool = False
    api_key: str | None = field(default=None, repr=False)
    max_pixels: int = 64_000_000
    max_download_bytes: int = 20_000_000
    timeout_s: float = 10.0
    threads: int = 0

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Return the settings that the environment asks for."""
        env = os.environ if environ is None else environ  # noqa: TID251
        return cls(
            cache_dir=default_cache_dir(env),
            offline=env.get("OKP_OFFLINE", "") not in ("", "0", "false"),
            api_key=env.get("ROBOFLOW_API_KEY") or env.get("API_KEY"),
            max_pixels=int(_number(env, "OKP_MAX_PIXELS", cls.max_pixels)),
            max_download_bytes=int(_number(env, "OKP_MAX_DOWNLOAD_BYTES", cls.max_download_bytes)),
            timeout_s=_number(env, "OKP_TIMEOUT", cls.timeout_s),
            threads=int(_number(env, "OKP_THREADS", cls.threads)),
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
