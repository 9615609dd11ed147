"""Makes the environments of the programs that people call our server with, each as its users do.

    python tests/clients/environments.py

They lie in ``.venv-clients``; the marker ``.ready`` there says that all of them are complete.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / ".venv-clients"
PACKAGES = {
    "inference-sdk": "inference-sdk==1.8.3",
    "roboflow": "roboflow==1.7.3",
    "schemathesis": "schemathesis==4.32.5",
}
"""Environments of their own: they pin libraries that we leave free."""
SUPERVISION = ("0.27.0", "0.31.2")
"""Versions that are laid over our own environment: what they need is there."""
READY = FOLDER / ".ready"


def python_of(name: str) -> Path:
    """Return the interpreter of an environment."""
    return FOLDER / name / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def supervision_path(version: str) -> Path:
    """Return the folder that goes before the others on the path for a version."""
    return FOLDER / f"supervision-{version}"


def run(
    command: Sequence[str | Path], *, timeout_s: float = 280, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with more entries in its environment."""
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def main() -> None:
    """Make what is not there yet."""
    READY.unlink(missing_ok=True)
    for name, requirement in PACKAGES.items():
        if not _has(python_of(name), requirement):
            shutil.rmtree(FOLDER / name, ignore_errors=True)
            venv.create(FOLDER / name, symlinks=os.name != "nt", with_pip=True)
            _install(python_of(name), requirement)
    for version in SUPERVISION:
        target = supervision_path(version)
        if not (target / f"supervision-{version}.dist-info").is_dir():
            shutil.rmtree(target, ignore_errors=True)
            _install(sys.executable, f"supervision=={version}", "--no-deps", "--target", target)
    READY.touch()


def _has(python: Path, requirement: str) -> bool:
    if not python.exists():
        return False
    freeze = [python, "-m", "pip", "--disable-pip-version-check", "list", "--format=freeze"]
    return requirement in run(freeze).stdout.lower().replace("_", "-").split()


def _install(python: Path | str, requirement: str, *more: str | Path) -> None:
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, requirement, *more], check=True)


if __name__ == "__main__":
    main()
