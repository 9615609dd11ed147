"""Writes a model as an artefact that describes itself, and proves that it answers as before."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from openkeypoints.errors import (
    InputError,
    NotFoundError,
    OpenKeypointsError,
    OutputExistsError,
    WeightsError,
)
from openkeypoints.images import read_image
from openkeypoints.models.family import ExportGraph, Family, Loading
from openkeypoints.models.opening import locate, open_model
from openkeypoints.models.spec import ModelSpec
from openkeypoints.results import Image, Prediction
from openkeypoints.runtimes import available_runtimes
from openkeypoints.runtimes.base import unknown
from openkeypoints.runtimes.openvino import disable_telemetry
from openkeypoints.samples import sample
from openkeypoints.settings import Settings
from openkeypoints.weights.artifact import (
    OWN_KEY,
    onnx_metadata,
    openvino_metadata,
    write_metadata,
)
from openkeypoints.weights.okp import sha256_of

disable_telemetry()
import openvino as ov  # type: ignore[import-untyped]  # noqa: E402

Format = Literal["onnx", "openvino"]
FORMATS: tuple[Format, ...] = ("onnx", "openvino")
PRECISIONS = ("f32", "fp16")
OPENED_BY = {"onnx": ("openvino", "onnxruntime"), "openvino": ("openvino",)}
"""Format -> runtimes that open it, and in which it is compared."""
FOLDER_ENDING = "_openvino_model"
FILES = ("model.xml", "model.bin", "metadata.yaml")
"""Of an OpenVINO folder."""

COMPARED = 50
"""Best-scored instances of each picture that are looked for in the artefact's answer."""
LOOKED_AT = 3 * COMPARED
NOISE_SIDE = 200


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the answers of two models lie apart, at most.

    Attributes:
        pixels: of a corner of a box or of a keypoint, in pixels of the picture.
        score: of an instance or of a keypoint.
        mask: part of two masks that only one of them has, mean over the instances of a picture.
        instances: how many were compared.
    """

    pixels: float = 0.0
    score: float = 0.0
    mask: float = 0.0
    instances: int = 0


TOLERANCE = {
    "f32": Difference(pixels=0.05, score=1e-3, mask=0.01),
    "fp16": Difference(pixels=1.5, score=0.01, mask=0.05),
}
ALIKE = TOLERANCE["fp16"]
"""Differences that weigh the same when the like of an instance is looked for."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What :func:`export` wrote.

    Attributes:
        path: the ``.onnx`` file or the OpenVINO folder.
        difference: from the original, the largest over all pictures and runtimes.
        runtimes: those that it was compared in.
    """

    path: Path
    difference: Difference
    runtimes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Job:
    """One export: where it comes from and what is wanted."""

    family: Family
    path: Path
    loading: Loading
    format: Format
    precision: str
    sha256: str


def export(
    spec: ModelSpec,
    out: Path | None = None,
    *,
    format: Format = "onnx",
    precision: str = "f32",
    overwrite: bool = False,
    settings: Settings,
) -> Exported:
    """Write a model as an artefact, after comparing its answers with the original's.

    The artefact carries names, skeletons, preprocessing, licence and the hash of its source, and
    takes pictures of any size. Where it answers differently nothing is written.

    Args:
        spec: the model, with the card that the artefact takes over.
        out: an ``.onnx`` file, or a folder for ``openvino``. Default: named after the model, in the
            current folder. What is there already is replaced where it was made from this model.
        format: ``onnx`` or ``openvino``.
        precision: how weights are stored, ``f32`` or ``fp16``.
        overwrite: replace whatever is there.
        settings: cache folder, allowed licences, limits.

    Raises:
        InputError: format or precision are unknown, or the model cannot be exported.
        OutputExistsError: ``out`` is an input, or is there and was made from something else.
        NotFoundError, UnknownModelError: there is no such model.
        WeightsError: the model cannot be read, or the artefact answers differently.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if precision not in PRECISIONS:
        raise _no_precision(precision)
    located = locate(spec, settings)
    family, path = located.family, located.facts.path
    if family.export is None:
        raise _no_export(spec.model, family, path)
    if not path.is_file():
        raise InputError(f"'{path}' is a folder, and so an export already: name the checkpoint.")
    loading = Loading(spec, settings, located.id, located.licence)
    job = _Job(family, path, loading, format, precision, sha256_of(path))
    target = _target(job, spec.model, out)
    _check_target(job, target, overwrite=overwrite)
    graph = family.export(located.facts, loading, precision)
    with tempfile.TemporaryDirectory(dir=_existing(target.parent), prefix=".okp-export-") as folder:
        made = _write(job, graph, Path(folder))
        difference, runtimes = _compare(job, made)
        _move(made, target)
    return Exported(target, difference, runtimes)


def _no_precision(precision: str) -> InputError:
    if precision in ("bf16", "int8"):
        return InputError(
            f"precision is {precision!r}: an export stores {' or '.join(PRECISIONS)}; bf16 is "
            "chosen when a model runs, and int8 needs calibration."
        )
    return unknown("precision", precision, PRECISIONS)


def _no_export(model_id: str, family: Family, path: Path) -> InputError:
    why = "there is nothing that it could be written as"
    if path.suffix.lower() == ".okp":
        why = "its .okp file already holds its networks as ONNX graphs, with all that runs them"
    return InputError(
        f"{model_id!r} is a {family.name} model, which is not exported: {why}. "
        "Use the file as it is."
    )


# --- where it is written ---------------------------------------------------------------------


def _target(job: _Job, model_id: str, out: Path | None) -> Path:
    """Return the file or folder to write, named after the model where nobody named it."""
    stem = job.path.stem if Path(model_id).exists() else re.sub(r"[^\w.-]", "_", model_id)
    if job.format == "openvino":
        return Path(f"{stem}{FOLDER_ENDING}") if out is None else out
    if out is None:
        return Path(f"{stem}.onnx")
    if out.is_dir():
        return out / f"{stem}.onnx"
    if out.suffix.lower() != ".onnx":
        raise InputError(f"'{out}' does not end with .onnx: name a file that does, or a folder.")
    return out


def _check_target(job: _Job, target: Path, *, overwrite: bool) -> None:
    """Raise unless the target is free, was made from the same model, or may be replaced."""
    files = [target] if job.format == "onnx" else [target / name for name in FILES]
    if any(file.exists() and file.samefile(job.path) for file in files):
        raise OutputExistsError(f"'{target}' is the model itself: name another output.")
    if job.format == "onnx" and target.is_dir():
        raise OutputExistsError(f"'{target}' is a folder: name another file.")
    if job.format == "openvino" and os.path.lexists(target) and not target.is_dir():
        raise OutputExistsError(f"'{target}' is no folder: name another one.")
    taken = any(os.path.lexists(file) for file in files)
    if taken and not overwrite and _made_from(job.format, target) != job.sha256:
        raise OutputExistsError(
            f"'{target}' is there and was not made from {job.path.name}: add --overwrite to "
            "replace it, or name another output."
        )


def _made_from(format: Format, target: Path) -> str | None:
    """Return the hash of the model that an artefact says it was made from."""
    try:
        facts = onnx_metadata(target) if format == "onnx" else openvino_metadata(target)
    except (WeightsError, NotFoundError):
        return None
    record = facts.metadata.get(OWN_KEY)
    return str(record.get("source_sha256")) if isinstance(record, Mapping) else None


def _existing(folder: Path) -> Path:
    """Return the folder or the nearest one above it that is there."""
    return next(f for f in (folder.absolute(), *folder.absolute().parents) if f.is_dir())


# --- writing ---------------------------------------------------------------------------------


def _write(job: _Job, graph: ExportGraph, folder: Path) -> Path:
    record = {**graph.metadata, "precision": job.precision, "source_sha256": job.sha256}
    if job.format == "onnx":
        return _write_onnx(graph.onnx, record, folder / "model.onnx")
    made = folder / "model"
    made.mkdir()
    model = ov.Core().read_model(graph.onnx)
    ov.save_model(model, made / FILES[0], compress_to_fp16=job.precision == "fp16")
    write_metadata(made, {OWN_KEY: record})
    return made


def _write_onnx(graph: bytes, record: Mapping[str, Any], path: Path) -> Path:
    model = onnx.load_from_string(graph)
    model.producer_name = "openkeypoints"
    helper.set_model_props(model, {OWN_KEY: json.dumps(record, ensure_ascii=False)})
    path.write_bytes(model.SerializeToString())
    return path


def _move(made: Path, target: Path) -> None:
    """Put a file, or the files of a folder, in place; others in that folder stay."""
    try:
        if made.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                (made / name).replace(target / name)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.replace(target)
    except OSError as error:
        raise InputError(
            f"'{target}' cannot be written ({error.strerror}): choose another place."
        ) from error


# --- comparing -------------------------------------------------------------------------------


def _compare(job: _Job, made: Path) -> tuple[Difference, tuple[str, ...]]:
    """Run original and artefact on pictures, and return the largest difference.

    Raises:
        WeightsError: it is larger than the tolerance, or the artefact does not run.
    """
    runtimes = tuple(name for name in OPENED_BY[job.format] if name in available_runtimes())
    pictures = _pictures(job.loading.settings)
    worst = Difference()
    for runtime in runtimes:
        # Each in the same runtime, so that what is seen is what the export changed.
        settled = ModelSpec(str(job.path), runtime=runtime, device="cpu", precision="f32")
        expected = _answers(job, replace(settled, card=job.loading.spec.card), pictures)
        try:
            # What the card says is part of the artefact already.
            found = _answers(job, replace(settled, model=str(made)), pictures)
        except OpenKeypointsError as error:
            raise WeightsError(
                f"The export of {job.path.name} does not run in {runtime}, so it was not written: "
                f"{error}"
            ) from error
        for one, other in zip(expected, found, strict=True):
            worst = _largest(worst, difference(one, other))
    _check(job, worst)
    return worst, runtimes


def _check(job: _Job, worst: Difference) -> None:
    allowed = TOLERANCE[job.precision]
    if not worst.instances:
        raise WeightsError(
            f"{job.path.name} finds nothing at all, not even with a score of 0, so an export of it "
            "cannot be compared and was not written."
        )
    if any(getattr(worst, name) > getattr(allowed, name) for name in ("pixels", "score", "mask")):
        raise WeightsError(
            f"The export of {job.path.name} as {job.precision} answers differently from the "
            f"original, so it was not written: {_text(worst)}; {_text(allowed)} are allowed."
        )


def _text(difference: Difference) -> str:
    return (
        f"{difference.pixels:.3g} px, {difference.score:.3g} in scores and "
        f"{difference.mask:.2g} of the masks"
    )


def _answers(job: _Job, spec: ModelSpec, pictures: list[Image]) -> list[Prediction]:
    with open_model(spec, job.loading.settings, name=job.loading.name) as model:
        # Every candidate, unsuppressed: near its limits a threshold would turn on the last bit.
        return model.infer(
            pictures, confidence=0.0, iou_threshold=1.0, max_detections=LOOKED_AT, color="rgb"
        )


def _pictures(settings: Settings) -> list[Image]:
    """Return a wide and a tall photograph, and noise."""
    wide = read_image(sample("people"), settings=settings)
    noise = np.random.default_rng(0).integers(0, 256, (NOISE_SIDE, NOISE_SIDE, 3), np.uint8)
    return [wide, np.rot90(wide).copy(), noise]


def difference(expected: Prediction, found: Prediction) -> Difference:
    """Return how far the best instances of one answer lie from their likes in another."""
    count = min(COMPARED, len(expected))
    pixels, score, masks = [0.0], [0.0], []
    for row in range(count):
        others = np.flatnonzero(found.class_ids == expected.class_ids[row])
        if not len(others):
            return Difference(np.inf, np.inf, 1.0, count)
        corners = np.abs(found.boxes[others] - expected.boxes[row]).max(axis=1)
        points = np.nan_to_num(np.abs(found.keypoints[others] - expected.keypoints[row]))
        apart = np.maximum(corners, points.max(axis=(1, 2), initial=0))
        scores = np.abs(found.scores[others] - expected.scores[row])
        # Boxes cut off at the same edges are equal: then the score tells them apart, or the rank.
        unlike = apart / ALIKE.pixels + scores / ALIKE.score + 1e-6 * np.abs(others - row)
        like = int(unlike.argmin())
        other = others[like]
        pixels.append(float(apart[like]))
        score.append(float(scores[like]))
        of_points = np.abs(found.keypoint_scores[other] - expected.keypoint_scores[row])
        score.append(float(of_points.max(initial=0)))
        if expected.masks is not None and found.masks is not None:
            masks.append(_apart(expected.masks[row], found.masks[other]))
    return Difference(max(pixels), max(score), float(np.mean(masks)) if masks else 0.0, count)


def _apart(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one ^ other).sum() / max(1, (one | other).sum()))


def _largest(one: Difference, other: Difference) -> Difference:
    return Difference(
        max(one.pixels, other.pixels),
        max(one.score, other.score),
        max(one.mask, other.mask),
        one.instances + other.instances,
    )
