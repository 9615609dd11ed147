// Shows openapi.json so that a person can read it.

import { schemaText } from "./schema.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const find = (id) => document.getElementById(id);

/** An element with a class and children or a text. */
function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Paragraphs of a description; what stands between backticks is code. */
function prose(text) {
  return text.split(/\n\s*\n/).map((paragraph) => {
    const parts = paragraph.replace(/\s+/g, " ").trim().split("`");
    return make("p", "text", ...parts.map((part, at) => (at % 2 ? make("code", "", part) : part)));
  });
}

function rows(entries) {
  return make("dl", "rows", ...entries.map(([name, ...parts]) => make("div", "", make("dt", "", name), make("dd", "", ...parts))));
}

function limits(schema) {
  const words = { minimum: "≥", maximum: "≤", exclusiveMinimum: ">", exclusiveMaximum: "<" };
  const found = Object.entries(words)
    .filter(([name]) => schema[name] !== undefined)
    .map(([name, sign]) => `${sign} ${schema[name]}`);
  if (schema.default !== undefined && schema.default !== null) {
    found.push(`default ${JSON.stringify(schema.default)}`);
  }
  return found.join(", ");
}

function parameterRow(parameter, root) {
  const schema = parameter.schema ?? {};
  const notes = [parameter.in, parameter.required ? "required" : "", schemaText(schema, root), limits(schema)];
  const type = make("span", "type", notes.filter(Boolean).join(" · "));
  const text = parameter.description ?? schema.description ?? "";
  return [parameter.name, type, ...(text ? prose(text) : [])];
}

function contentBlocks(content, root) {
  return Object.entries(content ?? {}).flatMap(([type, { schema }]) => {
    const text = schema && Object.keys(schema).length ? schemaText(schema, root) : "";
    const head = make("div", "type", type);
    return text && text !== "any" ? [head, make("pre", "", text)] : [head];
  });
}

/** The block of one operation; its inside is made when somebody opens it. */
function route(method, path, operation, root) {
  const head = make(
    "summary",
    "",
    make("span", "method", method.toUpperCase()),
    make("span", "path", path),
    make("span", "title", operation.summary ?? ""),
  );
  const box = make("details", "route", head);
  box.dataset.text = `${method} ${path} ${operation.summary ?? ""} ${operation.description ?? ""}`.toLowerCase();
  box.addEventListener("toggle", () => {
    if (box.children.length === 1) box.append(inside(operation, root));
  });
  return box;
}

function inside(operation, root) {
  const body = make("div", "body");
  body.append(...prose(operation.description ?? ""));
  if (operation.parameters?.length) {
    body.append(make("h3", "", "Parameters"), rows(operation.parameters.map((row) => parameterRow(row, root))));
  }
  if (operation.requestBody) {
    const needed = operation.requestBody.required ? "Body (required)" : "Body";
    body.append(make("h3", "", needed), ...contentBlocks(operation.requestBody.content, root));
  }
  const answers = Object.entries(operation.responses ?? {}).map(([status, answer]) => [
    status,
    ...prose(answer.description ?? ""),
    ...contentBlocks(answer.content, root),
  ]);
  body.append(make("h3", "", "Answers"), rows(answers));
  return body;
}

function groups(root) {
  const found = new Map();
  for (const [path, operations] of Object.entries(root.paths ?? {})) {
    for (const method of METHODS.filter((name) => operations[name])) {
      const operation = operations[method];
      const tag = operation.tags?.[0] ?? "other";
      if (!found.has(tag)) found.set(tag, []);
      found.get(tag).push(route(method, path, operation, root));
    }
  }
  return found;
}

function show(root) {
  const { title, version, description } = root.info;
  find("about").textContent = [`${title} ${version}`, description].filter(Boolean).join(". ");
  const sections = [...groups(root)].map(([tag, boxes]) => make("section", "", make("h2", "", tag), ...boxes));
  find("routes").replaceChildren(...sections);
  const filter = () => {
    const words = find("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const section of sections) {
      const boxes = [...section.querySelectorAll(".route")];
      for (const box of boxes) box.hidden = !words.every((word) => box.dataset.text.includes(word));
      const left = boxes.filter((box) => !box.hidden).length;
      section.hidden = left === 0;
      count += left;
    }
    find("count").textContent = count === 1 ? "1 route" : `${count} routes`;
  };
  find("filter").addEventListener("input", filter);
  filter();
}

try {
  const response = await fetch(new URL("openapi.json", document.baseURI));
  if (!response.ok) throw new Error(`The server answered with the status ${response.status}.`);
  show(await response.json());
} catch (error) {
  find("about").textContent = "";
  find("error").textContent = `The description of the routes cannot be shown. ${error.message}`;
  find("error").hidden = false;
}
