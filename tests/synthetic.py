"""The synthetic keypoint model of ``tests/data/roboflow``: its package, its API, what it finds."""

from __future__ import annotations

import base64
import contextlib
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openkeypoints.server.config import NamedModel, ServerConfig
from openkeypoints.settings import Settings
from tests.data.roboflow import fake_weights_api
from tests.live_server import LiveServer, live_server

DATA = Path(fake_weights_api.__file__).parent
KEY = "rf_test_key_123456"
SIDE = 640
"""Of the network's input, to which every picture is stretched."""
PEOPLE = ((320.3, 320.7, 200.5, 300.25, 0.9), (120.25, 150.5, 80.5, 120.25, 0.6))
"""Those above the usual thresholds: middle and size of the box in the input, score."""
WEAK = (500.25, 450.5, 60.5, 90.25, 0.2)


def write_package(folder: Path) -> Path:
    """Write the package of the model into a folder."""
    maker = DATA / "make_synthetic_model.py"
    subprocess.run([sys.executable, str(maker), str(folder)], check=True, timeout=50)
    return folder


@contextlib.contextmanager
def weights_api(package: Path) -> Iterator[str]:
    """Serve the package as Roboflow does, under ``my-pose/3`` and others."""
    server, url = fake_weights_api.serve(str(package))
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield url
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def synthetic_server(package: Path, cache: Path, **options: Any) -> Iterator[LiveServer]:
    """Run a server as ``okp serve --model yolov8x-pose-640=PACKAGE --model my-pose/3`` does."""
    named = (f"yolov8x-pose-640={package}", "my-pose/3")
    options.setdefault("models", tuple(NamedModel.parse(text) for text in named))
    with weights_api(package) as api:
        settings = Settings(
            cache_dir=cache,
            hub_cache=cache / "hub",
            roboflow_caches=(cache / "rf",),
            api_key=KEY,
            roboflow_url=api,
            releases_url="http://127.0.0.1:1",
        )
        with live_server(ServerConfig(port=0, **options), settings=settings) as server:
            yield server


def box(person: tuple[float, ...], width: int, height: int) -> tuple[float, float, float, float]:
    """Return x1, y1, x2, y2 of a person in a picture of some size."""
    x, y, w, h = person[:4]
    sx, sy = width / SIDE, height / SIDE
    return (x - w / 2) * sx, (y - h / 2) * sy, (x + w / 2) * sx, (y + h / 2) * sy


def joints(person: tuple[float, ...], width: int, height: int) -> NDArray[np.float64]:
    """Return the 17 keypoints (17, 2) of a person in a picture of some size."""
    x, y, w, h = person[:4]
    i = np.arange(17)
    places = np.stack([x - w / 2 + w * (i + 0.37) / 17, y - h / 2 + h * (i + 0.61) / 17], -1)
    return places * (width / SIDE, height / SIDE)


def gradient(width: int = 320, height: int = 240) -> NDArray[np.uint8]:
    """Return a smooth RGB picture, on which everything that is drawn shows."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (60 + 80 * x / width, 80 + 60 * y / height, 60 + 40 * (x + y) / (width + height))
    return np.stack(channels, -1).astype(np.uint8)


def encoded(image: NDArray[np.uint8], kind: str = "JPEG", **options: object) -> bytes:
    """Return a picture file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def as_base64(data: bytes) -> str:
    """Return bytes as base64 text."""
    return base64.b64encode(data).decode()


def drawn_share(
    before: NDArray[np.uint8], after: NDArray[np.uint8], places: NDArray[np.float64]
) -> float:
    """Return the share of places (N, 2) near which a picture was changed for eyes to see."""
    changed = np.abs(before.astype(int) - after.astype(int)).max(-1) > 60
    near = [
        changed[max(round(y) - 2, 0) : round(y) + 3, max(round(x) - 2, 0) : round(x) + 3].any()
        for x, y in places.tolist()
    ]
    return float(np.mean(near))


def edge(person: tuple[float, ...], width: int, height: int) -> NDArray[np.float64]:
    """Return places (80, 2) along the box of a person."""
    x1, y1, x2, y2 = box(person, width, height)
    t = np.linspace(0, 1, 20)
    xs, ys = x1 + (x2 - x1) * t, y1 + (y2 - y1) * t
    sides = [(xs, y1 + 0 * t), (xs, y2 + 0 * t), (x1 + 0 * t, ys), (x2 + 0 * t, ys)]
    return np.concatenate([np.stack(side, -1) for side in sides])


def shows_people(before: NDArray[np.uint8], jpeg: bytes) -> bool:
    """Tell whether a picture answer shows boxes and joints of both people, and nobody else."""
    after = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    if after.shape != before.shape:
        return False
    height, width = before.shape[:2]
    for person in PEOPLE:
        if drawn_share(before, after, joints(person, width, height)) < 0.9:
            return False
        if drawn_share(before, after, edge(person, width, height)) < 0.9:
            return False
    return drawn_share(before, after, edge(WEAK, width, height)) < 0.3
