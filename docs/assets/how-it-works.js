"use strict";
// The drawing of docs/how-it-works.md. The outputs of the layers are those of a real detector: how-it-works.data.js,
// written by docs/make_drawing.py. The rest is computed here: anchors, labels, proposals, RoIAlign, detections. It is
// computed in float32 and in the order of frcnn/ops, so that both give the same boxes; tests/test_how_it_works.py
// compares them.

(() => {
  const f = Math.fround;
  const MAX_LOG_SCALE = f(Math.log(1000 / 16));

  // ------------------------------------------------------------------------------------------------------------- ops

  function area(box) {
    return f(Math.max(0, f(box[2] - box[0])) * Math.max(0, f(box[3] - box[1])));
  }

  function iou(a, b) {
    const width = Math.max(0, f(Math.min(a[2], b[2]) - Math.max(a[0], b[0])));
    const height = Math.max(0, f(Math.min(a[3], b[3]) - Math.max(a[1], b[1])));
    const intersection = f(width * height);
    const union = f(f(area(a) + area(b)) - intersection);
    return union > 0 ? f(intersection / union) : 0;
  }

  /** By aspect ratio (height / width), then size; centered on the origin. */
  function baseAnchors(sizes, ratios) {
    return ratios.flatMap((ratio) =>
      sizes.map((size) => {
        const root = f(Math.sqrt(f(ratio)));
        const x = f(f(size / root) / 2),
          y = f(f(size * root) / 2);
        return [-x, -y, x, y];
      }),
    );
  }

  /** By row, column, base anchor. */
  function anchorGrid(base, rows, columns, stride, offset) {
    const center = (index) => f(f(index + f(offset)) * stride);
    const anchors = [];
    for (let row = 0; row < rows; row += 1) {
      for (let column = 0; column < columns; column += 1) {
        const x = center(column),
          y = center(row);
        for (const box of base) anchors.push([f(x + box[0]), f(y + box[1]), f(x + box[2]), f(y + box[3])]);
      }
    }
    return anchors;
  }

  /** Apply deltas (dx, dy, dw, dh) to an anchor or RoI. */
  function decode(deltas, anchor, std) {
    const scaled = deltas.map((delta, index) => f(f(delta) * f(std[index])));
    const low = [],
      high = [];
    for (const axis of [0, 1]) {
      const side = f(anchor[axis + 2] - anchor[axis]);
      const center = f(f(f(anchor[axis] + anchor[axis + 2]) / 2) + f(scaled[axis] * side));
      const half = f(f(side * f(Math.exp(Math.min(scaled[axis + 2], MAX_LOG_SCALE)))) / 2);
      low.push(f(center - half));
      high.push(f(center + half));
    }
    return [...low, ...high];
  }

  function clip(box, width, height) {
    return box.map((value, index) => Math.min(Math.max(value, 0), index % 2 ? height : width));
  }

  /** Indices of the kept boxes, by falling score (ties: lower index first). */
  function nms(boxes, scores, threshold, maxKeep) {
    const limit = f(threshold),
      kept = [];
    const order = boxes.map((_, index) => index).sort((a, b) => scores[b] - scores[a] || a - b);
    for (const index of order) {
      if (kept.length >= maxKeep) break;
      if (!kept.some((better) => iou(boxes[better], boxes[index]) > limit)) kept.push(index);
    }
    return kept;
  }

  /** Of each anchor: 1 positive, 0 negative, -1 ignored, -2 crosses the border of the image. */
  function matchAnchors(anchors, objects, width, height, positive, negative) {
    const inside = anchors.map((a) => a[0] >= 0 && a[1] >= 0 && a[2] <= width && a[3] <= height);
    const ious = anchors.map((anchor) => objects.map((box) => iou(anchor, box)));
    const highest = objects.map((_, object) =>
      Math.max(0, ...ious.filter((_, n) => inside[n]).map((row) => row[object])),
    );
    return ious.map((row, index) => {
      if (!inside[index]) return -2;
      if (row.some((value, object) => value > 0 && value === highest[object])) return 1;
      const best = Math.max(0, ...row);
      return best >= f(positive) ? 1 : best >= f(negative) ? -1 : 0;
    });
  }

  /** The points of a RoI's bins where the map is read: {x, y} input pixels, with the bin of each. */
  function samplePoints(roi, size, stride) {
    const sides = [roi[2] - roi[0], roi[3] - roi[1]];
    const [across, down] = sides.map((side) => Math.max(1, Math.ceil(side / stride / size)));
    const points = [];
    for (let bin = 0; bin < size * size; bin += 1) {
      for (let point = 0; point < across * down; point += 1) {
        const column = (bin % size) + ((point % across) + 0.5) / across;
        const row = Math.floor(bin / size) + (Math.floor(point / across) + 0.5) / down;
        points.push({ bin, x: roi[0] + (column / size) * sides[0], y: roi[1] + (row / size) * sides[1] });
      }
    }
    return { across, down, points };
  }

  /** RoIAlign of one channel: `size` x `size` values. Cell i is at the input pixel (i + offset) * stride. */
  function roiAlign(map, rows, columns, roi, size, stride, offset) {
    const { across, down, points } = samplePoints(roi, size, stride);
    const pooled = new Array(size * size).fill(0);
    for (const { bin, x, y } of points) {
      pooled[bin] += bilinear(map, rows, columns, y / stride - offset, x / stride - offset) / (across * down);
    }
    return pooled;
  }

  function bilinear(map, rows, columns, y, x) {
    if (y < -1 || x < -1 || y > rows || x > columns) return 0;
    const [top, bottom, below] = neighbors(y, rows),
      [left, right, after] = neighbors(x, columns);
    const at = (row, column) => map[row * columns + column];
    return (
      (1 - below) * ((1 - after) * at(top, left) + after * at(top, right)) +
      below * ((1 - after) * at(bottom, left) + after * at(bottom, right))
    );
  }

  /** The two cells around a coordinate, and its distance from the first; nothing is outside the map. */
  function neighbors(value, count) {
    const inside = Math.min(Math.max(value, 0), count - 1),
      first = Math.floor(inside);
    return [first, Math.min(first + 1, count - 1), inside - first];
  }

  // -------------------------------------------------------------------------------------------------------- detector

  /** What follows from the data alone. */
  function makeScene(data) {
    const { width, height, rows, columns, stride, offset } = data;
    const base = baseAnchors(data.sizes, data.ratios);
    const anchors = anchorGrid(base, rows, columns, stride, offset);
    const boxes = anchors.map((anchor, index) => {
      const deltas = data.deltas.slice(4 * index, 4 * index + 4).map((delta) => f(delta / 1000));
      return clip(decode(deltas, anchor, [1, 1, 1, 1]), width, height);
    });
    const objects = data.objects.map(([label, ...box]) => ({ label, box }));
    const outputs = anchors.map(() => []);
    for (const [anchor, label, score, ...deltas] of data.outputs) {
      const values = deltas.map((delta) => f(delta / 1000));
      const box = clip(decode(values, boxes[anchor], data.stds), width, height);
      outputs[anchor].push({ anchor, label, score: f(score / 1000), deltas: values, box });
    }
    return {
      data,
      base,
      anchors,
      boxes,
      objects,
      outputs,
      logits: data.logits.map((logit) => f(logit / 10000)),
      labels: matchAnchors(
        anchors,
        objects.map((each) => each.box),
        width,
        height,
        ...data.train_ious,
      ),
    };
  }

  function sigmoid(logit) {
    return 1 / (1 + Math.exp(-logit));
  }

  /** Indices of anchors: of the boxes that are large enough, the best before NMS, and those that NMS keeps. */
  function selectProposals(scene, { pre, threshold }) {
    const [least_width, least_height] = scene.data.min_size;
    const large = scene.boxes
      .map((_, index) => index)
      .filter((index) => {
        const box = scene.boxes[index];
        return box[2] - box[0] >= least_width && box[3] - box[1] >= least_height;
      });
    const before = large.sort((a, b) => scene.logits[b] - scene.logits[a] || a - b).slice(0, pre);
    const kept = nms(
      before.map((n) => scene.boxes[n]),
      before.map((n) => scene.logits[n]),
      threshold,
      scene.data.post,
    );
    return { large: large.length, before, kept: kept.map((index) => before[index]) };
  }

  /** Detections by falling score, and the number of boxes before NMS. NMS is applied within each class. */
  function selectDetections(scene, proposals, { score, threshold }) {
    const candidates = proposals.flatMap((anchor) => scene.outputs[anchor]).filter((each) => each.score >= f(score));
    const found = scene.data.classes.flatMap((_, index) => {
      const own = candidates.filter((each) => each.label === index + 1);
      return nms(
        own.map((e) => e.box),
        own.map((e) => e.score),
        threshold,
        scene.data.max,
      ).map((n) => own[n]);
    });
    found.sort((a, b) => b.score - a.score);
    return { candidates: candidates.length, found: found.slice(0, scene.data.max) };
  }

  /** The object that a box overlaps most, and their IoU. */
  function nearest(scene, box) {
    const ious = scene.objects.map((object) => iou(box, object.box));
    const index = ious.indexOf(Math.max(...ious));
    return { object: scene.objects[index], iou: ious[index] };
  }

  const ops = {
    anchorGrid,
    baseAnchors,
    decode,
    iou,
    makeScene,
    matchAnchors,
    nms,
    roiAlign,
    selectDetections,
    selectProposals,
  };
  if (typeof document === "undefined") {
    module.exports = ops;
    return;
  }

  // --------------------------------------------------------------------------------------------------------- drawing

  const script = document.currentScript.src;
  const source = document.createElement("script");
  source.src = script.replace(/\.js(?=$|\?)/, ".data.js");
  source.onload = () => start(makeScene(globalThis.howItWorksData));
  document.head.append(source);

  const count = (number) => number.toLocaleString("en-US");
  const many = (number, thing) => `${count(number)} ${thing}${number === 1 ? "" : "s"}`;
  const fixed = (number, digits = 2) => number.toFixed(digits).replace("-", "−");
  const sized = (box) => `${Math.round(box[2] - box[0])} × ${Math.round(box[3] - box[1])}`;
  const between = (value, low, high) => Math.min(Math.max(value, low), high);

  function place([x, y, right, bottom]) {
    return `x="${x}" y="${y}" width="${right - x}" height="${bottom - y}"`;
  }

  function rect(box, kind, style = "") {
    return `<rect class="hiw-under" ${place(box)}/><rect class="hiw-box ${kind}" ${place(box)} style="${style}"/>`;
  }

  /** A box that moves from one place to another when it is first shown. */
  function moving(from, to, kind, style = "") {
    return `<rect class="hiw-box hiw-moving ${kind}" ${place(from)} data-to="${to.join(" ")}" style="${style}"/>`;
  }

  function start(scene) {
    const root = document.querySelector("#how-it-works.drawing");
    if (root === null) return;
    const { data } = scene,
      { width, height, rows, columns, stride, offset, classes, colors } = data;
    const perCell = scene.base.length;
    const name = (label) => classes[label - 1],
      color = (label) => `stroke: ${colors[label - 1]}`;
    const heats = data.map.map(strength);
    const objectness = Array.from({ length: rows * columns }, (_, cell) =>
      Math.max(...anchorsOf(cell).map((index) => sigmoid(scene.logits[index]))),
    );
    const SLIDERS = {
      pre: {
        label: "Boxes before NMS",
        values: [10, 20, 50, 100, 200, 300, 500, 1000, 2000, data.pre],
        first: data.first_pre,
      },
      nms: { label: "NMS threshold of proposals", values: steps(0.3, 1), first: data.nms },
      score: { label: "Score threshold", values: steps(0.05, 0.95), first: data.first_score },
      classNms: { label: "NMS threshold of detections", values: steps(0.1, 1), first: data.class_nms },
    };
    const state = { stage: 0, cell: 0, row: null, follow: 0 };
    let proposals,
      detections,
      preview = null;

    function steps(low, high) {
      const made = [];
      for (let value = Math.round(20 * low); value <= Math.round(20 * high); value += 1) made.push(value / 20);
      return made;
    }

    /** How strongly a value of the map is drawn, 0 to 1: squared, so that high values stand out. */
    function strength(value) {
      const low = Math.min(...data.map),
        high = Math.max(...data.map);
      return ((value - low) / (high - low)) ** 2;
    }

    function anchorsOf(cell) {
      return Array.from({ length: perCell }, (_, index) => cell * perCell + index);
    }

    function centerOf(cell) {
      return [((cell % columns) + offset) * stride, (Math.floor(cell / columns) + offset) * stride];
    }

    function squareOf(cell) {
      const [x, y] = centerOf(cell),
        half = stride / 2;
      return clip([x - half, y - half, x + half, y + half], width, height);
    }

    function cellName(cell) {
      return `row ${Math.floor(cell / columns) + 1}, column ${(cell % columns) + 1}`;
    }

    // ------------------------------------------------------------------------------------------------------- pieces

    /** A name above a box, inside the picture. */
    function label(box, content) {
      const line = 13 * units();
      const [x, kind] = box[0] + box[2] < width ? [box[0] + 1, ""] : [Math.min(box[2], width - 1), "hiw-end"];
      return `<text class="hiw-text ${kind}" x="${x}" ` +
        `y="${box[1] < line ? box[1] + line : box[1] - 3 * units()}">${content}</text>`;
    }

    function objects() {
      return scene.objects.map(({ box }) => rect(box, "hiw-object")).join("");
    }

    function heat(values) {
      return values
        .map((value, cell) => {
          return `<rect class="hiw-heat" ${place(squareOf(cell))} fill-opacity="${fixed(0.9 * value)}"/>`;
        })
        .join("");
    }

    function dots(kinds) {
      return kinds
        .map((kind, cell) => {
          const [x, y] = centerOf(cell);
          return `<circle class="hiw-dot ${kind}" cx="${x}" cy="${y}"/>`;
        })
        .join("");
    }

    function table(heads, lines) {
      const row = ([attributes, ...cells]) =>
        `<tr ${attributes}>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
      const head = `<tr>${heads.map((title) => `<th scope="col">${title}</th>`).join("")}</tr>`;
      return `<table class="hiw-table"><thead>${head}</thead><tbody>${lines.map(row).join("")}</tbody></table>`;
    }

    function anchorOf(index) {
      return `anchor of ${sized(scene.anchors[index])} pixels at ${cellName(Math.floor(index / perCell))}`;
    }

    /** The anchor of the cell that is drawn boldly: the one that the reader chose, else the best. */
    function chosenAnchor(cell, value) {
      const values = anchorsOf(cell).map(value);
      return cell * perCell + (state.row ?? values.indexOf(Math.max(...values)));
    }

    function overlap(best) {
      if (best.iou === 0) return "overlaps no object";
      return `has an IoU of ${fixed(best.iou)} with the object ${name(best.object.label)}`;
    }

    function bestAnchor(cell) {
      return chosenAnchor(cell, (index) => nearest(scene, scene.anchors[index]).iou);
    }

    /** That of the proposal that the reader follows, if it is from this cell; else the one with the highest score. */
    function surestAnchor(cell) {
      return chosenAnchor(cell, (index) => (index === state.follow ? Infinity : scene.logits[index]));
    }

    function bestOutput(index) {
      return [...scene.outputs[index]].sort((a, b) => b.score - a.score)[0];
    }

    /** What became of the proposal that the reader follows. */
    function outcome() {
      const own = detections.found.filter((each) => each.anchor === state.follow);
      if (own.length) return `became ${own.map((each) => `${name(each.label)} ${fixed(each.score)}`).join(" and ")}`;
      return (bestOutput(state.follow)?.score ?? 0) >= f(values.score)
        ? "was dropped by NMS: a better box overlaps its box"
        : "is background";
    }

    function fate(index) {
      if (proposals.kept.includes(index)) return "kept";
      return proposals.before.includes(index) ? "dropped" : "low score";
    }

    // ------------------------------------------------------------------------------------------------------- stages

    const OBJECT = ["hiw-object", "object (annotated)"],
      ANCHOR = ["hiw-anchor", "anchor"];
    const LABELS = { 1: "positive", 0: "negative", "-1": "ignored", "-2": "crosses the border" };
    const STAGES = [
      {
        name: "Image",
        code: "data/loader.py: load_batch",
        shape: `(1, 3, ${height}, ${width})`,
        more: "the-image",
        about:
          "A generated picture of a refrigerator, which was not used in training. The detector gets the pixels " +
          "alone. The boxes of the objects are for training and for evaluation.",
        legend: [OBJECT],
        draw: () => objects() + scene.objects.map(({ label: number, box }) => label(box, name(number))).join(""),
        say: () =>
          `${width} × ${height} pixels, ${many(scene.objects.length, "object")}: ` +
          `${scene.objects.map((each) => name(each.label)).join(", ")}.`,
      },
      {
        name: "Feature map",
        code: "nn/backbone.py: Backbone",
        shape: `(1, ${data.channels}, ${rows}, ${columns})`,
        more: "the-feature-map",
        pick: "cell",
        about: `The conv layers make one cell of every ${stride} × ${stride} pixels. Each cell has ${data.channels} ` +
          `numbers. The picture shows one of them: channel ${data.channel}, which differs most between objects and ` +
          `background.`,
        legend: [["hiw-heat", "high value"]],
        draw: (cell) => heat(heats) + rect(squareOf(cell), "hiw-cell"),
        say: (cell) =>
          `Cell at ${cellName(cell)}: ${fixed(data.map[cell] / 1000)} in channel ${data.channel}. The map has ` +
          `${rows} rows and ${columns} columns.`,
      },
      {
        name: "Anchors",
        code: "ops/anchors.py: base_anchors, anchor_grid",
        shape: `(${scene.anchors.length}, 4)`,
        more: "anchors",
        pick: "cell",
        about: `Each cell has ${perCell} anchors: ${data.sizes.length} sizes in ${data.ratios.length} aspect ratios. ` +
          `They are the same at every cell, whatever the image shows. Choose a cell.`,
        legend: [ANCHOR, OBJECT, ["hiw-dot", "center of a cell"]],
        draw(cell) {
          const bold = bestAnchor(cell);
          return (
            objects() +
            dots(Array(rows * columns).fill("")) +
            anchorsOf(cell)
              .map((index) => rect(scene.anchors[index], "hiw-anchor hiw-thin"))
              .join("") +
            rect(scene.anchors[bold], "hiw-anchor") +
            rect(squareOf(cell), "hiw-cell")
          );
        },
        say(cell) {
          const best = nearest(scene, scene.anchors[bestAnchor(cell)]);
          const which = state.row === null ? "The best one" : "The chosen one";
          return `Cell at ${cellName(cell)}: ${perCell} anchors. ${which} ${overlap(best)}.`;
        },
        detail: (cell) =>
          table(
            ["width × height", "IoU", "object", "in training"],
            anchorsOf(cell).map((index) => {
              const best = nearest(scene, scene.anchors[index]);
              const bold = index === bestAnchor(cell);
              return [
                `data-row="${index % perCell}" class="${bold ? "hiw-bold" : ""}"`,
                sized(scene.anchors[index]),
                fixed(best.iou),
                best.iou > 0 ? name(best.object.label) : "-",
                LABELS[scene.labels[index]],
              ];
            }),
          ),
      },
      {
        name: "Labels",
        code: "ops/matcher.py: match_anchors",
        shape: `(${scene.anchors.length},)`,
        more: "labels-of-anchors",
        about: `In training only. Positive: an IoU of ${data.train_ious[0]} or more, or the best anchor of an ` +
          `object. Negative: an IoU below ${data.train_ious[1]} with every object. Other anchors are not ` +
          `used, and neither are those that cross the border.`,
        legend: [
          ["hiw-anchor", "positive anchor"],
          ["hiw-dot hiw-positive", "cell with a positive anchor"],
          ["hiw-dot hiw-ignored", "with ignored anchors"],
          ["hiw-dot hiw-negative", "with negative anchors only"],
        ],
        draw() {
          const kinds = Array.from({ length: rows * columns }, (_, cell) => {
            const labels = anchorsOf(cell).map((index) => scene.labels[index]);
            return labels.includes(1)
              ? "hiw-positive"
              : labels.includes(-1)
                ? "hiw-ignored"
                : labels.includes(0)
                  ? "hiw-negative"
                  : "hiw-out";
          });
          return (
            objects() +
            scene.anchors
              .map((box, index) => (scene.labels[index] === 1 ? rect(box, "hiw-anchor hiw-thin") : ""))
              .join("") +
            dots(kinds)
          );
        },
        say() {
          const of = (wanted) => scene.labels.filter((each) => each === wanted).length;
          return `${many(scene.anchors.length, "anchor")}: ${count(of(1))} positive, ${count(of(0))} negative, ` +
            `${count(of(-1))} ignored, ${count(of(-2))} cross the border of the image.`;
        },
        detail: () =>
          table(
            ["object", "best IoU", "positive anchors"],
            scene.objects.map(({ label: number, box }) => {
              const inside = scene.anchors
                .filter((_, index) => scene.labels[index] > -2)
                .map((anchor) => iou(anchor, box));
              const positive = scene.anchors.filter(
                (anchor, index) => scene.labels[index] === 1 && nearest(scene, anchor).object.box === box,
              );
              return ["", name(number), fixed(Math.max(...inside)), positive.length];
            }),
          ),
      },
      {
        name: "RPN",
        code: "nn/rpn.py: RPN, ops/box_coder.py: decode",
        shape: `(1, ${scene.anchors.length}), (1, ${scene.anchors.length}, 4)`,
        more: "region-proposal-network",
        pick: "cell",
        about:
          "The RPN predicts for each anchor how likely it covers an object (objectness), and four deltas that move " +
          "it onto the object. The picture shows the highest objectness of each cell. Choose a cell.",
        legend: [["hiw-heat", "high objectness"], ANCHOR, ["hiw-moved", "box after the move"]],
        draw(cell, animated) {
          const bold = surestAnchor(cell),
            box = scene.boxes[bold];
          return (
            heat(objectness) +
            rect(squareOf(cell), "hiw-cell") +
            rect(scene.anchors[bold], "hiw-anchor hiw-dashed") +
            moving(animated ? scene.anchors[bold] : box, box, "hiw-moved")
          );
        },
        say(cell) {
          const index = surestAnchor(cell),
            after = nearest(scene, scene.boxes[index]);
          const moved =
            after.iou > 0
              ? `The move changes the IoU with the object ${name(after.object.label)} from ` +
                `${fixed(iou(scene.anchors[index], after.object.box))} to ${fixed(after.iou)}.`
              : "After the move, it overlaps no object.";
          return `Cell at ${cellName(cell)}: objectness ${fixed(sigmoid(scene.logits[index]))} for the anchor of ` +
            `${sized(scene.anchors[index])} pixels. ${moved}`;
        },
        detail: (cell) =>
          table(
            ["anchor", "score", "dx, dy", "dw, dh", "box"],
            anchorsOf(cell).map((index) => {
              const [dx, dy, dw, dh] = data.deltas.slice(4 * index, 4 * index + 4).map((delta) => fixed(delta / 1000));
              const bold = index === surestAnchor(cell);
              return [
                `data-row="${index % perCell}" class="${bold ? "hiw-bold" : ""}"`,
                sized(scene.anchors[index]),
                fixed(sigmoid(scene.logits[index])),
                `${dx}, ${dy}`,
                `${dw}, ${dh}`,
                fate(index),
              ];
            }),
          ),
      },
      {
        name: "Proposals",
        code: "ops/postprocess.py: select_proposals, ops/nms.py: nms",
        shape: `(1, ${data.post}, 4)`,
        more: "proposals",
        pick: "proposal",
        sliders: ["pre", "nms"],
        about:
          "Of all boxes that the RPN made, the best enter NMS. NMS drops each box that overlaps a better one by more " +
          "than the threshold. Move the sliders. Choose a proposal to follow it.",
        legend: [
          ["hiw-dropped", "dropped by NMS"],
          ["hiw-kept", "proposal"],
          ["hiw-chosen", "the proposal that you follow"],
          ["hiw-anchor hiw-dashed", "its anchor"],
        ],
        draw() {
          const dropped = proposals.before.filter((index) => !proposals.kept.includes(index)).slice(0, 300);
          return (
            dropped.map((index) => `<rect class="hiw-dropped" ${place(scene.boxes[index])}/>`).join("") +
            proposals.kept
              .map((index) => `<rect class="hiw-box hiw-kept hiw-thin" ${place(scene.boxes[index])}/>`)
              .join("") +
            rect(scene.anchors[state.follow], "hiw-anchor hiw-dashed") +
            rect(scene.boxes[state.follow], "hiw-chosen")
          );
        },
        say() {
          const best = nearest(scene, scene.boxes[state.follow]),
            number = proposals.kept.indexOf(state.follow) + 1;
          return (
            `${count(scene.boxes.length)} boxes, ${count(proposals.large)} large enough, the ` +
            `${count(proposals.before.length)} best before NMS, ${many(proposals.kept.length, "proposal")} ` +
            `after NMS. Proposal ${number}: objectness ${fixed(sigmoid(scene.logits[state.follow]))}, from the ` +
            `${anchorOf(state.follow)}. It ${overlap(best)}.`
          );
        },
      },
      {
        name: "RoI pooling",
        code: "ops/roi_pooling.py: roi_align",
        shape: `(${data.post}, ${data.channels}, ${data.roi_size}, ${data.roi_size})`,
        more: "roi-pooling",
        pick: "proposal",
        about: `RoIAlign divides each proposal, now called RoI, into ${data.roi_size} × ${data.roi_size} bins. Each ` +
          `point reads the feature map as a weighted mean of the four cells around it. RoIs of all sizes become maps ` +
          `of one size.`,
        legend: [
          ["hiw-chosen", "RoI and its bins"],
          ["hiw-dot hiw-sample", "point where the map is read"],
          ["hiw-dot hiw-small", "center of a cell"],
        ],
        draw() {
          const roi = scene.boxes[state.follow],
            { points } = samplePoints(roi, data.roi_size, stride);
          const line = (x1, y1, x2, y2) => `<line class="hiw-grid" x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}"/>`;
          const grid = Array.from({ length: data.roi_size - 1 }, (_, index) => {
            const x = roi[0] + ((index + 1) / data.roi_size) * (roi[2] - roi[0]),
              y = roi[1] + ((index + 1) / data.roi_size) * (roi[3] - roi[1]);
            return line(x, roi[1], x, roi[3]) + line(roi[0], y, roi[2], y);
          }).join("");
          return (
            heat(heats) +
            dots(Array(rows * columns).fill("hiw-small")) +
            rect(roi, "hiw-chosen") +
            grid +
            points.map(({ x, y }) => `<circle class="hiw-dot hiw-sample" cx="${x}" cy="${y}"/>`).join("")
          );
        },
        say() {
          const roi = scene.boxes[state.follow],
            { across, down } = samplePoints(roi, data.roi_size, stride);
          return `RoI of ${sized(roi)} pixels, ${many(across * down, "point")} in each bin. Channel ${data.channel} ` +
            `of the pooled map is below.`;
        },
        detail() {
          const pooled = roiAlign(data.map, rows, columns, scene.boxes[state.follow], data.roi_size, stride, offset);
          const cells = pooled.map((value, bin) => {
            const place = `x="${bin % data.roi_size}" y="${Math.floor(bin / data.roi_size)}" width="1" height="1"`;
            return `<rect class="hiw-heat" ${place} ` +
              `fill-opacity="${fixed(0.9 * strength(value))}"><title>${fixed(value / 1000)}</title></rect>`;
          });
          return `<svg class="hiw-pooled" viewBox="0 0 ${data.roi_size} ${data.roi_size}" role="img" ` +
            `aria-label="Channel ${data.channel} of the pooled map, from ${fixed(Math.min(...pooled) / 1000)} to ` +
            `${fixed(Math.max(...pooled) / 1000)}">${cells.join("")}</svg>`;
        },
      },
      {
        name: "RoI head",
        code: "nn/roi_head.py: RoiHead",
        shape: `(1, ${data.post}, ${classes.length + 1}), (1, ${data.post}, ${classes.length + 1}, 4)`,
        more: "roi-head",
        pick: "proposal",
        about: `From the pooled map, the RoI head predicts the probability of each class and of background. For each ` +
          `class it predicts four deltas, which move the RoI onto an object of this class.`,
        legend: [["hiw-chosen hiw-dashed", "RoI"], ["hiw-class", "box of the class"], OBJECT],
        draw(_, animated) {
          const roi = scene.boxes[state.follow],
            best = bestOutput(state.follow);
          if (best === undefined) return objects() + rect(roi, "hiw-chosen hiw-dashed");
          return (
            objects() +
            rect(roi, "hiw-chosen hiw-dashed") +
            moving(animated ? roi : best.box, best.box, "hiw-class", color(best.label)) +
            label(best.box, `${name(best.label)} ${fixed(best.score)}`)
          );
        },
        say() {
          const best = bestOutput(state.follow),
            roi = scene.boxes[state.follow];
          if (best === undefined) return "Background: no class has a probability of 0.02 or more.";
          const after = nearest(scene, best.box);
          const change =
            after.iou > 0
              ? `The move changes the IoU with the object ${name(after.object.label)} from ` +
                `${fixed(iou(roi, after.object.box))} to ${fixed(after.iou)}.`
              : "The box overlaps no object.";
          return `Most probable class: ${name(best.label)}, ${fixed(best.score)}. ${change}`;
        },
        detail() {
          const listed = [...scene.outputs[state.follow]].sort((a, b) => b.score - a.score);
          const rest = Math.max(0, 1 - listed.reduce((sum, each) => sum + each.score, 0));
          const bar = (value, tint) =>
            `<span class="hiw-bar" style="--part: ${fixed(value)}; ${tint}"></span> ${fixed(value)}`;
          return table(
            ["class", "probability", "dx, dy", "dw, dh"],
            [
              ...listed.map((each) => {
                const [dx, dy, dw, dh] = each.deltas.map((delta, index) => fixed(delta * data.stds[index]));
                return [
                  "",
                  name(each.label),
                  bar(each.score, `--tint: ${colors[each.label - 1]}`),
                  `${dx}, ${dy}`,
                  `${dw}, ${dh}`,
                ];
              }),
              ["", listed.length ? "background and other classes" : "background", bar(rest, ""), "-", "-"],
            ],
          );
        },
      },
      {
        name: "Detections",
        code: "ops/postprocess.py: select_detections",
        shape: `(1, ${data.max}, 4)`,
        more: "detections",
        pick: "detection",
        sliders: ["score", "classNms", "pre", "nms"],
        about:
          "Boxes below the score threshold are background. Of each class, NMS keeps the best of the boxes that " +
          "overlap. Move the sliders, also those of the proposals.",
        legend: [
          ["hiw-class", "detection"],
          OBJECT,
          ["hiw-chosen hiw-dashed", "the proposal that you follow"],
          ["hiw-anchor hiw-dashed", "its anchor"],
        ],
        draw() {
          const path =
            rect(scene.anchors[state.follow], "hiw-anchor hiw-dashed") +
            rect(scene.boxes[state.follow], "hiw-chosen hiw-dashed");
          return (
            objects() +
            path +
            detections.found.map((each) => rect(each.box, "hiw-class", color(each.label))).join("") +
            detections.found.map((each) => label(each.box, `${name(each.label)} ${fixed(each.score)}`)).join("")
          );
        },
        say() {
          const right = new Set(detections.found.map(correct).filter((object) => object !== null));
          const wrong = detections.found.length - right.size;
          return (
            `${many(proposals.kept.length, "proposal")}. Boxes with at least the score threshold: ` +
            `${count(detections.candidates)}. After NMS: ${many(detections.found.length, "detection")}. ` +
            `${right.size} of ${many(scene.objects.length, "object")} detected, ${many(wrong, "false detection")}. ` +
            `The proposal that you follow ${outcome()}.`
          );
        },
        detail: () =>
          table(
            ["class", "score", "IoU", "from the anchor"],
            detections.found.map((each) => {
              const best = nearest(scene, each.box);
              return [
                `data-follow="${each.anchor}" class="${each.anchor === state.follow ? "hiw-bold" : ""}"`,
                `<span class="hiw-swatch" style="background: ${colors[each.label - 1]}"></span>${name(each.label)}`,
                fixed(each.score),
                fixed(best.iou),
                `${sized(scene.anchors[each.anchor])} at ${cellName(Math.floor(each.anchor / perCell))}`,
              ];
            }),
          ),
      },
    ];

    /** The object of the same class that a detection overlaps with an IoU of 0.5 or more. */
    function correct(detection) {
      const own = scene.objects.filter(
        (object) => object.label === detection.label && iou(object.box, detection.box) >= 0.5,
      );
      return own[0] ?? null;
    }

    // --------------------------------------------------------------------------------------------------------- page

    root.classList.add("hiw");
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Drawing: from the image to the detections");
    root.innerHTML = `
      <div class="hiw-tabs" role="tablist" aria-label="Steps of the detector">${STAGES.map(
        (stage, index) =>
          `<button type="button" role="tab" id="hiw-tab-${index}" aria-controls="hiw-body" aria-label="${index + 1}, ` +
          `${stage.name}"><b>${index + 1}</b> <span>${stage.name}</span></button>`,
      ).join("")}</div>
      <div class="hiw-body" id="hiw-body" role="tabpanel">
        <div class="hiw-picture">
          <svg viewBox="0 0 ${width} ${height}">
            <image href="${data.image}" width="${width}" height="${height}" preserveAspectRatio="none"/><g></g>
          </svg>
          <div class="hiw-legend"></div>
        </div>
        <div class="hiw-panel">
          <div class="hiw-steps">
            <button type="button" data-step="-1">Back</button><h3></h3><button type="button" data-step="1">Next</button>
          </div>
          <p class="hiw-about"></p>
          <p class="hiw-code"><code></code> <span></span> <a>more</a></p>
          <div class="hiw-sliders">${Object.entries(SLIDERS)
            .map(
              ([key, { label: title, values }]) =>
                `<label data-key="${key}"><span>${title}</span> <b></b><input type="range" min="0" ` +
                `max="${values.length - 1}" step="1"></label>`,
            )
            .join("")}
            <button type="button" class="hiw-reset">Reset</button></div>
          <div class="hiw-follow">
            <button type="button" data-follow="-1">‹</button>
            <span></span>
            <button type="button" data-follow="1">›</button>
          </div>
          <p class="hiw-say" aria-live="polite"></p>
          <div class="hiw-detail"></div>
        </div>
      </div>`;
    const find = (selector) => root.querySelector(selector);
    const svg = find("svg"),
      layer = find("svg g"),
      say = find(".hiw-say"),
      tabs = [...root.querySelectorAll("[role=tab]")];
    const values = Object.fromEntries(Object.entries(SLIDERS).map(([key, { first }]) => [key, first]));

    /** SVG units per CSS pixel, so that texts and dots have the same size on every screen. */
    function units() {
      return width / (svg.clientWidth || width);
    }

    function compute() {
      proposals = selectProposals(scene, { pre: values.pre, threshold: values.nms });
      detections = selectDetections(scene, proposals.kept, { score: values.score, threshold: values.classNms });
      if (!proposals.kept.includes(state.follow)) {
        const overlap = (index) => iou(scene.boxes[index], scene.boxes[state.follow]);
        state.follow = proposals.kept.reduce((best, index) => (overlap(index) > overlap(best) ? index : best));
      }
    }

    /** What the reader steps through: the indices of anchors. */
    function followed() {
      return STAGES[state.stage].pick === "detection" ? detections.found.map((each) => each.anchor) : proposals.kept;
    }

    function render({ animated = false } = {}) {
      const stage = STAGES[state.stage],
        cell = preview ?? state.cell;
      svg.style.setProperty("--u", units());
      svg.classList.toggle("hiw-dim", state.stage > 0 && state.stage < STAGES.length - 1);
      layer.innerHTML = stage.draw(cell, animated);
      for (const box of layer.querySelectorAll(".hiw-moving")) {
        box.getBoundingClientRect(); // the browser has placed it, so that the next line moves it
        const [x, y, right, bottom] = box.dataset.to.split(" ").map(Number);
        Object.assign(box.style, { x: `${x}px`, y: `${y}px`, width: `${right - x}px`, height: `${bottom - y}px` });
      }
      say.setAttribute("aria-live", preview === null ? "polite" : "off");
      say.textContent = stage.say(cell);
      find(".hiw-detail").innerHTML = stage.detail?.(cell) ?? "";
      for (const slider of root.querySelectorAll(".hiw-sliders label")) {
        const { key } = slider.dataset,
          input = slider.querySelector("input");
        const shown = key === "pre" ? count(values.pre) : fixed(values[key]);
        slider.hidden = !stage.sliders?.includes(key);
        slider.style.order = stage.sliders?.indexOf(key) ?? 0;
        input.value = SLIDERS[key].values.indexOf(values[key]);
        input.setAttribute("aria-valuetext", shown);
        slider.querySelector("b").textContent = shown;
      }
      find(".hiw-sliders").hidden = !stage.sliders;
      const list = followed(),
        at = list.indexOf(state.follow),
        thing = stage.pick === "detection" ? "Detection" : "Proposal";
      const [previous, next] = root.querySelectorAll(".hiw-follow button");
      find(".hiw-follow").hidden = (stage.pick !== "proposal" && stage.pick !== "detection") || list.length === 0;
      find(".hiw-follow span").textContent =
        at < 0 ? `${many(list.length, thing.toLowerCase())}` : `${thing} ${count(at + 1)} of ${count(list.length)}`;
      previous.setAttribute("aria-label", `Previous ${thing.toLowerCase()}`);
      next.setAttribute("aria-label", `Next ${thing.toLowerCase()}`);
    }

    /** Show a stage. */
    function go(index) {
      state.stage = between(index, 0, STAGES.length - 1);
      state.row = preview = null;
      const stage = STAGES[state.stage];
      tabs.forEach((tab, number) => {
        tab.setAttribute("aria-selected", number === state.stage);
        tab.tabIndex = number === state.stage ? 0 : -1;
      });
      find(".hiw-body").setAttribute("aria-labelledby", `hiw-tab-${state.stage}`);
      find("h3").textContent = `${state.stage + 1}. ${stage.name}`;
      find(".hiw-about").textContent = stage.about;
      find(".hiw-code code").textContent = stage.code;
      find(".hiw-code span").textContent = stage.shape;
      find(".hiw-code a").href = `#${stage.more}`;
      find(".hiw-code a").setAttribute("aria-label", `more about ${stage.name}`);
      find(".hiw-legend").innerHTML = stage.legend
        .map(([kind, meaning]) => {
          const mark = kind.startsWith("hiw-dot")
            ? `<circle class="${kind}" cx="10" cy="6"/>`
            : `<rect class="hiw-box ${kind}" x="3" y="2" width="14" height="8"/>`;
          return `<span><svg viewBox="0 0 20 12" aria-hidden="true">${mark}</svg>${meaning}</span>`;
        })
        .join("");
      const [back, forward] = root.querySelectorAll("[data-step]");
      back.disabled = state.stage === 0;
      forward.disabled = state.stage === STAGES.length - 1;
      if (stage.pick) {
        svg.setAttribute("tabindex", "0");
        svg.setAttribute("role", "application");
        svg.setAttribute("aria-label", `Picture. The arrow keys choose a ${stage.pick}.`);
      } else {
        svg.removeAttribute("tabindex");
        svg.setAttribute("role", "img");
        svg.setAttribute("aria-label", `Picture of this step: ${stage.name}`);
      }
      render({ animated: true });
    }

    function follow(index) {
      state.follow = index;
      state.cell = Math.floor(index / perCell);
      render({ animated: true });
    }

    /** Follow the next of the list, or the previous one, in a circle; the first or the last one after none. */
    function followNext(step) {
      const list = followed(),
        at = list.indexOf(state.follow);
      if (list.length === 0) return;
      follow(at < 0 ? list.at(step > 0 ? 0 : -1) : list[(at + step + list.length) % list.length]);
    }

    function pointed(event) {
      const frame = svg.getBoundingClientRect();
      return [
        ((event.clientX - frame.left) / frame.width) * width,
        ((event.clientY - frame.top) / frame.height) * height,
      ];
    }

    function cellAt(event) {
      const [x, y] = pointed(event),
        at = (value, limit) => between(Math.round(value / stride - offset), 0, limit - 1);
      return at(y, rows) * columns + at(x, columns);
    }

    /** Of the boxes under the pointer, the smallest; with every further click, the next one. */
    function followAt(event) {
      const [x, y] = pointed(event);
      const boxes =
        STAGES[state.stage].pick === "detection"
          ? detections.found
          : proposals.kept.map((anchor) => ({ anchor, box: scene.boxes[anchor] }));
      const under = boxes
        .filter(({ box }) => x >= box[0] && y >= box[1] && x <= box[2] && y <= box[3])
        .sort((a, b) => area(a.box) - area(b.box));
      if (under.length)
        follow(under[(under.findIndex(({ anchor }) => anchor === state.follow) + 1) % under.length].anchor);
    }

    function choose(cell) {
      if (cell !== state.cell) state.row = null;
      state.cell = cell;
      preview = null;
      render({ animated: true });
    }

    const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    root.addEventListener("keydown", (event) => {
      const move = MOVES[event.key],
        tab = event.target.closest("[role=tab]"),
        { pick } = STAGES[state.stage];
      if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.target.matches("input")) return;
      if (event.target === svg && move) {
        if (pick === "cell") {
          const column = between((state.cell % columns) + move[0], 0, columns - 1),
            row = between(Math.floor(state.cell / columns) + move[1], 0, rows - 1);
          choose(row * columns + column);
        } else followNext(move[0] + move[1]);
      } else if (move?.[0]) go(state.stage + move[0]);
      else if (tab && event.key === "Home") go(0);
      else if (tab && event.key === "End") go(STAGES.length - 1);
      else return;
      event.preventDefault();
      if (tab) tabs[state.stage].focus();
    });
    root.addEventListener("click", (event) => {
      const at = (selector) => event.target.closest(selector),
        { pick } = STAGES[state.stage];
      if (at("[role=tab]")) go(tabs.indexOf(at("[role=tab]")));
      else if (at("[data-step]")) go(state.stage + Number(at("[data-step]").dataset.step));
      else if (at("button[data-follow]")) followNext(Number(at("button[data-follow]").dataset.follow));
      else if (at("tr[data-follow]")) follow(Number(at("tr[data-follow]").dataset.follow));
      else if (at("tr[data-row]")) {
        state.row = Number(at("tr[data-row]").dataset.row);
        const index = state.cell * perCell + state.row;
        if (proposals.kept.includes(index)) state.follow = index;
        render({ animated: true });
      } else if (at(".hiw-reset")) {
        for (const key of Object.keys(values)) values[key] = SLIDERS[key].first;
        compute();
        render();
      } else if (at(".hiw-picture > svg") && pick === "cell") choose(cellAt(event));
      else if (at(".hiw-picture > svg") && pick) followAt(event);
    });
    root.addEventListener("input", (event) => {
      const { key } = event.target.closest("label").dataset;
      values[key] = SLIDERS[key].values[event.target.value];
      compute();
      render();
    });
    svg.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "mouse" || STAGES[state.stage].pick !== "cell") return;
      const cell = cellAt(event);
      if (cell === preview) return;
      preview = cell;
      render();
    });
    svg.addEventListener("pointerleave", () => {
      if (preview === null) return;
      preview = null;
      render();
    });
    new ResizeObserver(() => svg.style.setProperty("--u", units())).observe(svg);

    state.follow = data.follow;
    state.cell = Math.floor(state.follow / perCell);
    compute();
    go(0);
    for (const picture of document.querySelectorAll('img[src$="how-it-works.svg"]')) picture.hidden = true;
  }
})();
