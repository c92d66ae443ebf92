// The page of `frcnn annotate`: draw, move, name and save boxes.
//
// A sheet is the state of one image: {index, width, height, objects, annotated, version, past, future, ...}. Its objects
// are never changed, only replaced, so that undo can restore an earlier list. Boxes are x1, y1, x2, y2 in pixels of the
// image; the view maps them to the screen.

import { corrected, removesLabel, labelOf, acceptText } from "./review.js";

const $ = (id) => document.getElementById(id);
const HANDLES = [
  ["x1", "y1"], ["", "y1"], ["x2", "y1"], ["x1", ""], ["x2", ""], ["x1", "y2"], ["", "y2"], ["x2", "y2"],
];
const CURSORS = ["nwse", "ns", "nesw", "ew", "ew", "nesw", "ns", "nwse"];
const CLICK = 4; // screen pixels: a shorter way is no drag
const NUDGES_ARE_ONE = 1000; // milliseconds between key presses that are undone together
const RETRY = 2000; // milliseconds
const HINT = -1; // id of the box that a suspect proposes

let overview;
let sheet; // of the image that is shown
let wanted = null; // the index of the image that is being opened
let waiting = []; // keys that were pressed in the meantime: they mean the image that is being opened
let isSeen = false; // whether its photo is on the screen
let asked = null; // the proposals that are waited for: {target: a sheet, stop: aborts the request}
let selected = null; // id of an object or of a proposed one
let activeClass = null;
let drag = null;
let fresh = null; // the box that is being drawn, or waits for its class
let justDrawn = null; // id of a selected box that has no handles yet: the next one may begin close to it
let spaceIsDown = false;
let lastNudge = { id: null, time: 0 };
let nextId = 1;
let review = null; // of suspects: {number: the one that is shown, past: steps that undo takes back, future, error}
let said = "[]"; // the message that is shown
const unsent = new Set(); // numbers of suspects whose decision the server does not have yet
let isDelivering = false;
const view = { scale: 1, x: 0, y: 0, fits: true };
const sheets = new Map(); // by index
const rows = []; // of the list of images
// Load thumbnails when they become visible; cancel those that were scrolled past.
const seen = new IntersectionObserver((entries) => entries.forEach(({ target, isIntersecting }) => {
  if (isIntersecting) target.src = target.dataset.src;
  else if (!target.complete) target.removeAttribute("src");
}));

// ------------------------------------------------------------------------------------------------------------ server

async function ask(address, options) {
  const response = await fetch(address, options);
  const answer = await response.json().catch((error) => {
    if (response.ok || !(error instanceof SyntaxError)) throw error; // the end of the answer was lost
    return { error: response.statusText };
  });
  if (response.status === 403 || response.status === 404) {
    answer.error = `This page belongs to an earlier run of frcnn annotate, and saves nothing any more. Open the new address. (${answer.error})`;
  }
  return { ok: response.ok, status: response.status, answer };
}

/** An address of the server for an image or a suspect, relative to the page. */
const of = (kind, index) => `${kind}/${index}`;

const withIds = (objects) => objects.map((object) => ({ ...object, id: nextId++ }));

async function fetchSheet(index) {
  const before = sheets.get(index)?.version;
  if (sheets.has(index) && isUnsaved(sheets.get(index))) return sheets.get(index);
  const { ok, answer } = await ask(of("annotations", index));
  const known = sheets.get(index);
  // In the meantime the user may have changed it, and the page may have saved it.
  if (known && (isUnsaved(known) || known.version !== before || known.version === answer.version)) return known;
  if (!ok) return broken(index, answer.error);
  const read = {
    index,
    width: answer.width,
    height: answer.height,
    objects: withIds(answer.objects ?? []),
    annotated: answer.objects !== null,
    removable: answer.removable,
    version: answer.version,
    past: [],
    future: [],
    proposals: [],
    lost: new Set(),
  };
  sheets.set(index, Object.assign(known ?? {}, read));
  noteCount(index, answer.objects);
  return sheets.get(index);
}

const broken = (index, error) => ({ index, error, objects: [], past: [], future: [], proposals: [] });

const noAnswer = (error) => `No answer from frcnn annotate (${error.message}); is it still running?`;

/** Objects as text, without what a file adds to them; null: not annotated. */
const asText = (objects) => JSON.stringify(objects && objects.map(({ box, name, ignore }) => [box, name, ignore]));

const isUnsaved = (one) => Boolean(one.dirty || one.saving || one.conflict || one.failed);

async function save(one) {
  one.dirty = true;
  one.failed = null;
  showSaving();
  if (one.saving || one.conflict) return; // the one that saves takes the newest state
  one.saving = true;
  while (one.dirty && !one.conflict) {
    Object.assign(one, { dirty: false, failed: null });
    const all = one.objects.map(({ box, name, ignore, source }) => ({ box, name, ignore, source }));
    const objects = one.annotated ? all : null;
    const body = JSON.stringify({ version: one.version, objects });
    let result;
    try {
      result = await ask(of("annotations", one.index), { method: "PUT", body });
    } catch {
      one.lost.add(asText(objects)); // perhaps the server has saved it, and only the answer was lost
      one.dirty = one.offline = true;
      showSaving();
      await new Promise((resolve) => setTimeout(resolve, RETRY));
      continue;
    }
    one.offline = false;
    const { ok, status, answer } = result;
    if (ok) {
      one.version = answer.version;
      one.lost.clear();
      noteCount(one.index, answer.objects);
    } else if (status === 409 && one.lost.has(asText(answer.objects))) { // this page has changed it
      one.version = answer.version;
      one.dirty = true;
    } else if (status === 409) {
      one.conflict = answer;
    } else {
      one.failed = answer.error;
    }
  }
  one.saving = false;
  showSaving();
  deliver();
}

/** Send the decisions about suspects whose image is saved. */
async function deliver() {
  if (isDelivering) return;
  isDelivering = true;
  const next = () => [...unsent].find((number) => !isUnsaved(sheets.get(overview.suspects[number].index) ?? {}));
  for (let number = next(); number !== undefined; number = next()) {
    const suspect = overview.suspects[number];
    const { decision } = suspect;
    const options = { method: "PUT", body: JSON.stringify({ decision }) };
    const result = await ask(of("decisions", number), options).catch(() => null);
    review.error = result === null ? "No answer from `frcnn annotate`: is it still running?" : result.answer.error;
    if (result?.ok && suspect.decision === decision) unsent.delete(number);
    showSaving();
    if (!result?.ok) await new Promise((resolve) => setTimeout(resolve, RETRY));
  }
  isDelivering = false;
}

function showSaving() {
  const open = [...sheets.values()].filter(isUnsaved);
  const bad = open.filter((one) => one.conflict || one.failed || one.offline);
  const saving = $("saving");
  let [kind, text] = bad.length ? ["failed", "not saved"] : open.length ? ["busy", "saving …"] : ["", "saved"];
  if (sheet?.isAway) [kind, text] = ["failed", "no connection"];
  if (unsent.size && !open.length) [kind, text] = review.error ? ["failed", "not saved"] : ["busy", "saving …"];
  if (bad.length && !bad.includes(sheet)) text += `: ${overview.images[bad[0].index].name}`;
  saving.className = kind;
  if (saving.textContent !== text) saving.textContent = text; // else it would be read aloud at every attempt
  showMessage();
}

// ----------------------------------------------------------------------------------------------------------- changes

/** The state that undo restores. */
const snapshot = () => ({ objects: sheet.objects, annotated: sheet.annotated, proposals: sheet.proposals });

function change(objects, options = {}) {
  const { annotated = objects.length > 0 || !sheet.removable, nudged = null, proposals = sheet.proposals } = options;
  const now = Date.now();
  const isSameNudge = nudged !== null && lastNudge.id === nudged && now - lastNudge.time < NUDGES_ARE_ONE;
  lastNudge = { id: nudged, time: now };
  if (!isSameNudge) {
    sheet.past.push(snapshot());
    if (review) noteStep({ isChange: true });
  }
  sheet.future = [];
  Object.assign(sheet, { objects, annotated, proposals });
  save(sheet);
  render();
}

function travel(from, to) {
  if (!from.length) return;
  to.push(snapshot());
  Object.assign(sheet, from.pop());
  lastNudge = { id: null, time: 0 };
  if (!find(selected)) selected = null;
  save(sheet);
  render();
}

const undo = () => (review ? travelInReview("past", "future") : travel(sheet.past, sheet.future));
const redo = () => (review ? travelInReview("future", "past") : travel(sheet.future, sheet.past));
const find = (id) => sheet.objects.find((one) => one.id === id) ?? sheet.proposals.find((one) => one.id === id);
const isProposed = (id) => sheet.proposals.some((one) => one.id === id);

function replace(id, news, options) {
  if (isProposed(id)) return accept([{ ...find(id), ...news }]);
  return change(sheet.objects.map((one) => (one.id === id ? { ...one, ...news } : one)), options);
}

function remove(id) {
  const all = [...sheet.objects, ...sheet.proposals];
  const place = all.findIndex((one) => one.id === id);
  select((all[place + 1] ?? all[place - 1])?.id ?? null);
  if (isProposed(id)) {
    const proposals = sheet.proposals.filter((one) => one.id !== id);
    change(sheet.objects, { proposals, annotated: sheet.annotated });
  } else {
    change(sheet.objects.filter((one) => one.id !== id));
  }
}

function accept(proposals) {
  if (!proposals.length) return;
  const ids = new Set(proposals.map((one) => one.id));
  const rest = sheet.proposals.filter((one) => !ids.has(one.id));
  const objects = proposals.map(({ id, box, name }) => ({ id, box, name, ignore: false, source: "" }));
  objects.forEach((one) => addClass(one.name));
  change([...sheet.objects, ...objects], { proposals: rest });
}

async function addBox(box, { byMouse = false } = {}) {
  const target = sheet;
  fresh = { id: 0, box, name: activeClass ?? "" };
  renderStage();
  const name = activeClass ?? (await askName(""));
  fresh = null;
  if (!name || sheet !== target) return render();
  setClass(name);
  const one = { id: nextId++, box, name, ignore: false, source: "" };
  justDrawn = byMouse ? one.id : null;
  change([...sheet.objects, one]);
  select(one.id);
}

async function rename(id) {
  const name = await askName(find(id).name);
  if (name) setClassOf(id, name);
}

function setClassOf(id, name) {
  setClass(name);
  if (find(id).name !== name || isProposed(id)) replace(id, { name });
}

function setClass(name) {
  addClass(name);
  activeClass = name;
  renderPanel();
}

function addClass(name) {
  if (!overview.classes.includes(name)) overview.classes.push(name);
}

/** Mark the image as without objects; if it is marked already, as to do. */
function markEmpty() {
  const count = sheet.objects.length;
  if (count && !confirm(`Remove ${plural(count, "object")} and mark this image as without objects?`)) return;
  select(null);
  const isMarked = sheet.annotated && !count;
  if (!isMarked || sheet.removable) change([], { annotated: !isMarked, proposals: [] });
}

const plural = (count, name) => `${count} ${name}${count === 1 ? "" : "s"}`;

/** Copy the boxes of the image before this one in the list, except those that are here already. */
async function copyPrevious() {
  const target = sheet;
  const order = sequence();
  const previous = order[order.indexOf(target.index) - 1];
  if (previous === undefined) return;
  const from = await fetchSheet(previous).catch((error) => broken(previous, noAnswer(error)));
  if (sheet !== target) return;
  target.uncopied = from.error;
  showMessage();
  const isHere = ({ name, box }) => target.objects.some((one) => one.name === name && iou(one.box, box) > 0.9);
  const copied = from.objects
    .map((one) => ({ ...one, id: nextId++, source: "", box: inside(one.box, target) }))
    .filter((one) => isLargeEnough(one.box) && !isHere(one));
  if (copied.length) change([...sheet.objects, ...copied]);
}

async function propose() {
  const target = sheet;
  if (!overview.proposes || target.error) return;
  asked?.stop.abort(); // one at a time: what is shown now
  const mine = { target, stop: new AbortController() };
  asked = mine;
  target.unproposed = null;
  render();
  const options = { signal: mine.stop.signal };
  const failed = (error) => ({ answer: { error: `${error}` } });
  const { ok, status, answer } = await ask(of("proposals", target.index), options).catch(failed);
  if (asked !== mine) return; // another image was asked for in the meantime
  asked = null;
  if (status === 409) return target === sheet ? propose() : undefined; // another tab has asked in the meantime
  if (!ok) target.unproposed = answer.error;
  const found = ok ? answer.map((one) => ({ ...one, id: nextId++, box: inside(one.box, target) })) : [];
  // Do not propose boxes that are drawn already.
  target.proposals = found.filter(({ box }) => isLargeEnough(box) && !target.objects.some((one) => iou(one.box, box) > 0.5));
  if (target !== sheet) return;
  render();
  showRow(target.index);
  showMessage();
}

// ----------------------------------------------------------------------------------------------------------- training

let trainings = 0; // number of trainings whose detector proposes boxes here

async function train() {
  const { ok, answer } = await ask("training", { method: "POST" }).catch((error) => ({ answer: { error } }));
  if (ok) return followTraining();
  showTraining({ state: "failed", message: `${answer.error}` });
}

/** Show how the training is going, until it ends; then take what the new detector says. */
async function followTraining() {
  for (;;) {
    const { ok, answer } = await ask("training").catch(() => ({ ok: false }));
    if (ok) showTraining(answer);
    if (ok && answer.state !== "running") {
      if (answer.finished > trainings) takeDetector(answer);
      return;
    }
    if (ok === false && answer) return; // an earlier run of frcnn annotate
    await new Promise((resolve) => setTimeout(resolve, RETRY));
  }
}

function showTraining({ state, message }) {
  $("train").disabled = state === "running";
  $("training").textContent = message;
  $("training").title = message;
  $("training").className = state === "failed" ? "failed" : "";
}

function takeDetector({ finished, proposes, next }) {
  trainings = finished;
  Object.assign(overview, { proposes, next });
  for (const one of sheets.values()) if (!one.annotated) one.proposals = [];
  overview.images.forEach((_, index) => showRow(index));
  offerNext();
  render();
  if (!sheet.annotated && !review) propose();
}

// ------------------------------------------------------------------------------------------------------------- review

/** The suspect that is shown; undefined while its image is being opened. */
const suspect = () => (review && wanted === null ? overview.suspects[review.number] : undefined);

/** The box that the suspect proposes, in whole pixels. */
const proposedBox = (one) => inside(one.box.map(Math.round), sheet);

const afterAccepting = (one) => corrected(one, sheet.objects, iou, proposedBox(one), nextId);

/** Show a suspect, then call `then`; not if something else is asked for in the meantime. */
function showSuspect(number, then = () => {}) {
  const { index } = overview.suspects[number];
  const before = overview.suspects[review.number];
  before.row.firstChild.removeAttribute("aria-current");
  review.number = number;
  const { row } = overview.suspects[number];
  row.firstChild.setAttribute("aria-current", "true");
  if ($("filter").value !== "all") showList();
  row.scrollIntoView({ block: "nearest" });
  if (wanted !== null || sheet?.index !== index) return show(index, then);
  location.replace(`#${number + 1}`);
  select(null);
  aim();
  render();
  then();
}

/** Show the suspect and what is around it. */
function aim() {
  const { box, label } = overview.suspects[review.number];
  const [x1, y1, x2, y2] = inside(label ? [...[0, 1].map((side) => Math.min(box[side], label[side])),
    ...[2, 3].map((side) => Math.max(box[side], label[side]))] : box, sheet);
  fit();
  const { clientWidth, clientHeight } = $("stage");
  const scale = clamp(Math.min(clientWidth / (x2 - x1), clientHeight / (y2 - y1)) / 3, view.scale, Math.max(view.scale, 8));
  if (scale === view.scale) return;
  const [x, y] = [clientWidth / 2 - (scale * (x1 + x2)) / 2, clientHeight / 2 - (scale * (y1 + y2)) / 2];
  Object.assign(view, { scale, x, y, fits: false });
  renderStage();
}

function decide(decision) {
  const one = suspect();
  if (!one || one.decision === "accepted") return; // undo takes it back
  const before = one.decision;
  const objects = decision === "accepted" ? afterAccepting(one) : sheet.objects;
  if (objects === null) return;
  if (objects !== sheet.objects) {
    nextId++;
    addClass(one.class);
    change(objects);
  } else {
    noteStep({ isChange: false });
  }
  Object.assign(review.past.at(-1), { before, after: decision });
  setDecision(review.number, decision);
  nextTodo();
}

function setDecision(number, decision) {
  overview.suspects[number].decision = decision;
  unsent.add(number);
  showSuspectRow(number);
  showProgress();
  render();
  showSaving();
  deliver();
}

/** Remember what undo takes back: a change of the image, a decision (before, after), or both. */
function noteStep(step) {
  review.past.push({ number: review.number, ...step });
  review.future = [];
}

function travelInReview(from, to) {
  const step = review[from].at(-1);
  if (!step) return;
  showSuspect(step.number, () => {
    if (sheet.error || review[from].at(-1) !== step) return;
    review[to].push(review[from].pop());
    if (step.isChange) travel(sheet[from], sheet[to]);
    if (step.after) setDecision(step.number, from === "past" ? step.before : step.after);
  });
}

function renderReview() {
  $("review").hidden = !review;
  $("boxes").classList.toggle("reviewed", Boolean(review));
  for (const id of ["copy", "empty"]) if (review) $(id).hidden = true;
  const one = suspect();
  if (!one) return;
  const { suspects } = overview;
  const left = suspects.filter(({ decision }) => !decision).length;
  const isPossible = !sheet.error && one.decision !== "accepted" && afterAccepting(one) !== null;
  $("suspect").textContent = `${review.number + 1} of ${suspects.length}: ${one.kind}, ${one.class}`;
  $("reason").textContent = one.reason;
  $("decision").textContent = [
    one.decision ?? (isPossible || sheet.error ? "" : "The annotation has changed since the check, so there is nothing to accept."),
    left ? "" : "All suspects are reviewed.",
  ].filter(Boolean).join(" · ");
  $("accept-suspect").textContent = `Accept: ${acceptText(one)}`;
  $("accept-suspect").disabled = !isPossible;
}

// -------------------------------------------------------------------------------------------------------------- boxes

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const inside = ([x1, y1, x2, y2], { width, height }) => [
  clamp(x1, 0, width), clamp(y1, 0, height), clamp(x2, 0, width), clamp(y2, 0, height),
];
const isLargeEnough = ([x1, y1, x2, y2]) => x2 - x1 >= overview.smallest && y2 - y1 >= overview.smallest;
const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);

function iou(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const both = Math.max(width, 0) * Math.max(height, 0);
  return both / (area(a) + area(b) - both);
}

/** The box, moved by whole pixels and kept inside the image. */
function moved([x1, y1, x2, y2], dx, dy) {
  const right = clamp(Math.round(dx), -x1, sheet.width - x2);
  const down = clamp(Math.round(dy), -y1, sheet.height - y2);
  return [x1 + right, y1 + down, x2 + right, y2 + down];
}

/** The box with the sides at a handle moved to a point, in whole pixels; sides do not cross. */
function resized([x1, y1, x2, y2], [sideX, sideY], x, y) {
  const least = overview.smallest;
  if (sideX === "x1") x1 = clamp(Math.round(x), 0, x2 - least);
  if (sideX === "x2") x2 = clamp(Math.round(x), x1 + least, sheet.width);
  if (sideY === "y1") y1 = clamp(Math.round(y), 0, y2 - least);
  if (sideY === "y2") y2 = clamp(Math.round(y), y1 + least, sheet.height);
  return [x1, y1, x2, y2];
}

/** The smallest box at a point, so that a box inside another one can be selected. */
function at(x, y) {
  const hit = [...sheet.objects, ...sheet.proposals].filter(({ box }) => contains(box, x, y));
  return hit.sort((a, b) => area(a.box) - area(b.box))[0] ?? null;
}

const contains = ([x1, y1, x2, y2], x, y) => x1 <= x && x <= x2 && y1 <= y && y <= y2;

// --------------------------------------------------------------------------------------------------------------- view

const toImage = (event) => {
  const frame = $("stage").getBoundingClientRect();
  return [(event.clientX - frame.left - view.x) / view.scale, (event.clientY - frame.top - view.y) / view.scale];
};

function fit() {
  const { clientWidth, clientHeight } = $("stage");
  const scale = Math.min(clientWidth / sheet.width, clientHeight / sheet.height) * 0.96;
  Object.assign(view, {
    scale,
    x: (clientWidth - sheet.width * scale) / 2,
    y: (clientHeight - sheet.height * scale) / 2,
    fits: true,
  });
  renderStage();
}

/** Zoom about a point of the stage; default: its middle. */
function zoom(factor, x = $("stage").clientWidth / 2, y = $("stage").clientHeight / 2) {
  const scale = clamp(view.scale * factor, 0.01, 40);
  view.x = x - ((x - view.x) * scale) / view.scale;
  view.y = y - ((y - view.y) * scale) / view.scale;
  Object.assign(view, { scale, fits: false });
  renderStage();
}

/** Move the image so that a box that is out of view is in its middle. */
function reveal(one) {
  if (!one) return;
  const { clientWidth, clientHeight } = $("stage");
  const [x1, y1, x2, y2] = one.box.map((value, side) => value * view.scale + (side % 2 ? view.y : view.x));
  if (x1 < clientWidth && x2 > 0 && y1 < clientHeight && y2 > 0) return;
  Object.assign(view, { x: view.x + (clientWidth - x1 - x2) / 2, y: view.y + (clientHeight - y1 - y2) / 2, fits: false });
  renderStage();
}

// ------------------------------------------------------------------------------------------------------------- screen

function render() {
  renderStage();
  renderPanel();
  renderReview();
}

/** The color of a class, the same as in all pictures, and that of text on it. A new class is gray until the server answers. */
function colors(name) {
  if (!name) return ["#ffffff", "#000000"];
  const { colors: known } = overview;
  if (!known.has(name)) {
    known.set(name, ["#808080", "#ffffff"]);
    ask(`color?name=${encodeURIComponent(name)}`).then(({ ok, answer }) => {
      if (ok) known.set(name, answer);
      render();
    }).catch(() => known.delete(name));
  }
  return known.get(name);
}

function renderStage() {
  const photo = $("photo");
  photo.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  photo.classList.toggle("close", view.scale >= 3);
  const boxes = $("boxes");
  const judged = sheet.error ? undefined : suspect();
  const label = judged && labelOf(judged, sheet.objects, iou);
  const isDrawn = judged && judged.decision !== "accepted" && !removesLabel(judged) && judged.kind !== "wrong class" && afterAccepting(judged) !== null;
  const hint = isDrawn ? [{ id: HINT, box: proposedBox(judged), name: judged.class }] : [];
  const all = sheet.error ? [] : [...sheet.objects, ...sheet.proposals, ...hint, ...(fresh ? [fresh] : [])];
  const shown = new Map([...boxes.children].map((element) => [Number(element.dataset.id), element]));
  const gone = new Map(shown);
  all.forEach(({ id }) => gone.delete(id));
  gone.forEach((element) => element.remove()); // first: then the others need not move, which would take their focus
  all.forEach((one, number) => {
    const element = shown.get(one.id) ?? makeBox(one.id);
    const [x1, y1, x2, y2] = drag?.id === one.id && drag.box ? drag.box : one.box;
    const [left, top] = [view.x + x1 * view.scale, view.y + y1 * view.scale];
    Object.assign(element.style, {
      left: `${left}px`,
      top: `${top}px`,
      width: `${(x2 - x1) * view.scale}px`,
      height: `${(y2 - y1) * view.scale}px`,
    });
    const [shade, ink] = colors(one.name);
    element.style.setProperty("--color", shade);
    element.style.setProperty("--ink", ink);
    element.classList.toggle("top", top < 20);
    element.classList.toggle("selected", one.id === selected);
    element.classList.toggle("proposed", one.score !== undefined || one.id === HINT);
    element.classList.toggle("suspect", one === label);
    const text = (one.id === HINT ? "proposed: " : "") + one.name + (one.score === undefined ? "" : ` ${one.score.toFixed(2)}`) + (one.ignore ? " (ignore)" : "");
    element.firstChild.textContent = text;
    element.firstChild.hidden = !text;
    element.setAttribute("aria-label", `${text}, ${number + 1} of ${all.length}`);
    showHandles(element, one.id === selected && one.id !== justDrawn && !fresh);
    if (boxes.children[number] !== element) boxes.insertBefore(element, boxes.children[number] ?? null);
  });
}

function makeBox(id) {
  const element = document.createElement("div");
  element.className = "box";
  element.dataset.id = id;
  element.tabIndex = id === HINT ? -1 : 0;
  element.setAttribute("role", "button");
  const label = document.createElement("span");
  label.className = "label";
  element.append(label);
  element.addEventListener("focus", () => {
    if (selected === id) return;
    select(id);
    reveal(find(id));
  });
  element.addEventListener("blur", () => {
    if (justDrawn === id) justDrawn = null;
  });
  return element;
}

function showHandles(element, areShown) {
  if (areShown === element.children.length > 1) return;
  if (!areShown) return [...element.children].slice(1).forEach((handle) => handle.remove());
  HANDLES.forEach(([sideX, sideY], number) => {
    const handle = document.createElement("span");
    handle.className = "handle";
    handle.dataset.handle = number;
    handle.style.left = { x1: "0", x2: "100%" }[sideX] ?? "50%";
    handle.style.top = { y1: "0", y2: "100%" }[sideY] ?? "50%";
    handle.style.cursor = `${CURSORS[number]}-resize`;
    element.append(handle);
  });
}

const elementOf = (id) => document.querySelector(`.box[data-id="${id}"]`);

function select(id) {
  if (selected === id) return;
  selected = id;
  renderStage();
  renderPanel();
  const element = elementOf(id);
  if (element && document.activeElement !== element) element.focus({ preventScroll: true });
  if (!element) $("stage").contains(document.activeElement) && document.activeElement.blur();
}

function renderPanel() {
  const counts = new Map();
  sheet.objects.forEach(({ name }) => counts.set(name, (counts.get(name) ?? 0) + 1));
  const one = find(selected);
  refill($("classes"), overview.classes.map((name, number) => {
      const isCurrent = one ? one.name === name : name === activeClass;
      const act = () => (find(selected) ? setClassOf(selected, name) : setClass(name));
      const row = item(name, counts.get(name) ?? "", colors(name)[0], isCurrent, act);
      const key = Object.assign(document.createElement("kbd"), { textContent: number + 1 });
      if (number < 9) row.firstChild.prepend(key);
      return row;
    }));
  refill($("objects"), sheet.objects.map(({ id, name, box: [x1, y1, x2, y2], ignore }) =>
      item(`${name}${ignore ? " (ignore)" : ""}`, `${Math.round(x2 - x1)} × ${Math.round(y2 - y1)}`, colors(name)[0],
        id === selected, () => select(id))));
  $("names").replaceChildren(...overview.classes.map((name) => Object.assign(document.createElement("option"), { value: name })));
  const { past, future } = review ?? sheet;
  $("undo").disabled = !past.length;
  $("redo").disabled = !future.length;
  const order = sequence();
  const place = review ? review.number : order.indexOf(sheet.index);
  $("previous").disabled = $("copy").disabled = place <= 0;
  $("next").disabled = place === (review ? overview.suspects : order).length - 1;
  $("propose").hidden = $("accept").hidden = !overview.proposes || Boolean(review);
  const isProposing = asked?.target === sheet;
  $("propose").disabled = isProposing;
  $("propose").textContent = isProposing ? "Proposing …" : "Propose";
  $("accept").disabled = !sheet.proposals.length;
  $("empty").disabled = sheet.annotated && !sheet.objects.length && !sheet.removable;
  $("empty").setAttribute("aria-pressed", sheet.annotated && !sheet.objects.length);
  const count = sheet.objects.length;
  const said = sheet.error ? "" : !sheet.annotated ? "to do" : count ? plural(count, "object") : "no objects";
  const proposed = sheet.proposals.length ? `${sheet.proposals.length} proposed: Enter accepts, Del dismisses, Y accepts all` : "";
  const hint = !sheet.error && !sheet.annotated && !proposed ? "drag to draw a box, ? for all keys" : "";
  const size = sheet.width ? `${sheet.width} × ${sheet.height} pixels` : "";
  $("about").textContent = [overview.images[sheet.index].name, size, said, proposed, hint].filter(Boolean).join(" · ");
}

/** Like replaceChildren, but the focus stays at the same position of the list. */
function refill(list, items) {
  const place = [...list.children].findIndex((row) => row.contains(document.activeElement));
  list.replaceChildren(...items);
  list.children[place]?.firstChild.focus();
}

function item(text, detail, shade, isPressed, act) {
  const button = document.createElement("button");
  const parts = [["swatch", ""], ["text", text], ["detail", detail]].map(([kind, content]) =>
    Object.assign(document.createElement("span"), { className: kind, textContent: content }));
  parts[0].style.setProperty("--color", shade);
  button.title = text;
  button.setAttribute("aria-pressed", isPressed);
  button.append(...parts);
  button.addEventListener("click", act);
  const row = document.createElement("li");
  row.append(button);
  return row;
}

function showMessage() {
  const message = $("message");
  const lines = [];
  if (sheet.error) lines.push([sheet.error]);
  if (sheet.offline) lines.push(["No answer from `frcnn annotate`: is it still running? The page tries again; keep it open."]);
  if (sheet.unseen) lines.push([sheet.unseen]);
  if (sheet.unproposed) lines.push([`The model cannot propose boxes: ${sheet.unproposed}`]);
  if (sheet.uncopied) lines.push([`The boxes of the previous image cannot be copied: ${sheet.uncopied}`]);
  if (unsent.size && review.error) lines.push([`The decision is not saved: ${review.error}`]);
  if (sheet.failed) lines.push([sheet.failed, ["Try again", () => save(sheet)]]);
  if (sheet.conflict) {
    const theirs = sheet.conflict;
    const count = theirs.objects === null ? "not annotated" : plural(theirs.objects.length, "object");
    lines.push([
      `This image was changed elsewhere, in another tab or by another program (there: ${count}; here: ${sheet.objects.length}). Nothing was overwritten.`,
      ["Take theirs", () => settle(false)],
      ["Keep mine", () => settle(true)],
    ]);
  }
  message.hidden = !lines.length;
  const now = JSON.stringify(lines); // without what the buttons do, which is the same for all images
  if (now === said) return; // else it would be read aloud at every attempt to save, and its buttons lose the focus
  said = now;
  message.replaceChildren(
    ...lines.flatMap(([text, ...choices]) => [
      document.createTextNode(text),
      ...choices.map(([label, act]) => {
        const button = Object.assign(document.createElement("button"), { textContent: label });
        button.addEventListener("click", act);
        return button;
      }),
    ]));
}

function settle(keepsMine) {
  const theirs = sheet.conflict;
  Object.assign(sheet, { conflict: null, version: theirs.version, dirty: false });
  if (keepsMine) {
    save(sheet);
  } else {
    sheet.past.push(snapshot()); // mine comes back by undo
    if (review) {
      noteStep({ isChange: true });
      for (const number of unsent) {
        const one = overview.suspects[number];
        if (one.index === sheet.index && one.decision === "accepted") setDecision(number, null);
      }
    }
    Object.assign(sheet, { objects: withIds(theirs.objects ?? []), annotated: theirs.objects !== null, future: [] });
    noteCount(sheet.index, theirs.objects);
    showSaving();
    deliver();
  }
  selected = null;
  render();
}

// ---------------------------------------------------------------------------------------------------- list of images

/** Indices of the images in the order in which they are shown. */
const sequence = () => ($("filter").value === "next" ? overview.next : [...overview.images.keys()]);

/** Offer the images to label next as a list of their own. */
function offerNext() {
  const option = document.querySelector("#filter [value=next]");
  option.hidden = option.disabled = !overview.next.length;
  option.textContent = `to label next (${overview.next.length})`;
  if (option.hidden && option.selected) $("filter").value = "all";
  showList();
}

function showList() {
  const filter = $("filter").value;
  if (review) {
    const kept = overview.suspects.filter(({ decision }, number) =>
      filter === "all" || (filter === "todo") === !decision || number === review.number);
    return $("images").replaceChildren(...kept.map(({ row }) => row));
  }
  const kept = sequence().filter((index) => {
    const { count } = overview.images[index];
    return filter === "all" || filter === "next" || (filter === "todo") === (count === null) || index === sheet?.index;
  });
  $("images").replaceChildren(...kept.map((index) => rows[index]));
}

function makeRow(image, index, act) {
  const row = document.createElement("li");
  const button = Object.assign(document.createElement("button"), { tabIndex: -1 }); // Tab passes the list by
  const picture = Object.assign(document.createElement("img"), { alt: "" });
  picture.dataset.src = of("thumbnails", index);
  seen.observe(picture);
  const name = Object.assign(document.createElement("span"), { className: "name", textContent: image.name, title: image.name });
  const mark = Object.assign(document.createElement("span"), { className: "mark" });
  button.append(picture, name, mark);
  button.addEventListener("click", act);
  row.append(button);
  return row;
}

function showRow(index) {
  const { count, broken, split } = overview.images[index];
  const mark = rows[index].querySelector(".mark");
  const left = sheets.get(index)?.proposals.length ?? 0;
  const done = broken ? "cannot be read" : count === null ? "to do" : count === 0 ? "✓ no objects" : `✓ ${count}`;
  const said = left ? `${done}, ${left} proposed` : done;
  mark.textContent = split === "all" ? said : `${said} · ${split}`;
  mark.className = `mark${broken ? " broken" : count === null || left ? "" : " done"}`;
}

function showSuspectRow(number) {
  const { kind, decision, row } = overview.suspects[number];
  const mark = row.querySelector(".mark");
  mark.textContent = mark.title = decision ? `✓ ${decision} · ${kind}` : kind;
  mark.classList.toggle("done", Boolean(decision));
}

/** After the objects of an image were read or saved; null: it is not annotated. */
function noteCount(index, objects) {
  Object.assign(overview.images[index], { count: objects && objects.length, broken: false });
  showRow(index);
  showProgress();
}

function showProgress() {
  if (review) {
    const decided = overview.suspects.filter(({ decision }) => decision).length;
    $("progress").textContent = `${decided} of ${plural(overview.suspects.length, "suspect")} reviewed`;
    return;
  }
  const done = overview.images.filter((image) => image.count !== null).length;
  $("progress").textContent = `${done} of ${overview.images.length} done · ${overview.format}`;
}

/** Show an image, then call `then`; not if another one is asked for in the meantime. */
async function show(index, then = () => {}) {
  if (index < 0 || index >= overview.images.length) return;
  if (wanted !== null) waiting = []; // they mean an image that is passed by
  wanted = index;
  stopDrag();
  const opened = await fetchSheet(index).catch((error) => ({ ...broken(index, noAnswer(error)), isAway: true }));
  if (wanted !== index) return; // somebody has gone on
  const before = rows[sheet?.index ?? index].firstChild;
  before.removeAttribute("aria-current");
  before.tabIndex = -1;
  sheet = opened;
  Object.assign(sheet, { uncopied: null, unseen: null });
  selected = null;
  if (document.activeElement?.matches(".box, #images button")) document.activeElement.blur(); // so Tab goes to the boxes
  rows[index].firstChild.setAttribute("aria-current", "true");
  rows[index].firstChild.tabIndex = 0;
  if ($("filter").value !== "all") showList();
  rows[index].scrollIntoView({ block: "nearest" });
  location.replace(`#${(review ? review.number : index) + 1}`);
  const photo = $("photo");
  photo.hidden = Boolean(sheet.error);
  photo.alt = overview.images[index].name;
  if (!sheet.error) {
    isSeen = false;
    photo.src = of("images", index);
    Object.assign(photo, { width: sheet.width, height: sheet.height });
    photo.style.visibility = "hidden"; // or the one before would be seen in its place
    (review ? aim : fit)();
  }
  render();
  showSaving();
  if (index + 1 < overview.images.length) new Image().src = of("images", index + 1); // it is there when it is wanted
  if (overview.proposes && !review && !sheet.error && !sheet.annotated && !sheet.proposals.length && !sheet.past.length) propose();
  wanted = null;
  if (review) render(); // the suspect belongs to the image that is shown now
  then();
  const keys = waiting;
  waiting = [];
  keys.forEach(onKey);
}

/** Go to another image, relative to the one that is shown or being opened. */
function step(by) {
  if (!review) {
    const order = sequence();
    const index = order[order.indexOf(wanted ?? sheet.index) + by];
    return index === undefined ? undefined : show(index);
  }
  const number = review.number + by;
  if (overview.suspects[number]) showSuspect(number);
}

/** Reload: another tab or program may have changed the image while the window was hidden. */
async function refresh() {
  if (!sheet || wanted !== null || isUnsaved(sheet)) return;
  const { index, version } = sheet;
  if (sheet.error) return show(index);
  const now = await fetchSheet(index).catch(() => sheet);
  if (now === sheet && now.version === version) return;
  if (sheet.index === index && wanted === null) show(index);
}

function nextTodo() {
  const after = (from, count) => Array.from({ length: count }, (_, place) => (from + 1 + place) % count);
  if (review) {
    const number = after(review.number, overview.suspects.length).find((other) => !overview.suspects[other].decision);
    if (number !== undefined) showSuspect(number);
    return;
  }
  const order = sequence();
  const isTodo = (other) => overview.images[other].count === null || sheets.get(other)?.proposals.length > 0;
  const index = after(order.indexOf(sheet.index), order.length)
    .map((place) => order[place])
    .find((other) => other !== sheet.index && isTodo(other) && !overview.images[other].broken);
  if (index !== undefined) show(index);
}

// -------------------------------------------------------------------------------------------------------------- naming

function askName(current) {
  const [dialog, input] = [$("naming"), $("name")];
  input.value = current;
  dialog.showModal();
  input.select();
  return new Promise((resolve) => {
    // Here too, because the next key may come before the event that says that the dialog has closed.
    dialog.firstElementChild.addEventListener("submit", () => resolve(input.value.trim()), { once: true });
    dialog.addEventListener("close", () => resolve(""), { once: true });
  });
}

// --------------------------------------------------------------------------------------------------------------- mouse

function startDrag(event) {
  if (sheet.error || wanted !== null || !isSeen || drag || (event.button !== 0 && event.button !== 1)) return;
  event.preventDefault();
  if (!document.activeElement.matches(".box")) document.activeElement.blur(); // keys are meant for the boxes now
  const [x, y] = toImage(event);
  const start = { x, y, clientX: event.clientX, clientY: event.clientY, pointer: event.pointerId };
  const one = find(selected);
  if (event.button === 1 || spaceIsDown) {
    drag = { ...start, kind: "pan", view: { ...view } };
  } else if (event.target.dataset.handle !== undefined && one) {
    drag = { ...start, kind: "resize", id: one.id, from: one.box, sides: HANDLES[event.target.dataset.handle] };
  } else if (one && contains(one.box, x, y) && !event.shiftKey) {
    drag = { ...start, kind: "move", id: one.id, from: one.box };
  } else {
    drag = { ...start, kind: "draw" };
  }
  $("stage").setPointerCapture(event.pointerId);
}

function goOn(event) {
  if (!drag || event.pointerId !== drag.pointer) return;
  const [x, y] = toImage(event);
  const way = Math.hypot(event.clientX - drag.clientX, event.clientY - drag.clientY);
  drag.hasMoved ||= way >= CLICK;
  if (!drag.hasMoved) return;
  if (drag.kind === "pan") {
    Object.assign(view, {
      x: drag.view.x + event.clientX - drag.clientX,
      y: drag.view.y + event.clientY - drag.clientY,
      fits: false,
    });
  } else if (drag.kind === "move") {
    drag.box = moved(drag.from, x - drag.x, y - drag.y);
  } else if (drag.kind === "resize") {
    drag.box = resized(drag.from, drag.sides, x, y);
  } else {
    const box = [Math.min(x, drag.x), Math.min(y, drag.y), Math.max(x, drag.x), Math.max(y, drag.y)].map(Math.round);
    fresh = { id: 0, box: inside(box, sheet), name: activeClass ?? "" };
  }
  renderStage();
}

function endDrag(event) {
  if (!drag || event.pointerId !== drag.pointer) return;
  const { kind, id, box, hasMoved, x, y } = drag;
  const drawn = fresh;
  stopDrag();
  justDrawn = null;
  if (!hasMoved && kind !== "pan") {
    select(at(x, y)?.id ?? null);
    return renderStage();
  }
  if ((kind === "move" || kind === "resize") && box) replace(id, { box });
  if (kind === "draw" && drawn && isLargeEnough(drawn.box)) addBox(drawn.box, { byMouse: true });
}

function stopDrag() {
  if (!drag) return;
  drag = fresh = null;
  renderStage();
}

// ------------------------------------------------------------------------------------------------------------ keyboard

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function nudge(one, [right, down], event) {
  const step = Math.max(1, Math.round(1 / view.scale)) * (event.repeat ? 5 : 1);
  const [, , x2, y2] = one.box;
  const box = event.shiftKey
    ? resized(one.box, ["x2", "y2"], right ? x2 + right * step : x2, down ? y2 + down * step : y2)
    : moved(one.box, right * step, down * step);
  if (box.some((value, side) => value !== one.box[side])) replace(one.id, { box }, { nudged: one.id });
}

/** A new box in the middle of the view. */
function newBox() {
  const { clientWidth, clientHeight } = $("stage");
  const [left, top] = [-view.x / view.scale, -view.y / view.scale];
  const [right, bottom] = [left + clientWidth / view.scale, top + clientHeight / view.scale];
  const [x1, y1, x2, y2] = inside([left, top, right, bottom], sheet);
  const [width, height] = [(x2 - x1) / 10, (y2 - y1) / 10];
  const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
  const box = [x - width, y - height, x + width, y + height].map(Math.round);
  if (isLargeEnough(box)) addBox(box);
}

const PAGING = { arrowright: 1, arrowleft: -1, pagedown: 1, pageup: -1 };
const KEYS_OF_REVIEW = new Set(["a", "k"]);
const KEYS_OFF_IN_REVIEW = new Set(["c", "e", "p", "y"]);
const KEYS = {
  a: () => decide("accepted"),
  k: () => decide("kept"),
  b: newBox,
  c: copyPrevious,
  e: markEmpty,
  p: propose,
  y: () => accept(sheet.proposals),
  t: nextTodo,
  d: () => {
    const one = find(selected);
    if (one && !isProposed(selected) && overview.ignore) replace(selected, { ignore: !one.ignore });
  },
  delete: () => find(selected) && remove(selected),
  backspace: () => find(selected) && remove(selected),
  enter: () => {
    if (isProposed(selected)) {
      const place = sheet.proposals.findIndex((one) => one.id === selected);
      accept([find(selected)]);
      if (sheet.proposals.length) select((sheet.proposals[place] ?? sheet.proposals[0]).id);
    }
    else if (find(selected)) rename(selected);
  },
  escape: () => (drag ? stopDrag() : select(null)),
  pagedown: () => step(1),
  pageup: () => step(-1),
  "+": () => zoom(1.25),
  "=": () => zoom(1.25),
  "-": () => zoom(0.8),
  0: fit,
  "?": () => $("keys").showModal(),
};
const REPEATED = new Set(["pagedown", "pageup", "+", "=", "-"]); // while held down; the others act once
const ALLOWED_WITHOUT_IMAGE = new Set(["pagedown", "pageup", "t", "?", "k"]);

function letSpaceGo() {
  spaceIsDown = false;
  $("stage").classList.remove("pan");
}

function onKey(event) {
  const { target } = event;
  if (document.querySelector("dialog[open]") || target.matches("input, select")) return;
  const digit = /^Digit([0-9])$/.exec(event.code)?.[1]; // also where digits need Shift
  const key = digit ?? event.key.toLowerCase();
  const isCommand = event.ctrlKey || event.metaKey;
  if (event.altKey || (isCommand && key !== "z" && key !== "y") || /^f\d/.test(key)) return; // the browser's own
  if (drag && key !== "escape") return event.preventDefault();
  if (wanted !== null && (waiting.length || !(key in PAGING))) { // paging, too, comes after the keys before it
    event.preventDefault();
    waiting.push(event);
    return;
  }
  if (isCommand) {
    event.preventDefault();
    (key === "y" || event.shiftKey ? redo : undo)();
    return;
  }
  if (key === "enter" && target.matches("button")) return; // presses it
  if (key === " ") {
    if (target.matches("button")) return;
    spaceIsDown = true;
    $("stage").classList.add("pan");
  } else if (key === "tab") {
    if (target !== document.body) return; // the browser's own order continues from there
    if (find(selected)) return elementOf(selected).focus(); // and from here
    const [first] = [...sheet.objects, ...sheet.proposals];
    if (!first || event.shiftKey) return;
    select(first.id);
    reveal(first);
  } else if (ARROWS[event.key]) {
    const showsNext = selected === justDrawn || wanted !== null; // after drawing, the next image follows
    const one = showsNext ? null : find(selected);
    if (one) nudge(one, ARROWS[event.key], event);
    else if (key in PAGING) step(PAGING[key]);
    else return;
  } else if (/^[1-9]$/.test(key)) {
    const name = overview.classes[Number(key) - 1];
    if (!name) return;
    if (find(selected)) setClassOf(selected, name);
    else setClass(name);
  } else if ((review ? KEYS_OFF_IN_REVIEW : KEYS_OF_REVIEW).has(key) || (event.repeat && !REPEATED.has(key))) {
    return;
  } else if (KEYS[key] && (!sheet.error || ALLOWED_WITHOUT_IMAGE.has(key))) {
    KEYS[key]();
  } else {
    return;
  }
  event.preventDefault();
}

// --------------------------------------------------------------------------------------------------------------- start

function listen() {
  const buttons = {
    previous: () => step(-1), next: () => step(1), "next-todo": nextTodo,
    "accept-suspect": () => decide("accepted"), "keep-suspect": () => decide("kept"),
    undo, redo, copy: copyPrevious, empty: markEmpty, propose, accept: () => accept(sheet.proposals),
    "zoom-in": () => zoom(1.25), "zoom-out": () => zoom(0.8), fit,
    train, help: () => $("keys").showModal(), "name-cancel": () => $("naming").close(),
  };
  const always = new Set(["previous", "next", "next-todo", "train", "keep-suspect", "help", "name-cancel"]);
  Object.entries(buttons).forEach(([id, act]) => $(id).addEventListener("click", ({ detail }) => {
    if (detail > 0) $(id).blur(); // a click, after which keys are meant for the image
    if (always.has(id) || (!sheet.error && wanted === null)) act();
  }));
  $("filter").addEventListener("change", () => {
    showList();
    if (!$("filter").matches(":focus-visible")) $("filter").blur(); // after a click, keys are meant for the image
  });
  $("photo").addEventListener("load", () => {
    isSeen = true;
    $("photo").style.visibility = "visible";
  });
  $("photo").addEventListener("error", () => {
    if (!sheet.error) sheet.unseen = "The browser cannot show this photo.";
    showMessage();
  });
  $("add-class").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = $("new-class").value.trim();
    if (name) setClass(name);
    $("new-class").value = "";
    $("new-class").blur();
  });
  const stage = $("stage");
  stage.addEventListener("pointerdown", startDrag);
  stage.addEventListener("pointermove", goOn);
  stage.addEventListener("pointerup", endDrag);
  stage.addEventListener("pointercancel", stopDrag);
  stage.addEventListener("dblclick", () => find(selected) && !isProposed(selected) && rename(selected));
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const frame = stage.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), event.clientX - frame.left, event.clientY - frame.top);
  }, { passive: false });
  document.addEventListener("keydown", onKey);
  document.addEventListener("keyup", (event) => {
    if (event.key === " ") letSpaceGo();
  });
  window.addEventListener("beforeunload", (event) => {
    if (unsent.size || [...sheets.values()].some(isUnsaved)) event.preventDefault();
  });
  window.addEventListener("focus", refresh);
  window.addEventListener("blur", letSpaceGo); // another window gets the event that the key comes up
  new ResizeObserver(() => sheet?.width && (view.fits ? fit() : renderStage())).observe(stage);
}

async function start() {
  const { ok, answer } = await ask("overview").catch((error) => ({ answer: { error: noAnswer(error) } }));
  if (!ok) return Object.assign($("message"), { textContent: answer.error, hidden: false });
  overview = { ...answer, colors: new Map(Object.entries(answer.colors)) };
  activeClass = overview.classes[0] ?? null;
  document.title = `${overview.folder} – frcnn annotate`;
  $("folder").textContent = overview.folder;
  overview.images.forEach((image, index) => {
    rows.push(makeRow(image, index, () => show(index)));
    showRow(index);
  });
  overview.suspects?.forEach((one, number) => {
    one.row = makeRow(overview.images[one.index], one.index, () => showSuspect(number));
    showSuspectRow(number);
  });
  if (overview.suspects?.length) {
    review = { number: 0, past: [], future: [], error: null };
    $("next-todo").title = "Next suspect to review (T)";
    $("previous").title = "Previous suspect (←, Page up)";
    $("next").title = "Next suspect (→, Page down)";
  }
  showProgress();
  if (overview.next.length) $("filter").value = "next";
  offerNext();
  $("train").hidden = !overview.trains;
  const shown = Number(location.hash.slice(1)) - 1;
  const todo = sequence().find((index) => overview.images[index].count === null && !overview.images[index].broken);
  listen();
  if (review) {
    const first = overview.suspects.findIndex(({ decision }) => !decision);
    return showSuspect(overview.suspects[shown] ? shown : Math.max(first, 0));
  }
  await show(overview.images[shown] ? shown : todo ?? sequence()[0]);
}

start().then(() => overview?.trains && followTraining());
