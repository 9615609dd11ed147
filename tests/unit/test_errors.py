"""Every error class is raised by the library itself, and carries its status and exit code."""

from __future__ import annotations

import asyncio
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from starlette.requests import Request

import openkeypoints as okp
from openkeypoints import errors, weights
from openkeypoints.engine import Call, Engine
from openkeypoints.images import read_image
from openkeypoints.outputs import OutputFolder
from openkeypoints.runtimes import Artifact, open_session
from openkeypoints.server.app import make_app
from openkeypoints.server.auth import authorise
from openkeypoints.server.config import ServerConfig
from openkeypoints.server.keys import KeyRecord, Usage
from openkeypoints.server.limits import parse_json
from openkeypoints.server.state import CONTEXT
from openkeypoints.settings import Settings
from openkeypoints.skeletons import load_skeleton
from openkeypoints.urls import Guard, fetch
from openkeypoints.weights import WeightRef
from openkeypoints.weights.okp import open_okp
from openkeypoints.weights.safe import read_pickle
from tests.pickled import name, program, write_archive
from tests.servers import FileServer, serving
from tests.tiny_yolo import tiny_yolo

SETTINGS = Settings(cache_dir=Path("unused"))


def every_class() -> list[type[errors.OpenKeypointsError]]:
    def below(cls: type[errors.OpenKeypointsError]) -> list[type[errors.OpenKeypointsError]]:
        return [cls, *(c for sub in cls.__subclasses__() for c in below(sub))]

    found = dict.fromkeys(below(errors.OpenKeypointsError))
    return [
        c for c in found if c.__module__ == errors.__name__ and c is not errors.OpenKeypointsError
    ]


def without_supervision() -> None:
    hidden = sys.modules.pop("supervision", None)
    sys.modules["supervision"] = None  # type: ignore[assignment]
    try:
        okp.to_supervision(okp.get_model().infer(np.zeros((64, 64, 3), np.uint8))[0])
    finally:
        del sys.modules["supervision"]
        if hidden is not None:
            sys.modules["supervision"] = hidden


def over_a_strangers_file(folder: Path) -> None:
    _file(folder / "a.json", b"{}")
    OutputFolder(folder, inputs=[], overwrite=False).claim("a.json", [])


def fetch_weights(folder: Path, *, sha256: str | None = None, **changes: Any) -> None:
    settings = Settings(cache_dir=Path("unused"), **changes)
    if sha256 is not None:
        settings = Settings(cache_dir=folder)
        _file(folder / "weights" / "m" / "n.pt", b"another")
    weights.fetch("m", (WeightRef("release", "v1", "n.pt", sha256),), settings, licence="MIT")


def without_a_tensor(folder: Path) -> Path:
    """Write a checkpoint whose names are not those that its YAML asks for."""
    tiny_yolo(folder / "whole.pt")
    with zipfile.ZipFile(folder / "whole.pt") as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(folder / "broken.pt", "w", zipfile.ZIP_STORED) as archive:
        for member, data in members.items():
            archive.writestr(member, data.replace(b"running_mean", b"running_meam"))
    return folder / "broken.pt"


def ask_an_engine(*, draining: bool = False) -> None:
    def no_room(_: str) -> Any:
        raise OSError("No space left on device")

    engine = Engine(no_room)
    engine.draining = draining
    asyncio.run(engine.infer(Call("m", (b"",))))


def fetch_with_a_wrong_key(folder: Path) -> None:
    with serving(FileServer()) as source:
        source.statuses["/models/v1/external/weights"] = [401]
        source.statuses["/ort/a/1"] = [401]
        settings = Settings(cache_dir=folder, api_key="wrong", roboflow_url=source.url)
        weights.fetch("a/1", (WeightRef("roboflow", "a/1"),), settings, licence="MIT")


def a_server(**options: Any) -> FastAPI:
    return make_app(ServerConfig(**options), settings=SETTINGS)


def ask_a_server(**options: Any) -> None:
    scope = {"type": "http", CONTEXT: a_server(**options).state.context, "headers": []}
    asyncio.run(authorise(Request(scope), "metrics"))


def ask_too_often() -> None:
    usage = Usage(clock=lambda: 0.0)
    record = KeyRecord("one", "0" * 64, frozenset({"infer"}), rate=1.0)
    usage.take(record)
    usage.take(record)


def _file(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


RAISERS: dict[type[errors.OpenKeypointsError], Callable[[Path], object]] = {
    errors.InputError: lambda _: read_image(np.zeros((4, 4, 4), np.uint8), settings=SETTINGS),
    errors.ImageDecodeError: lambda _: read_image(b"no picture", settings=SETTINGS),
    errors.ImageTooLargeError: lambda _: read_image(
        okp.sample("people"), settings=Settings(cache_dir=Path("unused"), max_pixels=10)
    ),
    errors.FormatError: lambda _: okp.load("[]", "roboflow"),
    errors.OutputExistsError: over_a_strangers_file,
    errors.NotFoundError: lambda folder: read_image(folder / "none.jpg", settings=SETTINGS),
    errors.UnknownModelError: lambda _: okp.get_model("persom"),
    errors.UnknownSkeletonError: lambda _: load_skeleton("coco71"),
    errors.OfflineError: lambda folder: fetch_weights(folder, offline=True),
    errors.HashMismatchError: lambda folder: fetch_weights(folder, sha256="0" * 64),
    errors.LicenceError: lambda folder: fetch_weights(folder, allowed_licences=("BSD-3-Clause",)),
    errors.WeightsError: lambda folder: open_okp(_file(folder / "a.okp", b"nothing")),
    errors.UnsafeCheckpointError: lambda folder: read_pickle(
        write_archive(folder / "a.pt", program(name("os", "system")))
    ),
    errors.CheckpointKeyError: lambda folder: okp.get_model(without_a_tensor(folder)),
    errors.MissingExtraError: lambda _: without_supervision(),
    errors.RuntimeUnavailableError: lambda _: open_session(Artifact(b"", "x"), runtime="torch"),
    errors.InferenceError: lambda _: ask_an_engine(),
    errors.OverloadedError: lambda _: ask_an_engine(draining=True),
    errors.DownloadError: lambda _: fetch(
        "http://127.0.0.1:9/x", guard=Guard.own(), settings=SETTINGS
    ),
    errors.ForbiddenAddressError: lambda _: fetch(
        "https://127.0.0.1/x", guard=Guard.others(), settings=SETTINGS
    ),
    errors.RefusedError: fetch_with_a_wrong_key,
    errors.PayloadTooLargeError: lambda _: parse_json(b"[" * 200_000, a_server().state.context),
    errors.UnauthorizedError: lambda _: ask_a_server(api_key="0123456789abcdef"),
    errors.PermissionDeniedError: lambda _: ask_a_server(host="0.0.0.0", allow_anonymous=True),
    errors.RateLimitError: lambda _: ask_too_often(),
}


def test_every_class_is_raised_by_the_library() -> None:
    assert set(RAISERS) == set(every_class())


@pytest.mark.parametrize("cls", RAISERS, ids=lambda cls: cls.__name__)
def test_the_class_is_raised_with_one_clear_line(
    cls: type[errors.OpenKeypointsError], tmp_path: Path
) -> None:
    with pytest.raises(errors.OpenKeypointsError) as caught:
        RAISERS[cls](tmp_path)
    assert type(caught.value) is cls
    assert 20 < len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cls", RAISERS, ids=lambda cls: cls.__name__)
def test_the_class_has_a_status_and_an_exit_code(cls: type[errors.OpenKeypointsError]) -> None:
    assert 400 <= cls.http_status < 600
    assert cls.exit_code in (1, 2, 3, 4)


def test_the_drawing_of_the_tree_names_every_class_with_its_numbers() -> None:
    for cls in every_class():
        lines = [line.split() for line in (errors.__doc__ or "").splitlines()]
        (line,) = [line for line in lines if line[:1] == [cls.__name__]]
        assert line[1:4] == [str(cls.http_status), "/", str(cls.exit_code)]
