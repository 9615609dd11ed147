"""Both pages: by keyboard, on a phone, in the dark, and without any other host."""

from __future__ import annotations

import pytest

import openkeypoints as okp

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

OUTLINE = """() => {
  const style = getComputedStyle(document.activeElement);
  const { activeElement } = document;
  if (activeElement === document.body) return ["", false];
  return [activeElement.id || activeElement.textContent.trim().slice(0, 40),
          style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
}"""
NAMELESS = """() => [...document.querySelectorAll("button, input, select, a, summary, canvas")]
  .filter((element) => !element.hidden && element.getAttribute("aria-hidden") !== "true")
  .filter((element) => !(element.textContent.trim() || element.labels?.length
    || element.getAttribute("aria-label")))
  .map((element) => element.outerHTML)"""
WIDTH = "() => document.documentElement.scrollWidth"


def test_everything_is_reached_by_keyboard_and_shows_the_focus(page, expect):
    expect(page.locator("#model-note")).to_contain_text("keypoints")
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name, visible = page.evaluate(OUTLINE)
        if name in seen or not name:
            break
        assert visible, name
        seen.append(name)
    wanted = ["Skip to the controls", "API", "choose", "sample", "camera", "model", "confidence"]
    wanted += ["keypoint-confidence", "iou", "show-boxes", "show-names", "API key", "tab-json"]
    assert [name for name in seen if name in wanted] == wanted
    assert "copy" in seen


def test_the_keyboard_alone_gets_an_answer_and_changes_it(page, expect):
    page.focus("#sample")
    page.keyboard.press("Enter")
    expect(page.locator("#found button")).to_have_count(2)
    page.focus("#confidence")
    page.keyboard.press("End")
    expect(page.locator("#status")).to_contain_text("Nothing found")
    page.focus("#show-boxes")
    page.keyboard.press("Space")
    expect(page.locator("#show-boxes")).not_to_be_checked()
    page.focus("#tab-json")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-python")).to_be_focused()
    expect(page.locator("#code")).to_contain_text("okp.get_model")
    page.keyboard.press("End")
    expect(page.locator("#code")).to_contain_text("InferenceHTTPClient")


def test_every_control_has_a_name(page, expect):
    page.click("#sample")
    expect(page.locator("#found button")).to_have_count(2)
    assert page.evaluate(NAMELESS) == []
    expect(page.locator("#status")).to_have_attribute("aria-live", "polite")


def test_nothing_is_wider_than_a_phone(open_page, expect):
    page = open_page(width=360, height=740)
    assert page.evaluate(WIDTH) == 360
    page.click("#sample")
    expect(page.locator("#found button")).to_have_count(2)
    page.click("summary")
    for kind in ("json", "python", "curl", "sdk"):
        page.click(f"#tab-{kind}")
        assert page.evaluate(WIDTH) == 360, kind
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    assert 250 < box["width"] <= 360


def test_the_dark_page_is_dark_and_can_be_read(open_page):
    page = open_page()
    contrast = """() => {
      const light = (color) => color.match(/[0-9.]+/g).slice(0, 3)
        .map((part) => (part / 255) ** 2.2)
        .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
      const ground = light(getComputedStyle(document.body).backgroundColor);
      const ink = light(getComputedStyle(document.querySelector(".note")).color);
      return [ground, (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05)];
    }"""
    light, ratio = page.evaluate(contrast)
    assert light > 0.8
    assert ratio > 4.5
    page.emulate_media(color_scheme="dark")
    dark, ratio = page.evaluate(contrast)
    assert dark < 0.05
    assert ratio > 4.5


def test_nothing_moves_for_whoever_wants_it_so(page):
    page.emulate_media(reduced_motion="reduce")
    moving = "() => getComputedStyle(document.getElementById('choose')).transitionDuration"
    assert page.evaluate(moving).startswith("0")


def test_the_browser_runs_no_script_that_is_not_a_file_of_ours(page, watched):
    found, bad = page.evaluate(
        """async () => {
          const found = [];
          document.addEventListener("securitypolicyviolation",
            (event) => found.push(event.effectiveDirective));
          const script = document.createElement("script");
          const bad = "window.bad = 1";
          try { script.textContent = bad; } catch { found.push("thrown"); }
          document.body.append(script);
          try { await import(`data:text/javascript,${bad}`); } catch { found.push("thrown"); }
          document.body.setAttribute("style", "margin: 9px");
          await new Promise((done) => setTimeout(done, 200));
          return [found, window.bad ?? null];
        }"""
    )
    assert bad is None
    assert {"require-trusted-types-for", "script-src-elem", "style-src-attr"} <= set(found)
    watched.errors.clear()  # the browser's words on what it refused


def test_the_api_page_shows_every_route_of_the_document(open_page, server, expect):
    page = open_page(f"{server.url}/docs")
    document = server.client.get("/openapi.json").json()
    routes = [(path, verb) for path, verbs in document["paths"].items() for verb in verbs]
    expect(page.locator(".route")).to_have_count(len(routes))
    page.fill("#filter", "v1/models predict")
    expect(page.locator(".route:visible")).to_have_count(1)
    page.click(".route:visible summary")
    expect(page.locator(".route:visible .body")).to_contain_text("iou_threshold")
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate(WIDTH) == 360


def test_the_sample_of_the_page_is_the_one_of_the_library(server):
    sent = server.client.get("/docs/assets/people.jpg").content
    assert sent == okp.sample("people").read_bytes()
