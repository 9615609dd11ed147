// Shows an answer beside the picture: the instances, the times, the JSON and the snippets.

import { instanceColor } from "./draw.js";
import { snippet } from "./snippets.js";

const WIDTH = 88; // signs of a line of JSON that is not broken up
const SVG = "http://www.w3.org/2000/svg";
const STAGES = { decode: "decode", prepare: "prepare", run: "network", finish: "finish", queue: "queue" };

/** Text of JSON in which what is short stays on one line. */
export function pretty(value, indent = "") {
  const flat = JSON.stringify(value);
  if (flat.length + indent.length <= WIDTH || value === null || typeof value !== "object") return flat;
  const inner = `${indent}  `;
  const entries = Array.isArray(value)
    ? value.map((entry) => pretty(entry, inner))
    : Object.entries(value).map(([name, entry]) => `${JSON.stringify(name)}: ${pretty(entry, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  if (Array.isArray(value) && value.every((entry) => entry === null || typeof entry !== "object")) {
    return `[\n${inner}${filled(entries, inner)}\n${indent}]`;
  }
  return `${open}\n${inner}${entries.join(`,\n${inner}`)}\n${indent}${close}`;
}

/** Texts of plain values in lines that are as full as they can be. */
function filled(entries, indent) {
  const lines = [""];
  for (const entry of entries) {
    const last = lines[lines.length - 1];
    if (last && indent.length + last.length + entry.length + 3 > WIDTH) lines.push(entry);
    else lines[lines.length - 1] = last ? `${last}, ${entry}` : entry;
  }
  return lines.join(`,\n${indent}`);
}

/** "2 × person, 1 × dog" of a prediction, "Nothing" of an empty one. */
export function summary(prediction) {
  const counts = new Map();
  for (const instance of prediction.instances) {
    const name = prediction.class_names[instance.class_id];
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].map(([name, count]) => `${count} × ${name}`).join(", ") || "Nothing";
}

/** One line for the canvas. */
export function caption({ prediction, total }) {
  const server = Object.values(prediction.timings).reduce((sum, ms) => sum + ms, 0);
  return `model ${milliseconds(server)} · in all ${milliseconds(total)}`;
}

export function milliseconds(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

/** Fill the list of times. */
export function showTimings(box, list, result) {
  box.hidden = !result;
  if (!result) return;
  const { prediction, stages, total } = result;
  const rows = Object.entries({ ...stages, ...prediction.timings })
    .filter(([name]) => name in STAGES)
    .map(([name, ms]) => [STAGES[name], ms]);
  rows.push(["in all", total]);
  list.replaceChildren(
    ...rows.map(([name, ms]) => {
      const row = document.createElement("div");
      const term = document.createElement("dt");
      const value = document.createElement("dd");
      term.textContent = name;
      value.textContent = milliseconds(ms);
      row.append(term, value);
      return row;
    }),
  );
}

/** Fill the list of instances; buttons are kept, so that one of them can keep the focus. */
export function showFound(list, note, { prediction, threshold, chosen, choose }) {
  const count = prediction?.instances.length ?? 0;
  note.hidden = count > 0;
  note.textContent = prediction ? "Nothing. A lower confidence may find more." : "Nothing yet.";
  while (list.children.length > count) list.lastElementChild.remove();
  while (list.children.length < count) list.append(foundRow(list.children.length, choose));
  for (let row = 0; row < count; row += 1) {
    const instance = prediction.instances[row];
    const [swatch, name, points] = list.children[row].firstElementChild.children;
    const slots = prediction.skeletons[instance.class_id]?.keypoints.length ?? 0;
    const seen = instance.keypoints
      .slice(0, slots)
      .filter(([x, , score]) => x !== null && score >= threshold).length;
    swatch.firstElementChild.setAttribute("fill", instanceColor(prediction, row));
    name.textContent = `${prediction.class_names[instance.class_id]} ${instance.score.toFixed(2)}`;
    points.textContent = slots ? `${seen} of ${slots} keypoints` : "";
    list.children[row].firstElementChild.setAttribute("aria-pressed", String(row === chosen));
  }
}

function foundRow(row, choose) {
  const entry = document.createElement("li");
  const button = document.createElement("button");
  const swatch = document.createElementNS(SVG, "svg");
  const dot = document.createElementNS(SVG, "circle");
  const name = document.createElement("span");
  const points = document.createElement("span");
  for (const [attribute, value] of Object.entries({ cx: 8, cy: 8, r: 7, stroke: "#555" })) {
    dot.setAttribute(attribute, value);
  }
  swatch.setAttribute("viewBox", "0 0 16 16");
  swatch.setAttribute("aria-hidden", "true");
  points.className = "count";
  button.type = "button";
  button.title = "Show this one alone";
  button.addEventListener("click", () => choose(row));
  swatch.append(dot);
  button.append(swatch, name, points);
  entry.append(button);
  return entry;
}

/** The tabs with JSON and snippets, and the copy button. `state()` gives what they show. */
export class CodeBox {
  #kind = "json";
  #tabs = [...document.querySelectorAll('[role="tab"]')];
  #code = document.getElementById("code");
  #panel = document.getElementById("code-panel");
  #copy = document.getElementById("copy");
  #state;

  constructor(state, say) {
    this.#state = state;
    for (const tab of this.#tabs) {
      tab.addEventListener("click", () => this.#select(tab));
      tab.addEventListener("keydown", (event) => this.#move(event, tab));
    }
    this.#copy.addEventListener("click", () => this.#copyText(say));
  }

  /** Write the text of the chosen tab anew. */
  show() {
    const { result, ...choices } = this.#state();
    if (this.#kind !== "json") this.#code.textContent = snippet(this.#kind, choices);
    else this.#code.textContent = result ? pretty(result.prediction) : "No answer yet.";
  }

  #select(tab) {
    this.#kind = tab.id.slice("tab-".length);
    for (const other of this.#tabs) {
      other.setAttribute("aria-selected", String(other === tab));
      other.tabIndex = other === tab ? 0 : -1;
    }
    this.#panel.setAttribute("aria-labelledby", tab.id);
    this.show();
  }

  #move(event, tab) {
    const at = this.#tabs.indexOf(tab);
    const last = this.#tabs.length - 1;
    const to = {
      ArrowRight: at === last ? 0 : at + 1,
      ArrowLeft: at === 0 ? last : at - 1,
      Home: 0,
      End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#select(this.#tabs[to]);
    this.#tabs[to].focus();
  }

  async #copyText(say) {
    const done = (await written(this.#code.textContent)) || selected(this.#code);
    say(done ? "Copied." : "The browser does not let this page copy; the text is selected.");
    this.#copy.textContent = done ? "Copied" : "Copy";
    setTimeout(() => {
      this.#copy.textContent = "Copy";
    }, 1500);
  }
}

async function written(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // no https, or forbidden
  }
}

function selected(element) {
  getSelection().selectAllChildren(element);
  return document.execCommand("copy");
}
