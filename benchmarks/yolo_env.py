"""Makes the environment of the rivals that benchmarks/yolo_cpu.py measures: theirs alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv-bench"
NEEDED_GB = 15
# Each line is one run of pip. torchvision's wheels run beside the very build of torch that they
# were made with, which on Linux is the one with CUDA: hence the third sign of equality. What
# ultralytics needs is named by hand, because its own list asks for a second OpenCV beside ours.
STEPS = (
    ("torch===2.13.0", "torchvision==0.28.0"),
    ("numpy", "matplotlib", "opencv-python-headless", "pillow", "pyyaml", "requests", "psutil"),
    ("polars", "openvino", "onnx", "onnxruntime", "onnxslim", "nncf==3.4.0", "safetensors"),
    ("--no-deps", "ultralytics==8.4.190", "ultralytics-thop==2.2.3"),
)


def python() -> Path:
    """Return the interpreter of the environment, which is made where it is not there yet.

    A finished environment has a file that names what was installed; where that differs from
    what is wanted now, it is made anew.
    """
    interpreter = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready, wanted = FOLDER / ".ready", repr((STEPS, sys.version_info[:2]))
    if ready.is_file() and ready.read_text(encoding="utf-8") == wanted:
        return interpreter
    shutil.rmtree(FOLDER, ignore_errors=True)
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    if free_gb < NEEDED_GB:
        sys.exit(
            f"The environment of the rivals may take {NEEDED_GB} GB (their torch may bring CUDA), "
            f"and {free_gb:.0f} GB are free here: make room first."
        )
    print(f"Making the rivals' environment in {FOLDER.name}; this takes minutes.", file=sys.stderr)
    venv.create(FOLDER, with_pip=True)
    pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for packages in STEPS:
        subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), *packages], check=True)
    ready.write_text(wanted, encoding="utf-8")
    return interpreter


def environment(work: Path) -> dict[str, str]:
    """Return the variables of all processes: nothing is installed, sent or kept at home."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {
        **os.environ,
        **threads,
        "PYTHONPATH": str(ROOT / "src"),
        "HOME": str(work),
        "YOLO_CONFIG_DIR": str(work),
        "YOLO_AUTOINSTALL": "false",
        "YOLO_OFFLINE": "true",
        "CUDA_VISIBLE_DEVICES": "",
    }
