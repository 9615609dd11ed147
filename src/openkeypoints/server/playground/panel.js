// The controls: model, thresholds, what is shown, and the key of this tab.

import { describeModel, listModels, setKey } from "./api.js";

const KEY = "okp-key"; // in the session storage: gone when the tab is closed
const SLIDERS = ["confidence", "keypoint-confidence", "iou"];
const SHOWN = ["boxes", "masks", "skeleton", "names", "uncertainty", "timings"];
const find = (id) => document.getElementById(id);

/** Reads the controls, and calls back when somebody moves them. */
export class Panel {
  #select = find("model");
  #note = find("model-note");
  #keyBox = find("key-box");
  #key = find("key");
  #moved = new Set();
  #ready = "";
  #on;

  /** on: {loading(id), model(), thresholds(), look(), key(), error(error)} */
  constructor(on) {
    this.#on = on;
    for (const name of SLIDERS) {
      find(name).addEventListener("input", () => {
        this.#moved.add(name);
        this.#showValue(name);
        if (name === "keypoint-confidence") on.look();
        on.thresholds();
      });
    }
    for (const name of SHOWN) find(`show-${name}`).addEventListener("change", on.look);
    this.#select.addEventListener("change", () => this.#changeModel());
    // Names would hide a picture that is as small as a phone.
    find("show-names").checked = !window.matchMedia("(max-width: 40rem)").matches;
    find("key-form").addEventListener("submit", (event) => event.preventDefault());
    this.#key.value = stored();
    setKey(this.#key.value);
    this.#key.addEventListener("change", () => {
      store(this.#key.value);
      setKey(this.#key.value);
      on.key();
    });
  }

  /** The chosen id. */
  get name() {
    return this.#select.value;
  }

  /** The chosen id, once the server has loaded it; empty before. */
  get model() {
    return this.#ready === this.#select.value ? this.#ready : "";
  }

  get hasKey() {
    return this.#key.value.trim() !== "";
  }

  get thresholds() {
    const value = (name) => Number(find(name).value);
    return {
      confidence: value("confidence"),
      keypointConfidence: value("keypoint-confidence"),
      iou: value("iou"),
    };
  }

  get show() {
    return Object.fromEntries(SHOWN.map((name) => [name, find(`show-${name}`).checked]));
  }

  /** Ask the server for its models and fill the choice. */
  async loadModels() {
    const { models, preferred } = await listModels();
    if (models.length === 0) throw new Error("The server has no models.");
    const before = this.#ready || preferred;
    const group = (label, rows) => {
      const box = document.createElement("optgroup");
      box.label = label;
      box.append(...rows.map(({ id }) => new Option(id, id)));
      return rows.length ? [box] : [];
    };
    this.#select.replaceChildren(
      ...group("Served", models.filter((row) => row.served)),
      ...group("Loaded when asked for", models.filter((row) => !row.served)),
    );
    if (models.some(({ id }) => id === before)) this.#select.value = before;
    this.#select.disabled = false;
    await this.#changeModel();
  }

  /** Offer masks where an answer has some. */
  offerMasks(there) {
    find("show-masks").parentElement.hidden = !there;
  }

  /** Open the field of the key and put the cursor into it. */
  askForKey() {
    this.#keyBox.open = true;
    this.#key.focus();
  }

  /** Let the server load the model, which says its thresholds, and tell that it can be asked. */
  async #changeModel() {
    const id = this.#select.value;
    this.#note.textContent = "";
    this.#on.loading(id);
    try {
      const about = await describeModel(id);
      if (id !== this.#select.value) return; // another was chosen meanwhile
      this.#describe(about);
      this.#ready = id;
      this.#on.model();
    } catch (error) {
      if (id === this.#select.value) this.#on.error(error);
    }
  }

  #describe(about) {
    const points = (about.skeletons ?? []).map((row) => `${row.class}: ${row.keypoints.length} keypoints`);
    const licence = about.licence ? [`Licence: ${about.licence}`] : [];
    this.#note.textContent = [...points.slice(0, 3), ...licence].join(" · ");
    this.#preset("confidence", about.confidence);
    this.#preset("iou", about.iou_threshold);
  }

  /** Move a slider that nobody has moved to what the model itself would take. */
  #preset(name, value) {
    if (this.#moved.has(name) || typeof value !== "number") return;
    find(name).value = value;
    this.#showValue(name);
  }

  #showValue(name) {
    find(`${name}-value`).textContent = Number(find(name).value).toFixed(2);
  }
}

function stored() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return ""; // forbidden: the key lives as long as the page
  }
}

function store(value) {
  try {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  } catch {
    // forbidden: the key lives as long as the page
  }
}
