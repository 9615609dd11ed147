"""Where a model's weights can be fetched: the record in the catalogue, and the address it means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from openkeypoints.errors import InputError
from openkeypoints.settings import Settings

Provider = Literal["release", "hub", "roboflow", "address"]

PACKAGE_GRAPH = "weights.onnx"
"""The file without which a package of Roboflow's is none; it is fetched last."""
_MODEL_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127})?")


@dataclass(frozen=True, slots=True)
class WeightRef:
    """One place that has the weights of a model.

    Attributes:
        provider: which module of ``weights.providers`` fetches it.
        location: ``release``: the tag. ``hub``: ``owner/repository`` or
            ``owner/repository@revision``. ``roboflow``: the model id there. ``address``: the whole
            http(s) address.
        file: name of the file there; empty for ``roboflow``, whose package is a folder.
        sha256: of the file, None where unknown.
        md5: of the file, for publishers that state nothing better.
        size_bytes: of the file, None where unknown.
    """

    provider: Provider
    location: str
    file: str = ""
    sha256: str | None = None
    md5: str | None = None
    size_bytes: int | None = None

    @property
    def name(self) -> str:
        """Name of the file in the cache; empty where a whole folder is fetched."""
        return self.file.rpartition("/")[2]

    def url(self, settings: Settings) -> str:
        """Return the address that is asked for it, for people and for the provider."""
        if self.provider == "release":
            return f"{settings.releases_url}/{self.location}/{self.file}"
        if self.provider == "hub":
            repository, _, revision = self.location.partition("@")
            return f"{settings.hub_url}/{repository}/resolve/{revision or 'main'}/{self.file}"
        if self.provider == "roboflow":
            return f"{settings.roboflow_url}/models/v1/external/weights?modelId={self.location}"
        return self.location


def check_model_id(model_id: str) -> str:
    """Return an id that may name a folder.

    Raises:
        InputError: it has other signs than an id, or too many parts.
    """
    if not _MODEL_ID.fullmatch(model_id):
        raise InputError(
            f"{model_id[:80]!r} is no model id: it has letters, digits, '.', '_', '-', and at most "
            "one slash."
        )
    return model_id
