// The page: a picture or the camera goes to the server, the answer onto the canvas.

import { CodeBox, caption, milliseconds, showFound, showTimings, summary } from "./answer.js";
import { address, ApiError, predict } from "./api.js";
import { Camera, CameraError } from "./camera.js";
import { draw, fit } from "./draw.js";
import { Panel } from "./panel.js";

const MAX_BYTES = 20_000_000; // what the server takes
const SETTLE_MS = 180; // a slider that moves asks when it rests
const LIVE_MS = 400; // how often the lists follow the camera
const find = (id) => document.getElementById(id);
const canvas = find("canvas");
const stage = find("drop");
const cameraButton = find("camera");

let picture = null; // {image, blob}; the image is what can be drawn
let result = null; // {prediction, stages, total}
let chosen = -1;
let asking = null; // AbortController of the request that runs
let settling = 0;
let shownAt = 0;

const camera = new Camera();
const panel = new Panel({
  loading: (id) => {
    asking?.abort();
    forgive();
    code.show();
    say(`Loading ${id}…`);
  },
  model: () => refresh(),
  thresholds: () => {
    code.show();
    clearTimeout(settling);
    settling = setTimeout(refresh, SETTLE_MS);
  },
  look: () => {
    paint();
    list();
  },
  key: () => start(),
  error: complain,
});
const code = new CodeBox(
  () => ({ result, model: panel.name, thresholds: panel.thresholds, needsKey: panel.hasKey }),
  say,
);

// ------------------------------------------------------------------- words

function say(text) {
  find("status").textContent = text;
}

function complain(error) {
  if (error?.name === "AbortError") return;
  const box = find("error");
  const id = error.requestId ? ` (request ${error.requestId})` : "";
  box.textContent = `${error.message}${error.status >= 500 ? id : ""}`;
  box.hidden = false;
  say("");
  if (error.status === 401) panel.askForKey();
}

function forgive() {
  find("error").hidden = true;
  find("error").textContent = "";
}

// ------------------------------------------------------------------- showing

function paint() {
  canvas.hidden = !picture;
  find("empty").hidden = Boolean(picture);
  stage.classList.toggle("empty-stage", !picture);
  if (!picture) return;
  const view = fit(canvas, picture.image, stage.clientWidth, Math.max(260, window.innerHeight * 0.68));
  draw(canvas, picture.image, result?.prediction ?? null, {
    view,
    show: panel.show,
    threshold: panel.thresholds.keypointConfidence,
    chosen,
    caption: result ? caption(result) : "",
  });
}

function list() {
  showFound(find("found"), find("none"), {
    prediction: result?.prediction ?? null,
    threshold: panel.thresholds.keypointConfidence,
    chosen,
    choose: (row) => {
      chosen = chosen === row ? -1 : row;
      paint();
      list();
    },
  });
}

function showAll() {
  const count = result?.prediction.instances.length ?? 0;
  if (chosen >= count) chosen = -1;
  panel.offerMasks(Boolean(result?.prediction.mask_size));
  paint();
  list();
  showTimings(find("timings"), find("timing-list"), result);
  code.show();
  canvas.setAttribute(
    "aria-label",
    result ? `The picture with what was found: ${summary(result.prediction)}` : "The picture",
  );
}

// ------------------------------------------------------------------- pictures

async function take(blob, { credit = false } = {}) {
  stopCamera();
  forgive();
  find("credit").hidden = !credit;
  if (blob.size > MAX_BYTES) {
    const size = Math.ceil(blob.size / 1e6);
    complain(new Error(`This file has ${size} MB; the server takes pictures of up to 20 MB.`));
    return;
  }
  let image;
  try {
    image = await createImageBitmap(blob); // turned as its orientation says, like the server does
  } catch {
    complain(new Error("The browser cannot read this file as a picture. Take a JPEG, PNG or WebP."));
    return;
  }
  picture?.image.close?.();
  picture = { image, blob };
  result = null;
  chosen = -1;
  showAll();
  await refresh();
}

async function refresh() {
  clearTimeout(settling);
  code.show();
  if (!panel.model) return; // it is being loaded; the panel calls again
  if (!picture || camera.running) {
    say(camera.running ? "The camera is on." : "");
    return;
  }
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  say("Looking…");
  stage.setAttribute("aria-busy", "true");
  try {
    const answer = await predict(panel.model, picture.blob, panel.thresholds, mine.signal);
    if (mine.signal.aborted) return;
    forgive();
    result = answer;
    showAll();
    say(`${summary(answer.prediction)} found in ${milliseconds(answer.total)}.`);
  } catch (error) {
    if (mine === asking) complain(error);
  } finally {
    if (mine === asking) stage.removeAttribute("aria-busy");
  }
}

// ------------------------------------------------------------------- camera

async function startCamera() {
  forgive();
  find("credit").hidden = true;
  asking?.abort();
  showCamera(true);
  say("Waiting for the camera…");
  try {
    await camera.start(liveFrame, (error) => {
      if (camera.running) return; // started again meanwhile
      showCamera(false);
      if (error) complain(error);
      else say("The camera is off.");
      showAll();
    });
    if (camera.running) say("The camera is on.");
  } catch (error) {
    showCamera(false);
    complain(error);
    if (!(error instanceof CameraError)) throw error;
  }
}

function stopCamera() {
  asking?.abort();
  camera.stop();
}

function showCamera(on) {
  cameraButton.textContent = on ? "Stop the camera" : "Start the camera";
  cameraButton.setAttribute("aria-pressed", String(on));
  cameraButton.classList.toggle("live", on);
}

async function liveFrame(image, blob) {
  const { signal } = (asking = new AbortController());
  if (!panel.model) {
    await pause(SETTLE_MS, signal);
    return;
  }
  let answer;
  try {
    answer = await predict(panel.model, blob, panel.thresholds, signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof ApiError) || error.retryAfter === null) throw error;
    complain(error); // busy: wait as long as the server asks
    await pause(error.retryAfter * 1000, signal);
    return;
  }
  if (signal.aborted) return;
  forgive();
  picture = { image, blob };
  result = answer;
  if (performance.now() - shownAt > LIVE_MS) {
    shownAt = performance.now();
    showAll();
  } else paint();
}

/** Wait, or until somebody cancels. */
function pause(duration, signal) {
  return new Promise((done) => {
    setTimeout(done, duration);
    signal.addEventListener("abort", done, { once: true });
  });
}

// ------------------------------------------------------------------- beginning

async function start() {
  forgive();
  try {
    await panel.loadModels();
  } catch (error) {
    complain(error);
  }
}

async function takeSample() {
  try {
    const response = await fetch(address("docs/assets/people.jpg"));
    if (!response.ok) throw new Error("The sample picture is not there.");
    await take(await response.blob(), { credit: true });
  } catch (error) {
    complain(error);
  }
}

/** The first picture among files, or null. */
function firstPicture(files) {
  return [...(files ?? [])].find((file) => file.type.startsWith("image/")) ?? null;
}

function takeFirst(files) {
  const file = firstPicture(files);
  if (file) take(file);
  else complain(new Error("There is no picture among what you gave. Take a JPEG, PNG or WebP file."));
}

find("choose").addEventListener("click", () => find("file").click());
find("file").addEventListener("change", (event) => {
  if (event.target.files.length) takeFirst(event.target.files);
  event.target.value = ""; // the same file can be chosen again
});
find("sample").addEventListener("click", takeSample);
cameraButton.addEventListener("click", () => (camera.running ? stopCamera() : startCamera()));
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) takeFirst(event.clipboardData.files);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  stage.classList.add("over");
});
document.addEventListener("dragleave", () => stage.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("over");
  takeFirst(event.dataTransfer?.files);
});
let width = 0;
new ResizeObserver(() => {
  if (stage.clientWidth === width) return;
  width = stage.clientWidth;
  paint();
}).observe(stage);

showAll();
start();
