"""Every error class is raised by the library itself, and carries its status and exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import openkeypoints as okp
from openkeypoints import errors
from openkeypoints.cli.outputs import OutputFolder
from openkeypoints.images import read_image
from openkeypoints.runtimes import Artifact, open_session
from openkeypoints.settings import Settings
from openkeypoints.skeletons import load_skeleton
from openkeypoints.urls import Guard, fetch
from openkeypoints.weights.okp import open_okp

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


def _file(path: Path, data: bytes) -> Path:
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
    errors.WeightsError: lambda folder: open_okp(_file(folder / "a.okp", b"nothing")),
    errors.MissingExtraError: lambda _: without_supervision(),
    errors.RuntimeUnavailableError: lambda _: open_session(Artifact(b"", "x"), runtime="torch"),
    errors.DownloadError: lambda _: fetch(
        "http://127.0.0.1:9/x", guard=Guard.own(), settings=SETTINGS
    ),
    errors.ForbiddenAddressError: lambda _: fetch(
        "https://127.0.0.1/x", guard=Guard.others(), settings=SETTINGS
    ),
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
