"""What a model is opened with, as a record that can be kept, sent and read from a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from openkeypoints.errors import InputError

DEFAULT = "person"
"""The model of whoever names none."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model to be opened; frozen and picklable, without keys and open handles.

    Attributes:
        model: id of the catalogue, path, or id of a model at Roboflow.
        card: what a bare file cannot say: the content of a card, not its path.
        detector: what finds the instances in place of the model's own detector.
        keypoints: name of a group, or names of keypoints: only these are computed; None = all.
        runtime: ``openvino``, ``onnxruntime``, ``torch`` or ``auto``.
        device: ``auto``, ``cpu``, ``cuda:N``, ``mps``.
        precision: ``f32``, ``bf16``, ``int8`` or ``auto``.
    """

    model: str = DEFAULT
    card: Mapping[str, Any] = field(default_factory=dict)
    detector: ModelSpec | None = None
    keypoints: tuple[str, ...] | None = None
    runtime: str = "auto"
    device: str = "auto"
    precision: str = "auto"

    def to_dict(self) -> dict[str, Any]:
        """Return what differs from the defaults, as plain JSON values beside ``model``."""
        values: dict[str, Any] = {"model": self.model}
        for name in ("runtime", "device", "precision"):
            if (value := getattr(self, name)) != "auto":
                values[name] = value
        if self.card:
            values["card"] = dict(self.card)
        if self.detector is not None:
            values["detector"] = self.detector.to_dict()
        if self.keypoints is not None:
            values["keypoints"] = list(self.keypoints)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | str) -> Self:
        """Return what :meth:`to_dict` wrote; a text is a model without more.

        Raises:
            InputError: a key is unknown or a value has the wrong type; the message names it.
        """
        if isinstance(values, str):
            return cls(values)
        known = {f.name for f in fields(cls)}
        if not isinstance(values, Mapping) or (unknown := sorted(map(str, values.keys() - known))):
            what = repr(unknown[0]) if isinstance(values, Mapping) else f"no mapping: {values!r}"
            raise InputError(f"A model has {what}; its keys are {', '.join(sorted(known))}.")
        read: dict[str, Any] = dict(values)
        for name in ("model", "runtime", "device", "precision"):
            if not isinstance(read.get(name, ""), str):
                raise InputError(f"A model has {name} {read[name]!r}: give a text.")
        if not isinstance(read.get("card", {}), Mapping):
            raise InputError(f"A model has card {read['card']!r}: give a mapping.")
        if read.get("detector") is not None:
            read["detector"] = cls.from_dict(read["detector"])
        read["keypoints"] = names_of(read.get("keypoints"))
        return cls(**read)


def names_of(keypoints: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Return names of keypoints, given as one or many.

    Raises:
        InputError: they are no texts.
    """
    if keypoints is None:
        return None
    names = (keypoints,) if isinstance(keypoints, str) else tuple(keypoints)
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"keypoints is {keypoints!r}: give names of keypoints or groups.")
    return names
