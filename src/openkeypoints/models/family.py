"""What a family of models is made of: catalogue rows, claims, and what opens its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from openkeypoints.models.base import Model, Task
from openkeypoints.models.crops import CropReader
from openkeypoints.models.facts import Claim, FileFacts
from openkeypoints.models.graphs import open_network
from openkeypoints.models.spec import ModelSpec
from openkeypoints.models.topdown import Detector, View
from openkeypoints.runtimes import Artifact, Session
from openkeypoints.settings import Settings
from openkeypoints.weights.refs import WeightRef


@dataclass(frozen=True, slots=True)
class Loading:
    """How a family is to open a file.

    Attributes:
        spec: what was asked for; the detector that it names is none of the family's business.
        settings: cache folder, limits, threads.
        name: id under which the model was asked for, None for a path.
        licence: what is known of the weights' licence before the file is read.
    """

    spec: ModelSpec
    settings: Settings
    name: str | None = None
    licence: str | None = None

    def session(self, artifact: Artifact) -> Session:
        """Open a network as it was asked for; see ``graphs.open_network``."""
        return open_network(artifact, self.spec, self.settings)


class OpenedReader(NamedTuple):
    """A crop network, and what a top-down model made of it says of itself."""

    reader: CropReader
    view: View
    licence: str
    card: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the catalogue: a named model of a family.

    Attributes:
        id: name; ``aliases`` are other names for it.
        family: name of its family.
        task: what it finds.
        skeleton: name of its skeleton, None without keypoints.
        source: where the weights come from, for people to read.
        licence: of the weights.
        file: the file in the package, None where it has to be fetched.
        size_bytes: of the file, None where unknown.
        sha256: of the file, None where unknown.
        claims: figures that its authors state, None where we cannot verify one.
        refs: where the weights can be fetched, the first choice first.
    """

    id: str
    family: str
    task: Task
    skeleton: str | None
    source: str
    licence: str
    aliases: tuple[str, ...] = ()
    file: Path | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    claims: Mapping[str, float | None] = field(default_factory=dict)
    refs: tuple[WeightRef, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportGraph:
    """What a family gives to be written as an artefact that every runtime opens.

    Attributes:
        onnx: the network as an ONNX graph: uint8 pictures (N, H, W, 3) in, any size.
        metadata: plain JSON values from which the family makes the same model again: family,
            version, task, class names, skeletons, preprocessing, outputs, thresholds, licence.
    """

    onnx: bytes
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """A family of models: its catalogue rows and how a file becomes a model.

    A family of one stage has ``model``. One of crop networks has ``reader``, and ``detector`` where
    its files hold a detector too; the two halves are joined above, with any other detector as well.

    Attributes:
        name: of the family, as in ``model.json``.
        variants: its rows.
        reads: endings of its files, for messages.
        claims: says whether a file is of this family, and how surely.
        model: opens a file as a model of one stage.
        detector: opens the detector of a file of two halves.
        reader: opens the crop network of a file.
        card: says what was found out about a file, as a card for it: for people who want to see
            it, and to change it.
        export: makes the graph of ``okp export`` from the same arguments and a precision, ``f32``
            or ``fp16`` (the weights are stored as 16-bit floats). None where the family has no
            use for it.
    """

    name: str
    variants: tuple[Variant, ...]
    reads: tuple[str, ...]
    claims: Callable[[FileFacts], Claim | None]
    model: Callable[[FileFacts, Loading], Model] | None = None
    detector: Callable[[FileFacts, Loading], Detector] | None = None
    reader: Callable[[FileFacts, Loading], OpenedReader] | None = None
    card: Callable[[FileFacts, Loading], Mapping[str, Any]] | None = None
    export: Callable[[FileFacts, Loading, str], ExportGraph] | None = None
