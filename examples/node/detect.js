// node detect.js MODEL.onnx PHOTO... [--threshold 0.5]: detections as JSON, as `frcnn predict --json -` prints them.

import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import sharp from "sharp";
import { Detector } from "../browser/detector.js";

process.env.ORT_DISABLE_TELEMETRY = "1"; // before ONNX Runtime is loaded, which else reports to Microsoft
const ort = await import("onnxruntime-node");

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { threshold: { type: "string", default: "0.5" } },
});
const [model, ...photos] = positionals;
if (!photos.length) {
  console.error("usage: node detect.js MODEL.onnx PHOTO... [--threshold 0.5]");
  process.exit(2);
}
try {
  const detector = await Detector.load(ort, new Uint8Array(await readFile(model)));
  const results = [];
  for (const image of photos) {
    // Turned as its EXIF tag says, without its transparency, its colors as they are stored.
    const decoded = sharp(image, { ignoreIcc: true }).autoOrient().removeAlpha().toColorspace("srgb").raw();
    const { data, info } = await decoded.toBuffer({ resolveWithObject: true });
    results.push({ image, detections: await detector.detect(data, info.height, info.width, Number(values.threshold)) });
  }
  console.log(JSON.stringify(results, null, 2));
} catch (error) {
  console.error(`detect.js: ${error.message}`);
  process.exit(2);
}
