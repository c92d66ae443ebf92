"""The same model twice: a frcnn model, and a torchvision model with the same layers, weights and rules."""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from frcnn.config import TrainSettings, make_config
from frcnn.data.transforms import prepare_images
from frcnn.fast.optimize import optimize
from frcnn.nn.build import build_model
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.migrate.from_torchvision import from_torchvision
from frcnn.nn.torchvision_keys import from_torchvision_keys

_TUTORIALS = ("alexnet", "vgg16")
CLASSES = tuple(f"class {number}" for number in range(1, 9))
_THEIR_RULES = (
    "detector.rules=torchvision",
    "detector.results.score_threshold=0.05",
    "detector.results.nms_threshold=0.5",
    "detector.results.max_detections=100",
    "train.rpn.inside_only=false",
    "train.roi.sigma=3",
    "detector.train_proposals.min_size=0.001",
    "detector.test_proposals.min_size=0.001",
)


without_tf32 = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
"""Decorator: convolutions on a GPU compute in full float32, as matrix products do."""


class Pair(NamedTuple):
    """Two detectors that compute the same, and learn the same."""

    ours: FasterRCNN
    theirs: Any
    """torchvision's FasterRCNN, which has few type annotations."""
    image: Image.Image
    """Already of the input size."""
    settings: TrainSettings
    """By which ours is trained."""

    def to(self, device: torch.device) -> "Pair":
        """Move both detectors, in place."""
        self.ours.to(device)
        self.theirs.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return self.ours.mean.device

    def our_inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images, image sizes, original sizes."""
        arrays = prepare_images([self.image], self.ours.settings.detector.resizing)
        images, sizes, originals = (torch.from_numpy(array).to(self.device) for array in arrays)
        return images, sizes, originals

    def their_input(self) -> Tensor:
        return _as_theirs(self.image).to(self.device)


def input_size_of(base_model: str) -> tuple[int, int]:
    """(height, width): the 850 pixels of CNTK's tutorial for its base models, else those of torchvision's detectors."""
    return (850, 850) if base_model in _TUTORIALS else (800, 1066)


def make_pair(base_model: str, size: tuple[int, int], overrides: Sequence[str] = ()) -> Pair:
    """Random weights whose outputs are spread out, so that there are detections to choose from.

    Args:
        base_model: of ours, e.g. "alexnet", or one of torchvision's detectors, e.g. "fasterrcnn_resnet50_fpn".
        size: (height, width) of the photo; it is not resized.
        overrides: further settings; not for torchvision's own detectors, which have theirs.
    """
    torch.manual_seed(0)
    image = _photo(size)
    if base_model in detection.__dict__:
        theirs = detection.__dict__[base_model](weights=None, weights_backbone=None)
        _freeze_batch_norm(theirs, 0.0 if base_model == "fasterrcnn_resnet50_fpn" else None)
        _spread(theirs, [theirs.rpn.head.cls_logits, theirs.roi_heads.box_predictor.cls_score], image)
        ours = from_torchvision(theirs.state_dict(), base_model)
        _freeze_as_ours(from_torchvision_keys(dict(theirs.named_parameters())), ours.frozen)
        return Pair(optimize(ours), theirs, image, make_config(base_model=base_model).train)
    rules = [
        *_THEIR_RULES,
        f"detector.image.shorter_side={min(size)}",
        f"detector.image.longer_side={max(size)}",
        *overrides,
    ]
    config = make_config(base_model=base_model, overrides=[*rules, "base_model.freeze_batch_norm=false"])
    plain = build_model(config.model, CLASSES)
    theirs = _twin(plain, config.train)
    _spread(theirs, [plain.rpn.objectness, plain.roi_head.logits], image)
    config = make_config(base_model=base_model, overrides=rules)
    ours = build_model(config.model, CLASSES)
    ours.load_state_dict(plain.state_dict())
    _freeze_as_ours(dict(plain.named_parameters()), ours.frozen)
    return Pair(optimize(ours), theirs, image, config.train)


def _freeze_as_ours(parameters: Mapping[str, Tensor], frozen: Collection[str]) -> None:
    """Freeze the parameters that frcnn freezes."""
    for name, parameter in parameters.items():
        parameter.requires_grad_(name not in frozen)


def _freeze_batch_norm(model: nn.Module, eps: float | None) -> None:
    """Freeze batch norm, as torchvision does for pretrained weights."""
    for name, norm in list(model.named_modules()):
        if isinstance(norm, nn.BatchNorm2d):
            model.set_submodule(name, FrozenBatchNorm2d(norm.num_features, norm.eps if eps is None else eps))


def _as_theirs(image: Image.Image) -> Tensor:
    """(3, H, W), 0..1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def _photo(size: tuple[int, int]) -> Image.Image:
    """Smooth colors, as in photos."""
    coarse = torch.rand(1, 3, size[0] // 32, size[1] // 32)
    smooth = nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=False)[0]
    return Image.fromarray((255 * smooth).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())


@torch.no_grad()
def _spread(model: Any, layers: Sequence[Any], image: Image.Image) -> None:
    """Give batch norm the statistics of an image, one layer after the other, and these layers outputs of mean 0 and
    standard deviation 1 in each channel."""

    def settle(norm: Any, inputs: tuple[Tensor]) -> None:
        norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
        norm.running_var.copy_(inputs[0].var((0, 2, 3)))

    def scale(layer: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        rows = output if output.dim() == 2 else output.movedim(1, -1).flatten(0, -2)
        layer.weight.div_(rows.std())
        layer.bias.sub_(rows.mean(dim=0)).div_(rows.std())

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
    hooks += [layer.register_forward_hook(scale) for layer in layers]
    model.eval()([_as_theirs(image)])
    for hook in hooks:
        hook.remove()


def _twin(model: FasterRCNN, settings: TrainSettings) -> Any:
    """torchvision's FasterRCNN around the layers of a frcnn model, in torchvision's memory format."""
    rules, base = model.settings.detector, model.settings.base_model
    levels = [str(number) for number in range(len(base.last_conv_node))]
    scales = [float(rules.anchors.base_size or level.stride) for level in model.rpn.levels]
    backbone = _Backbone(model.backbone, cast("nn.Conv2d", model.rpn.convs[0]).in_channels)
    model = detection.FasterRCNN(
        backbone,
        min_size=rules.image.shorter_side,
        max_size=rules.image.longer_side,
        image_mean=[value / 255 for value in base.mean],
        image_std=[value / 255 for value in base.std],
        rpn_anchor_generator=AnchorGenerator(
            tuple(tuple(scale * size for scale in rules.anchors.scales) for size in scales),
            (rules.anchors.aspect_ratios,) * len(scales),
        ),
        rpn_head=_RpnHead(model),
        rpn_pre_nms_top_n_train=rules.train_proposals.pre_nms_top_n,
        rpn_post_nms_top_n_train=rules.train_proposals.post_nms_top_n,
        rpn_pre_nms_top_n_test=rules.test_proposals.pre_nms_top_n,
        rpn_post_nms_top_n_test=rules.test_proposals.post_nms_top_n,
        rpn_nms_thresh=rules.test_proposals.nms_threshold,
        box_roi_pool=MultiScaleRoIAlign(levels, base.roi_size, rules.details.sampling_ratio),
        box_head=_BoxHead(model),
        box_predictor=_BoxPredictor(model),
        box_score_thresh=rules.results.score_threshold,
        box_batch_size_per_image=settings.roi.sample_size,
    )
    return model.to(memory_format=torch.contiguous_format)


class _Backbone(nn.Module):
    """Batch norm stays in evaluation mode, as in frcnn."""

    def __init__(self, layers: nn.Module, out_channels: int) -> None:
        super().__init__()
        self.layers, self.out_channels = layers, out_channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        return OrderedDict((str(number), one) for number, one in enumerate(self.layers(images)))

    def train(self, mode: bool = True) -> "_Backbone":
        return super().train(False)


class _RpnHead(nn.Module):
    def __init__(self, model: FasterRCNN) -> None:
        super().__init__()
        rpn = model.rpn
        self.convs, self.objectness, self.deltas = rpn.convs, rpn.objectness, rpn.deltas

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, deltas = [], []
        for hidden in features:
            for conv in self.convs:
                hidden = torch.relu(conv(hidden))
            logits.append(self.objectness(hidden))
            deltas.append(self.deltas(hidden))
        return logits, deltas


class _BoxHead(nn.Module):
    def __init__(self, model: FasterRCNN) -> None:
        super().__init__()
        head = model.roi_head
        self.convs, self.head, self.fc = head.convs, head.head, head.fc

    def forward(self, pooled: Tensor) -> Tensor:
        for conv in self.convs:
            pooled = torch.relu(conv(pooled))
        hidden: Tensor = self.head(pooled).flatten(1)
        for layer in self.fc:
            hidden = torch.relu(layer(hidden))
        return hidden


class _BoxPredictor(nn.Module):
    def __init__(self, model: FasterRCNN) -> None:
        super().__init__()
        self.logits, self.deltas = model.roi_head.logits, model.roi_head.deltas

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits(hidden), self.deltas(hidden)
