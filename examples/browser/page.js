// Takes photos (and models) that are dropped or chosen, detects, and draws. Nothing leaves the page.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
import { Detector } from "./detector.js";

ort.env.wasm.wasmPaths = new URL("./node_modules/onnxruntime-web/dist/", import.meta.url).href;
ort.env.wasm.numThreads = self.crossOriginIsolated ? navigator.hardwareConcurrency : 1;

const element = (id) => document.getElementById(id);
const [drop, files, status, slider] = ["drop", "files", "status", "slider"].map(element);
let detector = null;
let shown = null; // {bitmap, detections} of the last photo
let work = open("model.onnx"); // one thing after the other

async function open(source) {
  try {
    say("Loading the model …");
    const bytes = typeof source === "string" ? await fetched(source) : new Uint8Array(await source.arrayBuffer());
    if (bytes === null) return say("Drop a .onnx file here that `frcnn export` wrote, then a photo.");
    detector = await Detector.load(ort, bytes);
    say(`Drop a photo here, or click to choose one. The model knows: ${detector.classes.join(", ")}.`);
  } catch (error) {
    say(`The model cannot be used: ${error.message}`);
  }
}

async function fetched(address) {
  const response = await fetch(address);
  return response.ok ? new Uint8Array(await response.arrayBuffer()) : null;
}

async function look(file) {
  if (detector === null) return say("First a model: drop a .onnx file that `frcnn export` wrote.");
  try {
    say(`Looking at ${file.name} …`);
    // The file's own colors, turned as its EXIF tag says.
    const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const start = performance.now();
    const detections = await detector.detect(pixels(bitmap), bitmap.height, bitmap.width, 0.05);
    shown = { bitmap, detections };
    show();
    say(`${file.name}: ${((performance.now() - start) / 1000).toFixed(2)} s. Drop the next one.`);
    window.result = { image: file.name, detections }; // for programs
  } catch (error) {
    say(`${file.name}: ${error.message}`);
  }
}

function pixels(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const rgb = new Uint8Array(bitmap.width * bitmap.height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    rgb[to++] = data[from];
    rgb[to++] = data[from + 1];
    rgb[to++] = data[from + 2];
  }
  return rgb;
}

function show() {
  if (shown === null) return;
  const { bitmap, detections } = shown;
  const sure = detections.filter((one) => one.score >= Number(slider.value));
  const canvas = element("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const pen = canvas.getContext("2d");
  pen.drawImage(bitmap, 0, 0);
  const unit = Math.max(1, Math.sqrt(bitmap.width * bitmap.height) / 400);
  pen.lineWidth = 1.5 * unit;
  pen.font = `600 ${10 * unit}px system-ui, sans-serif`;
  pen.textBaseline = "top";
  for (const { class: name, score, box } of sure.toReversed()) {
    const [x1, y1, x2, y2] = box;
    pen.strokeStyle = pen.fillStyle = color(name);
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
    const text = `${name} ${score.toFixed(2)}`;
    const [width, height] = [pen.measureText(text).width + 4 * unit, 13 * unit];
    const left = Math.max(0, Math.min(x1, bitmap.width - width));
    const top = Math.max(0, y1 - height);
    pen.fillRect(left, top, width, height);
    pen.fillStyle = "#fff";
    pen.fillText(text, left + 2 * unit, top + 2 * unit);
  }
  element("found").querySelector("tbody").replaceChildren(...sure.map(row));
  element("photo").hidden = element("found").hidden = false;
}

function row({ class: name, score, box }) {
  const swatch = Object.assign(document.createElement("span"), { className: "swatch" });
  swatch.style.background = color(name);
  const cells = [[swatch, name], [score.toFixed(3)], [box.map((value) => value.toFixed(1)).join(" ")]];
  const line = document.createElement("tr");
  line.append(...cells.map((content) => {
    const cell = document.createElement("td");
    cell.append(...content);
    return cell;
  }));
  return line;
}

// Turning by the golden ratio spreads any number of hues; dark enough for white letters.
function color(name) {
  const hue = (detector.classes.indexOf(name) * 0.618034 * 360) % 360;
  return `hsl(${hue} 85% 32%)`;
}

function say(text) {
  status.textContent = text;
}

function take(list) {
  for (const file of list) {
    work = work.then(() => (file.name.endsWith(".onnx") ? open(file) : look(file)));
  }
}

files.addEventListener("change", () => take(files.files));
slider.addEventListener("input", () => {
  element("least").value = Number(slider.value).toFixed(2);
  show();
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
addEventListener("dragleave", () => drop.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files);
});
