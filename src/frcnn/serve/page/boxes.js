// Draw detections on a canvas: over the image on the screen, and into the picture to download.

const GRAY = "#808080"; // of a class that the model does not name
const LONGEST = 40; // letters of a label

/**
 * @param pen the 2D context of a canvas
 * @param detections highest score first
 * @param colors of classes, by name
 * @param view {scale, x, y}: from pixels of the image to those of the canvas
 * @param line width of a line
 * @param size height of letters
 * @param marked one of the detections, that stands out; null: none
 */
export function drawBoxes(pen, detections, colors, { view, line, size, marked = null }) {
  pen.font = `${size}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  const rest = detections.filter((one) => one !== marked).reverse(); // the highest score on top
  const ordered = detections.includes(marked) ? [...rest, marked] : rest;
  for (const one of ordered) {
    const color = colors.get(one.class) ?? GRAY;
    const [x1, y1, x2, y2] = one.box.map((value, side) => value * view.scale + (side % 2 ? view.y : view.x));
    pen.globalAlpha = marked === null || one === marked ? 1 : 0.3;
    if (one === marked) {
      pen.fillStyle = "rgb(255 255 255 / .15)";
      pen.fillRect(x1, y1, x2 - x1, y2 - y1);
    }
    // A dark line around the colored one: it is seen on an image of any color.
    pen.strokeStyle = "rgb(0 0 0 / .55)";
    pen.lineWidth = line * (one === marked ? 3.5 : 2);
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
    pen.strokeStyle = color;
    pen.lineWidth = line * (one === marked ? 2 : 1);
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  pen.globalAlpha = 1;
  const labels = [];
  for (const one of marked === null ? detections : ordered.slice(-1)) {
    const color = colors.get(one.class) ?? GRAY;
    const text = `${clipped(one.class)} ${one.score.toFixed(2)}`;
    const [left, top] = [one.box[0] * view.scale + view.x - line / 2, one.box[1] * view.scale + view.y];
    const bottom = one.box[3] * view.scale + view.y;
    const [width, height] = [pen.measureText(text).width + size * 0.6, size * 1.35];
    const x = Math.max(0, Math.min(left, pen.canvas.width - width));
    // Above, below or in the box: where it is on the canvas, and not over another label, if possible.
    const places = [top - height, bottom, top, bottom - height].filter((y) => y >= 0 && y + height <= pen.canvas.height);
    const isFree = (y) => !labels.some((other) =>
      x < other.x + other.width && other.x < x + width && y < other.y + other.height && other.y < y + height);
    const y = places.find(isFree) ?? places[0] ?? Math.max(0, top);
    labels.push({ x, y, width, height });
    pen.fillStyle = color;
    pen.fillRect(x, y, width, height);
    pen.fillStyle = inkOn(color);
    pen.fillText(text, x + size * 0.3, y + height / 2);
  }
}

function clipped(name) {
  const letters = [...name];
  return letters.length > LONGEST ? `${letters.slice(0, LONGEST).join("")}…` : name;
}

/** Black or white, for text on a color such as #1d5fd0 (Rec. 709 luma). */
function inkOn(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 140 ? "#000" : "#fff";
}
