"use strict";
// The page's numbers at a threshold: which detections count, and what they are. All arrays are in evidence.py.

const data = JSON.parse(document.getElementById("data").textContent);
const { detections, objects, pairs, classes, kinds } = data;
const CORRECT = kinds.indexOf("correct"), IGNORED = kinds.indexOf("ignored"), MISSED = kinds.indexOf("missed");
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const PAGE = 24; // pictures that are shown at once
const HIGHEST = Number(byId("slider").max);
const inside = new Set(data.inside);

let threshold = Math.max(data.threshold, data.floor);
let pages = 1;

function percent(part, whole) {
  return whole ? `${((100 * part) / whole).toFixed(1)}%` : "-";
}

function sum(values) {
  return values.reduce((all, value) => all + value, 0);
}

/** The number of detections with at least this confidence; they are sorted. */
function above(limit) {
  let low = 0, high = detections.score.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (detections.score[middle] >= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

const totals = new Array(classes.length).fill(0);
objects.label.forEach((label, number) => { if (!objects.ignore[number]) totals[label] += 1; });
const total = sum(totals);

/** Correct and false detections of each class among the first `count`. */
function countsOf(count) {
  const right = new Array(classes.length).fill(0), wrong = new Array(classes.length).fill(0);
  for (let number = 0; number < count; number += 1) {
    const kind = detections.kind[number];
    if (kind === CORRECT) right[detections.label[number]] += 1;
    else if (kind !== IGNORED) wrong[detections.label[number]] += 1;
  }
  return { right, wrong };
}

/** Objects in rows, detections in columns, background last: pairs of the highest IoU first, whatever their classes. */
function confusion(count) {
  const size = classes.length + 1, matrix = Array.from({ length: size }, () => new Array(size).fill(0));
  const taken = new Uint8Array(objects.label.length), used = new Uint8Array(count);
  pairs.detection.forEach((number, index) => {
    const object = pairs.object[index];
    if (number >= count || used[number] || taken[object]) return;
    used[number] = taken[object] = 1;
    if (!objects.ignore[object]) matrix[objects.label[object]][detections.label[number]] += 1;
  });
  for (let number = 0; number < count; number += 1) {
    if (!used[number] && !inside.has(number)) matrix[size - 1][detections.label[number]] += 1;
  }
  objects.label.forEach((label, object) => {
    if (!taken[object] && !objects.ignore[object]) matrix[label][size - 1] += 1;
  });
  return matrix;
}

function isMissed(object) {
  const detection = objects.detection[object];
  return !objects.ignore[object] && (detection < 0 || detections.score[detection] < threshold);
}

// ----------------------------------------------------------------------------------------------------------- numbers

function showCounts({ right, wrong }) {
  const [correct, false_] = [sum(right), sum(wrong)];
  byId("right").textContent = correct;
  byId("false").textContent = false_;
  byId("missed").textContent = total - correct;
  byId("shown-precision").textContent = percent(correct, correct + false_);
  byId("shown-recall").textContent = percent(correct, total);
  byId("f1").textContent = percent(2 * correct, correct + false_ + total);
  for (const row of document.querySelectorAll("#class-table tbody tr")) {
    const label = Number(row.dataset.class);
    row.querySelector(".precision").textContent = percent(right[label], right[label] + wrong[label]);
    row.querySelector(".recall").textContent = percent(right[label], totals[label]);
    row.querySelector(".f1").textContent = percent(2 * right[label], right[label] + wrong[label] + totals[label]);
  }
}

/** An object that a detection of the wrong class or place is about is not counted as missed. */
function showErrors(count) {
  const numbers = new Array(kinds.length).fill(0), about = new Set();
  for (let number = 0; number < count; number += 1) {
    numbers[detections.kind[number]] += 1;
    if (["class", "location"].includes(kinds[detections.kind[number]])) about.add(detections.object[number]);
  }
  objects.label.forEach((_, object) => { if (isMissed(object) && !about.has(object)) numbers[MISSED] += 1; });
  for (const row of document.querySelectorAll("#error-table tbody tr")) {
    row.querySelector(".count").textContent = numbers[kinds.indexOf(row.dataset.kind)];
  }
}

function makeConfusion() {
  const table = byId("confusion"), names = [...classes, "background"];
  const head = table.createTHead().insertRow();
  for (const name of ["object \\ detected as", ...names]) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = name;
    head.append(cell);
  }
  const body = table.createTBody();
  names.forEach((name, row) => {
    const line = body.insertRow(), first = document.createElement("th");
    first.scope = "row";
    first.textContent = name;
    line.append(first);
    names.forEach((_, column) => { if (row === column && row < classes.length) line.insertCell().className = "own"; else line.insertCell(); });
  });
}

function showConfusion(count) {
  const rows = byId("confusion").tBodies[0].rows;
  confusion(count).forEach((values, row) => {
    const whole = Math.max(sum(values), 1);
    values.forEach((value, column) => {
      const cell = rows[row].cells[column + 1], own = row === column;
      cell.textContent = row === classes.length && own ? "" : value;
      const color = own ? "46, 160, 67" : "220, 60, 50";
      cell.style.background = value ? `rgba(${color}, ${(0.12 + (0.5 * value) / whole).toFixed(2)})` : "";
    });
  });
}

// ------------------------------------------------------------------------------------------------------------ charts

function element(name, attributes, parent, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

const LEFT = 42, RIGHT = 350, TOP = 10, BOTTOM = 240;
const toX = (value) => LEFT + value * (RIGHT - LEFT), toY = (value) => BOTTOM - value * (BOTTOM - TOP);

function axes(svg, xName, yName) {
  for (const value of [0, 0.25, 0.5, 0.75, 1]) {
    element("line", { class: "axis", x1: LEFT, x2: RIGHT, y1: toY(value), y2: toY(value) }, svg);
    element("text", { x: LEFT - 5, y: toY(value) + 4, "text-anchor": "end" }, svg, value);
    element("text", { x: toX(value), y: BOTTOM + 15, "text-anchor": "middle" }, svg, value);
  }
  element("text", { x: (LEFT + RIGHT) / 2, y: BOTTOM + 32, "text-anchor": "middle" }, svg, xName);
  element("text", { x: 11, y: (TOP + BOTTOM) / 2, "text-anchor": "middle", transform: `rotate(-90 11 ${(TOP + BOTTOM) / 2})` }, svg, yName);
}

/** The class of the precision-recall curve; null: all together. */
function curveClass() {
  const value = byId("curve-class")?.value;
  return value ? Number(value) : null;
}

function drawCurve() {
  const svg = byId("pr"), label = curveClass(), objectCount = label === null ? total : totals[label];
  svg.replaceChildren();
  axes(svg, "recall", "precision");
  let right = 0, count = 0;
  const points = [];
  detections.kind.forEach((kind, number) => {
    if (kind === IGNORED || (label !== null && detections.label[number] !== label)) return;
    count += 1;
    right += kind === CORRECT;
    points.push([right / Math.max(objectCount, 1), right / count]);
  });
  const every = Math.max(1, Math.floor(points.length / 600));
  const shown = points.filter((_, index) => index % every === 0 || index === points.length - 1);
  const path = shown.map(([x, y], index) => `${index ? "L" : "M"}${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`).join("");
  element("path", { class: "curve", d: path || "M0 0" }, svg);
  element("circle", { class: "dot", r: 5, id: "dot" }, svg);
}

function moveDot({ right, wrong }) {
  const label = curveClass(), dot = byId("dot");
  const [correct, false_, objectCount] = label === null ? [sum(right), sum(wrong), total] : [right[label], wrong[label], totals[label]];
  dot.setAttribute("cx", toX(correct / Math.max(objectCount, 1)));
  dot.setAttribute("cy", toY(correct + false_ ? correct / (correct + false_) : 1));
  const name = label === null ? "all classes together" : classes[label];
  const values = `precision ${percent(correct, correct + false_)}, recall ${percent(correct, objectCount)}`;
  byId("pr").setAttribute("aria-label", `precision-recall curve of ${name}; at the threshold: ${values}`);
}

function drawCalibration() {
  const svg = byId("calibration");
  axes(svg, "confidence", "fraction correct");
  for (const [confidence, correct, count] of data.calibration) {
    const height = Math.max(BOTTOM - toY(correct), 2); // none is correct: still to be seen
    const bar = { class: "column", x: toX(confidence) - 9, width: 18, y: BOTTOM - height, height };
    element("title", {}, element("rect", bar, svg), `${count} detections: ${percent(correct, 1)} correct`);
  }
  element("line", { class: "ideal", x1: toX(0), y1: toY(0), x2: toX(1), y2: toY(1) }, svg);
}

// ----------------------------------------------------------------------------------------------------------- pictures

const NAMES = {
  missed: "missed", class: "wrong class", location: "poor localization", both: "wrong class and poor localization",
  duplicate: "duplicate", background: "background",
};

function isShown(picture) {
  const kind = byId("kind").value, label = byId("class").value;
  const missed = picture.kind === MISSED;
  const own = missed ? objects.label[picture.number] : detections.label[picture.number];
  const object = missed ? picture.number : detections.object[picture.number];
  const other = object < 0 ? own : objects.label[object];
  if (kind !== "" && picture.kind !== Number(kind)) return false;
  if (label !== "" && own !== Number(label) && other !== Number(label)) return false;
  return missed ? isMissed(picture.number) : detections.score[picture.number] >= threshold;
}

const ofImage = { detections: new Map(), objects: new Map() };
for (const [name, list] of [["detections", detections], ["objects", objects]]) {
  list.image.forEach((image, number) => {
    if (!ofImage[name].has(image)) ofImage[name].set(image, []);
    ofImage[name].get(image).push(number);
  });
}

function drawBox(svg, box, scale, color, text, options) {
  const [x1, y1, x2, y2] = box, width = options.strong ? 3 : 1.5;
  const attributes = { x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: "none", stroke: color, "stroke-width": width * scale };
  if (options.dashed) attributes["stroke-dasharray"] = `${6 * scale} ${4 * scale}`;
  element("rect", attributes, svg);
  if (text) {
    const size = 13 * scale;
    const label = { x: x1 + 2 * scale, y: options.dashed ? y2 - 4 * scale : y1 + size, fill: color, stroke: "#000", "stroke-width": 3 * scale, "paint-order": "stroke" };
    element("text", { ...label, style: `font-size: ${size}px; fill: ${color}` }, svg, text);
  }
}

/** A part of an image without boxes, and how many of its pixels a pixel of the page shows. */
function drawPart(picture) {
  const [x1, y1, x2, y2] = picture.window, svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `${x1} ${y1} ${x2 - x1} ${y2 - y1}`);
  svg.setAttribute("aria-hidden", "true"); // the text beside it says what it shows
  element("image", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, preserveAspectRatio: "none", href: `data:image/jpeg;base64,${picture.jpeg}` }, svg);
  return [svg, Math.max(x2 - x1, y2 - y1) / 230];
}

function draw(picture) {
  const missed = picture.kind === MISSED;
  const image = missed ? objects.image[picture.number] : detections.image[picture.number];
  const [svg, scale] = drawPart(picture);
  for (const object of ofImage.objects.get(image) || []) {
    const strong = missed ? object === picture.number : object === detections.object[picture.number];
    drawBox(svg, objects.box[object], scale, strong ? "#7ee787" : "#d0d7de", strong ? classes[objects.label[object]] : "", { dashed: true, strong });
  }
  for (const number of ofImage.detections.get(image) || []) {
    if (detections.score[number] < threshold) break; // sorted
    const strong = !missed && number === picture.number, label = detections.label[number];
    const text = strong || missed ? `${classes[label]} ${detections.score[number].toFixed(2)}` : "";
    drawBox(svg, detections.box[number], scale, strong ? "#ff7b72" : "#79c0ff", text, { strong });
  }
  return [svg, image];
}

function describe(picture) {
  const kind = NAMES[kinds[picture.kind]];
  if (picture.kind === MISSED) {
    const detection = objects.detection[picture.number], name = classes[objects.label[picture.number]];
    const low = detection >= 0 ? `detected with a confidence of only ${detections.score[detection].toFixed(2)}` : "";
    return [`${name}: ${kind}`, low, picture.why].filter(Boolean).join("; ");
  }
  const name = classes[detections.label[picture.number]], object = detections.object[picture.number];
  const truth = object >= 0 && picture.kind !== kinds.indexOf("duplicate") ? `; the object is ${classes[objects.label[object]]}` : "";
  return `${name} ${detections.score[picture.number].toFixed(2)}: ${kind}${truth}`;
}

/** A picture with its text and the name of the file. */
function item(svg, text, image) {
  const made = document.createElement("li"), about = document.createElement("p"), file = document.createElement("p");
  about.textContent = text;
  file.className = "file";
  file.textContent = data.images[image];
  made.append(svg, about, file);
  return made;
}

function showPictures() {
  const chosen = data.pictures.filter(isShown), list = byId("pictures");
  list.replaceChildren(...chosen.slice(0, pages * PAGE).map((picture) => {
    const [svg, image] = draw(picture);
    return item(svg, describe(picture), image);
  }));
  byId("shown").textContent = chosen.length ? `Showing ${Math.min(chosen.length, pages * PAGE)} of ${chosen.length} pictures, most important first.` : "No pictures of this kind at this threshold.";
  byId("more").hidden = chosen.length <= pages * PAGE;
}

function showSuspects() {
  for (const suspect of data.suspects) {
    const [svg, scale] = drawPart(suspect);
    for (const object of ofImage.objects.get(suspect.image) || []) {
      drawBox(svg, objects.box[object], scale, "#d0d7de", "", { dashed: true });
    }
    if (suspect.label) drawBox(svg, suspect.label, scale, "#7ee787", "", { dashed: true, strong: true });
    if (suspect.proposed) drawBox(svg, suspect.proposed, scale, "#ff7b72", "", { strong: true });
    byId("suspects").append(item(svg, suspect.text, suspect.image));
  }
}

function fillFilters() {
  const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });
  byId("kind").append(option("", "all kinds"), ...Object.entries(NAMES).map(([kind, name]) => option(kinds.indexOf(kind), name)));
  const names = () => classes.map((name, label) => option(label, name));
  byId("class").append(option("", "all classes"), ...names());
  byId("curve-class")?.append(...names());
}

// ---------------------------------------------------------------------------------------------------------- threshold

/**
 * The best threshold of the slider: `value` of (correct, false) is highest among those that `allowed` accepts. It is in
 * the middle between two confidences, as far as the steps of the slider permit.
 */
function best(value, allowed) {
  const scores = detections.score, rights = [0], wrongs = [0]; // among the first 0, 1, 2, ... detections
  detections.kind.forEach((kind, number) => {
    rights.push(rights[number] + (kind === CORRECT));
    wrongs.push(wrongs[number] + (kind !== CORRECT && kind !== IGNORED));
  });
  let highest = -1, found = null;
  scores.forEach((score, number) => {
    if (scores[number + 1] === score) return;
    const middle = Math.round(50 * (score + (scores[number + 1] ?? data.floor))) / 100;
    const shown = Math.min(Math.max(middle, data.floor), HIGHEST), count = above(shown);
    const right = rights[count], wrong = wrongs[count];
    if (right && allowed(right, wrong) && value(right, wrong) > highest) {
      highest = value(right, wrong);
      found = shown;
    }
  });
  return found;
}

function setTo(found, none) {
  byId("message").textContent = found === null ? none : "";
  if (found !== null) {
    byId("slider").value = found;
    change(found);
  }
}

function change(value) {
  threshold = value;
  byId("value").textContent = value.toFixed(2);
  const command = byId("command");
  if (command) command.textContent = `${command.dataset.command} ${value.toFixed(2)}`;
  const count = above(value), counts = countsOf(count);
  showCounts(counts);
  showErrors(count);
  showConfusion(count);
  moveDot(counts);
  showPictures();
}

makeConfusion();
drawCurve();
drawCalibration();
fillFilters();
showSuspects();
byId("slider").addEventListener("input", (event) => { byId("message").textContent = ""; change(Number(event.target.value)); });
byId("best-f1").addEventListener("click", () => setTo(best((right, wrong) => (2 * right) / (right + wrong + total), () => true), "No detection is correct, so there is no best threshold."));
byId("by-precision").addEventListener("click", () => {
  const least = Number(byId("precision").value) / 100;
  setTo(best((right) => right, (right, wrong) => right / (right + wrong) >= least), "No threshold of the slider reaches this precision.");
});
byId("by-recall").addEventListener("click", () => {
  const least = Number(byId("recall").value) / 100;
  setTo(best((right, wrong) => right / (right + wrong), (right) => right / total >= least), "No threshold of the slider reaches this recall.");
});
for (const id of ["kind", "class"]) byId(id).addEventListener("change", () => { pages = 1; showPictures(); });
byId("curve-class")?.addEventListener("change", () => { drawCurve(); moveDot(countsOf(above(threshold))); });
byId("more").addEventListener("click", () => { pages += 1; showPictures(); });
change(threshold);
