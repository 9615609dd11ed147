// Talks to the server: models, one inference, and errors in words that a person can use.

let key = "";

/** Set the API key that every request carries; empty: none. */
export function setKey(value) {
  key = value.trim();
}

/** What a request failed with. `message` is for people, `retryAfter` is in seconds or null. */
export class ApiError extends Error {
  constructor(message, { status = 0, retryAfter = null, requestId = "" } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.retryAfter = retryAfter;
    this.requestId = requestId;
  }
}

/** The address of a path of this server, wherever a proxy shows it. */
export function address(path) {
  return new URL(path, document.baseURI).href;
}

/** The path of a route of a model; a slash in an id stays one. */
export function modelPath(id, action = "") {
  return `v1/models/${id.split("/").map(encodeURIComponent).join("/")}${action}`;
}

/** The models that can be asked for, served ones first, and the id of the preferred one. */
export async function listModels(signal) {
  const answer = await json(await send(address("v1/models"), { signal }));
  return { models: answer.models, preferred: answer.default };
}

/** What the server says of a model: skeletons, thresholds, licence. */
export async function describeModel(id, signal) {
  return json(await send(address(modelPath(id)), { signal }));
}

/** The query of an inference, as the snippets show it too. */
export function inferenceQuery(thresholds) {
  return new URLSearchParams({
    confidence: thresholds.confidence,
    iou_threshold: thresholds.iou,
    keypoint_confidence: thresholds.keypointConfidence,
  }).toString();
}

/** Run a model on an encoded picture. Returns {prediction, stages, total}; times in ms. */
export async function predict(id, blob, thresholds, signal) {
  const began = performance.now();
  const response = await send(
    address(`${modelPath(id, "/predict")}?${inferenceQuery(thresholds)}`),
    {
      method: "POST",
      body: blob,
      headers: { "content-type": blob.type || "application/octet-stream" },
      signal,
    },
  );
  const prediction = await json(response);
  return {
    prediction,
    stages: serverTiming(response.headers.get("server-timing")),
    total: performance.now() - began,
  };
}

/** Milliseconds by stage, from a Server-Timing header. */
export function serverTiming(header) {
  const stages = {};
  for (const entry of (header ?? "").split(",")) {
    const [name, ...parameters] = entry.split(";").map((part) => part.trim());
    const duration = parameters.find((part) => part.startsWith("dur="));
    if (name && duration) stages[name] = Number(duration.slice(4));
  }
  return stages;
}

async function send(url, options) {
  const headers = { accept: "application/json", ...options.headers };
  if (key) headers.authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(url, { ...options, headers, credentials: "same-origin", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Is it still running, and are you online?");
  }
  if (!response.ok) throw await failure(response);
  return response;
}

async function json(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server answered with something that is no JSON.", {
      status: response.status,
    });
  }
}

async function failure(response) {
  const said = await spoken(response);
  const wait = Number.parseFloat(response.headers.get("retry-after"));
  const retryAfter = Number.isFinite(wait) ? wait : null;
  const again = retryAfter === null ? "Try again later." : `Try again in ${retryAfter} s.`;
  const words = {
    401: key
      ? "The server does not know this API key. Check it under “API key”."
      : "This server needs an API key. Enter it under “API key”.",
    403: `This may not be done with your key. ${said}`,
    429: `You ask more often than your key allows. ${again}`,
    503: `The server is busy. ${again}`,
  };
  return new ApiError(words[response.status] ?? said, {
    status: response.status,
    retryAfter,
    requestId: response.headers.get("x-request-id") ?? "",
  });
}

async function spoken(response) {
  const plain = `The server answered with the status ${response.status}.`;
  try {
    const body = await response.json();
    const said = body.error ?? body.message ?? body.detail;
    return typeof said === "string" && said ? said : plain;
  } catch {
    return plain;
  }
}
