"""How much the library and two rivals install, and how long each takes to be ready.

Every package gets a fresh environment in ``build/start-times`` as pip makes it (15 GB, for both
rivals bring CUDA; a torch without it, put there first, fits none of torchvision's wheels).
Measured is from the start of a process to the end of its imports, less a bare interpreter's, and
to the first answer on one picture: everybody's with the same YOLOv8n pose network, ours with its
own model too. Each process has run once before, for the caches of the system and its own, and they
take turns, so that a busy machine troubles all alike. Nothing is sent or fetched: ``inference``
gets its model once from a stand-in of its weights API and then runs in its offline mode. Without
that, a host that accepts and says nothing holds its first answer up for 120 s.

Needs ``../shared``. Writes benchmarks/reports/start_times.*.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openkeypoints.cli.machine import cpu

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "benchmarks" / "reports" / "start_times"
WORK = ROOT / "build" / "start-times"
HOME = WORK / "home"
PACKAGE = WORK / "package"
SHARED = ROOT.parent / "shared"
STAND_IN = SHARED / "contracts" / "roboflow_exchanges" / "fake_weights_api.py"
NETWORK = SHARED / "oracles" / "yolov8n_pose_tubes"
PICTURE = ROOT / "src" / "openkeypoints" / "samples" / "people.jpg"
TIMEOUT_S = 120.0
NEEDED_GB = 16
MARK = "@reached"
OURS, ULTRALYTICS, INFERENCE = "openkeypoints[server]", "ultralytics==8.4.190", "inference==1.8.3"
STEPS = {
    OURS: ("-c", str(ROOT / "constraints.txt"), f"{ROOT}[server]"),
    ULTRALYTICS: (ULTRALYTICS,),
    INFERENCE: (INFERENCE,),
}
"""What pip is given, by environment."""
IMPORTS = {
    OURS: "import openkeypoints; from openkeypoints import get_model",
    ULTRALYTICS: "import ultralytics; from ultralytics import YOLO",
    INFERENCE: "import inference; from inference import get_model",
}
ANSWERS = {
    (OURS, "model.pt"): "get_model(sys.argv[1]).infer(sys.argv[3])[0].scores",
    (OURS, "ONNX"): "get_model(sys.argv[2]).infer(sys.argv[3])[0].scores",
    (OURS, "person"): "get_model('person').infer(sys.argv[3])[0].scores",
    (ULTRALYTICS, "model.pt"): "YOLO(sys.argv[1]).predict(sys.argv[3], verbose=False)[0].boxes",
    (INFERENCE, "ONNX"): "get_model('my-pose/3', 'k').infer(sys.argv[3])[0].predictions",
}
"""What finds something, by environment and model."""
COUNT = """
import importlib.metadata as m, json, os, sysconfig
found = {d.name.lower().replace('_', '-'): d.version for d in m.distributions() if d.name != 'pip'}
walk = os.walk(sysconfig.get_path('purelib'))
size = sum(os.lstat(os.path.join(folder, n)).st_size for folder, _, names in walk for n in names)
print(json.dumps({'packages': len(found), 'bytes': size, 'torch': found.get('torch')}))
"""
ENTRY = {
    "training_input_size": {"height": 320, "width": 320},
    "dynamic_spatial_size_supported": False,
    "resize_mode": "letterbox",
    "padding_value": 114,
    "color_mode": "rgb",
    "input_channels": 3,
    "scaling_factor": 255,
}
NAMES = {"object_class": "glue_tube", "object_class_id": 0, "keypoints": {"0": "head", "1": "tail"}}
TEXTS: dict[str, Any] = {
    "keypoints_metadata.json": [{**NAMES, "edges": []}],
    "inference_config.json": {
        "image_pre_processing": {"auto-orient": {"enabled": True}},
        "network_input": ENTRY,
        "forward_pass": {"static_batch_size": 1},
        "post_processing": {"type": "nms", "fused": False},
    },
}
"""What stands beside the graph in a Roboflow package."""


def python(name: str) -> Path:
    """Return the interpreter of an environment; ours is always made anew, from the sources."""
    folder = WORK / name.partition("[")[0]
    interpreter, ready = folder / "bin" / "python", folder / ".ready"
    if name != OURS and ready.is_file():
        return interpreter
    shutil.rmtree(folder, ignore_errors=True)
    print(f"Installing {name}.", file=sys.stderr, flush=True)
    venv.create(folder, with_pip=True)
    # Before Python 3.12 an environment has a setuptools that nobody asked for.
    pip = (interpreter, "-m", "pip", "--quiet", "--disable-pip-version-check")
    subprocess.run((*pip, "uninstall", "--yes", "setuptools"), check=True)
    subprocess.run((*pip, "install", *STEPS[name]), check=True)
    ready.touch()
    return interpreter


def environment(**more: str) -> dict[str, str]:
    """Return the variables of all measured processes: own home, and nothing asked of the net."""
    left = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ours = {"OKP_OFFLINE": "1", "OKP_CACHE_DIR": f"{HOME}/okp"}
    theirs = {"YOLO_CONFIG_DIR": str(HOME), "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
    others = {"MODEL_CACHE_DIR": f"{HOME}/models", "INFERENCE_HOME": f"{HOME}/models"}
    quiet = {"METRICS_ENABLED": "False", "TELEMETRY_OPT_OUT": "True", "OFFLINE_MODE": "True"}
    own = {"HOME": str(HOME), "CUDA_VISIBLE_DEVICES": ""}
    return {**left, **own, **ours, **theirs, **others, **quiet, **more}


def start(interpreter: Path, code: str, env: Mapping[str, str]) -> tuple[float, float]:
    """Run code in a fresh process; what does not get through it ends the program.

    Returns:
        The seconds from its start until the code was done, and until the process was gone.
    """
    program = f"import sys\n{code}\nprint({MARK!r}, flush=True)"
    command = (interpreter, "-c", program, NETWORK / "model.pt", PACKAGE, PICTURE)
    reached = 0.0
    with (WORK / "stderr.txt").open("w+", encoding="utf-8") as errors:
        began = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=env, cwd=HOME
        ) as process:
            killer = threading.Timer(TIMEOUT_S, process.kill)
            killer.start()
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() == MARK:
                    reached = time.perf_counter() - began
            process.wait()
            ended = time.perf_counter() - began
            killer.cancel()
        errors.seek(0)
        if not reached or process.returncode:
            sys.exit(f"Code {process.returncode} after {ended:.0f} s of:\n{code}\n{errors.read()}")
    return round(reached, 3), round(ended, 3)


def answer(name: str, model: str) -> str:
    """Return the code from nothing to the first answer, which may not be empty."""
    return f"{IMPORTS[name]}\nassert len({ANSWERS[name, model]}), 'nothing was found'"


def keep_model(interpreter: Path) -> None:
    """Make a package of the network, and let ``inference`` keep it for its offline mode."""
    shutil.rmtree(PACKAGE, ignore_errors=True)
    PACKAGE.mkdir()
    shutil.copyfile(NETWORK / "model_static320.onnx", PACKAGE / "weights.onnx")
    (PACKAGE / "class_names.txt").write_text("glue_tube\n", encoding="utf-8")
    for name, text in TEXTS.items():
        (PACKAGE / name).write_text(json.dumps(text), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    online = {"OFFLINE_MODE": "False", "OFFLINE_MODE_WARM_UP": "True"}
    hosts = ("API_BASE_URL", "ROBOFLOW_API_HOST", "METRICS_COLLECTOR_BASE_URL")
    online |= dict.fromkeys(hosts, f"http://127.0.0.1:{port}") | {"DISABLE_VERSION_CHECK": "True"}
    command = (sys.executable, "-u", STAND_IN, "--package", PACKAGE, "--port", str(port))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as stand_in:
        try:
            assert stand_in.stdout is not None
            stand_in.stdout.readline()
            threading.Thread(target=stand_in.stdout.read, daemon=True).start()
            start(interpreter, answer(INFERENCE, "ONNX"), environment(**online))
        finally:
            stand_in.terminate()


def measure(rounds: int) -> dict[str, Any]:
    """Return what is installed, and the two times of every process by package and purpose."""
    load = os.getloadavg()[0]
    HOME.mkdir(parents=True, exist_ok=True)
    free_gb = shutil.disk_usage(WORK).free / 1e9
    if free_gb < NEEDED_GB and not (WORK / INFERENCE / ".ready").is_file():
        sys.exit(f"The environments take {NEEDED_GB} GB and {free_gb:.0f} are free: make room.")
    pythons = {name: python(name) for name in STEPS}
    env = environment()
    installed = {
        name: json.loads(subprocess.check_output((interpreter, "-c", COUNT), env=env))
        for name, interpreter in pythons.items()
    }
    keep_model(pythons[INFERENCE])
    jobs = {(name, "nothing"): "" for name in STEPS}
    jobs |= {(name, "import"): code for name, code in IMPORTS.items()}
    jobs |= {key: answer(*key) for key in ANSWERS}
    seconds: dict[str, dict[str, list[Any]]] = {name: {} for name in STEPS}
    for turn in range(rounds + 1):
        for (name, what), code in jobs.items():
            took = start(pythons[name], code, env)
            if turn:
                seconds[name].setdefault(what, []).append(took)
    return {"rounds": rounds, "load": round(load, 2), "installed": installed, "seconds": seconds}


def page(found: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = [
        "| `pip install ...` | packages | installed | import | model | first answer | range |",
        "| --- | --: | --: | --: | --- | --: | --: |",
    ]
    for name, model in ANSWERS:
        own, took = found["installed"][name], found["seconds"][name]
        reached = {what: [start[0] for start in starts] for what, starts in took.items()}
        middle = {what: statistics.median(values) for what, values in reached.items()}
        row = (
            f"| `{name}` | {own['packages']} | {own['bytes'] / 1e9:.1f} GB "
            f"| {middle['import'] - middle['nothing']:.2f} s | {model} | {middle[model]:.2f} s "
            f"| {min(reached[model]):.2f} to {max(reached[model]):.2f} s |"
        )
        lines.append(row)
    facts = cpu()
    note = (
        f"Medians of {found['rounds']} fresh processes each, after one that does not count, in "
        f"turns; {facts['cores']} cores, {facts['architecture']}, with {', '.join(facts['flags'])};"
        f" Python {sys.version_info.major}.{sys.version_info.minor}, load average before "
        f"{found['load']:.1f}. Packages without pip; installed is all of site-packages. `model.pt` "
        "and `ONNX` are one YOLOv8n pose network at 320, as its checkpoint and as a Roboflow "
        "package; `person` is our own model. An import counts less the start of a bare "
        "interpreter, a first answer from the start of the process, on a picture of 640 x 425 px. "
        "All are offline with their caches warm; how long a process takes to end is in the JSON "
        "file only."
    )
    return "\n".join([*lines, "", note])


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--try", dest="trial", action="store_true", help="write no report")
    arguments = parser.parse_args()
    found = measure(arguments.rounds)
    text = page(found)
    print(text)
    if not arguments.trial:
        shown = f"# Installed size, import and first answer\n\n{text}\n"
        REPORT.with_suffix(".md").write_text(shown, encoding="utf-8")
        figures = json.dumps({**found, "machine": cpu()}, indent=1)
        REPORT.with_suffix(".json").write_text(figures + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
