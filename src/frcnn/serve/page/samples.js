// Requests to the service that a person can copy: ten topics, each for curl, Python and JavaScript. Class names and
// addresses may have any characters, so each goes through the quoting of its language.

const TOPICS = [
  "One image", "Several images", "Base64 in JSON", "Threshold", "One class only",
  "Tiles, for small objects", "COCO results", "Picture with boxes", "Token", "About the model",
];
const JPEG = { Accept: "image/jpeg" };
const COCO = { Accept: "application/coco+json" };
const TILE = 640;
const WIDTH = 76; // letters of a line

/**
 * The samples as [{language, note, samples: [{topic, text}]}].
 *
 * @param base address of the service without a slash at its end
 * @param threshold of the samples that have one
 * @param name of a class of the model
 * @param needsToken whether each request must have the token, which is in $FRCNN_TOKEN
 */
export function makeSamples({ base, threshold, name, needsToken }) {
  const valid = wellFormed(name);
  const kinds = [
    {},
    { isList: true },
    { isJson: true },
    { options: { threshold: `${Number(threshold.toFixed(3))}` } },
    { options: { classes: valid } },
    { options: { tile: `${TILE}` } },
    { headers: COCO },
    { headers: JPEG, isPicture: true },
    { hasToken: true },
    { isModel: true },
  ];
  const requests = kinds.map((kind) => ({ base, options: {}, headers: {}, ...kind, hasToken: needsToken || kind.hasToken }));
  const group = (language, note, write) =>
    ({ language, note, samples: requests.map((request, number) => ({ topic: TOPICS[number], text: write(request) })) });
  const variable = needsToken ? " They read the token from the environment variable FRCNN_TOKEN." : "";
  return [
    group("curl", `For bash and zsh.${variable}`, curl),
    group("Python", `No package is needed.${variable}`, python),
    group("JavaScript", "For the console of this page (F12), after photos were chosen above. Pages of other sites may not use the service. In Node: const photo = await require(\"node:fs\").openAsBlob(\"photo.jpg\").", script),
  ];
}

/** A name without halves of characters, which no address can have. */
export const wellFormed = (name) => name.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd");

/** A word of bash or zsh that means the text. */
export const shellWord = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A Python literal of the text, in ASCII: other letters may look like what they are not. */
export const pythonText = (text) =>
  quoted(text, (letter) => `\\U${letter.codePointAt(0).toString(16).padStart(8, "0")}`);

/** A JavaScript literal of the text, in ASCII. */
export const scriptText = (text) => quoted(text, (letter) => `\\u{${letter.codePointAt(0).toString(16)}}`);

const quoted = (text, escape) => `"${text.replace(/["\\]/g, "\\$&").replace(/[^\x20-\x7e]/gu, escape)}"`;

// -------------------------------------------------------------------------------------------------------------- curl

function curl({ base, options, headers, isList, isJson, isPicture, isModel, hasToken }) {
  const parts = [];
  if (isList) parts.push("--form image=@photo1.jpg", "--form image=@photo2.jpg");
  else if (isJson) parts.push("--header 'Content-Type: application/json'", "--data-binary @-");
  else if (!isModel) parts.push("--data-binary @photo.jpg");
  Object.entries(headers).forEach(([key, value]) => parts.push(`--header '${key}: ${value}'`));
  if (hasToken) parts.push('--header "Authorization: Bearer $FRCNN_TOKEN"');
  if (isPicture) parts.push("--fail --output boxes.jpg");
  const query = Object.entries(options).map(([key, value]) => `?${key}=${encodeURIComponent(value)}`).join("");
  parts.push(shellWord(`${base}${isModel ? "/model" : "/predict"}${query}`));
  const line = `curl ${parts.join(" ")}`;
  const command = line.length > WIDTH ? `curl ${parts.join(` \\\n${isJson ? "    " : "  "}`)}` : line;
  // The shell's own printf takes a text of any length; a command would not.
  return isJson ? `printf '{"image": "%s"}' "$(base64 < photo.jpg | tr -d '\\n')" |\n  ${command}` : command;
}

// ------------------------------------------------------------------------------------------------------------- Python

function python({ base, options, headers, isList, isJson, isPicture, isModel, hasToken }) {
  const hasOptions = Object.keys(options).length > 0;
  const all = Object.entries(headers).map(([key, value]) => `"${key}": "${value}"`);
  if (isList || isJson) all.push('"Content-Type": "application/json"');
  if (hasToken) all.push('"Authorization": f"Bearer {os.environ[\'FRCNN_TOKEN\']}"');
  const lines = [
    ...(isPicture ? [] : ["import json"]),
    ...(hasToken ? ["import os"] : []),
    ...(isList || isJson ? ["from base64 import b64encode"] : []),
    ...(isModel ? [] : ["from pathlib import Path"]),
    ...(hasOptions ? ["from urllib.parse import urlencode"] : []),
    "from urllib.request import Request, urlopen",
    "",
    `address = ${pythonText(base + (isModel ? "/model" : "/predict"))}`,
  ];
  if (hasOptions) {
    const options_ = Object.entries(options).map(([key, value]) => `"${key}": ${pythonText(value)}`);
    lines.push(`address += "?" + urlencode({${options_.join(", ")}})`);
  }
  if (isList) {
    lines.push(
      'names = ["photo1.jpg", "photo2.jpg"]',
      "images = [b64encode(Path(name).read_bytes()).decode() for name in names]",
      'body = json.dumps({"images": images}).encode()',
    );
  } else if (isJson) {
    lines.push(
      'image = b64encode(Path("photo.jpg").read_bytes()).decode()',
      'body = json.dumps({"image": image}).encode()',
    );
  } else if (!isModel) {
    lines.push('body = Path("photo.jpg").read_bytes()');
  }
  if (all.length) {
    const line = `headers = {${all.join(", ")}}`;
    lines.push(line.length > WIDTH ? `headers = {\n    ${all.join(",\n    ")},\n}` : line);
  }
  const given = [...(isModel ? [] : ["body"]), ...(all.length ? [isModel ? "headers=headers" : "headers"] : [])];
  lines.push(`with urlopen(Request(${["address", ...given].join(", ")})) as answer:`);
  lines.push(isPicture ? '    Path("boxes.jpg").write_bytes(answer.read())' : "    print(json.load(answer))");
  return lines.join("\n");
}

// --------------------------------------------------------------------------------------------------------- JavaScript

function script({ base, options, headers, isList, isJson, isPicture, isModel, hasToken }) {
  const hasOptions = Object.keys(options).length > 0;
  const all = Object.entries(headers).map(([key, value]) => `${key}: "${value}"`);
  if (isJson) all.push('"Content-Type": "application/json"');
  if (hasToken) all.push('Authorization: `Bearer ${sessionStorage.getItem("token")}`');
  const lines = [];
  if (isList) lines.push('const photos = document.querySelector("input[type=file]").files;');
  else if (!isModel) lines.push('const [photo] = document.querySelector("input[type=file]").files;');
  if (isList) {
    lines.push("const body = new FormData();", 'for (const photo of photos) body.append("image", photo);');
  } else if (isJson) {
    lines.push(
      "const reader = new FileReader();",
      "await new Promise((done) => { reader.onload = done; reader.readAsDataURL(photo); });",
      "const body = JSON.stringify({ image: reader.result });",
    );
  }
  if (hasOptions) {
    const options_ = Object.entries(options).map(([key, value]) => `${key}: ${scriptText(value)}`);
    lines.push(`const options = new URLSearchParams({ ${options_.join(", ")} });`);
  }
  if (all.length) lines.push(`const headers = { ${all.join(", ")} };`);
  const address = scriptText(base + (isModel ? "/model" : hasOptions ? "/predict?" : "/predict"));
  const given = [
    ...(isModel ? [] : ['method: "POST"', isList || isJson ? "body" : "body: photo"]),
    ...(all.length ? ["headers"] : []),
  ];
  const second = given.length ? `, { ${given.join(", ")} }` : "";
  lines.push(`const answer = await fetch(${address}${hasOptions ? " + options" : ""}${second});`);
  if (isPicture) {
    lines.push(
      'const link = document.createElement("a");',
      "link.href = URL.createObjectURL(await answer.blob());",
      'link.download = "boxes.jpg";',
      "link.click();",
    );
  } else {
    lines.push("console.log(await answer.json());");
  }
  return lines.join("\n");
}
