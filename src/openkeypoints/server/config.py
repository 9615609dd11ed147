"""What ``okp serve`` is told: one checked record of every option and limit."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from openkeypoints.errors import InputError
from openkeypoints.models import ModelSpec
from openkeypoints.models.opening import from_folder
from openkeypoints.weights.cards import read_mapping

RESERVED_SEGMENTS = frozenset({"v1", "api", "infer", "model", "predict", "start", "docs"})
"""First segments of addresses that are routes, so that no model can have them."""
MODEL_ID = re.compile(r"[A-Za-z0-9._-]{1,64}(/[A-Za-z0-9._-]{1,64})?")
ENGINES = ("local", "ray")
_LOOPBACK_NAMES = {"localhost", "ip6-localhost"}
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")
_HOST = re.compile(r"[A-Za-z0-9.\-_\[\]:]+")
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request, one client and all clients together may take.

    Attributes:
        picture_bytes: of one encoded picture.
        body_bytes: of a request's body, which may hold a picture as base64.
        inflight_bytes: of all bodies that are held at once.
        text_bytes: of one text field of a form.
        parts: of a form.
        json_depth: nesting of a JSON body.
        json_marks: brackets and commas of a JSON body.
        target_bytes: of path and query.
        header_bytes: of all headers together.
        headers: how many there may be.
        header_s: until the headers are complete.
        body_s: grace for the body, beside the time that ``body_rate`` gives it.
        body_rate: bytes per second that a body must keep up.
        write_s: until a client has taken an answer.
        keep_alive_s: that a connection may be idle between requests.
        connections: open at once.
        connections_per_peer: open at once from one address.
        pipelined: requests that one connection may send ahead of their answers.
        fetches: pictures fetched at once.
    """

    picture_bytes: int = 20_000_000
    body_bytes: int = 28_000_000
    inflight_bytes: int = 256_000_000
    text_bytes: int = 64_000
    parts: int = 64
    json_depth: int = 32
    json_marks: int = 100_000
    target_bytes: int = 16_384
    header_bytes: int = 32_768
    headers: int = 100
    header_s: float = 10.0
    body_s: float = 10.0
    body_rate: float = 64_000.0
    write_s: float = 30.0
    keep_alive_s: float = 30.0
    connections: int = 512
    connections_per_peer: int = 64
    pipelined: int = 16
    fetches: int = 8


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model that the operator names: ``ID``, a path, or ``ID=PATH``.

    Attributes:
        id: under which it is served.
        spec: what is opened for it.
    """

    id: str
    spec: ModelSpec

    @classmethod
    def parse(cls, text: str) -> NamedModel:
        """Read what ``--model`` was given.

        A bare path is served under its name without the ending.

        Raises:
            InputError: the id may not be one.
        """
        name, equals, source = text.partition("=")
        if equals and not source:
            raise InputError(f"--model {text!r} names no file: give ID=PATH, or ID alone.")
        if not equals:
            path = Path(text)
            name, source = (path.stem if path.exists() else text), text
        if (reason := id_fault(name)) is not None:
            raise InputError(f"--model {text!r} cannot be served: {reason}")
        return cls(name, ModelSpec(source))


def named_in(path: Path) -> tuple[NamedModel, ...]:
    """Read the file of ``--models``: a mapping of ids to specifications (see ``ModelSpec``).

    A specification is an id or a path, or a mapping whose ``model`` is the id of the entry where it
    has none. Paths in it are those from the folder of the file, if there is such a file.

    Raises:
        NotFoundError: there is no such file.
        InputError: it holds no such mapping.
    """
    named = []
    for name, values in read_mapping(path, "list of models").items():
        if (reason := id_fault(str(name))) is not None:
            raise InputError(f"{path.name}: {str(name)!r} cannot be served: {reason}")
        asked = {"model": str(name), **values} if isinstance(values, dict) else values or str(name)
        try:
            spec = ModelSpec.from_dict(asked)
        except InputError as error:
            raise InputError(f"{path.name}: {name}: {error}") from error
        named.append(NamedModel(str(name), from_folder(spec, path.parent)))
    return tuple(named)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Every option of ``okp serve``. Making one checks it.

    Attributes:
        host: address to listen at.
        port: 0 takes a free one.
        models: named by the operator; empty: ``person`` and what clients name.
        load: without named models, load what clients name.
        api_key: one key for everything.
        api_keys: file of keys, see ``keys.py``.
        allow_anonymous: callers without a key may infer.
        allow_urls: fetch pictures from public https addresses in requests.
        allow_url_hosts: fetch from these hosts, which may be private and http.
        forward_roboflow_key: ask Roboflow with the client's key in place of the server's own.
        cors_origins: web pages that may call the server.
        workspace: name that the look-ups of the ``roboflow`` package get.
        workers: processes.
        engine: ``local`` or ``ray``.
        tls_cert: PEM file of the certificate.
        tls_key: PEM file of its key.
        trusted_proxies: networks whose ``X-Forwarded-For`` and ``-Proto`` are believed.
        root_path: path at which a proxy shows the server.
        drain_s: until running requests must be finished when the server stops.
        limits: see :class:`Limits`.
    """

    host: str = "127.0.0.1"
    port: int = 9001
    models: tuple[NamedModel, ...] = ()
    load: bool = True
    api_key: str | None = field(default=None, repr=False)
    api_keys: Path | None = None
    allow_anonymous: bool = False
    allow_urls: bool = False
    allow_url_hosts: tuple[str, ...] = ()
    forward_roboflow_key: bool = False
    cors_origins: tuple[str, ...] = ()
    workspace: str = "openkeypoints"
    workers: int = 1
    engine: str = "local"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()
    root_path: str = ""
    drain_s: float = 30.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self._check_who()
        self._check_where()
        if self.engine not in ENGINES:
            raise InputError(f"--engine {self.engine!r} is none of {', '.join(ENGINES)}.")
        if self.workers < 1:
            raise InputError(f"--workers {self.workers}: give at least 1.")
        ids = [model.id for model in self.models]
        if twice := {name for name in ids if ids.count(name) > 1}:
            raise InputError(
                f"--model and --models name {', '.join(sorted(twice))} more than once."
            )

    @property
    def has_keys(self) -> bool:
        """Whether callers can have keys at all."""
        return self.api_key is not None or self.api_keys is not None

    @property
    def is_local(self) -> bool:
        """Whether only people on this machine can reach the server, as far as it knows."""
        return is_loopback(self.host) and not self.trusted_proxies

    @property
    def anonymous_scopes(self) -> frozenset[str]:
        """What a caller without a key may do; empty: nothing."""
        if not self.has_keys and self.is_local:
            return frozenset({"infer", "admin"})
        return frozenset({"infer"}) if self.allow_anonymous else frozenset()

    def _check_who(self) -> None:
        if self.api_key is not None and self.api_keys is not None:
            raise InputError("Give --api-key or --api-keys, not both.")
        if self.api_key is not None and len(self.api_key) < 16:
            raise InputError("--api-key is shorter than 16 characters: take `okp keys add`'s.")
        if not (self.is_local or self.has_keys or self.allow_anonymous):
            what = (
                "Behind a proxy (--trusted-proxy)" if is_loopback(self.host) else self._elsewhere()
            )
            raise InputError(
                f"{what} everybody could use the server: give --api-keys FILE (see `okp keys "
                "add`) or --api-key, or --allow-anonymous if that is meant."
            )

    def _elsewhere(self) -> str:
        return f"At the address {self.host!r}"

    def _check_where(self) -> None:
        if not _HOST.fullmatch(self.host):
            raise InputError(f"--host {self.host!r} is no address or name of a host.")
        if not 0 <= self.port <= 65535:
            raise InputError(f"--port {self.port}: give a number from 0 to 65535.")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InputError("--tls-cert and --tls-key belong together: give both.")
        for file in (self.tls_cert, self.tls_key):
            if file is not None and not file.is_file():
                raise InputError(f"There is no file {str(file)!r} (--tls-cert, --tls-key).")
        if not _ROOT_PATH.fullmatch(self.root_path):
            raise InputError(f"--root-path {self.root_path!r}: give a path such as /keypoints.")
        for origin in self.cors_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise InputError(f"--cors-origin {origin!r}: give https://HOST, or * for all.")
        self.proxy_networks()

    def proxy_networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """Return the networks of the proxies that are trusted.

        Raises:
            InputError: one is no network.
        """
        try:
            return tuple(ipaddress.ip_network(text) for text in self.trusted_proxies)
        except ValueError as error:
            raise InputError(
                f"--trusted-proxy: {error}; give a network such as 10.0.0.0/8."
            ) from None


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Tell whether an address, or the usual name for it, is reached from this machine alone."""
    bare = host.strip("[]").lower()
    if bare in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=256)
def id_fault(name: str) -> str | None:
    """Return why a text may not be the id of a served model, None if it may."""
    if not MODEL_ID.fullmatch(name) or any(set(part) <= {"."} for part in name.split("/")):
        return (
            f"{name[:80]!r} is no model id: it has letters, digits, '.', '_', '-', at most one "
            "slash and 64 signs on each side of it."
        )
    if (first := name.partition("/")[0]) in RESERVED_SEGMENTS:
        return f"{first!r} is the beginning of a route, so no model id may begin with it."
    return None
