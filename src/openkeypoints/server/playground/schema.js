// Writes a JSON schema as a sketch of the value that it describes.

const DEPTH = 6;

/** The sketch of a schema; `root` is the document in which its references point. */
export function schemaText(schema, root, indent = "", depth = 0) {
  const resolved = follow(schema, root);
  if (depth > DEPTH || !resolved) return "…";
  if (resolved.const !== undefined) return JSON.stringify(resolved.const);
  if (resolved.enum) return resolved.enum.map((value) => JSON.stringify(value)).join(" | ");
  for (const name of ["anyOf", "oneOf"]) {
    if (resolved[name]) {
      return resolved[name].map((part) => schemaText(part, root, indent, depth + 1)).join(" | ");
    }
  }
  if (resolved.allOf) return resolved.allOf.map((part) => schemaText(part, root, indent, depth + 1)).join(" & ");
  if (resolved.properties) return objectText(resolved, root, indent, depth);
  if (resolved.type === "array") return arrayText(resolved, root, indent, depth);
  if (resolved.additionalProperties && typeof resolved.additionalProperties === "object") {
    return `{ [name]: ${schemaText(resolved.additionalProperties, root, indent, depth + 1)} }`;
  }
  const type = Array.isArray(resolved.type) ? resolved.type.join(" | ") : resolved.type;
  const format = resolved.format ?? (resolved.contentMediaType ? "binary" : "");
  return type ? `${type}${format ? ` (${format})` : ""}` : "any";
}

function objectText(schema, root, indent, depth) {
  const inner = `${indent}  `;
  const required = new Set(schema.required ?? []);
  const lines = Object.entries(schema.properties).map(([name, value]) => {
    const mark = required.has(name) ? "" : "?";
    return `${inner}${name}${mark}: ${schemaText(value, root, inner, depth + 1)}`;
  });
  return lines.length ? `{\n${lines.join(",\n")}\n${indent}}` : "{}";
}

function arrayText(schema, root, indent, depth) {
  if (schema.prefixItems) {
    return `[${schema.prefixItems.map((part) => schemaText(part, root, indent, depth + 1)).join(", ")}]`;
  }
  return `[${schemaText(schema.items ?? {}, root, indent, depth + 1)}, …]`;
}

function follow(schema, root) {
  let found = schema;
  for (let hops = 0; found?.$ref && hops < 8; hops += 1) {
    const path = found.$ref.replace(/^#\//, "").split("/");
    found = path.reduce((value, name) => value?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], root);
  }
  return found;
}
