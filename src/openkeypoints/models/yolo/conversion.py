"""Checkpoints as graphs in the cache: read and written once, then opened by their hash."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

from openkeypoints.errors import WeightsError
from openkeypoints.models.graphs.cache import Entries
from openkeypoints.models.yolo.checkpoint import (
    Checkpoint,
    heads,
    input_spec,
    output_spec,
    read_checkpoint,
)
from openkeypoints.models.yolo.graph import THRESHOLD, write_graph
from openkeypoints.models.yolo.names import skeletons_for
from openkeypoints.models.yolo.record import spec_from_json, spec_to_json
from openkeypoints.models.yolo.spec import Head, YoloSpec
from openkeypoints.results import Skeleton
from openkeypoints.settings import Settings
from openkeypoints.weights.okp import sha256_of

WRITER = 2
"""Counts up when the graph writer or the record changes: older files of the cache are passed by."""
RECORD = "record.json"
_log = logging.getLogger(__name__)


class Conversion:
    """A checkpoint whose graphs are written when they are first asked for.

    Attributes:
        sha256: of the checkpoint.
        spec: the model apart from its graphs.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        """Read the checkpoint, or what an earlier call kept of it.

        Args:
            path: the checkpoint.
            settings: has the cache folder.

        Raises:
            WeightsError: it is no checkpoint of a YOLO network that is run here.
        """
        self._path = path
        self._checkpoint: Checkpoint | None = None
        self.sha256 = sha256_of(path)
        self._entries = Entries(settings.cache_dir, self.sha256, WRITER)
        self.spec = self._kept_spec() or self._new_spec()

    def graph(self, head: Head) -> Path | bytes:
        """Return the graph of a head: a file of the cache, bytes where none can be written."""
        name = f"{head}.onnx"
        if (file := self._entries.find(name)) is not None:
            return file
        data = write_graph(self._read(), head, sparse=True)
        return self._entries.keep(name, data) or data

    def export(self, head: Head, *, half: bool) -> bytes:
        """Return the plain graph of a head for an export, which needs no ``threshold``.

        Args:
            head: one that the checkpoint holds.
            half: store the weights as 16-bit floats.
        """
        return write_graph(self._read(), head, half=half)

    def _read(self) -> Checkpoint:
        if self._checkpoint is None:
            self._checkpoint = read_checkpoint(self._path)
        return self._checkpoint

    def _kept_spec(self) -> YoloSpec | None:
        if (file := self._entries.find(RECORD)) is None:
            return None
        try:
            return spec_from_json(json.loads(file.read_text(encoding="utf-8")), file.name)
        except (OSError, ValueError, WeightsError) as error:
            _log.info("The cached record %s is written anew: %s", file, error)
            return None

    def _new_spec(self) -> YoloSpec:
        spec = spec_of(self._read())
        self._entries.keep(RECORD, json.dumps(spec_to_json(spec), ensure_ascii=False).encode())
        return spec


def spec_of(checkpoint: Checkpoint) -> YoloSpec:
    """Return what a checkpoint says of its model."""
    shape = checkpoint.keypoint_shape
    skeletons: dict[int, Skeleton] = {}
    if shape is not None:
        skeletons = skeletons_for(checkpoint.class_names, shape[0], checkpoint.keypoint_names)
    if checkpoint.sigmas is not None:
        skeletons = {
            i: replace(s, sigmas=checkpoint.sigmas[: len(s)]) for i, s in skeletons.items()
        }
    return YoloSpec(
        task=checkpoint.task,
        class_names=checkpoint.class_names,
        skeletons=skeletons,
        input=replace(input_spec(checkpoint), threshold=THRESHOLD),
        outputs={head: output_spec(checkpoint, head) for head in heads(checkpoint)},
        licence=checkpoint.licence,
        card=checkpoint.facts,
    )
