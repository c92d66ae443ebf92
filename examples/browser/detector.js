// Runs a file that `frcnn export --to onnx` wrote, in a browser or in Node: everything that it needs to know (class
// names, how to resize a photo) is in the file. The caller brings the runtime (onnxruntime-web or onnxruntime-node)
// and the photo's pixels.

export class Detector {
  // ort: the runtime's module. bytes: the .onnx file, a Uint8Array.
  static async load(ort, bytes) {
    const description = metadata(bytes);
    if (description.format !== "frcnn") throw new Error("not a file that `frcnn export` wrote");
    if (Number(description.format_version) > 2) throw new Error("a file of a newer format; update this program");
    if (description["image.antialias"] !== "true") {
      throw new Error("resizing without antialiasing is not there in this program");
    }
    return new Detector(ort, await ort.InferenceSession.create(bytes), description);
  }

  constructor(ort, session, description) {
    this.ort = ort;
    this.session = session;
    this.description = description;
    this.classes = description.classes.split("\n");
  }

  // rgb: Uint8Array of height x width x 3. Returns [{class, score, box: [x1, y1, x2, y2]}], best first; boxes are in
  // pixels of the photo.
  async detect(rgb, height, width, minScore = 0.5) {
    const [inputHeight, inputWidth] = inputSize(height, width, this.description);
    const [frameHeight, frameWidth] = frameSize(inputHeight, inputWidth, this.description);
    const least = Number(this.description.min_side);
    if (Math.min(frameHeight, frameWidth) < least) {
      throw new Error(`resized to ${frameHeight} x ${frameWidth} pixels; the model needs ${least} on each side`);
    }
    const resized = resize(rgb, height, width, inputHeight, inputWidth);
    const frame = new Uint8Array(frameHeight * frameWidth * 3); // the photo in its upper left corner
    for (let y = 0; y < inputHeight; y++) {
      frame.set(resized.subarray(y * inputWidth * 3, (y + 1) * inputWidth * 3), y * frameWidth * 3);
    }
    const outputs = await this.session.run(this.inputs(frame, frameHeight, frameWidth, inputHeight, inputWidth, height, width));
    const { boxes, scores, labels, valid } = outputs;
    const found = [];
    for (let i = 0; i < scores.dims[1]; i++) {
      if (!valid.data[i] || scores.data[i] < minScore) break; // scores fall
      found.push({
        class: this.classes[Number(labels.data[i]) - 1], // 0 is background
        score: scores.data[i],
        box: Array.from(boxes.data.slice(4 * i, 4 * i + 4)),
      });
    }
    return found;
  }

  inputs(frame, frameHeight, frameWidth, inputHeight, inputWidth, height, width) {
    const { Tensor } = this.ort;
    const count = this.description.batch === "any" ? 1 : Number(this.description.batch); // a fixed batch is filled up
    const times = (values, Type) => {
      const all = new Type(values.length * count);
      for (let i = 0; i < count; i++) all.set(values, i * values.length);
      return all;
    };
    const images =
      this.description.input === "uint8"
        ? new Tensor("uint8", times(frame, Uint8Array), [count, frameHeight, frameWidth, 3])
        : new Tensor("float32", times(planes(frame), Float32Array), [count, 3, frameHeight, frameWidth]);
    return {
      images,
      image_sizes: new Tensor("float32", times([inputHeight, inputWidth], Float32Array), [count, 2]),
      original_sizes: new Tensor("float32", times([height, width], Float32Array), [count, 2]),
    };
  }
}

// (height, width) to which a photo is resized.
function inputSize(height, width, description) {
  const rule = (name) => Number(description[`image.${name}`]);
  const scale =
    description["image.resize"] === "fit"
      ? Math.min(rule("height") / height, rule("width") / width)
      : Math.min(rule("shorter_side") / Math.min(height, width), rule("longer_side") / Math.max(height, width));
  return [Math.max(1, roundHalfEven(height * scale)), Math.max(1, roundHalfEven(width * scale))];
}

// (height, width) of the frame that the model is given.
function frameSize(height, width, description) {
  const rule = (name) => Number(description[`image.${name}`]);
  if (description["image.resize"] === "fit") return [rule("height"), rule("width")];
  const up = (side) => Math.ceil(side / rule("divisor")) * rule("divisor");
  return [up(height), up(width)];
}

function roundHalfEven(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

// Bilinear, with a triangle as wide as the shrinking asks for, in 22-bit fixed point, first along the rows, then along the
// columns: to the bit what Pillow does. (Newer ones begin with the columns where photos are more than twice as tall as
// wide, which gives one gray level more or less.)
export function resize(rgb, height, width, newHeight, newWidth) {
  const narrow = new Uint8Array(height * newWidth * 3);
  filter(rgb, narrow, weights(width, newWidth), height, width * 3, 3, newWidth * 3);
  const small = new Uint8Array(newHeight * newWidth * 3);
  filter(narrow, small, weights(height, newHeight), newWidth, 3, newWidth * 3, 3);
  return small;
}

// For each of `newSize` places, the first pixel that counts and how much each from there on does.
function weights(size, newSize) {
  const scale = size / newSize;
  const support = Math.max(scale, 1);
  return Array.from({ length: newSize }, (_, place) => {
    const center = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(size, Math.trunc(center + support + 0.5));
    const parts = [];
    for (let i = first; i < last; i++) parts.push(Math.max(0, 1 - Math.abs((i - center + 0.5) / support)));
    const total = parts.reduce((sum, part) => sum + part, 0);
    return { first, parts: parts.map((part) => Math.trunc((part / total) * (1 << 22) + 0.5)) };
  });
}

// Lines of pixels to lines of weighted sums. Steps are in bytes: from a line to the next one in source and target (the
// same for both where lines are columns), and from a pixel to the next one along a line.
function filter(source, target, places, lines, sourceLine, pixel, targetLine) {
  for (let line = 0; line < lines; line++) {
    for (let place = 0; place < places.length; place++) {
      const { first, parts } = places[place];
      for (let channel = 0; channel < 3; channel++) {
        let sum = 1 << 21;
        for (let i = 0; i < parts.length; i++) {
          sum += source[line * sourceLine + (first + i) * pixel + channel] * parts[i];
        }
        target[line * targetLine + place * pixel + channel] = Math.min(255, sum >> 22);
      }
    }
  }
}

// Three planes of numbers from pixels of three bytes.
function planes(frame) {
  const count = frame.length / 3;
  const numbers = new Float32Array(frame.length);
  for (let i = 0; i < count; i++) for (let c = 0; c < 3; c++) numbers[c * count + i] = frame[3 * i + c];
  return numbers;
}

// The runtimes do not give the file's metadata: field 14 of ONNX's ModelProto, pairs of key (1) and value (2), in the
// wire format of protocol buffers.
export function metadata(bytes) {
  const found = {};
  for (const [field, part] of fields(bytes)) {
    if (field !== 14) continue;
    const pair = new Map([...fields(part)].map(([key, value]) => [key, new TextDecoder().decode(value)]));
    found[pair.get(1)] = pair.get(2) ?? "";
  }
  return found;
}

function* fields(bytes) {
  let at = 0;
  const number = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      if (at >= bytes.length) throw new Error("damaged, or not an ONNX file");
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = number();
    const [field, type] = [Math.floor(tag / 8), tag % 8];
    if (type === 2) {
      const length = number();
      if (at + length > bytes.length) throw new Error("damaged: the file is truncated");
      yield [field, bytes.subarray(at, at + length)];
      at += length;
    } else if (type === 0) number();
    else if (type === 1) at += 8;
    else if (type === 5) at += 4;
    else throw new Error("damaged, or not an ONNX file");
  }
}
