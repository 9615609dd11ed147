"""The playground, used as a person uses it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import pytest

import openkeypoints as okp
from openkeypoints.server.config import ServerConfig
from tests.browser.conftest import KEY, MODELS
from tests.live_server import live_server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

PICTURE = okp.sample("people")
FILES = """async (kind) => {
  const blob = await (await fetch("docs/assets/people.jpg")).blob();
  const files = new DataTransfer();
  files.items.add(new File([blob], "people.jpg", { type: "image/jpeg" }));
  document.dispatchEvent(
    kind === "paste"
      ? new ClipboardEvent("paste", { clipboardData: files, bubbles: true })
      : new DragEvent("drop", { dataTransfer: files, bubbles: true }),
  );
}"""


@pytest.fixture
def answered(page, expect):
    """Return a page that shows what was found on the sample picture."""
    page.set_input_files("#file", PICTURE)
    expect(page.locator("#status")).to_contain_text("found in")
    return page


def answer(page):
    """Return the prediction whose JSON the page shows."""
    page.click("#tab-json")
    return okp.load(page.text_content("#code"), "openkeypoints")


def pixels(page):
    return page.evaluate("() => document.getElementById('canvas').toDataURL()")


# ------------------------------------------------------------------------------------- pictures


def test_an_uploaded_picture_shows_what_the_library_finds(answered, expect):
    expect(answered.locator("#found button")).to_have_count(2)
    expect(answered.locator("#canvas")).to_have_attribute(
        "aria-label", "The picture with what was found: 2 × person"
    )
    shown = answer(answered)
    with okp.get_model("person") as model:
        found = model.infer(PICTURE)[0]
    assert abs(shown.boxes - found.boxes).max() < 0.01


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_a_picture_can_be_pasted_and_dropped(page, expect, kind):
    expect(page.locator("#model")).to_be_enabled()
    page.evaluate(FILES, kind)
    expect(page.locator("#found button")).to_have_count(2)


def test_the_box_is_drawn_where_the_answer_says(answered):
    for name in ("skeleton", "names", "uncertainty", "timings"):
        answered.uncheck(f"#show-{name}")
    shown = answer(answered)
    x1, y1, _, y2 = shown.boxes[0].tolist()
    at = {"x": x1 / shown.image_size[0], "y": (y1 + y2) / 2 / shown.image_size[1]}
    color = answered.evaluate(
        """({x, y}) => {
          const canvas = document.getElementById("canvas");
          const at = [Math.round(x * canvas.width), Math.round(y * canvas.height)];
          return [...canvas.getContext("2d").getImageData(at[0] - 1, at[1], 3, 1).data];
        }""",
        at,
    )
    assert [240, 228, 66] in [color[i : i + 3] for i in (0, 4, 8)]  # the first colour


@pytest.mark.parametrize("name", ["boxes", "skeleton", "names", "uncertainty", "timings"])
def test_each_switch_changes_what_is_drawn(answered, name):
    before = pixels(answered)
    answered.uncheck(f"#show-{name}")
    assert pixels(answered) != before
    answered.check(f"#show-{name}")
    assert pixels(answered) == before


def test_an_ellipse_has_the_axes_of_its_covariance(page):
    axes = page.evaluate(
        """async () => {
          const { ellipseAxes } = await import(new URL("docs/assets/draw.js", document.baseURI));
          return [[[1, 0], [0, 9]], [[5, 4], [4, 5]], [[null, 0], [0, 1]]].map(ellipseAxes);
        }"""
    )
    assert axes[0] == pytest.approx({"major": 3, "minor": 1, "angle": 1.5707963})
    assert axes[1] == pytest.approx({"major": 3, "minor": 1, "angle": 0.7853982})
    assert axes[2] is None


def test_a_mask_tints_its_pixels_of_the_picture_without_the_padding(page):
    # 8x4 pixels lie in the middle rows of a 4x4 mask, whose second column is the instance.
    alphas = page.evaluate(
        """async () => {
          const { drawMask } = await import(new URL("docs/assets/masks.js", document.baseURI));
          const pen = new OffscreenCanvas(80, 40).getContext("2d");
          const prediction = {
            image: { width: 8, height: 4 }, mask_size: [4, 4], details: {},
            instances: [{ mask: [4, 4, 8] }],
          };
          drawMask(pen, prediction, 0, "#f0e442");
          return [10, 30, 70].map((x) => [...pen.getImageData(x, 20, 1, 1).data].at(3));
        }"""
    )
    assert alphas[0] < 30
    assert alphas[1] == pytest.approx(0.4 * 255, abs=3)
    assert alphas[2] == 0


def test_an_instance_can_be_shown_alone(answered, expect):
    before = pixels(answered)
    first = answered.locator("#found button").first
    first.click()
    expect(first).to_have_attribute("aria-pressed", "true")
    assert pixels(answered) != before
    first.click()
    assert pixels(answered) == before


# ------------------------------------------------------------------------------------- choices


def test_another_model_answers_with_its_own_keypoints(answered, expect):
    expect(answered.locator("#found .count").first).to_have_text("17 of 17 keypoints")
    answered.select_option("#model", "person-19")
    expect(answered.locator("#found .count").first).to_have_text("19 of 19 keypoints")
    expect(answered.locator("#model-note")).to_contain_text("19 keypoints")
    assert answer(answered).model_id == "person-19"


def test_the_confidence_decides_what_is_found(answered, expect):
    answered.fill("#confidence", "0.99")
    expect(answered.locator("#status")).to_contain_text("Nothing found")
    expect(answered.locator("#confidence-value")).to_have_text("0.99")
    expect(answered.locator("#found button")).to_have_count(0)
    answered.fill("#confidence", "0.3")
    expect(answered.locator("#found button")).to_have_count(2)


def test_the_keypoint_confidence_decides_what_is_drawn(answered, expect):
    answered.fill("#keypoint-confidence", "1")
    expect(answered.locator("#found .count").first).to_have_text("0 of 17 keypoints")
    expect(answered.locator("#code")).to_contain_text('"keypoint_confidence": 1')
    assert answer(answered).keypoint_confidence == 1


def test_the_sliders_begin_at_the_thresholds_of_the_model(page, server, expect):
    expect(page.locator("#model-note")).to_contain_text("17 keypoints")
    about = server.client.get("/v1/models/person").json()
    assert float(page.input_value("#confidence")) == pytest.approx(about["confidence"])
    assert float(page.input_value("#iou")) == pytest.approx(about["iou_threshold"], abs=0.006)


# ------------------------------------------------------------------------------------- camera


def test_the_camera_runs_frame_by_frame_until_it_is_stopped(page, expect):
    asked = []
    page.on("request", lambda request: asked.append(request) if request.method == "POST" else None)
    expect(page.locator("#model-note")).to_contain_text("keypoints")
    page.click("#camera")
    expect(page.locator("#camera")).to_have_text("Stop the camera")
    expect(page.locator("#timing-list")).to_contain_text("network")
    first = pixels(page)
    end = time.monotonic() + 20
    while (len(asked) < 4 or pixels(page) == first) and time.monotonic() < end:
        page.wait_for_timeout(100)
    assert pixels(page) != first
    page.click("#camera")
    expect(page.locator("#camera")).to_have_text("Start the camera")
    expect(page.locator("#status")).to_have_text("The camera is off.")
    count = len(asked)
    page.wait_for_timeout(500)
    assert len(asked) == count >= 4
    assert {request.headers["content-type"] for request in asked} == {"image/jpeg"}


def test_the_last_frame_of_the_camera_can_be_asked_about_again(page, expect):
    page.click("#camera")
    expect(page.locator("#timing-list")).to_contain_text("network")
    page.click("#camera")
    expect(page.locator("#status")).to_have_text("The camera is off.")
    page.fill("#confidence", "0.9")
    expect(page.locator("#status")).to_contain_text("found in")


def test_a_camera_that_is_stopped_and_started_at_once_runs_once(page, expect):
    page.click("#camera")
    expect(page.locator("#timing-list")).to_contain_text("network")
    page.click("#camera")
    page.click("#camera")
    expect(page.locator("#camera")).to_have_text("Stop the camera")
    running = []
    page.on("request", lambda request: running.append(1) if request.method == "POST" else None)
    most = page.evaluate(
        """async () => {
          const seen = performance.getEntriesByType("resource").length;
          await new Promise((done) => setTimeout(done, 2500));
          const sent = performance.getEntriesByType("resource").slice(seen);
          return Math.max(0, ...sent.map((one) => sent.filter((other) => other !== one
            && other.startTime < one.responseEnd && one.startTime < other.responseEnd).length));
        }"""
    )
    assert most == 0  # no two at the same time
    assert running
    page.click("#camera")
    expect(page.locator("#camera")).to_have_text("Start the camera")


def test_a_busy_server_is_waited_for_while_the_camera_runs(open_page, settings, expect):
    config = ServerConfig(port=0, models=MODELS[:1])
    with live_server(config, settings=settings) as server:
        page = open_page(server.url)
        page.click("#camera")
        expect(page.locator("#timing-list")).to_contain_text("network")
        server.context.engine.start_draining()
        expect(page.locator("#error")).to_contain_text("The server is busy. Try again in")
        expect(page.locator("#camera")).to_have_text("Stop the camera")
        page.click("#camera")
        expect(page.locator("#status")).to_have_text("The camera is off.")


# ------------------------------------------------------------------------------------- errors


def test_a_file_that_is_no_picture_is_refused_in_words(page, expect):
    page.set_input_files(
        "#file", {"name": "letter.png", "mimeType": "image/png", "buffer": b"Dear all"}
    )
    expect(page.locator("#error")).to_contain_text("cannot read this file as a picture")
    expect(page.locator("#error")).to_have_role("alert")


def test_what_the_server_refuses_is_said_in_its_words(answered, expect):
    broken = PICTURE.read_bytes()[:30_000]
    answered.set_input_files(
        "#file", {"name": "half.jpg", "mimeType": "image/jpeg", "buffer": broken}
    )
    expect(answered.locator("#error")).to_be_visible()
    assert len(answered.inner_text("#error").split()) >= 4
    answered.set_input_files("#file", PICTURE)
    expect(answered.locator("#status")).to_contain_text("found in")
    expect(answered.locator("#error")).to_be_hidden()


def test_a_server_that_wants_a_key_gets_it_in_a_header_alone(open_page, locked, expect):
    page = open_page(locked.url)
    sent = []
    page.on("request", lambda request: sent.append((request.url, request.headers)))
    expect(page.locator("#error")).to_contain_text("needs an API key")
    expect(page.locator("#key")).to_be_focused()
    page.keyboard.type("okp_wrong_0123456789abcdef")
    page.keyboard.press("Enter")
    expect(page.locator("#error")).to_contain_text("does not know this API key")
    page.fill("#key", KEY)
    page.press("#key", "Enter")
    expect(page.locator("#error")).to_be_hidden()
    page.click("#sample")
    expect(page.locator("#found button")).to_have_count(2)
    expect(page.locator("#credit")).to_contain_text("CC BY-SA")
    assert ("authorization", f"Bearer {KEY}") in [item for _, h in sent for item in h.items()]
    assert not any(KEY in url for url, _ in sent)
    for kind in ("python", "curl", "sdk"):
        page.click(f"#tab-{kind}")
        assert KEY not in page.inner_text("#code")
    page.reload()
    expect(page.locator("#model-note")).to_contain_text("17 keypoints")
    assert page.evaluate("() => localStorage.length") == 0


def test_a_server_that_is_gone_is_named_so(answered, expect):
    answered.context.set_offline(True)
    answered.fill("#confidence", "0.5")
    expect(answered.locator("#error")).to_contain_text("cannot be reached")
    answered.context.set_offline(False)
    answered.fill("#confidence", "0.4")
    expect(answered.locator("#error")).to_be_hidden()


# ------------------------------------------------------------------------------------- snippets


def copied(page, kind):
    page.click(f"#tab-{kind}")
    page.click("#copy")
    page.locator("#copy", has_text="Copied").wait_for()
    return page.evaluate("() => navigator.clipboard.readText()")


def test_the_copied_json_is_the_whole_prediction(answered):
    copy = okp.load(copied(answered, "json"), "openkeypoints")
    assert copy.covariances is not None
    assert copy.keypoints.shape == (2, 17, 2)


def test_the_copied_programs_give_the_same_answer(answered, tmp_path):
    shutil.copy(PICTURE, tmp_path / "picture.jpg")
    python = subprocess.run(
        [sys.executable, "-c", copied(answered, "python")],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    curl = subprocess.run(
        ["bash", "-c", copied(answered, "curl").replace("curl ", "curl --silent ", 1)],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    shown = answer(answered)
    assert abs(okp.load(python.stdout, "roboflow").boxes - shown.boxes).max() < 0.01
    assert abs(okp.load(curl.stdout, "openkeypoints").boxes - shown.boxes).max() < 0.01


def test_the_copied_sdk_program_is_one(answered, server):
    program = copied(answered, "sdk")
    compile(program, "sdk.py", "exec")
    assert json.dumps(server.url) in program
    assert 'model_id="person"' in program
