// The programs that do what the page just did.

import { address, inferenceQuery, modelPath } from "./api.js";

/** Return the text of a snippet: "python", "curl" or "sdk". */
export function snippet(kind, { model, thresholds, needsKey }) {
  return { python, curl, sdk }[kind]({ model, thresholds, needsKey });
}

function python({ model, thresholds }) {
  return `import openkeypoints as okp

model = okp.get_model(${text(model)})
result = model.infer(
    "picture.jpg",
    confidence=${thresholds.confidence},
    iou_threshold=${thresholds.iou},
    keypoint_confidence=${thresholds.keypointConfidence},
)[0]
print(result.json())
`;
}

function curl({ model, thresholds, needsKey }) {
  const url = `${address(modelPath(model, "/predict"))}?${inferenceQuery(thresholds)}`;
  const key = needsKey ? ' \\\n  --header "Authorization: Bearer $OKP_KEY"' : "";
  return `curl ${quoted(url)}${key} \\
  --header "Content-Type: image/jpeg" \\
  --data-binary @picture.jpg
`;
}

function sdk({ model, thresholds, needsKey }) {
  const key = needsKey ? 'os.environ["OKP_KEY"]' : "None";
  return `${needsKey ? "import os\n\n" : ""}from inference_sdk import InferenceConfiguration, InferenceHTTPClient

client = InferenceHTTPClient(api_url=${text(address("").replace(/\/$/, ""))}, api_key=${key})
client.configure(
    InferenceConfiguration(
        confidence_threshold=${thresholds.confidence},
        iou_threshold=${thresholds.iou},
        keypoint_confidence_threshold=${thresholds.keypointConfidence},
    )
)
print(client.infer("picture.jpg", model_id=${text(model)}))
`;
}

/** A string of Python; JSON's strings are. */
function text(value) {
  return JSON.stringify(value);
}

function quoted(value) {
  return `'${value.replaceAll("'", "'\\''")}'`;
}
