"""Which models there are and for whom: names of requests become ids that the engine loads."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from openkeypoints.errors import UnknownModelError
from openkeypoints.models import (
    Model,
    ModelSpec,
    Variant,
    find_variant,
    list_models,
)
from openkeypoints.models.opening import ROBOFLOW_ID
from openkeypoints.server.callers import Caller
from openkeypoints.server.config import NamedModel, ServerConfig, id_fault
from openkeypoints.settings import Settings
from openkeypoints.weights import known_ids

DEFAULT = "person"
VERSION = "/1"
"""An id without a slash is also served under this version, as clients want two segments."""
MAX_REMEMBERED = 1000


class Served:
    """The ids that this server serves, and their other names.

    Args:
        config: what the operator named, and what clients may name.
        settings: cache folder, keys and addresses of the sources.
    """

    def __init__(self, config: ServerConfig, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._rows = {name: row for row in list_models() for name in (row.id, *row.aliases)}
        named = config.models or (NamedModel(DEFAULT, ModelSpec()),)
        self._specs = {model.id: model.spec for model in named}
        self._named = self._named_names()
        self._added: dict[str, str] = {}
        self._requested: dict[str, dict[str, None]] = {}
        self._forwarded: dict[str, str] = {}
        for model in named:
            self._check(model)

    @property
    def pinned(self) -> tuple[str, ...]:
        """The ids that the operator named: loaded at the start, and kept."""
        return tuple(self._specs)

    @property
    def specs(self) -> Mapping[str, ModelSpec]:
        """Id that the operator named -> what is opened for it."""
        return MappingProxyType(self._specs)

    @property
    def forwarded_keys(self) -> Mapping[str, str]:
        """Id at Roboflow -> the key of the client that named it last."""
        return MappingProxyType(self._forwarded)

    def ids(self) -> list[str]:
        """Return the ids that are served now to everybody: named ones, then added ones."""
        return list(dict.fromkeys((*self._specs, *self._added.values())))

    def names(self) -> list[str]:
        """Return the ids, and ``ID/1`` after each that has no slash."""
        return [name for model_id in self.ids() for name in spellings(model_id)]

    def loadable(self) -> list[str]:
        """Return the ids that clients may name beside those that are served."""
        if not self._open_to_all:
            return []
        there = (*(row.id for row in self._rows.values()), *known_ids(self._settings))
        return [name for name in dict.fromkeys(there) if name not in self._specs]

    def row(self, model_id: str) -> Variant | None:
        """Return what the catalogue says of an id, None where the operator named another file."""
        spec = self._specs.get(model_id)
        if spec is not None and spec.model not in (model_id, *self._aliases(model_id)):
            return None
        return self._rows.get(model_id)

    def resolve(self, name: str, caller: Caller) -> str:
        """Return the id that the engine loads for a name, and remember that it was asked for.

        Args:
            name: as the client spells it: an id, an alias, either with ``/1``.
            caller: who asks.

        Raises:
            UnknownModelError: there is no such model, or not for this caller.
        """
        name = name.strip("/")
        model_id = self._named.get(name) or self._added.get(name)
        if model_id is None and self._may_load(caller):
            model_id = self._loadable(name, caller)
        if model_id is None:
            raise self._unknown(name)
        if model_id in self._requested or len(self._requested) < MAX_REMEMBERED:
            self._requested.setdefault(model_id, {})[name] = None
        return model_id

    def add(self, name: str, caller: Caller) -> str:
        """Return the id of a name, as :meth:`resolve`; what a key with ``admin`` adds is served.

        Raises:
            UnknownModelError: there is no such model, or not for this caller.
        """
        model_id = self.resolve(name, caller)
        if model_id not in self._specs and caller.key_id is not None and caller.may("admin"):
            self._added.update(dict.fromkeys((name, *spellings(model_id)), model_id))
        return model_id

    def known(self, name: str) -> str:
        """Return the id of a name that was asked for before, the name itself otherwise."""
        name = name.strip("/")
        for model_id, names in self._requested.items():
            if name == model_id or name in names:
                return model_id
        return self._named.get(name) or self._added.get(name) or name

    def remove(self, model_id: str) -> None:
        """Forget what was added, and the names asked for; what the operator named stays served."""
        self._added = {n: i for n, i in self._added.items() if i != model_id}
        self._requested.pop(model_id, None)

    def clear(self) -> None:
        """Forget everything that was added or asked for."""
        self._added.clear()
        self._requested.clear()

    def requested(self, model_id: str) -> tuple[str, ...]:
        """Return the names under which a model was asked for, in the order of the first time."""
        return tuple(self._requested.get(model_id, ()))

    # -------------------------------------------------------------------------- who may load what

    @property
    def _open_to_all(self) -> bool:
        return self._config.load and not self._config.models

    def _may_load(self, caller: Caller) -> bool:
        by_key = caller.key_id is not None and caller.may("admin")
        return self._open_to_all or (self._config.load and by_key)

    def _loadable(self, name: str, caller: Caller) -> str | None:
        """Return the id of a model that is not named by the operator, None if there is none."""
        if id_fault(name) is not None:
            return None
        bare = name.removesuffix(VERSION)
        for candidate in dict.fromkeys((name, bare)):
            if (row := self._rows.get(candidate)) is not None:
                return row.id
        if name in self._requested:
            return name
        there = known_ids(self._settings)
        for candidate in dict.fromkeys((name, bare)):
            if candidate in there and id_fault(candidate) is None:
                return candidate
        return self._at_roboflow(name, caller)

    def _at_roboflow(self, name: str, caller: Caller) -> str | None:
        key = caller.roboflow_key if self._config.forward_roboflow_key else None
        if self._settings.offline or not (key or self._settings.api_key):
            return None
        if not ROBOFLOW_ID.fullmatch(name):
            return None
        if key is not None and len(self._forwarded) < MAX_REMEMBERED:
            self._forwarded[name] = key
        return name

    def _unknown(self, name: str) -> UnknownModelError:
        close = difflib.get_close_matches(name, self._named, n=1, cutoff=0.6)
        served = ", ".join(close or self.names()[:10])
        return UnknownModelError(f"No model {name[:80]!r} is served here; there is {served}.")

    # -------------------------------------------------------------------------- names and settings

    def _named_names(self) -> dict[str, str]:
        """Return every name of the named models; an id goes before the alias of another."""
        names = {model_id: model_id for model_id in self._specs}
        for model_id in self._specs:
            for name in self._aliases(model_id):
                names.setdefault(name, model_id)
        for name, model_id in list(names.items()):
            for spelling in spellings(name):
                names.setdefault(spelling, model_id)
        return names

    def _aliases(self, model_id: str) -> tuple[str, ...]:
        row = self._rows.get(model_id)
        return () if row is None else (row.id, *row.aliases)

    def _check(self, model: NamedModel) -> None:
        """Refuse at the start what can be no model, without asking the network."""
        for spec in (model.spec, model.spec.detector):
            if spec is None or spec.model in self._rows or spec.model in known_ids(self._settings):
                continue
            if not Path(spec.model).exists() and not ROBOFLOW_ID.fullmatch(spec.model):
                find_variant(spec.model)


def spellings(model_id: str) -> tuple[str, ...]:
    """Return an id, with ``ID/1`` after it if it has no slash."""
    return (model_id,) if "/" in model_id else (model_id, model_id + VERSION)


def skeletons_block(model: Model) -> list[Mapping[str, Any]]:
    """Return the skeletons of a model as answers show them, one entry per class that has one."""
    return [
        {
            "class": model.class_names[class_id],
            "class_id": class_id,
            "keypoints": [
                {"id": i, "name": name, "color": color}
                for i, (name, color) in enumerate(
                    zip(skeleton.keypoints, skeleton.colors, strict=True)
                )
            ],
            "edges": [list(edge) for edge in skeleton.edges],
        }
        for class_id, skeleton in sorted(model.skeletons.items())
    ]
