"""detectron2's Faster R-CNN for one image, with detectron2's names of weights. Written after its source, with torch.nn,
torchvision.ops and Pillow alone: detectron2 itself has no package.

Rules are those of the configs Base-RCNN-FPN.yaml and Base-RCNN-C4.yaml and of detectron2/config/defaults.py.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.ops import batched_nms, roi_align

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Rules(NamedTuple):
    """What a config of detectron2 says."""

    depth: int = 50
    pyramid: bool = True
    classes: int = 5
    stride_in_1x1: bool = True
    bgr: bool = True
    pixel_mean: tuple[float, float, float] = (103.53, 116.28, 123.675)
    pixel_std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    min_size: int = 800
    max_size: int = 1333
    convs: int = 0
    norm: str = ""
    agnostic: bool = False
    rpn_convs: int = 1
    post_nms_topk: int = 1000
    score_thresh: float = 0.05
    nms_thresh: float = 0.5
    topk: int = 100


FPN_CONFIG: dict[str, Any] = {
    "MODEL": {
        "BACKBONE": {"NAME": "build_resnet_fpn_backbone"},
        "RESNETS": {"OUT_FEATURES": ["res2", "res3", "res4", "res5"]},
        "FPN": {"IN_FEATURES": ["res2", "res3", "res4", "res5"]},
        "ANCHOR_GENERATOR": {"SIZES": [[32], [64], [128], [256], [512]], "ASPECT_RATIOS": [[0.5, 1.0, 2.0]]},
        "RPN": {"IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"], "PRE_NMS_TOPK_TEST": 1000},
        "ROI_HEADS": {"NAME": "StandardROIHeads", "IN_FEATURES": ["p2", "p3", "p4", "p5"]},
        "ROI_BOX_HEAD": {"NAME": "FastRCNNConvFCHead", "NUM_FC": 2, "POOLER_RESOLUTION": 7},
    }
}
"""What detectron2's Base-RCNN-FPN.yaml says of detections."""


def config_of(rules: Rules) -> dict[str, Any]:
    """The config that makes detectron2's model with these rules."""
    model = {part: dict(values) for part, values in FPN_CONFIG["MODEL"].items()} if rules.pyramid else {}
    more: dict[str, dict[str, Any]] = {
        "RESNETS": {"DEPTH": rules.depth, "STRIDE_IN_1X1": rules.stride_in_1x1},
        "FPN": {"NORM": rules.norm},
        "RPN": {"CONV_DIMS": [-1] * rules.rpn_convs, "POST_NMS_TOPK_TEST": rules.post_nms_topk},
        "ROI_HEADS": {
            "NUM_CLASSES": rules.classes,
            "SCORE_THRESH_TEST": rules.score_thresh,
            "NMS_THRESH_TEST": rules.nms_thresh,
        },
        "ROI_BOX_HEAD": {
            "NUM_CONV": rules.convs,
            "NORM": rules.norm,
            "CLS_AGNOSTIC_BBOX_REG": rules.agnostic,
        },
    }
    for part, values in more.items():
        model[part] = {**model.get(part, {}), **values}
    model |= {"PIXEL_MEAN": list(rules.pixel_mean), "PIXEL_STD": list(rules.pixel_std)}
    return {
        "VERSION": 2,
        "MODEL": model,
        "INPUT": {
            "FORMAT": "BGR" if rules.bgr else "RGB",
            "MIN_SIZE_TEST": rules.min_size,
            "MAX_SIZE_TEST": rules.max_size,
        },
        "TEST": {"DETECTIONS_PER_IMAGE": rules.topk},
    }


class FrozenBatchNorm2d(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels) - 1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-5)


class Conv2d(nn.Conv2d):
    """A convolution that holds its norm."""

    def __init__(self, *args: int, norm: nn.Module | None = None, **kwargs: int) -> None:
        super().__init__(*args, bias=norm is None, **kwargs)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x if self.norm is None else self.norm(x)


class Block(nn.Module):
    """A bottleneck, or for ResNet-18 a basic block."""

    def __init__(self, before: int, width: int, after: int, stride: int, *, basic: bool, stride_in_1x1: bool) -> None:
        super().__init__()
        self.shortcut = None
        if before != after:
            self.shortcut = Conv2d(before, after, 1, stride=stride, norm=FrozenBatchNorm2d(after))
        if basic:
            self.conv1 = Conv2d(before, after, 3, stride=stride, padding=1, norm=FrozenBatchNorm2d(after))
            self.conv2 = Conv2d(after, after, 3, padding=1, norm=FrozenBatchNorm2d(after))
            self.conv3 = None
            return
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = Conv2d(before, width, 1, stride=first, norm=FrozenBatchNorm2d(width))
        self.conv2 = Conv2d(width, width, 3, stride=second, padding=1, norm=FrozenBatchNorm2d(width))
        self.conv3 = Conv2d(width, after, 1, norm=FrozenBatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(F.relu(self.conv1(x)))
        if self.conv3 is not None:
            out = self.conv3(F.relu(out))
        return F.relu(out + (x if self.shortcut is None else self.shortcut(x)))


def stage(number: int, rules: Rules) -> nn.Sequential:
    """res2, res3, res4 or res5."""
    basic = rules.depth == 18
    width = 64 * 2 ** (number - 2)
    after = width if basic else 4 * width
    before = 64 if number == 2 else after // 2
    blocks = []
    for index in range(BLOCKS[rules.depth][number - 2]):
        stride = 2 if index == 0 and number > 2 else 1
        start = before if index == 0 else after
        blocks.append(Block(start, width, after, stride, basic=basic, stride_in_1x1=rules.stride_in_1x1))
    return nn.Sequential(*blocks)


class ResNet(nn.Module):
    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self.stem = nn.Module()
        self.stem.conv1 = Conv2d(3, 64, 7, stride=2, padding=3, norm=FrozenBatchNorm2d(64))
        self.numbers = (2, 3, 4, 5) if rules.pyramid else (2, 3, 4)
        for number in self.numbers:
            self.add_module(f"res{number}", stage(number, rules))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.max_pool2d(F.relu(self.stem.conv1(x)), kernel_size=3, stride=2, padding=1)
        outputs = []
        for number in self.numbers:
            x = self.get_submodule(f"res{number}")(x)
            outputs.append(x)
        return outputs


def norm_of(name: str, channels: int) -> nn.Module | None:
    return nn.GroupNorm(32, channels) if name == "GN" else None


class FPN(nn.Module):
    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self.bottom_up = ResNet(rules)
        for number in (2, 3, 4, 5):
            channels = 64 * 2 ** (number - 2) * (1 if rules.depth == 18 else 4)
            self.add_module(f"fpn_lateral{number}", Conv2d(channels, 256, 1, norm=norm_of(rules.norm, 256)))
            self.add_module(f"fpn_output{number}", Conv2d(256, 256, 3, padding=1, norm=norm_of(rules.norm, 256)))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.bottom_up(x)
        merged = self.fpn_lateral5(maps[-1])
        results = [self.fpn_output5(merged)]
        for number in (4, 3, 2):
            lateral = self.get_submodule(f"fpn_lateral{number}")(maps[number - 2])
            merged = lateral + F.interpolate(merged, scale_factor=2.0, mode="nearest")
            results.insert(0, self.get_submodule(f"fpn_output{number}")(merged))
        return [*results, F.max_pool2d(results[-1], kernel_size=1, stride=2)]


class Detectron2(nn.Module):
    """GeneralizedRCNN behind DefaultPredictor."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self.rules = rules
        self.backbone = FPN(rules) if rules.pyramid else ResNet(rules)
        channels = 256 if rules.pyramid else 1024
        anchors = 3 if rules.pyramid else 15
        head = nn.Module()
        head.conv = nn.Conv2d(channels, channels, 3, padding=1)
        if rules.rpn_convs > 1:
            head.conv = nn.Sequential()
            for number in range(rules.rpn_convs):
                head.conv.add_module(f"conv{number}", nn.Conv2d(channels, channels, 3, padding=1))
        head.objectness_logits = nn.Conv2d(channels, anchors, 1)
        head.anchor_deltas = nn.Conv2d(channels, 4 * anchors, 1)
        self.proposal_generator = nn.Module()
        self.proposal_generator.rpn_head = head
        self.roi_heads = nn.Module()
        width = 2048
        if rules.pyramid:
            box_head = nn.Module()
            for number in range(1, rules.convs + 1):
                conv = Conv2d(256, 256, 3, padding=1, norm=norm_of(rules.norm, 256))
                box_head.add_module(f"conv{number}", conv)
            box_head.fc1, box_head.fc2 = nn.Linear(256 * 49, 1024), nn.Linear(1024, 1024)
            self.roi_heads.box_head = box_head
            width = 1024
        else:
            self.roi_heads.res5 = stage(5, rules)
        predictor = nn.Module()
        predictor.cls_score = nn.Linear(width, rules.classes + 1)
        predictor.bbox_pred = nn.Linear(width, 4 * (1 if rules.agnostic else rules.classes))
        self.roi_heads.box_predictor = predictor

    def forward(self, image: Image.Image) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes in pixels of the image, scores and classes (from 0) of an RGB image."""
        pixels = np.asarray(image)[:, :, ::-1] if self.rules.bgr else np.asarray(image)
        height, width = pixels.shape[:2]
        small = np.asarray(resize_shortest_edge(Image.fromarray(pixels), self.rules.min_size, self.rules.max_size))
        size = small.shape[:2]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.rules.pixel_mean, self.rules.pixel_std))
        x = (torch.from_numpy(small.astype("float32").transpose(2, 0, 1)) - mean) / std
        if self.rules.pyramid:
            x = F.pad(x, (0, -size[1] % 32, 0, -size[0] % 32))
        features = self.backbone(x[None])
        features = features if self.rules.pyramid else features[-1:]
        boxes, scores, classes = self.classify(features, self.propose(features, size), size)
        boxes = clip(boxes * torch.tensor([width / size[1], height / size[0]] * 2), (height, width))
        full = nonempty(boxes)
        return boxes[full], scores[full], classes[full]

    def propose(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        head, pyramid = self.proposal_generator.rpn_head, self.rules.pyramid
        candidates, levels = [], []
        for level, one in enumerate(features):
            hidden = one
            for conv in head.conv if self.rules.rpn_convs > 1 else [head.conv]:
                hidden = F.relu(conv(hidden))
            logits = head.objectness_logits(hidden)[0].permute(1, 2, 0).flatten()
            deltas = head.anchor_deltas(hidden)[0]
            deltas = deltas.view(-1, 4, *deltas.shape[-2:]).permute(2, 3, 0, 1).reshape(-1, 4)
            stride, sizes = (4 * 2**level, [32 * 2**level]) if pyramid else (16, [32, 64, 128, 256, 512])
            anchors = grid_anchors(one.shape[-2:], stride, sizes)
            logits, best = logits.topk(min(1000 if pyramid else 6000, len(logits)))
            candidates.append((apply_deltas(deltas[best], anchors[best], (1, 1, 1, 1)), logits))
            levels.append(torch.full((len(best),), level))
        boxes, logits = (torch.cat(parts) for parts in zip(*candidates, strict=True))
        boxes, level_of = clip(boxes, size), torch.cat(levels)
        full = nonempty(boxes)
        boxes, logits, level_of = boxes[full], logits[full], level_of[full]
        return boxes[batched_nms(boxes, logits, level_of, 0.7)[: self.rules.post_nms_topk]]

    def classify(
        self, features: Sequence[Tensor], proposals: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        heads = self.roi_heads
        if self.rules.pyramid:
            hidden = self.pooled(features[:4], proposals)
            for number in range(1, self.rules.convs + 1):
                hidden = F.relu(heads.box_head.get_submodule(f"conv{number}")(hidden))
            hidden = F.relu(heads.box_head.fc2(F.relu(heads.box_head.fc1(hidden.flatten(1)))))
        else:
            pooled = roi_align(features[0], [proposals], 14, 1 / 16, sampling_ratio=0, aligned=True)
            hidden = heads.res5(pooled).mean(dim=[2, 3])
        scores = heads.box_predictor.cls_score(hidden).softmax(dim=-1)[:, :-1]
        deltas = heads.box_predictor.bbox_pred(hidden).unflatten(1, (-1, 4))
        boxes = clip(apply_deltas(deltas, proposals[:, None].expand_as(deltas), (10, 10, 5, 5)), size)
        index, classes = (scores > self.rules.score_thresh).nonzero().unbind(1)
        boxes, scores = boxes[index, 0 if self.rules.agnostic else classes], scores[index, classes]
        keep = batched_nms(boxes, scores, classes, self.rules.nms_thresh)[: self.rules.topk]
        return boxes[keep], scores[keep], classes[keep]

    def pooled(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        area = (rois[:, 2] - rois[:, 0]) * (rois[:, 3] - rois[:, 1])
        level_of = torch.floor(4 + torch.log2(area.sqrt() / 224 + 2.2e-16)).clamp(2, 5) - 2
        pooled = torch.zeros(len(rois), 256, 7, 7)
        for level, one in enumerate(features):
            here = level_of == level
            pooled[here] = roi_align(one, [rois[here]], 7, 0.25 / 2**level, sampling_ratio=0, aligned=True)
        return pooled


def resize_shortest_edge(image: Image.Image, short: int, longest: int) -> Image.Image:
    width, height = image.size
    scale = short * 1.0 / min(height, width)
    new = (short, scale * width) if height < width else (scale * height, short)
    if max(new) > longest:
        scale = longest * 1.0 / max(new)
        new = new[0] * scale, new[1] * scale
    return image.resize((int(new[1] + 0.5), int(new[0] + 0.5)), Image.Resampling.BILINEAR)


def grid_anchors(cells: Sequence[int], stride: int, sizes: Sequence[int]) -> Tensor:
    """Of each cell row by row; in each cell by size, then by aspect ratio."""
    base = []
    for size in sizes:
        for ratio in (0.5, 1.0, 2.0):
            width = math.sqrt(size**2.0 / ratio)
            base.append([-width / 2, -ratio * width / 2, width / 2, ratio * width / 2])
    y, x = torch.meshgrid(torch.arange(cells[0]) * stride, torch.arange(cells[1]) * stride, indexing="ij")
    centers = torch.stack((x, y, x, y), dim=-1).reshape(-1, 1, 4)
    return (centers + torch.tensor(base)).reshape(-1, 4)


def apply_deltas(deltas: Tensor, boxes: Tensor, weights: tuple[int, int, int, int]) -> Tensor:
    dx, dy, dw, dh = (deltas / torch.tensor(weights)).unbind(-1)
    limit = math.log(1000.0 / 16)
    sides = boxes[..., 2:] - boxes[..., :2]
    center = boxes[..., :2] + 0.5 * sides + torch.stack((dx, dy), dim=-1) * sides
    half = torch.stack((dw.clamp(max=limit), dh.clamp(max=limit)), dim=-1).exp() * sides / 2
    return torch.cat((center - half, center + half), dim=-1)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    limits = torch.tensor([size[1], size[0]] * 2, dtype=boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), limits)


def nonempty(boxes: Tensor) -> Tensor:
    return ((boxes[:, 2] - boxes[:, 0]) > 0) & ((boxes[:, 3] - boxes[:, 1]) > 0)
