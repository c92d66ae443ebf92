// The page of `frcnn serve`: try the model on photos and on the camera, and copy requests.
//
// The service is asked once for each photo, with a threshold of LEAST. The threshold and the classes of the page choose
// among what it found, without another request. A photo is {name, file, url, milliseconds, answer, error, rows}.

import { drawBoxes } from "./boxes.js";
import { makeSamples, wellFormed } from "./samples.js";

const $ = (id) => document.getElementById(id);
const BASE = location.origin + location.pathname.replace(/[^/]*$/, ""); // with a slash at its end
const LEAST = 0.01;
const RETRY = 1; // seconds
const TOKEN = "token"; // its name in sessionStorage
const SHOWN_AS_COPIED = 1500; // milliseconds

let model = null; // the answer of GET /model
let colors = new Map(); // of classes, by name
let threshold = 0.5;
let token = storedToken();
let needsToken = token !== null;
let photos = [];
let shown = null; // one of the photos
let marked = null; // the detection that stands out
let running = new AbortController(); // of the requests for the photos
let stream = null; // of the camera
let isLive = false; // whether the stage shows the camera, and not a photo
let willDraw = false;
const off = new Set(); // names of classes that are not shown
const classRows = new Map(); // by name: {row, tick, count}

// ------------------------------------------------------------------------------------------------------------ service

/** @throws Error with status and wait (seconds), in the words of the service */
async function ask(address, options = {}) {
  const headers = { ...options.headers, ...(token === null ? {} : { Authorization: `Bearer ${token}` }) };
  let response;
  try {
    response = await fetch(BASE + address, { ...options, headers });
  } catch {
    throw new Error("No answer from the service; is it still running?");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return { answer, version: response.headers.get("X-Model-Version") };
  const text = answer?.error ?? `The service answers ${response.status} ${response.statusText}`;
  throw Object.assign(new Error(text), { status: response.status, wait: Number(response.headers.get("Retry-After")) });
}

async function loadModel() {
  const isFirst = model === null;
  try {
    model = (await ask("model")).answer;
  } catch (error) {
    return fail(error);
  }
  $("sign-in").hidden = true;
  colors = new Map(Object.entries(model.colors));
  if (isFirst) setThreshold(model.threshold);
  document.title = `${model.name} – frcnn serve`;
  $("model").textContent = model.name;
  $("about-model").textContent = plural(model.classes.length, "class", "classes");
  $("about-model").title = `version ${model.version}`;
  showClasses();
  showSamples();
  if (isFirst) say("");
  render();
}

async function detect(photo, { signal }) {
  try {
    const body = await photo.file.arrayBuffer().catch(() => {
      throw new Error(`${photo.name}: the browser cannot read it; it may be a folder`);
    });
    const limit = model?.limits.body_bytes;
    if (body.byteLength > limit) throw new Error(`${photo.name}: larger than ${limit >> 20} MB, the limit of the service (--max-body)`);
    const start = performance.now();
    // The bytes alone, with a type of their own: the type of a file comes from its name, and may be that of JSON.
    const headers = { "Content-Type": "application/octet-stream" };
    const { answer, version } = await ask(`predict?threshold=${LEAST}`, { method: "POST", body, headers, signal });
    Object.assign(photo, { answer, error: null, milliseconds: performance.now() - start });
    if (model && version && version !== model.version) await loadModel(); // another one is served now
  } catch (error) {
    photo.error = error;
  }
}

/** Ask for the photos that have no answer yet, one after the other. */
async function detectAll() {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const open = photos.filter((photo) => !photo.answer);
  $("stage").classList.add("busy");
  for (const [number, photo] of open.entries()) {
    say(open.length > 1 ? `Detecting, ${number + 1} of ${open.length} …` : "Detecting …");
    await detect(photo, { signal });
    if (signal.aborted) return;
    if (photo === shown) showAnswer();
    else render();
  }
  $("stage").classList.remove("busy");
  sayResult();
}

// ------------------------------------------------------------------------------------------------------------- status

function say(text, { isError = false } = {}) {
  $("status").textContent = $("status").title = text;
  $("status").classList.toggle("failed", isError);
}

function fail(error) {
  const isAsked = error.status === 401;
  say(isAsked && token !== null ? `This token is wrong. ${error.message}` : error.message, { isError: true });
  if (!isAsked) return;
  $("sign-in").hidden = false;
  if (!needsToken) {
    needsToken = true;
    showSamples();
  }
  $("token").focus();
}

function sayResult() {
  const refused = photos.find(({ error }) => error?.status === 401);
  if (refused ?? shown?.error) return fail((refused ?? shown).error);
  if (shown?.answer) say(`${plural(chosen(shown).length, "object")} in ${shown.name}${shown.isUnseen ? "; the browser cannot show this photo" : ""}`);
}

function storedToken() {
  try {
    return sessionStorage.getItem(TOKEN);
  } catch { // the browser allows no storage
    return null;
  }
}

async function signIn(event) {
  event.preventDefault();
  const given = $("token").value.trim();
  if (!/^[\x21-\x7e]+$/.test(given)) return say("A token has ASCII letters, digits and signs, without spaces.", { isError: true });
  token = given;
  try {
    sessionStorage.setItem(TOKEN, token);
  } catch {} // then the page keeps it until it is closed
  await loadModel();
  if (!$("sign-in").hidden) return;
  $("token").value = "";
  if (photos.some(({ answer }) => !answer)) detectAll();
}

// ------------------------------------------------------------------------------------------------------------- photos

/** Show files instead of the photos so far, and detect what is in them. */
function openFiles(files) {
  if (!files.length) return;
  stopCamera();
  setPhotos(files.map((file) => ({ name: file.name, file })));
  detectAll();
}

function setPhotos(news) {
  photos.forEach(({ url }) => url && URL.revokeObjectURL(url));
  photos = news;
  if (!isLive) photos.forEach((photo) => {
    photo.url = URL.createObjectURL(photo.file);
  });
  const list = $("photos");
  list.hidden = photos.length < 2;
  list.replaceChildren(...(list.hidden ? [] : photos.map(makeThumbnail)));
  show(photos[0] ?? null);
}

function makeThumbnail(photo) {
  const button = make("button", { title: photo.name });
  const picture = make("img", { alt: photo.name, loading: "lazy", src: photo.url });
  photo.mark = make("span", { className: "mark" });
  button.append(picture, photo.mark);
  button.addEventListener("click", () => {
    show(photo);
    sayResult();
  });
  const row = make("li");
  row.append(button);
  return row;
}

function show(photo) {
  shown = photo;
  const element = $("photo");
  element.hidden = isLive || photo === null;
  if (photo && !isLive) {
    photo.isUnseen = false;
    Object.assign(element, { src: photo.url, alt: photo.name });
  }
  if (photo === null) element.removeAttribute("src");
  $("camera").hidden = !isLive;
  $("hint").hidden = photo !== null || isLive;
  showAnswer();
}

/** The files of a drop or of the clipboard. The service says what is wrong with one that is no image. */
const filesOf = (transfer) => [...(transfer?.files ?? [])];

// ------------------------------------------------------------------------------------------------------------- camera

async function startCamera() {
  if (!navigator.mediaDevices) {
    return fail(new Error("Browsers give the camera only to addresses with https://, and to this computer."));
  }
  $("use-camera").disabled = true;
  const wanted = { video: { facingMode: "environment", width: { ideal: 1280 } } };
  const got = await navigator.mediaDevices.getUserMedia(wanted).catch((error) => fail(new Error(`The browser gives no camera (${error.message})`)));
  $("use-camera").disabled = false;
  if (!got) return;
  stream = got;
  stream.getVideoTracks()[0].addEventListener("ended", stopCamera); // somebody has unplugged it
  $("camera").srcObject = stream;
  showCameraTools();
  goLive();
  await $("camera").play().catch(fail);
}

function stopCamera() {
  if (!stream) return;
  if (isLive) running.abort();
  stream.getTracks().forEach((track) => track.stop());
  stream = $("camera").srcObject = null;
  $("continuous").checked = false;
  freeze();
  showCameraTools();
  say("");
}

function showCameraTools() {
  $("camera-tools").hidden = !stream;
  $("use-camera").setAttribute("aria-pressed", Boolean(stream));
  $("snap").textContent = isLive ? "Detect" : "Live";
  $("snap").disabled = $("continuous").checked;
}

/** Show the camera. */
function goLive() {
  running.abort();
  $("stage").classList.remove("busy");
  isLive = true;
  setPhotos([]);
  showCameraTools();
  say("");
}

/** Show the last frame that was sent; if there is none, nothing. */
function freeze() {
  if (!isLive) return;
  if (!shown && stream) return goLive();
  isLive = false;
  if (shown) shown.url ??= URL.createObjectURL(shown.file);
  show(shown);
  showCameraTools();
}

async function takeFrame() {
  const video = $("camera");
  const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
  if (!canvas.width) throw new Error("The camera has no picture yet.");
  canvas.getContext("2d").drawImage(video, 0, 0);
  const file = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  return { name: "camera.jpg", file };
}

async function snap() {
  if (!isLive) return goLive();
  const photo = await takeFrame().catch(fail);
  if (!photo || !isLive) return;
  isLive = false;
  setPhotos([photo]);
  showCameraTools();
  detectAll();
}

/** Send a frame, and the next one after its answer, while the box is checked. */
async function detectFrames() {
  if (!$("continuous").checked) return freeze();
  goLive();
  running = new AbortController();
  const { signal } = running;
  while ($("continuous").checked && !signal.aborted) {
    if (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    const photo = await takeFrame().catch((error) => ({ name: "camera.jpg", error }));
    if (photo.file) await detect(photo, { signal });
    if (signal.aborted || !isLive) return;
    if (photo.error) {
      fail(photo.error);
      if (photo.error.status === 401) $("continuous").checked = false;
      else await new Promise((resolve) => setTimeout(resolve, 1000 * (photo.error.wait || RETRY)));
    } else {
      if ($("status").textContent) say(""); // not the number of objects: it would be read aloud all the time
      setPhotos([photo]);
    }
  }
  if (!signal.aborted) freeze();
}

// ------------------------------------------------------------------------------------------------------------- result

const isChosen = ({ class: name, score }) => score >= threshold && !off.has(name);

/** The detections of a photo that are shown. */
const chosen = (photo) => photo?.answer?.detections.filter(isChosen) ?? [];

/** After the photo or its answer changed. */
function showAnswer() {
  marked = null;
  const all = shown?.answer?.detections ?? [];
  const rows = all.map(makeRow);
  if (shown) shown.rows = new Map(all.map((one, number) => [one, rows[number]]));
  $("detections").replaceChildren(...rows);
  all.forEach(({ class: name }) => classRows.has(name) || addClass(name));
  render();
}

function makeRow(one) {
  const row = make("tr", { tabIndex: -1 });
  const name = make("td", { className: "name", title: one.class });
  name.append(makeSwatch(one.class), make("bdi", { textContent: one.class }));
  const box = one.box.map((value) => Math.round(value)).join(", ");
  row.append(name, make("td", { textContent: one.score.toFixed(2) }), make("td", { textContent: box }));
  row.addEventListener("focus", () => mark(one));
  row.addEventListener("blur", () => mark(null));
  row.addEventListener("pointerenter", () => mark(one));
  row.addEventListener("pointerleave", () => mark(null));
  return row;
}

/** After anything changed: the detections that are shown, their numbers and their boxes. */
function render() {
  const all = shown?.answer?.detections ?? [];
  const counts = new Map();
  all.forEach(({ class: name, score }) => counts.set(name, (counts.get(name) ?? 0) + (score >= threshold)));
  let first = null;
  let visible = 0;
  shown?.rows?.forEach((row, one) => {
    row.hidden = !isChosen(one);
    row.tabIndex = -1;
    if (row.hidden) return;
    visible += 1;
    first ??= row;
  });
  if (first) first.tabIndex = 0;
  if (marked && !isChosen(marked)) marked = null;
  classRows.forEach(({ row, tick, count }, name) => {
    tick.checked = !off.has(name);
    count.textContent = counts.get(name) ?? 0;
    row.hidden = !(counts.get(name) > 0 || (counts.has(name) && off.has(name)) || row.contains(document.activeElement));
  });
  $("filter").hidden = ![...classRows.values()].some(({ row }) => !row.hidden);
  $("list").hidden = !visible;
  $("count").textContent = shown?.answer ? plural(visible, "object") : "–";
  $("time").textContent = shown?.answer ? `${Math.round(shown.milliseconds)} ms` : "";
  $("size").textContent = shown?.answer ? `${shown.answer.width} × ${shown.answer.height} pixels` : "";
  $("save-json").disabled = !shown?.answer;
  $("save-picture").disabled = !shown?.answer || Boolean(shown.isUnseen);
  photos.forEach((photo) => {
    if (!photo.mark) return;
    photo.mark.textContent = photo.answer ? chosen(photo).length : photo.error ? "error" : "…";
    photo.mark.classList.toggle("failed", Boolean(photo.error));
    const button = photo.mark.parentElement;
    if (photo === shown) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  });
  draw();
}

function setThreshold(value) {
  threshold = value;
  $("threshold").value = value;
  $("least").textContent = Number(value.toFixed(3));
}

function showClasses() {
  classRows.clear();
  $("classes").replaceChildren();
  model.classes.forEach(addClass);
}

function addClass(name) {
  const row = make("li", { hidden: true });
  const label = make("label");
  const tick = make("input", { type: "checkbox" });
  const count = make("span", { className: "detail" });
  label.append(tick, makeSwatch(name), make("bdi", { className: "text", textContent: name, title: name }), count);
  tick.addEventListener("change", () => {
    off[tick.checked ? "delete" : "add"](name);
    render();
  });
  row.append(label);
  classRows.set(name, { row, tick, count });
  $("classes").append(row);
}

function makeSwatch(name) {
  const swatch = make("span", { className: "swatch" });
  swatch.style.setProperty("--color", colors.get(name) ?? "gray");
  return swatch;
}

/** Go from row to row. */
function stepRows(event) {
  const rows = [...$("detections").children].filter((row) => !row.hidden);
  const at = rows.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  if (!rows[to]) return;
  rows[at].tabIndex = -1;
  rows[to].tabIndex = 0;
  rows[to].focus();
}

// -------------------------------------------------------------------------------------------------------------- stage

/** How the image lies on the stage; null: there is none. */
function viewOf(width, height) {
  const element = isLive ? $("camera") : $("photo");
  const across = isLive ? element.videoWidth : shown?.answer?.width ?? element.naturalWidth;
  const down = isLive ? element.videoHeight : shown?.answer?.height ?? element.naturalHeight;
  if (!across || !down) return null;
  const scale = Math.min(width / across, height / down);
  return { scale, x: (width - across * scale) / 2, y: (height - down * scale) / 2 };
}

/** Before the next picture of the screen, once for any number of calls. */
function draw() {
  if (willDraw) return;
  willDraw = true;
  requestAnimationFrame(() => {
    willDraw = false;
    const { clientWidth, clientHeight } = $("stage");
    const ratio = window.devicePixelRatio;
    const canvas = $("boxes");
    Object.assign(canvas, { width: Math.round(clientWidth * ratio), height: Math.round(clientHeight * ratio) }); // erases it
    const view = viewOf(canvas.width, canvas.height);
    if (view) drawBoxes(canvas.getContext("2d"), chosen(shown), colors, { view, line: 2 * ratio, size: 12 * ratio, marked });
  });
}

function mark(one) {
  if (marked === one) return;
  shown?.rows?.get(marked)?.classList.remove("marked");
  marked = one;
  shown?.rows?.get(one)?.classList.add("marked");
  draw();
}

/** Mark the smallest box at the pointer, and show its row. */
function point(event) {
  const frame = $("stage").getBoundingClientRect();
  const view = viewOf(frame.width, frame.height);
  if (!view || !shown?.answer) return;
  const [x, y] = [(event.clientX - frame.left - view.x) / view.scale, (event.clientY - frame.top - view.y) / view.scale];
  const area = ({ box: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);
  const hits = chosen(shown).filter(({ box: [x1, y1, x2, y2] }) => x1 <= x && x <= x2 && y1 <= y && y <= y2);
  const one = hits.sort((a, b) => area(a) - area(b))[0] ?? null;
  mark(one);
  const row = one && shown.rows.get(one);
  if (!row) return;
  const list = $("list"); // not scrollIntoView, which would also scroll the page
  const top = row.offsetTop - row.offsetHeight; // below the head of the table
  if (top < list.scrollTop) list.scrollTop = top;
  const bottom = row.offsetTop + row.offsetHeight - list.clientHeight;
  if (bottom > list.scrollTop) list.scrollTop = bottom;
}

// ---------------------------------------------------------------------------------------------------------- downloads

const stem = () => shown.name.replace(/\.[^.]*$/, "") || "image";

function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // the browser reads it later
}

function saveJson() {
  const { width, height } = shown.answer;
  const content = { image: shown.name, width, height, detections: chosen(shown) };
  save(new Blob([`${JSON.stringify(content, null, 2)}\n`], { type: "application/json" }), `${stem()}.json`);
}

async function savePicture() {
  const { name, answer } = shown;
  const found = chosen(shown);
  const url = URL.createObjectURL(shown.file);
  try {
    const image = make("img", { src: url });
    await image.decode();
    const canvas = make("canvas", { width: answer.width, height: answer.height });
    const pen = canvas.getContext("2d");
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    const side = Math.sqrt(canvas.width * canvas.height);
    const line = Math.max(2, Math.round(side / 300));
    drawBoxes(pen, found, colors, { view: { scale: 1, x: 0, y: 0 }, line, size: Math.max(11, Math.round(side / 48)) });
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
    if (!blob) throw new Error("too large");
    save(blob, `${name.replace(/\.[^.]*$/, "") || "image"}.boxes.jpg`);
  } catch {
    fail(new Error(`${name}: the browser cannot draw this picture`));
  } finally {
    URL.revokeObjectURL(url);
  }
}

// ------------------------------------------------------------------------------------------------------------ samples

function showSamples() {
  const name = model?.classes.find((each) => each === wellFormed(each)) ?? model?.classes[0] ?? "person";
  const groups = makeSamples({ base: BASE.slice(0, -1), threshold, name, needsToken });
  if (!$("samples").children.length) groups.forEach(addGroup);
  groups.forEach(({ note, samples }, number) => {
    const group = $("samples").children[number];
    group.querySelector(".note").textContent = note;
    group.querySelectorAll("code").forEach((code, at) => {
      if (code.textContent !== samples[at].text) code.textContent = samples[at].text;
    });
  });
}

function addGroup({ language, samples }, number) {
  const label = make("label");
  const choice = make("input", { type: "radio", name: "language", value: language, checked: number === 0 });
  label.append(choice, ` ${language}`);
  $("languages").append(label);
  const group = make("section", { hidden: number > 0 });
  group.setAttribute("aria-label", language);
  group.append(make("p", { className: "note" }));
  const list = make("ol");
  samples.forEach(({ topic }) => {
    const item = make("li", { className: "sample" });
    const code = make("code");
    const text = make("pre", { tabIndex: 0 }); // so that the arrow keys scroll it
    text.setAttribute("aria-label", `${topic}, ${language}`);
    text.append(code);
    const button = make("button", { textContent: "Copy" });
    button.setAttribute("aria-label", `Copy: ${topic}, ${language}`);
    button.addEventListener("click", () => copy(code, button));
    item.append(make("h3", { textContent: topic }), button, text);
    list.append(item);
  });
  group.append(list);
  choice.addEventListener("change", () => [...$("samples").children].forEach((each) => {
    each.hidden = each !== group;
  }));
  $("samples").append(group);
}

async function copy(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch { // addresses without https:// have no clipboard
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    if (!document.execCommand("copy")) return fail(new Error("The browser does not copy; press Ctrl+C."));
  }
  button.textContent = "Copied";
  setTimeout(() => {
    button.textContent = "Copy";
  }, SHOWN_AS_COPIED);
}

// -------------------------------------------------------------------------------------------------------------- start

const make = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);
const plural = (count, noun, nouns = `${noun}s`) => `${count} ${count === 1 ? noun : nouns}`;

function listen() {
  $("sign-in").addEventListener("submit", signIn);
  $("files").addEventListener("click", () => {
    $("files").value = ""; // or choosing the same file again would be no change
  });
  $("files").addEventListener("change", () => openFiles([...$("files").files]));
  $("use-camera").addEventListener("click", () => (stream ? stopCamera() : startCamera()));
  $("snap").addEventListener("click", snap);
  $("continuous").addEventListener("change", () => {
    showCameraTools();
    detectFrames();
  });
  $("threshold").addEventListener("input", () => {
    setThreshold(Number($("threshold").value));
    render();
    showSamples();
  });
  $("all").addEventListener("click", () => {
    off.clear();
    render();
  });
  $("none").addEventListener("click", () => {
    classRows.forEach((_, name) => off.add(name));
    render();
  });
  $("save-json").addEventListener("click", saveJson);
  $("save-picture").addEventListener("click", savePicture);
  $("detections").addEventListener("keydown", stepRows);
  $("stage").addEventListener("pointermove", point);
  $("stage").addEventListener("pointerdown", point);
  $("stage").addEventListener("pointerleave", () => mark(null));
  $("photo").addEventListener("load", draw);
  $("photo").addEventListener("error", () => {
    if (!shown || isLive) return;
    shown.isUnseen = true;
    render();
    if (shown.answer) sayResult();
  });
  $("camera").addEventListener("resize", draw); // its size is known, or the phone was turned
  new ResizeObserver(draw).observe($("stage"));

  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("drop");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && document.body.classList.remove("drop"));
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("drop");
    if (!hasFiles(event)) return;
    event.preventDefault();
    openFiles(filesOf(event.dataTransfer));
  });
  document.addEventListener("paste", (event) => {
    const files = filesOf(event.clipboardData);
    if (!files.length) return;
    event.preventDefault();
    openFiles(files);
  });
}

listen();
showSamples();
setThreshold(threshold);
loadModel();
