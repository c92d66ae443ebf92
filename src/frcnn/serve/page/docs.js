// The page /docs: /openapi.json to read. The document may have any content. Missing parts are left out. Parts of another
// type than OpenAPI says are shown unchanged.

const $ = (id) => document.getElementById(id);
const BASE = location.origin + location.pathname.replace(/[^/]*$/, "");
const METHODS = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
const SHOWN_KEYS = new Set([ // of a schema; others are shown as JSON
  "$ref", "type", "format", "description", "enum", "const", "default", "minimum", "maximum", "minItems", "maxItems",
  "items", "properties", "required", "oneOf", "anyOf", "allOf", "additionalProperties",
]);
const JOINED = { oneOf: "one of", anyOf: "any of", allOf: "all of" };

let whole; // the document

// ------------------------------------------------------------------------------------------------------------- content

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const entries = (value) => (isObject(value) ? Object.entries(value) : []);
const list = (value) => (Array.isArray(value) ? value : []);
const json = (value) => JSON.stringify(value, null, 1)?.replace(/\n\s*/g, " ") ?? "";
const say = (value) => (typeof value === "string" ? value : value === undefined || value === null ? "" : json(value));

/** What "#/a/b" is in the document. */
function resolve(ref) {
  const keys = ref.startsWith("#/") ? ref.slice(2).split("/") : [];
  return keys.reduce((value, key) => (isObject(value) ? value[key.replaceAll("~1", "/").replaceAll("~0", "~")] : undefined), whole);
}

/** A parameter, body or answer, which may be written elsewhere in the document. */
function found(value) {
  const target = isObject(value) && typeof value.$ref === "string" ? resolve(value.$ref) : value;
  return isObject(target) ? target : {};
}

// -------------------------------------------------------------------------------------------------------------- screen

function make(tag, properties = {}, ...content) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...content.flat(Infinity));
  return element;
}

/** A text in which `this` is code. */
function prose(value) {
  const parts = say(value).split("`");
  const isCode = (number) => number % 2 === 1 && number < parts.length - 1;
  return parts.map((part, number) => (isCode(number) ? make("code", { textContent: part }) : (number % 2 ? "`" : "") + part));
}

const paragraph = (value) => (say(value) ? [make("p", {}, prose(value))] : []);
const section = (title, content) => (content.length ? [make("h4", { textContent: title }), ...content] : []);

function table(head, rows) {
  if (!rows.length) return [];
  const cells = head.map((text) => make("th", { scope: "col", textContent: text }));
  const body = rows.map((row) => make("tr", {}, row.map((cell) => make("td", {}, cell))));
  return [make("div", { className: "wide" }, make("table", {}, make("thead", {}, make("tr", {}, cells)), make("tbody", {}, body)))];
}

// -------------------------------------------------------------------------------------------------------------- schema

/** A schema as text with links; `named`: with the names of its properties. */
function typeOf(schema, named = false) {
  if (schema === undefined || schema === true) return ["anything"];
  if (schema === false) return ["nothing"];
  if (!isObject(schema)) return [json(schema)];
  if (typeof schema.$ref === "string") return [linkTo(schema.$ref)];
  const joined = Object.keys(JOINED).filter((key) => Array.isArray(schema[key]));
  if (joined.length) {
    return joined.flatMap((key) => [`${JOINED[key]}: `, ...schema[key].flatMap((one, at) => [at ? "; " : "", ...typeOf(one, true)])]);
  }
  const types = list(schema.type).length ? schema.type : [schema.type ?? (isObject(schema.properties) ? "object" : "anything")];
  const parts = types.flatMap((type, at) => [
    at ? " or " : "",
    ...(type === "array" ? ["list of ", ...typeOf(schema.items)] : [say(type)]),
  ]);
  const names = Object.keys(isObject(schema.properties) ? schema.properties : {});
  if (named && names.length) parts.push(" with ", ...names.flatMap((name, at) => [at ? ", " : "", make("code", { textContent: name })]));
  return parts;
}

function linkTo(ref) {
  const name = ref.split("/").at(-1);
  return ref.startsWith("#/components/schemas/")
    ? make("a", { href: `#${encodeURIComponent(`schema-${name}`)}`, textContent: name })
    : make("code", { textContent: ref });
}

/** What else a schema says: bounds, values, default. */
function limitsOf(schema) {
  if (!isObject(schema)) return [];
  const { minimum, maximum, minItems, maxItems } = schema;
  const range = (low, high, unit) => {
    if (low === undefined && high === undefined) return [];
    if (low === high) return [`${say(low)}${unit}`];
    return [low === undefined ? `at most ${say(high)}${unit}` : high === undefined ? `at least ${say(low)}${unit}` : `${say(low)} to ${say(high)}${unit}`];
  };
  return [
    ...(schema.format === undefined ? [] : [say(schema.format)]),
    ...range(minimum, maximum, ""),
    ...range(minItems, maxItems, " items"),
    ...(schema.enum === undefined ? [] : [`one of ${list(schema.enum).map(json).join(", ")}`]),
    ...(schema.const === undefined ? [] : [`always ${json(schema.const)}`]),
    ...(schema.default === undefined ? [] : [`default ${json(schema.default)}`]),
    ...Object.keys(schema).filter((key) => !SHOWN_KEYS.has(key)).map((key) => `${key}: ${json(schema[key])}`),
  ];
}

/** A schema and the schemas in it. */
function showSchema(schema) {
  const limits = limitsOf(schema);
  const about = isObject(schema) && say(schema.description) ? [" – ", ...prose(schema.description)] : [];
  const first = [...typeOf(schema), limits.length ? ` (${limits.join(", ")})` : "", ...about];
  return [make("div", {}, first), ...partsOf(schema)];
}

function partsOf(schema) {
  if (!isObject(schema)) return [];
  const properties = entries(schema.properties).map(([name, one]) => {
    const isNeeded = list(schema.required).includes(name);
    const [head, ...rest] = showSchema(one);
    head.prepend(make("code", { textContent: name }), isNeeded ? ": " : ", optional: ");
    return make("li", {}, head, rest);
  });
  const inside = [schema.items, ...Object.keys(JOINED).flatMap((key) => list(schema[key])), schema.additionalProperties];
  const deeper = inside.flatMap(partsOf);
  return [...(properties.length ? [make("ul", { className: "properties" }, properties)] : []), ...deeper];
}

const showContent = (content) => entries(content).map(([type, one]) => [
  make("dt", {}, make("code", { textContent: type })),
  make("dd", {}, isObject(one) && one.schema !== undefined ? showSchema(one.schema) : []),
]);

// ----------------------------------------------------------------------------------------------------------- endpoints

const idOf = (method, path) => `${method}-${path}`;

function operations() {
  return entries(whole.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => isObject(item) && isObject(item[method]))
      .map((method) => ({ path, method, about: item[method], shared: list(item.parameters) })));
}

function showOperation({ path, method, about, shared }) {
  const parameters = [...shared, ...list(about.parameters)].map(found).map((one) => [
    [make("code", { textContent: say(one.name) })],
    [`${say(one.in)}${one.required ? ", required" : ""}`],
    [...typeOf(one.schema), limitsOf(one.schema).length ? ` (${limitsOf(one.schema).join(", ")})` : ""],
    prose(one.description),
  ]);
  const body = found(about.requestBody);
  const bodies = showContent(body.content);
  const answers = entries(about.responses).map(([status, value]) => {
    const one = found(value);
    return [
      [make("code", { textContent: status })],
      prose(one.description),
      [make("dl", {}, showContent(one.content))],
    ];
  });
  const title = make("h3", {}, make("span", { className: "method", textContent: method.toUpperCase() }), " ", make("code", { textContent: path }));
  return make(
    "article", { id: idOf(method, path) }, title, paragraph(about.summary), paragraph(about.description),
    section("Parameters", table(["Name", "In", "Type", "Meaning"], parameters)),
    section(body.required ? "Body, required" : "Body", [...paragraph(body.description), ...(bodies.length ? [make("dl", {}, bodies)] : [])]),
    section("Answers", table(["Status", "Meaning", "Content"], answers)),
  );
}

function showAll() {
  const info = isObject(whole.info) ? whole.info : {};
  const all = operations();
  const schemas = entries(whole.components?.schemas);
  const methods = entries(whole.components?.securitySchemes);
  $("title").textContent = say(info.title) || "Endpoints";
  $("about-model").textContent = say(info.version);
  const contents = all.map(({ path, method, about }) => make("li", {}, make(
    "a", { href: `#${encodeURIComponent(idOf(method, path))}` },
    make("span", { className: "method", textContent: method.toUpperCase() }), " ", path, about.summary ? ` – ${say(about.summary)}` : "",
  )));
  const kinds = methods.map(([name, value]) => {
    const one = found(value);
    return [[make("code", { textContent: name })], [[one.type, one.scheme].map(say).filter(Boolean).join(", ")], prose(one.description)];
  });
  $("content").replaceChildren(
    ...paragraph(info.description),
    make("h2", { textContent: "Endpoints" }),
    make("ul", { className: "contents" }, contents),
    ...all.map(showOperation),
    ...(schemas.length ? [make("h2", { textContent: "Schemas" })] : []),
    ...schemas.map(([name, schema]) => make("article", { id: `schema-${name}` }, make("h3", { textContent: name }), showSchema(schema))),
    ...(methods.length ? [make("h2", { textContent: "Token" }), ...table(["Name", "Kind", "Meaning"], kinds)] : []),
  );
}

// --------------------------------------------------------------------------------------------------------------- start

function tell(text, isError) {
  $("status").textContent = text;
  $("status").hidden = !text;
  $("status").classList.toggle("failed", isError);
}

async function start() {
  const response = await fetch(`${BASE}openapi.json`).catch(() => null);
  const answer = await response?.json().catch(() => null);
  if (!response) return tell("No answer from the service; is it still running?", true);
  if (!response.ok || !isObject(answer)) return tell(answer?.error ?? `The service answers ${response.status}`, true);
  whole = answer;
  showAll();
  tell("", false);
  if (location.hash) location.replace(location.hash); // its place did not exist when the page was opened
}

start();
