"""Networks as OpenVINO compiled them, kept and checked like every other entry of the cache."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from openkeypoints.models.graphs.cache import CHECKSUM, notice, seal, whole
from openkeypoints.models.spec import ModelSpec
from openkeypoints.runtimes import Artifact, Session, open_session
from openkeypoints.settings import Settings
from openkeypoints.weights.artifact import check_complete
from openkeypoints.weights.locks import locked

LOCK = "lock"
_SAMPLE = 1 << 16
"""Bytes at the beginning, in the middle and at the end that tell one network from another."""


def open_network(artifact: Artifact, spec: ModelSpec, settings: Settings) -> Session:
    """Open a network as a specification says; see ``runtimes.open_session``.

    What OpenVINO compiles is kept in the cache folder and is used again where it is whole.

    Raises:
        WeightsError: it is a graph in memory that wants weights from a file; and see there.
    """
    if isinstance(artifact.onnx, bytes):
        check_complete(artifact.onnx, artifact.name)
    with _kept(artifact, spec, settings) as folder:
        return open_session(
            artifact,
            runtime=spec.runtime,
            device=spec.device,
            precision=spec.precision,
            threads=settings.threads,
            streams=settings.streams,
            cache_dir=folder,
        )


@contextlib.contextmanager
def _kept(artifact: Artifact, spec: ModelSpec, settings: Settings) -> Iterator[Path | None]:
    """Lend the folder of a compiled network, None where nothing can be kept.

    OpenVINO decides by itself which file of the folder it reads, and believes what it finds. So
    nothing but whole files is left there before, and what it wrote is sealed after. One opener
    holds the folder at a time: a file that another is still writing would look damaged.
    """
    if spec.runtime not in ("auto", "openvino"):
        yield None
        return
    cache_dir = settings.cache_dir
    folder = cache_dir / "compiled" / _key(artifact, spec, settings)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(folder / LOCK))
            found = _whole_files(folder)
        except OSError as error:
            notice(cache_dir, error)
            yield None
            return
        yield folder
        try:
            for file, written in _files(folder).items():
                if found.get(file) != written:
                    seal(file)
        except OSError as error:
            notice(cache_dir, error)


def _whole_files(folder: Path) -> dict[Path, int]:
    """Remove what is damaged, or was never sealed, and return the rest as :func:`_files` does."""
    files = _files(folder)
    for file in [file for file in files if not whole(file)]:
        file.unlink()
        del files[file]
    return files


def _files(folder: Path) -> dict[Path, int]:
    """Return the files that are not ours, and when each was written, in nanoseconds."""
    return {
        path: path.stat().st_mtime_ns
        for path in folder.iterdir()
        if path.name != LOCK and path.suffix not in (CHECKSUM, ".new")
    }


def _key(artifact: Artifact, spec: ModelSpec, settings: Settings) -> str:
    """Return the folder's name: of a network, by samples of it, and of how it is to run.

    OpenVINO names its files by all that counts: two networks that share a folder are told apart
    there. The folder only keeps what has to be checked at an opening small.
    """
    choices = (spec.device, spec.precision, settings.threads, settings.streams)
    name = hashlib.sha256(repr(choices).encode())
    parts: tuple[bytes | Path | None, ...] = (artifact.onnx,)
    if artifact.openvino is not None:
        parts = (artifact.openvino, artifact.openvino.with_suffix(".bin"))
    for part in parts:
        for sample in _samples(part):
            name.update(sample)
    return name.hexdigest()[:32]


def _samples(part: bytes | Path | None) -> list[bytes]:
    """Return what tells a network from others; nothing of a file that is missing."""
    if isinstance(part, bytes):
        return _sampled(io.BytesIO(part))
    if part is None or not part.is_file():
        return []
    with part.open("rb") as file:
        return _sampled(file)


def _sampled(file: BinaryIO) -> list[bytes]:
    size = file.seek(0, io.SEEK_END)
    samples = [str(size).encode()]
    for at in (0, size // 2, max(0, size - _SAMPLE)):
        file.seek(at)
        samples.append(file.read(_SAMPLE))
    return samples
