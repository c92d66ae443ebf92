"""mmdetection's Faster R-CNN for one image, with mmdetection's names of weights. Written after its source, with
torch.nn, torchvision's ResNet and torchvision.ops alone.

Rules are those of configs/_base_/models/faster-rcnn_r50_fpn.py and of configs/_base_/datasets/coco_detection.py.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.ops import batched_nms, roi_align


class Rules(NamedTuple):
    """What a config of mmdetection says."""

    depth: int = 50
    style: str = "pytorch"
    classes: int = 5
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    bgr_to_rgb: bool = True
    scale: tuple[int, int] = (1333, 800)
    scales: tuple[int, ...] = (8,)
    agnostic: bool = False
    max_proposals: int = 1000
    score_thr: float = 0.05
    max_per_img: int = 100


CAFFE = {"style": "caffe", "mean": (103.53, 116.28, 123.675), "std": (1.0, 1.0, 1.0), "bgr_to_rgb": False}
"""Of faster-rcnn_r50-caffe_fpn_1x_coco.py."""


def config_of(rules: Rules) -> dict[str, Any]:
    """The config of mmdetection 3 that makes the model with these rules."""
    coder = {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4}
    nms = {"type": "nms"}
    rpn = {"nms_pre": 1000, "max_per_img": rules.max_proposals, "nms": {**nms, "iou_threshold": 0.7}}
    model = {
        "type": "FasterRCNN",
        "data_preprocessor": {
            "type": "DetDataPreprocessor",
            "mean": list(rules.mean),
            "std": list(rules.std),
            "bgr_to_rgb": rules.bgr_to_rgb,
            "pad_size_divisor": 32,
        },
        "backbone": {
            "type": "ResNet",
            "depth": rules.depth,
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "frozen_stages": 1,
            "norm_cfg": {"type": "BN", "requires_grad": True},
            "style": rules.style,
        },
        "neck": {"type": "FPN", "out_channels": 256, "num_outs": 5},
        "rpn_head": {
            "type": "RPNHead",
            "feat_channels": 256,
            "anchor_generator": {
                "type": "AnchorGenerator",
                "scales": list(rules.scales),
                "ratios": [0.5, 1.0, 2.0],
                "strides": [4, 8, 16, 32, 64],
            },
            "bbox_coder": {**coder, "target_stds": [1.0, 1.0, 1.0, 1.0]},
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True},
        },
        "roi_head": {
            "type": "StandardRoIHead",
            "bbox_roi_extractor": {
                "type": "SingleRoIExtractor",
                "roi_layer": {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0},
                "featmap_strides": [4, 8, 16, 32],
            },
            "bbox_head": {
                "type": "Shared2FCBBoxHead",
                "fc_out_channels": 1024,
                "num_classes": rules.classes,
                "bbox_coder": {**coder, "target_stds": [0.1, 0.1, 0.2, 0.2]},
                "reg_class_agnostic": rules.agnostic,
                "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False},
            },
        },
        "train_cfg": {"rpn_proposal": {**rpn, "nms_pre": 2000, "min_bbox_size": 0}},
        "test_cfg": {
            "rpn": {**rpn, "min_bbox_size": 0},
            "rcnn": {
                "score_thr": rules.score_thr,
                "nms": {**nms, "iou_threshold": 0.5},
                "max_per_img": rules.max_per_img,
            },
        },
    }
    pipeline = [
        {"type": "LoadImageFromFile", "backend_args": None},
        {"type": "Resize", "scale": rules.scale, "keep_ratio": True},
        {"type": "PackDetInputs"},
    ]
    return {"model": model, "test_pipeline": pipeline}


class ConvModule(nn.Module):
    def __init__(self, before: int, after: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Mmdetection(nn.Module):
    """FasterRCNN behind inference_detector."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self.rules = rules
        self.backbone = resnet.__dict__[f"resnet{rules.depth}"]()
        del self.backbone.fc
        if rules.style == "caffe":
            for block in self.backbone.modules():
                if isinstance(block, resnet.Bottleneck):
                    block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)
        widths = [64, 128, 256, 512] if rules.depth == 18 else [256, 512, 1024, 2048]
        self.neck = nn.Module()
        self.neck.lateral_convs = nn.ModuleList(ConvModule(width, 256, 1) for width in widths)
        self.neck.fpn_convs = nn.ModuleList(ConvModule(256, 256, 3) for _ in widths)
        self.rpn_head = nn.Module()
        self.rpn_head.rpn_conv = nn.Conv2d(256, 256, 3, padding=1)
        self.rpn_head.rpn_cls = nn.Conv2d(256, 3 * len(rules.scales), 1)
        self.rpn_head.rpn_reg = nn.Conv2d(256, 12 * len(rules.scales), 1)
        self.roi_head = nn.Module()
        head = nn.Module()
        head.shared_fcs = nn.ModuleList([nn.Linear(256 * 49, 1024), nn.Linear(1024, 1024)])
        head.fc_cls = nn.Linear(1024, rules.classes + 1)
        head.fc_reg = nn.Linear(1024, 4 * (1 if rules.agnostic else rules.classes))
        self.roi_head.bbox_head = head

    def forward(self, image: Image.Image) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes in pixels of the image, scores and classes (from 0) of an RGB image."""
        bgr = np.asarray(image)[:, :, ::-1]
        height, width = bgr.shape[:2]
        factor = min(max(self.rules.scale) / max(height, width), min(self.rules.scale) / min(height, width))
        size = int(height * factor + 0.5), int(width * factor + 0.5)
        small = resize_linear(bgr, *size)
        x = torch.from_numpy(small.astype(np.float32).transpose(2, 0, 1))
        x = x[[2, 1, 0]] if self.rules.bgr_to_rgb else x
        x = (x - torch.tensor(self.rules.mean).view(3, 1, 1)) / torch.tensor(self.rules.std).view(3, 1, 1)
        x = F.pad(x, (0, -size[1] % 32, 0, -size[0] % 32))[None]
        features = self.extract(x)
        proposals = self.propose(features, size)
        head = self.roi_head.bbox_head
        hidden = self.pooled(features[:4], proposals).flatten(1)
        for layer in head.shared_fcs:
            hidden = F.relu(layer(hidden))
        scores = head.fc_cls(hidden).softmax(dim=-1)[:, :-1]
        deltas = head.fc_reg(hidden).unflatten(1, (-1, 4))
        boxes = delta2bbox(proposals[:, None].expand_as(deltas), deltas, (0.1, 0.1, 0.2, 0.2), size)
        boxes = boxes / torch.tensor([size[1] / width, size[0] / height] * 2)
        index, classes = (scores > self.rules.score_thr).nonzero().unbind(1)
        boxes, scores = boxes[index, 0 if self.rules.agnostic else classes], scores[index, classes]
        keep = batched_nms(boxes, scores, classes, 0.5)[: self.rules.max_per_img]
        return boxes[keep], scores[keep], classes[keep]

    def extract(self, x: Tensor) -> list[Tensor]:
        body = self.backbone
        x = body.maxpool(F.relu(body.bn1(body.conv1(x))))
        maps = []
        for layer in (body.layer1, body.layer2, body.layer3, body.layer4):
            x = layer(x)
            maps.append(x)
        laterals = [conv(one) for conv, one in zip(self.neck.lateral_convs, maps, strict=True)]
        for level in (3, 2, 1):
            shape = laterals[level - 1].shape[2:]
            laterals[level - 1] = laterals[level - 1] + F.interpolate(laterals[level], size=shape, mode="nearest")
        outs = [conv(one) for conv, one in zip(self.neck.fpn_convs, laterals, strict=True)]
        return [*outs, F.max_pool2d(outs[-1], 1, stride=2)]

    def propose(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        all_boxes, all_scores, levels = [], [], []
        for level, one in enumerate(features):
            hidden = F.relu(self.rpn_head.rpn_conv(one))
            scores = self.rpn_head.rpn_cls(hidden)[0].permute(1, 2, 0).reshape(-1).sigmoid()
            deltas = self.rpn_head.rpn_reg(hidden)[0].permute(1, 2, 0).reshape(-1, 4)
            priors = grid_priors(one.shape[-2:], 4 * 2**level, self.rules.scales)
            scores, best = scores.topk(min(1000, len(scores)))
            all_boxes.append(delta2bbox(priors[best], deltas[best], (1, 1, 1, 1), size))
            all_scores.append(scores)
            levels.append(torch.full((len(best),), level))
        boxes, scores, ids = torch.cat(all_boxes), torch.cat(all_scores), torch.cat(levels)
        valid = (boxes[:, 2] - boxes[:, 0] > 0) & (boxes[:, 3] - boxes[:, 1] > 0)
        boxes, scores, ids = boxes[valid], scores[valid], ids[valid]
        return boxes[batched_nms(boxes, scores, ids, 0.7)[: self.rules.max_proposals]]

    def pooled(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        sides = ((rois[:, 2] - rois[:, 0]) * (rois[:, 3] - rois[:, 1])).sqrt()
        level_of = torch.floor(torch.log2(sides / 56 + 1e-6)).clamp(0, 3)
        pooled = torch.zeros(len(rois), 256, 7, 7)
        for level, one in enumerate(features):
            here = level_of == level
            pooled[here] = roi_align(one, [rois[here]], 7, 0.25 / 2**level, sampling_ratio=0, aligned=True)
        return pooled


def grid_priors(cells: Sequence[int], stride: int, scales: Sequence[int]) -> Tensor:
    """Of each cell row by row; in each cell by aspect ratio, then by scale."""
    ratios = torch.tensor([0.5, 1.0, 2.0]).sqrt()[:, None]
    widths = (stride / ratios * torch.tensor(scales)).flatten()
    heights = (stride * ratios * torch.tensor(scales)).flatten()
    base = torch.stack((-widths / 2, -heights / 2, widths / 2, heights / 2), dim=1)
    y, x = torch.meshgrid(torch.arange(cells[0]) * stride, torch.arange(cells[1]) * stride, indexing="ij")
    return (torch.stack((x, y, x, y), dim=-1).reshape(-1, 1, 4) + base).reshape(-1, 4)


def delta2bbox(rois: Tensor, deltas: Tensor, stds: tuple[float, ...], size: tuple[int, int]) -> Tensor:
    deltas = deltas * torch.tensor(stds)
    limit = abs(math.log(16 / 1000))
    sides = rois[..., 2:] - rois[..., :2]
    center = (rois[..., 2:] + rois[..., :2]) * 0.5 + sides * deltas[..., :2]
    half = sides * deltas[..., 2:].clamp(min=-limit, max=limit).exp() * 0.5
    boxes = torch.cat((center - half, center + half), dim=-1)
    return torch.minimum(boxes.clamp(min=0), torch.tensor([size[1], size[0]] * 2, dtype=boxes.dtype))


def resize_linear(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """cv2.resize with INTER_LINEAR of 8-bit pixels, one pixel at a time."""
    old_height, old_width = pixels.shape[:2]
    result = np.zeros((height, width, pixels.shape[2]), np.uint8)
    halves = (old_height, old_width) == (2 * height, 2 * width)
    columns = [line_weights(x, width, old_width, at_border=True) for x in range(width)]
    lines = [line_weights(y, height, old_height, at_border=False) for y in range(height)]
    source = pixels.astype(int)
    for y, ((top, bottom), (above, below)) in enumerate(lines):
        for x, ((left, right), (before, after)) in enumerate(columns):
            if halves:
                result[y, x] = (source[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].sum(axis=(0, 1)) + 2) // 4
                continue
            first = source[top, left] * before + source[top, right] * after
            second = source[bottom, left] * before + source[bottom, right] * after
            result[y, x] = (((first >> 4) * above >> 16) + ((second >> 4) * below >> 16) + 2) >> 2
    return result


def line_weights(place: int, count: int, length: int, *, at_border: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    """The two pixels between which a new one is, and their weights in 1/2048."""
    center = np.float32((place + 0.5) * (1.0 / (count / length)) - 0.5)
    first = math.floor(center)
    share = np.float32(center - np.float32(first))
    if at_border and (first < 0 or first >= length - 1):
        share = np.float32(0)
    pair = max(0, min(first, length - 1)), max(0, min(first + 1, length - 1))
    return pair, (round(float((np.float32(1) - share) * 2048)), round(float(share * 2048)))
