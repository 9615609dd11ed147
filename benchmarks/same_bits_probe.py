"""Digests of one version's answers, weights, figures and graphs, as JSON on stdout.

`same_bits.py` runs it with one version on the path, then with the other. It uses what is public and
nothing else, so that it runs unchanged on versions whose inside has other names.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

import openkeypoints as okp

Digests = dict[str, str]
Asked = Mapping[str, Mapping[str, Any]]
"""Name of a question -> arguments of ``infer``, and options, which go into ``InferOptions``."""

ARRAYS = (
    "boxes", "scores", "class_ids", "keypoints", "keypoint_scores", "covariances", "track_ids",
    "masks",
)  # fmt: skip
DIRECT = {"confidence", "iou_threshold", "max_detections", "class_filter"}
RUNTIMES = ("openvino", "onnxruntime", "torch")
OF_GRAPHS = ("openvino", "onnxruntime")
FORMATS = {"onnx": OF_GRAPHS, "openvino": ("openvino",)}
"""Format of an export -> runtimes that open it."""
EXPORTED = ("v8-pose", "v8-segment")
"""Checkpoints whose exports are compared too; each takes seconds to make."""
WRITTEN = {".onnx", ".xml", ".bin"}
"""Endings of the cached graphs that are compared; what a runtime compiled is its own affair."""

PEOPLE = np.array([[20.5, 160.0, 90.0, 371.25], [290.0, 140.5, 395.75, 340.0]], np.float32)
"""x1 y1 x2 y2 px in the photograph."""
GIVEN = {"boxes": [PEOPLE, PEOPLE[:1], PEOPLE[:0]]}
PICO: Asked = {
    "default": {},
    "weak": {"confidence": 0.05},
    "strong": {"confidence": 50},
    "overlapping": {"confidence": 0.1, "iou_threshold": 0.9},
    "one": {"max_detections": 1},
    "of a class": {"class_filter": ["person"]},
    "given boxes": GIVEN,
    "given boxes, mirrored": {**GIVEN, "flip_test": True},
    "mirrored": {"flip_test": True},
    "whole picture": {"confidence": 0.99, "whole_image": True},
    "box threshold": {"box_threshold": 0.2},
    "one person": {"max_persons": 1},
    "alike dropped": {"confidence": 0.1, "iou_threshold": 0.95, "oks_nms": 0.3},
}
PICO_SHORT: Asked = {name: PICO[name] for name in ("default", "given boxes, mirrored")}
BOTH = {"confidence": 0.3, "iou_threshold": 0.3}
"""Said aloud: which of a pair of models gives the defaults is not what is compared."""
BEHIND: Asked = {
    "asked": BOTH,
    "weak": {"confidence": 0.05, "iou_threshold": 0.7, "max_persons": 4},
    "mirrored": {**BOTH, "flip_test": True},
    "given boxes": {**BOTH, **GIVEN},
}
YOLO: Asked = {
    "default": {},
    "weak": {"confidence": 0.01},
    "strong": {"confidence": 0.4, "iou_threshold": 0.3},
    "few": {"max_candidates": 40, "class_agnostic": True, "max_detections": 7},
    "square": {"letterbox": "square"},
    "larger": {"input_size": (128, 96)},
}
ONE_KIND: Mapping[str, Asked] = {
    "segment": {"masks of the picture": {"retina_masks": True}},
    "26": {"one to one": {"end2end": True}, "one to many": {"end2end": False}},
}


@dataclass(frozen=True)
class Side:
    """What one run works with.

    Attributes:
        inputs: what both sides read.
        out: caches and outputs of this side.
        only: part of the names of what is wanted.
    """

    inputs: Path
    out: Path
    only: str

    def wants(self, name: str) -> bool:
        """Tell whether a name, or a group of names, is asked for."""
        return self.only in name or self.only.startswith(name)

    def okp(self, *arguments: str | Path) -> str:
        """Run a command of ``okp`` and return what it writes to stdout.

        Raises:
            RuntimeError: it failed; the message is what it said.
        """
        done = subprocess.run(
            [sys.executable, "-m", "openkeypoints.cli", *map(str, arguments)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"okp {arguments[0]} ended with {done.returncode}: {done.stderr}")
        return done.stdout


def digest(data: bytes) -> str:
    """Return the beginning of the SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()[:20]


# --- answers ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Questions to one model.

    Attributes:
        name: what the names of its digests begin with.
        cache: name of its cache folder, which groups may share.
        load: arguments of ``get_model``; a detector is a mapping of the same kind.
        asked: the questions.
    """

    name: str
    cache: str
    load: Mapping[str, Any]
    asked: Asked


def groups(side: Side) -> Iterator[Group]:
    """Yield what is asked of ``person``, of ``person`` behind a detector, and of YOLO networks."""
    person = {"model_id": "person"}
    finder = {"model_id": side.inputs / "v8-detect.pt", "card": {"class_names": ["person"]}}
    for runtime in RUNTIMES:
        load = {**person, "runtime": runtime}
        asked = PICO_SHORT if runtime == "torch" else PICO
        yield Group(f"pico/{runtime}", "pico", load, asked)
        behind = {**load, "detector": load}
        yield Group(f"topdown/pico/{runtime}", "topdown", behind, BEHIND)
    for runtime in OF_GRAPHS:
        behind = {**person, "runtime": runtime, "detector": {**finder, "runtime": runtime}}
        yield Group(f"topdown/yolo/{runtime}", "topdown", behind, BEHIND)
    part = {**person, "keypoints": ["nose", "left_wrist"], "runtime": "openvino"}
    yield Group("pico/some keypoints", "pico", part, PICO_SHORT)
    whole = {"model_id": "person-19", "runtime": "openvino"}
    yield Group("pico/19", "pico", whole, PICO_SHORT)
    for checkpoint in sorted(side.inputs.glob("*.pt")):
        name = f"yolo/{checkpoint.stem}"
        asked = {**YOLO}
        for kind, more in ONE_KIND.items():
            asked |= more if kind in checkpoint.stem else {}
        files = {"checkpoint": (checkpoint, OF_GRAPHS)}
        if checkpoint.stem in EXPORTED:
            files |= {f: (exported_path(side, checkpoint, f), ran) for f, ran in FORMATS.items()}
        for kind, (file, runtimes) in files.items():
            for runtime in runtimes:
                load = {"model_id": file, "runtime": runtime}
                yield Group(f"{name}/{kind}/{runtime}", checkpoint.stem, load, asked)


def answers(side: Side, group: Group) -> Digests:
    """Ask the questions that are wanted, and return the digest of each array of the answers."""
    found: Digests = {}
    settings = replace(okp.Settings.from_env(), cache_dir=side.out / "caches" / group.cache)
    with np.load(side.inputs / "pictures.npz") as stored:
        pictures = [stored[name] for name in ("wide", "tall", "noise")]
    with opened(group.load, settings) as model:
        for name, arguments in group.asked.items():
            question = f"{group.name}/{name}"
            if not side.wants(question):
                continue
            direct = {k: v for k, v in arguments.items() if k in DIRECT}
            options = {k: v for k, v in arguments.items() if k not in DIRECT}
            try:
                found_in = model.infer(pictures, **direct, options=okp.InferOptions(**options))
            except okp.OpenKeypointsError as error:
                found[question] = type(error).__name__
                continue
            for number, prediction in enumerate(found_in):
                for key, array in arrays(prediction):
                    found[f"{question}/{number}/{key}"] = array_digest(array)
    return found


def opened(load: Mapping[str, Any], settings: okp.Settings) -> okp.Model:
    """Load a model, its detector first; that one ends with the process."""
    arguments = {"precision": "f32", "device": "cpu", **load, "settings": settings}
    if "detector" in load:
        arguments["detector"] = opened(load["detector"], settings)
    return okp.get_model(**arguments)


def arrays(prediction: okp.Prediction) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield every array of a prediction, those of the family last."""
    for key in ARRAYS:
        if (array := getattr(prediction, key)) is not None:
            yield key, array
    for key in sorted(prediction.extras):
        yield f"extras {key}", np.asarray(prediction.extras[key])


def array_digest(array: NDArray[Any]) -> str:
    """Return the number of rows, and the digest of type, shape and bytes of an array."""
    kind = f"{array.dtype.str}{array.shape}".encode()
    return f"{len(array)} rows {digest(kind + np.ascontiguousarray(array).tobytes())}"


# --- files -----------------------------------------------------------------------------------


def exported_path(side: Side, checkpoint: Path, kind: str) -> Path:
    """Return where the export of a checkpoint lies, or is to lie."""
    return side.out / (checkpoint.stem + {"onnx": ".onnx", "openvino": "_openvino_model"}[kind])


def export(side: Side, checkpoint: Path) -> Digests:
    """Export a checkpoint in each format, and return digests of graphs and of what they say."""
    for kind in FORMATS:
        path = exported_path(side, checkpoint, kind)
        side.okp("export", checkpoint, "--format", kind, "--out", path)
    model = onnx.load(exported_path(side, checkpoint, "onnx"))
    said = {entry.key: entry.value for entry in model.metadata_props}
    del model.metadata_props[:]
    found = {"graph.onnx": digest(model.SerializeToString(deterministic=True))}
    found["metadata.onnx"] = digest(json.dumps(said, sort_keys=True).encode())
    folder = exported_path(side, checkpoint, "openvino")
    found |= {file.name: digest(file.read_bytes()) for file in sorted(folder.iterdir())}
    return {f"exported/{checkpoint.stem}/{name}": value for name, value in found.items()}


def cached_graphs(side: Side) -> Digests:
    """Return, for each cache folder, the digests of the graphs that were written into it."""
    found: Digests = {}
    for folder in sorted((side.out / "caches").glob("*")):
        files = [file for file in folder.rglob("*") if file.suffix in WRITTEN]
        # Sorted by content: how a version names its files is its own affair.
        digests = sorted(digest(file.read_bytes()) for file in files)
        found[f"graphs/{folder.name}"] = " ".join([f"{len(digests)} files", *digests])
    return found


# --- training and figures --------------------------------------------------------------------


def trained(side: Side) -> Digests:
    """Train both networks for some steps, and return digests of the weights and of the model."""
    run = side.out / "run"
    said = ("--precision", "f32", "--device", "cpu", "--threads", "1", "--seed", "3")
    data = ("--data", side.inputs / "labelled", "--config", side.inputs / "train.yaml")
    side.okp("train", *data, "--init", side.inputs / "tiny.okp", "--out", run, *said)
    found: Digests = {}
    for part in ("pose", "detector"):
        state = (run / part / "last.safetensors").read_bytes()
        # The header says how many seconds it took.
        found[f"trained/{part} state"] = digest(state[8 + int.from_bytes(state[:8], "little") :])
    with zipfile.ZipFile(run / "best.okp") as archive:
        for name in sorted(archive.namelist()):
            found[f"trained/best.okp {name}"] = digest(archive.read(name))
    return found


def figures(side: Side) -> Digests:
    """Return the figures of ``person`` on labelled pictures."""
    said = side.okp(
        "evaluate", "--model", "person", "--data", side.inputs / "labelled", "--runtime",
        "openvino", "--precision", "f32", "--device", "cpu", "--json",
    )  # fmt: skip
    report = json.loads(said)
    return {
        f"figures/{mode} {name}": value
        if len(value := json.dumps(figure)) < 40
        else digest(value.encode())
        for mode in ("given", "found")
        for name, figure in report[mode].items()
    }


# --- all of it -------------------------------------------------------------------------------


def jobs(side: Side) -> Iterator[tuple[str, Callable[[], Digests]]]:
    """Yield what is wanted, by name and in the order needed."""
    for stem in EXPORTED:
        # What is asked of an export needs it there.
        if side.wants(f"exported/{stem}") or side.wants(f"yolo/{stem}"):
            yield f"exported/{stem}", partial(export, side, side.inputs / f"{stem}.pt")
    for name, job in (("trained", trained), ("figures", figures)):
        if side.wants(name):
            yield name, partial(job, side)
    for group in groups(side):
        if any(side.wants(f"{group.name}/{question}") for question in group.asked):
            yield group.name, partial(answers, side, group)


def probe(side: Side) -> Digests:
    """Return every digest that is wanted; what failed stands there with its error."""
    found: Digests = {}
    for name, job in jobs(side):
        try:
            found |= job()
        except Exception as error:  # noqa: BLE001  one failure hides no others
            found[name] = f"FAILED {type(error).__name__}: {error}"
    return found | cached_graphs(side)


def main() -> None:
    """Print what this version gives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    digests = probe(Side(arguments.inputs, arguments.out, arguments.only))
    print(json.dumps({"package": okp.__file__, "digests": digests}))


if __name__ == "__main__":
    main()
