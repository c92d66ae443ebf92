"""Write what the drawing of docs/how-it-works.md shows: the outputs of a small detector for one image.

    python docs/make_drawing.py

It trains on the toy data set (a few minutes on two CPU cores), then writes the numbers for the drawing in the site
(assets/how-it-works.data.js) and the picture that GitHub shows instead (images/how-it-works.svg).
"""

import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import frcnn
from frcnn.colors import class_color, css_color
from frcnn.data.dataset import Dataset
from frcnn.data.images import read_image
from frcnn.data.loader import load_batch
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.ops.anchors import anchor_grid, base_anchors
from frcnn.ops.box_coder import decode
from frcnn.ops.boxes import clip, iou
from frcnn.ops.nms import nms
from frcnn.ops.postprocess import select_detections
from frcnn.tools.toy import write_toy
from frcnn.types import DetectionTensors, Proposals, RoiOutput

DATA = Path(__file__).parent / "assets" / "how-it-works.data.js"
PICTURE = Path(__file__).parent / "images" / "how-it-works.svg"
PREFIX = "globalThis.howItWorksData = "

SEED, IMAGE = 1, 3
SETTINGS: dict[str, Any] = {
    "detector.image.shorter_side": 240,
    "detector.image.longer_side": 320,
    "detector.anchors.scales": [2, 4, 8],  # three sizes, as in the paper, but for a smaller image
    "train.epochs": 16,
    "train.seed": SEED,
}
PHOTO_WIDTH, PHOTO_QUALITY = 640, 60
MIN_SCORE = 0.02
"""Probability from which a class of a RoI is stored."""
FIRST_PRE, FIRST_SCORE = 100, 0.5
"""Boxes before NMS, and the score threshold, with which the drawing starts; the picture shows the same."""

Numbers = dict[str, Any]


def main() -> None:
    with TemporaryDirectory() as folder:
        write_toy(Path(folder) / "toy", seed=SEED)
        result = frcnn.train(
            Path(folder) / "toy", out=Path(folder) / "run", settings=SETTINGS, plan=False, offline=True
        )
        data = collect(result.detector.model, result.dataset, IMAGE)
    DATA.write_text(as_script(data), encoding="utf-8")
    PICTURE.write_text(picture(data), encoding="utf-8")


# -------------------------------------------------------------------------------------------------------------- numbers


@torch.no_grad()
def collect(model: FasterRCNN, dataset: Dataset, number: int) -> Numbers:
    """The outputs of the layers for a test image, as whole numbers where they are many."""
    record, detector, levels = dataset.test[number], model.settings.detector, model.rpn.levels
    batch = load_batch([record], dataset.classes, detector.resizing)
    height, width = batch.images.shape[-2:]
    features = model.backbone(model.normalize(batch.images, batch.image_sizes))
    rpn = model.rpn(features, (height, width))
    rows, columns = features[0].shape[-2:]
    scale_y, scale_x = (batch.original_sizes / batch.image_sizes)[0].tolist()
    data: Numbers = {
        "image": photo(read_image(record.image)),
        "width": width,
        "height": height,
        "rows": rows,
        "columns": columns,
        "stride": levels[0].stride,
        "offset": levels[0].offset,
        "sizes": [(detector.anchors.base_size or levels[0].stride) * scale for scale in detector.anchors.scales],
        "ratios": list(detector.anchors.aspect_ratios),
        "train_ious": [0.7, 0.3],
        "min_size": [detector.test_proposals.min_size / scale_x, detector.test_proposals.min_size / scale_y],
        "first_pre": FIRST_PRE,
        "first_score": FIRST_SCORE,
        "pre": detector.test_proposals.pre_nms_top_n,
        "post": detector.test_proposals.post_nms_top_n,
        "nms": detector.test_proposals.nms_threshold,
        "class_nms": detector.results.nms_threshold,
        "max": detector.results.max_detections,
        "roi_size": model.settings.base_model.roi_size,
        "stds": list(detector.box_deltas.stds),
        "classes": list(model.classes),
        "colors": [css_color(class_color(name)) for name in model.classes],
        "objects": [
            [label, *(round(side, 2) for side in box)]
            for label, box in zip(batch.targets[0].labels.tolist(), batch.targets[0].boxes.tolist(), strict=True)
        ],
        "channels": features[0].shape[1],
        "logits": _whole(rpn.logits[0], 10_000),
        "deltas": _whole(rpn.deltas[0], 1000),
    }
    channel = telling_channel(features[0][0], centers(data), batch.targets[0].boxes)
    data |= {"channel": channel + 1, "map": _whole(features[0][0, channel], 1000)}
    data["outputs"] = outputs(model.roi_head(features, boxes_of(data)[None]))
    data["follow"] = telling_proposal(data)
    return data


def outputs(roi: RoiOutput) -> list[list[int]]:
    """Of each class of each box that has `MIN_SCORE` or more: anchor, label, probability and deltas in thousandths."""
    probabilities = roi.logits[0].float().softmax(dim=-1)
    anchors, labels = (probabilities >= MIN_SCORE).nonzero().unbind(1)
    anchors, labels = anchors[labels > 0], labels[labels > 0]
    scores, deltas = (1000 * values[anchors, labels] for values in (probabilities, roi.deltas[0]))
    table = torch.cat((torch.stack((anchors, labels, scores.round().long()), dim=1), deltas.round().long()), dim=1)
    return table.tolist()


def telling_proposal(data: Numbers) -> int:
    """The anchor of the proposal that the drawing follows first: one with high scores, whose IoU both the RPN and the
    RoI head improve clearly."""
    kept, boxes, objects = proposals_of(data, FIRST_PRE, data["nms"]), boxes_of(data), data["objects"]
    sure = [row for row in data["outputs"] if row[0] in kept and data["logits"][row[0]] > 0 and row[2] >= 900]
    chosen = [row[0] for row in sure]
    anchors, rois = anchors_of(data)[chosen], boxes[chosen]
    deltas = torch.tensor([row[3:] for row in sure]) / 1000
    moved = clip(decode(deltas, rois, mean=torch.zeros(4), std=torch.tensor(data["stds"]))[None], _size(data))[0]
    same = torch.tensor([[row[1] == label for label, *_ in objects] for row in sure])
    targets = torch.tensor([box for _, *box in objects])
    ious = torch.stack([(iou(each, targets) * same).amax(dim=1) for each in (anchors, rois, moved)])
    return int(chosen[int(ious.diff(dim=0).amin(dim=0).argmax())])


def telling_channel(features: Tensor, centers: Tensor, objects: Tensor) -> int:
    """The channel that has the highest correlation with "the center of the cell is in an object"."""
    x, y = centers[:, None].unbind(-1)
    inside = ((x > objects[:, 0]) & (x < objects[:, 2]) & (y > objects[:, 1]) & (y < objects[:, 3])).any(dim=1)
    table = torch.cat((inside.float()[None], features.flatten(1)))
    return int(torch.corrcoef(table)[0, 1:].nan_to_num(-1).argmax())


def photo(image: Image.Image) -> str:
    """A small JPEG as a data URI."""
    file = BytesIO()
    height = round(image.height * PHOTO_WIDTH / image.width)
    image.resize((PHOTO_WIDTH, height), Image.Resampling.LANCZOS).save(file, "JPEG", quality=PHOTO_QUALITY)
    return f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"


def as_script(data: Numbers) -> str:
    """The file that the drawing loads: a script, since a page that is opened as a file cannot fetch JSON."""
    lines = ",\n".join(f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in data.items())
    return f"// Written by docs/make_drawing.py.\n{PREFIX}{{\n{lines}\n}};\n"


def read() -> Numbers:
    """The numbers in `DATA`."""
    data: Numbers = json.loads(DATA.read_text(encoding="utf-8").partition(PREFIX)[2].rstrip().removesuffix(";"))
    return data


def _whole(values: Tensor, factor: int) -> list[int]:
    return (values.flatten() * factor).round().long().tolist()


# -------------------------------------------------------------------------------------- what frcnn makes of the numbers


def anchors_of(data: Numbers) -> Tensor:
    """(N, 4)"""
    base = base_anchors(data["sizes"], data["ratios"])
    stride = (data["stride"], data["stride"])
    return anchor_grid(base, (data["rows"], data["columns"]), stride=stride, offset=data["offset"])


def boxes_of(data: Numbers) -> Tensor:
    """(N, 4): the anchors, moved by the RPN and clipped."""
    deltas = torch.tensor(data["deltas"]).view(-1, 4) / 1000
    boxes = decode(deltas, anchors_of(data), mean=torch.zeros(4), std=torch.ones(4))
    return clip(boxes[None], _size(data))[0]


def proposals_of(data: Numbers, pre_nms_top_n: int, nms_threshold: float) -> Tensor:
    """(K,): indices of the anchors whose boxes are proposals, best first."""
    boxes, logits = boxes_of(data), torch.tensor(data["logits"]) / 10_000
    logits[(boxes[:, 2:] - boxes[:, :2] < torch.tensor(data["min_size"])).any(dim=1)] = -torch.inf
    order = logits.argsort(descending=True, stable=True)
    logits[order[pre_nms_top_n:]] = -torch.inf
    keep = nms(boxes[None], logits[None], nms_threshold, data["post"])[0]
    return keep[keep >= 0]


def detections_of(data: Numbers, proposals: Tensor, score_threshold: float, nms_threshold: float) -> DetectionTensors:
    """Detections from the proposals with these indices."""
    boxes, classes = boxes_of(data), len(data["classes"])
    probabilities, deltas = torch.zeros(len(boxes), 1 + classes), torch.zeros(len(boxes), 1 + classes, 4)
    for anchor, label, score, *moves in data["outputs"]:
        probabilities[anchor, label], deltas[anchor, label] = score / 1000, torch.tensor(moves) / 1000
    probabilities[:, 0] = (1 - probabilities.sum(dim=1)).clamp(min=0)  # rounded numbers may sum to more than 1
    size, count = _size(data), len(proposals)
    return select_detections(
        RoiOutput(probabilities.log()[None, proposals], deltas[None, proposals]),
        Proposals(boxes[None, proposals], torch.ones(1, count), torch.ones(1, count, dtype=torch.bool)),
        size,
        size,
        mean=torch.zeros(4),
        std=torch.tensor(data["stds"]),
        score_threshold=score_threshold,
        nms_threshold=nms_threshold,
        max_detections=data["max"],
    )


def centers(data: Numbers) -> Tensor:
    """(H * W, 2): x and y of the cells' centers, input pixels."""
    y, x = ((torch.arange(data[name]) + data["offset"]) * data["stride"] for name in ("rows", "columns"))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)


def _size(data: Numbers) -> Tensor:
    return torch.tensor([[data["height"], data["width"]]], dtype=torch.float32)


# -------------------------------------------------------------------------------------------------------------- picture

GAP, TITLE, SIDE = 16, 58, 400


def picture(data: Numbers) -> str:
    """Four steps side by side and below each other, on white, so that it is legible on a dark page too."""
    kept = proposals_of(data, FIRST_PRE, data["nms"])
    found = detections_of(data, kept, FIRST_SCORE, data["class_nms"])
    anchors, boxes, per_cell = anchors_of(data), boxes_of(data), len(data["sizes"]) * len(data["ratios"])
    followed = data["follow"]
    cell = followed // per_cell
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.1" fill="#ffb000"/>' for x, y in centers(data).tolist())
    own = anchors[cell * per_cell : (cell + 1) * per_cell].tolist()
    named = [
        (box, data["colors"][label - 1], f"{data['classes'][label - 1]} {score:.2f}")
        for box, score, label, valid in zip(*(values[0].tolist() for values in found), strict=True)
        if valid
    ]
    panels = [
        (
            f"1. Anchors: {per_cell} at each cell",
            f"{len(anchors):,} boxes, the same in every image",
            dots + _boxes(own, "#ffb000", 1.6),
        ),
        (
            f"2. Proposals: {len(kept)} of {FIRST_PRE} after NMS",
            "the RPN moves anchors onto objects",
            _boxes(boxes[kept].flip(0).tolist(), "#2f8cff", 1.2),
        ),
        (
            "3. RoIs: a grid in each proposal",
            f"RoIAlign makes {data['roi_size']} × {data['roi_size']} maps of all of them",
            _grid(boxes[followed].tolist(), data["roi_size"]),
        ),
        (
            "4. Detections: class, score, box",
            "the RoI head classifies and moves each RoI",
            "".join(_boxes([box], color, 2) + _name(box, text, data["width"]) for box, color, text in named),
        ),
    ]
    scale = SIDE / data["width"]
    tall = round(data["height"] * scale)
    width, height = 3 * GAP + 2 * SIDE, GAP + 2 * (TITLE + tall + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif">',
        "<title>From anchors to detections</title>",
        f'<defs><image id="photo" href="{data["image"]}" width="{data["width"]}" height="{data["height"]}" '
        'preserveAspectRatio="none"/></defs>',
        f'<rect width="{width}" height="{height}" rx="12" fill="#fff"/>',
    ]
    for index, (title, caption, drawn) in enumerate(panels):
        x, y = GAP + index % 2 * (SIDE + GAP), GAP + index // 2 * (TITLE + tall + GAP)
        parts += [
            f'<text x="{x}" y="{y + 22}" font-size="22" font-weight="bold" fill="#1b1f27">{title}</text>',
            f'<text x="{x}" y="{y + 46}" font-size="17" fill="#4a5260">{caption}</text>',
            f'<svg x="{x}" y="{y + TITLE}" width="{SIDE}" height="{tall}" '
            f'viewBox="0 0 {data["width"]} {data["height"]}"><use href="#photo"/>{drawn}</svg>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _boxes(boxes: Iterable[Sequence[float]], color: str, line: float) -> str:
    """Each with a dark line below, so that it is seen on light and dark pixels."""
    return "".join(
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{right - x:.1f}" height="{bottom - y:.1f}" fill="none" {stroke}/>'
        for x, y, right, bottom in boxes
        for stroke in (
            f'stroke="#000" stroke-opacity=".5" stroke-width="{line + 1.2:.1f}"',
            f'stroke="{color}" stroke-width="{line}"',
        )
    )


def _grid(box: Sequence[float], size: int) -> str:
    x, y, right, bottom = box
    lines = "".join(
        f"M{x + share * (right - x):.1f} {y:.1f}V{bottom:.1f}M{x:.1f} {y + share * (bottom - y):.1f}H{right:.1f}"
        for share in (number / size for number in range(1, size))
    )
    return _boxes([box], "#fff04a", 2) + f'<path d="{lines}" stroke="#fff04a" stroke-width="1"/>'


def _name(box: Sequence[float], text: str, width: int) -> str:
    x, y = min(box[0] + 1, width - 7.2 * len(text)), box[1] - 3 if box[1] > 14 else box[1] + 12
    outline = 'stroke="#000" stroke-width="3" paint-order="stroke" stroke-linejoin="round"'
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="12.5" font-weight="bold" fill="#fff" {outline}>{text}</text>'


if __name__ == "__main__":
    main()
