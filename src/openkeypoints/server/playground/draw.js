// Draws a picture and what was found in it on a canvas, sharp at every pixel density.

import { drawMask } from "./masks.js";

// Okabe and Ito's palette, told apart with every common colour blindness; as okp.draw has it.
const COLORS = ["#f0e442", "#cc79a7", "#009e73", "#d55e00", "#56b4e9", "#e69f00", "#0072b2"];
const RIM = "rgb(20 20 20 / 0.85)";
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';

/** The colour of an instance: of its own, or of its class where a model knows no keypoints. */
export function instanceColor(prediction, row) {
  const hasSkeletons = Object.keys(prediction.skeletons).length > 0;
  const index = hasSkeletons ? row : prediction.instances[row].class_id;
  return COLORS[index % COLORS.length];
}

/**
 * Fit a canvas to a picture within a width and height in CSS pixels, and return its scale from
 * picture to canvas pixels.
 */
export function fit(canvas, picture, width, height) {
  const scale = Math.min(width / picture.width, height / picture.height, 4);
  const ratio = Math.min(window.devicePixelRatio || 1, 3);
  const shown = [Math.round(picture.width * scale), Math.round(picture.height * scale)];
  canvas.style.width = `${shown[0]}px`;
  canvas.style.height = `${shown[1]}px`;
  canvas.width = Math.round(shown[0] * ratio);
  canvas.height = Math.round(shown[1] * ratio);
  return { scale: canvas.width / picture.width, ratio };
}

/**
 * Draw.
 *
 * view: {scale, ratio} of `fit`; show: {boxes, masks, skeleton, names, uncertainty, timings};
 * threshold: keypoints scored below it are left out; chosen: row that stands out, or -1;
 * caption: text of the timings.
 */
export function draw(canvas, picture, prediction, { view, show, threshold, chosen, caption }) {
  const pen = canvas.getContext("2d");
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  if (prediction) {
    const unit = view.ratio * clamp(canvas.width / view.ratio / 640, 0.7, 1.3);
    const taken = [];
    const order = rowsToDraw(prediction, chosen);
    const instances = order.map((row) => ready(prediction, row, { view, threshold, unit, chosen }));
    if (show.masks && prediction.mask_size) {
      for (const row of order) drawMask(pen, prediction, row, instanceColor(prediction, row));
    }
    if (show.uncertainty) instances.forEach((instance) => drawUncertainty(pen, instance));
    if (show.boxes) instances.forEach((instance) => drawBox(pen, instance));
    if (show.skeleton) instances.forEach((instance) => drawSkeleton(pen, instance));
    const front = [...instances].reverse();
    if (show.boxes) front.forEach((instance) => drawTitle(pen, canvas, instance, taken));
    if (show.names) front.forEach((instance) => drawNames(pen, canvas, instance, taken));
  }
  pen.globalAlpha = 1;
  if (show.timings && caption) drawCaption(pen, canvas, caption, view.ratio);
}

/** Rows from back to front: the best one, or the chosen one, lies on top. */
function rowsToDraw(prediction, chosen) {
  const rows = prediction.instances.map((_, row) => row).reverse();
  return chosen < 0 ? rows : [...rows.filter((row) => row !== chosen), chosen];
}

function ready(prediction, row, { view, threshold, unit, chosen }) {
  const instance = prediction.instances[row];
  const skeleton = prediction.skeletons[instance.class_id] ?? null;
  const [x1, y1, x2, y2] = instance.box.map((value) => value * view.scale);
  const side = Math.max(x2 - x1, y2 - y1) / view.ratio;
  const points = new Map();
  const slots = skeleton ? skeleton.keypoints.length : 0;
  for (let slot = 0; slot < slots; slot += 1) {
    const [x, y, score] = instance.keypoints[slot];
    if (x !== null && y !== null && score >= threshold) {
      points.set(slot, [x * view.scale, y * view.scale]);
    }
  }
  return {
    box: [x1, y1, x2 - x1, y2 - y1],
    title: `${prediction.class_names[instance.class_id]} ${instance.score.toFixed(2)}`,
    color: instanceColor(prediction, row),
    points,
    skeleton,
    covariances: instance.covariances ?? null,
    scale: view.scale,
    unit: unit * clamp(side / 190, 0.5, 1),
    letters: Math.max(unit * 12, view.ratio * 10),
    alpha: chosen < 0 || chosen === row ? 1 : 0.3,
  };
}

function drawBox(pen, { box, color, unit, alpha }) {
  pen.globalAlpha = alpha;
  pen.lineJoin = "round";
  for (const [style, width] of [[RIM, 3.2], [color, 1.8]]) {
    pen.strokeStyle = style;
    pen.lineWidth = width * unit;
    pen.strokeRect(...box);
  }
}

function drawSkeleton(pen, { points, skeleton, unit, alpha }) {
  if (!skeleton) return;
  pen.globalAlpha = alpha;
  pen.lineCap = "round";
  const edges = skeleton.edges.filter(([a, b]) => points.has(a) && points.has(b));
  pen.strokeStyle = RIM;
  pen.lineWidth = 4.2 * unit;
  for (const [a, b] of edges) stroke(pen, points.get(a), points.get(b));
  pen.lineWidth = 2.6 * unit;
  for (const [a, b] of edges) {
    // Each half in the colour of its end, so that the sides of a body stay apart.
    const [start, end] = [points.get(a), points.get(b)];
    const middle = [(start[0] + end[0]) / 2, (start[1] + end[1]) / 2];
    pen.strokeStyle = skeleton.colors[a];
    stroke(pen, start, middle);
    pen.strokeStyle = skeleton.colors[b];
    stroke(pen, middle, end);
  }
  // Hundreds of points on one person would hide it: the dots shrink where they are many.
  const radius = 3.6 * unit * Math.min(1, Math.sqrt(40 / skeleton.keypoints.length));
  for (const [slot, [x, y]] of points) {
    disc(pen, x, y, radius + 0.9 * unit, RIM);
    disc(pen, x, y, radius, skeleton.colors[slot]);
  }
}

/** One-sigma ellipses: the eigenvectors of a covariance are the axes. */
function drawUncertainty(pen, { points, skeleton, covariances, scale, unit, alpha }) {
  if (!covariances) return;
  for (const [slot, [x, y]] of points) {
    const axes = ellipseAxes(covariances[slot]);
    if (!axes) continue;
    pen.beginPath();
    pen.ellipse(x, y, axes.major * scale, axes.minor * scale, axes.angle, 0, 2 * Math.PI);
    pen.fillStyle = skeleton.colors[slot];
    pen.strokeStyle = skeleton.colors[slot];
    pen.lineWidth = 1.2 * unit;
    pen.globalAlpha = 0.38 * alpha;
    pen.fill();
    pen.globalAlpha = 0.9 * alpha;
    pen.stroke();
  }
}

/** Half axes in px and angle of a 2x2 covariance; null where it is none. */
export function ellipseAxes(covariance) {
  const [[xx, xy], [, yy]] = covariance;
  if (![xx, xy, yy].every((value) => typeof value === "number" && Number.isFinite(value))) return null;
  const mean = (xx + yy) / 2;
  const spread = Math.hypot((xx - yy) / 2, xy);
  if (mean - spread < -1e-6 * Math.abs(mean) || mean + spread <= 0) return null;
  return {
    major: Math.sqrt(mean + spread),
    minor: Math.sqrt(Math.max(mean - spread, 0)),
    angle: Math.atan2(2 * xy, xx - yy) / 2,
  };
}

function drawTitle(pen, canvas, { box, title, color, letters, alpha }, taken) {
  pen.globalAlpha = alpha;
  pen.font = `600 ${letters}px ${FONT}`;
  const width = pen.measureText(title).width + letters * 0.9;
  const height = letters * 1.55;
  const x = clamp(box[0], 0, Math.max(0, canvas.width - width));
  const places = [box[1] - height, box[1], box[1] + box[3] - height];
  const y = places
    .map((place) => clamp(place, 0, canvas.height - height))
    .find((place) => !collides([x, place, width, height], taken)) ?? clamp(places[0], 0, canvas.height - height);
  taken.push([x, y, width, height]);
  pen.fillStyle = color;
  pen.beginPath();
  pen.roundRect(x, y, width, height, letters * 0.25);
  pen.fill();
  pen.fillStyle = luminance(color) > 0.3 ? "#101416" : "#ffffff";
  pen.textBaseline = "middle";
  pen.fillText(title, x + letters * 0.45, y + height / 2 + letters * 0.05);
}

/** Names stand beside their points; one that would lie on another is left out. */
function drawNames(pen, canvas, { points, skeleton, unit, letters, alpha }, taken) {
  if (!skeleton) return;
  const size = letters * 0.86;
  pen.globalAlpha = alpha;
  pen.font = `500 ${size}px ${FONT}`;
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  for (const [slot, [x, y]] of points) {
    const text = skeleton.keypoints[slot].replaceAll("_", " ");
    const width = pen.measureText(text).width;
    const gap = 7 * unit;
    const place = [x + gap, x - gap - width]
      .filter((left) => left >= 0 && left + width <= canvas.width)
      .map((left) => [left, y - size * 0.6, width, size * 1.2])
      .find((rectangle) => !collides(rectangle, taken));
    if (!place) continue;
    taken.push(place);
    pen.strokeStyle = RIM;
    pen.lineWidth = size * 0.3;
    pen.strokeText(text, place[0], y);
    pen.fillStyle = "#ffffff";
    pen.fillText(text, place[0], y);
  }
}

function drawCaption(pen, canvas, caption, ratio) {
  const letters = Math.min(12 * ratio, canvas.width / 22);
  pen.font = `500 ${letters}px ${FONT}`;
  const width = pen.measureText(caption).width + letters * 1.2;
  const height = letters * 1.9;
  const margin = 8 * ratio;
  pen.fillStyle = "rgb(16 20 22 / 0.78)";
  pen.beginPath();
  pen.roundRect(margin, canvas.height - height - margin, width, height, letters * 0.4);
  pen.fill();
  pen.fillStyle = "#ffffff";
  pen.textBaseline = "middle";
  pen.fillText(caption, margin + letters * 0.6, canvas.height - margin - height / 2);
}

function stroke(pen, from, to) {
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

function disc(pen, x, y, radius, color) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fillStyle = color;
  pen.fill();
}

function collides([x, y, width, height], taken) {
  return taken.some(
    ([left, top, wide, high]) =>
      x < left + wide && left < x + width && y < top + high && top < y + height,
  );
}

function luminance(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16) / 255);
  return 0.2126 * red ** 2.2 + 0.7152 * green ** 2.2 + 0.0722 * blue ** 2.2;
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
