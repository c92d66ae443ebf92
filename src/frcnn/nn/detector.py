"""The detector: one forward, from images to detections.

Letters: B images, H x W pixels of the padded input, K proposals, D detections, C classes.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from frcnn.config import Config, ImageSettings
from frcnn.nn.backbones import Backbone, build_classifier, cut, measure_head
from frcnn.nn.fpn import FPN
from frcnn.nn.roi_head import RoiHead
from frcnn.nn.rpn import RPN
from frcnn.nn.weights import BaseWeights, Weights, load_detector, load_into
from frcnn.ops.roi_pooling import pool_rois, roi_align, roi_max_pool
from frcnn.ops.selection import select_detections, select_proposals
from frcnn.types import AtOnce, Detections, Frames, Level, Prediction, Proposals, RoiOutput, to_predictions


class RawOutput(NamedTuple):
    """The detector's three outputs before NMS, by the names of CNTK's tutorial, and which RoIs count."""

    rpn_rois: Float[Tensor, "B K 4"]
    """Input pixels."""
    cls_pred: Float[Tensor, "B K 1+C"]
    """Probabilities; column 0 is background."""
    bbox_regr: Float[Tensor, "B K 1+C 4"]
    """Deltas from the RoI for each class, normalised by the detector's means and standard deviations."""
    valid: Bool[Tensor, "B K"]


class FasterRCNN(nn.Module):
    """Faster R-CNN (Ren et al. 2015, arXiv:1506.01497): what is trained, evaluated and exported.

    Args:
        config: all settings; the detector needs `base_model` and `detector`.
        classes: names, without background.
        weights: of the base model, or of a detector; None starts from random weights.

    Attributes:
        classes: names; label i is classes[i - 1].
        config: the settings.
        fresh: names of parameters that did not come from `weights`.
        fixed: names of parameters that training leaves as they are.
        svd_rank: of its RoI head's layers, where `frcnn.nn.compression` made two of one; None as a rule.
    """

    mean: Tensor
    std: Tensor
    delta_mean: Tensor
    delta_std: Tensor

    def __init__(self, config: Config, classes: Sequence[str], weights: Weights | None = None) -> None:
        super().__init__()
        settings, rules = config.base_model, config.detector
        classifier = build_classifier(settings.architecture)
        base = cut(classifier, settings)
        self.config = config
        self.classes = tuple(classes)
        self.svd_rank: int | None = None
        levels, channels = base.levels, base.channels[-1]
        pyramid: nn.Module = nn.Identity()
        if len(levels) > 1:
            channels = settings.pyramid_channels
            pyramid = FPN(base.channels, channels, settings.norm)
            stride, offset = levels[-1]
            levels = (*levels, Level(2 * stride, offset / 2))  # the FPN's last level: the same cells, every other one
        self.backbone = Backbone(base.conv_layers, pyramid)
        self.rpn = RPN(channels, settings.rpn_channels, settings.rpn_convs, levels, rules.anchors)
        align = partial(roi_align, samples=settings.roi_samples)
        pool = partial(
            pool_rois,
            levels=base.levels,
            size=settings.roi_size,
            pool=align if settings.roi_pooling == "align" else roi_max_pool,
            min_side=settings.roi_min_side,
        )
        hidden = measure_head(base.head, (channels, *settings.conv_channels)[-1], settings.roi_size)
        self.roi_head = RoiHead(
            pool,
            channels,
            settings.conv_channels,
            settings.norm,
            base.head,
            hidden,
            settings.fc_channels,
            settings.dropout or 0.0,
            len(self.classes),
        )
        for name, value in (("mean", settings.mean), ("std", settings.std)):
            self.register_buffer(name, torch.tensor(value).view(3, 1, 1), persistent=False)
        deltas = rules.box_deltas
        for name, value4 in (
            ("delta_mean", deltas.means if deltas.normalize else (0.0,) * 4),
            ("delta_std", deltas.stds if deltas.normalize else (1.0,) * 4),
        ):
            self.register_buffer(name, torch.tensor(value4), persistent=False)

        self.fresh = self._load(weights, classifier)
        self.fixed = frozenset(f"backbone.conv_layers.{name}" for name in base.fixed) | self._batch_norm_parameters()
        # Channels last: measured on CPUs, convolutions and their gradients are up to twice as fast.
        self.to(memory_format=torch.channels_last)
        self.eval()

    def _load(self, weights: Weights | None, classifier: nn.Module) -> frozenset[str]:
        """Fill in the weights; the names of the parameters that they lack."""
        names = [name for name, _ in self.named_parameters()]
        if weights is None:
            return frozenset(names)
        if not isinstance(weights, BaseWeights):
            return load_detector(self, weights, self.classes)
        # The detector's pieces share their weights with the classifier that they were cut from.
        lacking = load_into(classifier, weights, required=frozenset(self.backbone.conv_layers.state_dict()))
        loaded = {name for name, _ in classifier.named_parameters()} - lacking
        return frozenset(
            name
            for name in names
            if name.removeprefix("backbone.conv_layers.").removeprefix("roi_head.head.") not in loaded
        )

    def forward(
        self,
        images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"],
        image_sizes: Float[Tensor, "B 2"],
        original_sizes: Float[Tensor, "B 2"],
    ) -> Detections:
        """Detect.

        Args:
            images: RGB, 0..255, each in the upper left corner of the frame; what lies outside does not matter.
            image_sizes: (height, width) of each image inside the frame, input pixels.
            original_sizes: (height, width) of each image before it was resized.
        """
        proposals, output = self.propose_and_classify(images, image_sizes, original_sizes)
        return self.select(proposals, output, image_sizes, original_sizes)

    def select(
        self, proposals: Proposals, output: RoiOutput, image_sizes: Tensor, original_sizes: Tensor
    ) -> Detections:
        """From what the RoI head says of proposals to detections, by the rules of the settings."""
        results = self.config.detector.results
        return select_detections(
            output,
            proposals,
            image_sizes,
            original_sizes,
            mean=self.delta_mean,
            std=self.delta_std,
            min_score=results.min_score,
            nms_iou=results.nms_iou,
            min_size=results.min_size,
            max_detections=results.max_detections,
        )

    def raw(
        self,
        images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"],
        image_sizes: Float[Tensor, "B 2"],
        original_sizes: Float[Tensor, "B 2"],
    ) -> RawOutput:
        """The three outputs of the tutorial's evaluation model: before box regression and NMS."""
        return self.raw_output(*self.propose_and_classify(images, image_sizes, original_sizes))

    def raw_output(self, proposals: Proposals, output: RoiOutput) -> RawOutput:
        """By the names of the tutorial."""
        return RawOutput(proposals.boxes, output.logits.float().softmax(dim=-1), output.deltas.float(), proposals.valid)

    def propose_and_classify(
        self, images: Tensor, image_sizes: Tensor, original_sizes: Tensor
    ) -> tuple[Proposals, RoiOutput]:
        features = self.backbone(self.normalize(images, image_sizes))
        rules, frame_size = self.config.detector.test_proposals, (images.shape[-2], images.shape[-1])
        proposals = select_proposals(self.rpn(features, frame_size), image_sizes, original_sizes, **rules.model_dump())
        return proposals, self.roi_head(features, proposals.boxes)

    @property
    def image_settings(self) -> ImageSettings:
        """How images become its input."""
        return self.config.detector.image

    @property
    def at_once(self) -> AtOnce:
        """On a processor, images one by one, but several side by side: in batches of four, an image took 15 % longer
        on one core (EfficientNet-Lite0, 480 x 640). Two to four, whichever leaves fewest cores over. A card is given
        batches."""
        if self.mean.device.type != "cpu":
            return AtOnce(images=8, calls=1)
        threads = torch.get_num_threads()
        counts = range(min(4, threads), 1, -1)
        return AtOnce(images=1, calls=min(counts, key=lambda count: threads % count, default=1))

    @torch.no_grad()
    def detect(self, frames: Frames, names: Sequence[str]) -> list[Prediction]:
        """The detections in these images, best first; plain arrays in and out."""
        inputs = (torch.from_numpy(array).to(self.mean.device) for array in frames)
        return self.to_predictions(self(*inputs), names)

    def to_predictions(self, detections: Detections, names: Sequence[str]) -> list[Prediction]:
        """The detections that count, image by image, with class names instead of labels."""
        arrays = (values.cpu().numpy() for values in detections)
        return to_predictions(*arrays, classes=self.classes, names=names)

    def normalize(self, images: Tensor, image_sizes: Float[Tensor, "B 2"]) -> Float[Tensor, "B 3 H W"]:
        """Subtract the mean, divide by the standard deviation, and blank what lies outside the image; in the layers'
        precision."""
        height, width = images.shape[-2:]
        rows = torch.arange(height, device=images.device) < image_sizes[:, :1]  # (B, H)
        columns = torch.arange(width, device=images.device) < image_sizes[:, 1:]  # (B, W)
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        normalized = (images - self.mean).div_(self.std).mul_(inside)  # in place: 6 ms, not 9
        return normalized.to(self.roi_head.logits.weight.dtype).contiguous(memory_format=torch.channels_last)

    def set_precision(self, dtype: torch.dtype) -> "FasterRCNN":
        """Let the layers compute in `dtype`, as prediction and files do; box arithmetic and RoI pooling stay in
        float32."""
        for layers in (self.backbone, self.rpn.convs, self.rpn.objectness, self.rpn.deltas, self.roi_head):
            layers.to(dtype)
        return self

    def compile_layers(self, **options: Any) -> "FasterRCNN":
        """Let `torch.compile` write code for the backbone, the convolutions of RPN and RoI head, and the base model's
        head, when they first see maps of a size; the small layers, box arithmetic, RoI pooling and NMS stay as is.
        Weights and their names do not change; copies are not compiled.

        Args:
            options: of `torch.compile`; mode="reduce-overhead" records CUDA graphs, which fits frames of one size
                (`detector.image.resize=fit`).
        """
        for layers in (self.backbone, *self.rpn.convs, *self.roi_head.convs, self.roi_head.head):
            layers.compile(**options)
        return self

    def train(self, mode: bool = True) -> "FasterRCNN":
        super().train(mode)
        self.freeze_batch_norm()
        return self

    def freeze_batch_norm(self) -> None:
        """Put batch norm into evaluation mode, unless the settings let it train."""
        for _, module in self._frozen_batch_norm():
            module.eval()

    def _frozen_batch_norm(self) -> Iterator[tuple[str, nn.Module]]:
        """What stays as it is: batch norm of the base model, and what came with a detector's weights. A new layer has
        nothing to keep, so it learns."""
        if not self.config.base_model.freeze_batch_norm:
            return
        for name, module in self.named_modules():
            new = name.startswith(("backbone.pyramid.", "roi_head.convs.")) and f"{name}.weight" in self.fresh
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not new:
                yield name, module

    def _batch_norm_parameters(self) -> frozenset[str]:
        return frozenset(
            f"{module_name}.{name}"
            for module_name, module in self._frozen_batch_norm()
            for name, _ in module.named_parameters(recurse=False)
        )
