"""Takes the pictures of the pages in docs/images: ``python -m tests.browser.screenshots``."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from playwright.sync_api import expect, sync_playwright

import openkeypoints as okp
from openkeypoints.server.config import ServerConfig
from tests.browser.conftest import ANSWER_MS, FAKE_CAMERA, MODELS
from tests.live_server import live_server

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
COLORS = 256


def main() -> None:
    """Write every picture, over what is there."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=ANSWER_MS)
    arguments = [*FAKE_CAMERA, "--no-sandbox", "--force-color-profile=srgb"]
    config = ServerConfig(port=0, models=MODELS)
    with live_server(config) as server, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.goto(server.url)
        answered(page)
        keep(page, "playground-desktop")
        page.emulate_media(color_scheme="dark")
        keep(page, "playground-dark")
        page.emulate_media(color_scheme="light")
        page.goto(f"{server.url}/docs")
        page.fill("#filter", "v1/models predict")
        page.click(".route:visible summary")
        page.locator(".route:visible .body").wait_for()
        keep(page, "playground-api")
        page = browser.new_page(viewport={"width": 360, "height": 740}, device_scale_factor=1.5)
        page.goto(server.url)
        answered(page)
        keep(page, "playground-phone")
        page.click("#camera")
        expect(page.locator("#status")).to_contain_text("The camera is on")
        page.wait_for_timeout(2000)
        keep(page, "playground-camera")
        page.set_input_files(
            "#file", {"name": "letter.png", "mimeType": "image/png", "buffer": b"Dear all"}
        )
        expect(page.locator("#error")).to_be_visible()
        keep(page, "playground-error")
        browser.close()


def answered(page: Page) -> None:
    """Let the page show what is on the sample picture, at the speed of a model that is warm."""
    page.set_input_files("#file", okp.sample("people"))
    for threshold in ("0.41", "0.4"):
        expect(page.locator("#status")).to_contain_text("found in")
        page.fill("#confidence", threshold)
        page.wait_for_timeout(500)
    expect(page.locator("#status")).to_contain_text("found in")


def keep(page: Page, name: str) -> None:
    """Write what the page shows, with few colours, so that the repository stays small."""
    page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
    picture = Image.open(io.BytesIO(page.screenshot()))
    small = picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    small.save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
