"""A real Chromium and a real server with the packaged models, for the tests of the pages."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from openkeypoints.models import ModelSpec
from openkeypoints.server.config import NamedModel, ServerConfig
from openkeypoints.settings import Settings
from tests.live_server import LiveServer, live_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

KEY = "okp_browser_0123456789abcdef"
MODELS = tuple(NamedModel(name, ModelSpec(name)) for name in ("person", "person-19"))
FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
ANSWER_MS = 30_000
"""A busy machine may take this long for an answer."""


@dataclass
class Watched:
    """What a page did that a person does not see."""

    hosts: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("cache")
    return Settings(cache_dir=folder, hub_cache=folder / "hub", roboflow_caches=(), offline=True)


@pytest.fixture(scope="session")
def server(settings: Settings) -> Iterator[LiveServer]:
    with live_server(ServerConfig(port=0, models=MODELS), settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
def locked(settings: Settings) -> Iterator[LiveServer]:
    """Return a server that wants a key."""
    config = ServerConfig(port=0, models=MODELS[:1], api_key=KEY)
    with live_server(config, settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright  # of `make test-real` alone

    path = shutil.which("chromium")
    assert path is not None, "Chromium is missing: install the package `chromium`"
    arguments = [*FAKE_CAMERA, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def open_page(
    chromium: Browser, server: LiveServer, watched: Watched
) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a page; at the end nothing may have gone wrong in it."""
    contexts = []

    def start(url: str = server.url, width: int = 1200, height: int = 850) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": height})
        context.grant_permissions(["clipboard-read", "clipboard-write", "camera"])
        context.set_default_timeout(ANSWER_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: watched.hosts.add(urlsplit(request.url).netloc))
        page.on("pageerror", lambda error: watched.errors.append(str(error)))
        page.on(
            "console",
            lambda message: (
                message.type == "error"
                and not message.text.startswith("Failed to load resource")
                and watched.errors.append(message.text)
            ),
        )
        page.goto(url)
        return page

    yield start
    for context in contexts:
        context.close()
    assert all(re.fullmatch(r"(127\.0\.0\.1:\d+)?", host) for host in watched.hosts)
    assert not watched.errors


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()


@pytest.fixture
def expect() -> Callable[..., object]:
    from playwright.sync_api import expect

    expect.set_options(timeout=ANSWER_MS)
    return expect
