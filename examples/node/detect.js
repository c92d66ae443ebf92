// node detect.js MODEL.onnx PHOTO... [--min-score 0.5]: detections as JSON, as `frcnn predict --json -` prints them.

import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import * as ort from "onnxruntime-node";
import sharp from "sharp";
import { Detector } from "../browser/detector.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { "min-score": { type: "string", default: "0.5" } },
});
const [model, ...photos] = positionals;
if (!photos.length) {
  console.error("usage: node detect.js MODEL.onnx PHOTO... [--min-score 0.5]");
  process.exit(2);
}
try {
  const detector = await Detector.load(ort, new Uint8Array(await readFile(model)));
  const results = [];
  for (const image of photos) {
    // Turned as its EXIF tag says, without its transparency, its colours as they are stored.
    const decoded = sharp(image, { ignoreIcc: true }).autoOrient().removeAlpha().toColourspace("srgb").raw();
    const { data, info } = await decoded.toBuffer({ resolveWithObject: true });
    results.push({ image, detections: await detector.detect(data, info.height, info.width, Number(values["min-score"])) });
  }
  console.log(JSON.stringify(results, null, 2));
} catch (error) {
  console.error(`detect.js: ${error.message}`);
  process.exit(2);
}
