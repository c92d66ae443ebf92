"""One training step: the detector's own modules, targets for what they say, and the four losses.

Letters: B images, N anchors, G ground-truth boxes, S sampled RoIs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from frcnn.nn.detector import FasterRCNN
from frcnn.ops.boxes import inside, iou
from frcnn.ops.coding import encode
from frcnn.ops.losses import roi_losses, rpn_losses
from frcnn.ops.matching import match_anchors, match_rois
from frcnn.ops.sampling import sample
from frcnn.ops.selection import select_proposals
from frcnn.types import Batch, RpnOutput, Target


class Losses(NamedTuple):
    """Means over the images of a batch."""

    rpn_objectness: Float[Tensor, ""]
    rpn_box: Float[Tensor, ""]
    roi_class: Float[Tensor, ""]
    roi_box: Float[Tensor, ""]


class RoiSample(NamedTuple):
    """The RoIs of one image that train the RoI head, and what they should say."""

    rois: Float[Tensor, "S 4"]
    labels: Int[Tensor, "S"]
    deltas: Float[Tensor, "S 4"]


class TrainingStep(nn.Module):
    """Losses of a batch. Holds no weights of its own: it is what is optimised, never what is saved."""

    def __init__(self, detector: FasterRCNN) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The four losses of the paper, each the mean over the images.

        Args:
            generator: draws the samples; on the CPU.
        """
        detector = self.detector
        features = detector.backbone(detector.normalize(batch.images, batch.image_sizes))
        rpn = detector.rpn(features, (batch.images.shape[-2], batch.images.shape[-1]))
        objectness, rpn_box = self.rpn_losses(rpn, batch, generator)

        proposals = select_proposals(
            rpn,
            batch.image_sizes,
            batch.original_sizes,
            **detector.config.detector.train_proposals.model_dump(),
        )
        samples = [
            self.sample_rois(boxes[valid], target, generator)
            for boxes, valid, target in zip(proposals.boxes, proposals.valid, batch.targets, strict=True)
        ]
        roi_class, roi_box = self.roi_losses(features, samples)
        return Losses(objectness, rpn_box, roi_class, roi_box)

    def rpn_losses(
        self, rpn: RpnOutput, batch: Batch, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The anchor target rule (section 3.1.2), a sample (3.1.3), and its two losses."""
        rules = self.detector.config.train.rpn
        zeros, ones = rpn.anchors.new_zeros(4), rpn.anchors.new_ones(4)
        losses = []
        for logits, deltas, size, target in zip(rpn.logits, rpn.deltas, batch.image_sizes, batch.targets, strict=True):
            boxes = target.boxes[~target.difficult]
            labels, matched_idxs = match_anchors(
                iou(rpn.anchors, boxes),
                inside(rpn.anchors, size) | (not rules.inside_only),
                fg_iou=rules.fg_iou,
                bg_iou=rules.bg_iou,
                clobber_positives=rules.clobber_positives,
            )
            labels = _ignore_difficult(labels, rpn.anchors, target, rules.bg_iou)
            chosen = sample(labels, size=rules.sample_size, fg_fraction=rules.fg_fraction, generator=generator)
            labels = labels[chosen]
            target_deltas = torch.zeros_like(deltas[chosen], dtype=torch.float32)
            positive = labels == 1
            target_deltas[positive] = encode(
                boxes[matched_idxs[chosen][positive]], rpn.anchors[chosen][positive], mean=zeros, std=ones
            )
            losses.append(rpn_losses(logits[chosen], deltas[chosen], labels, target_deltas, sigma=rules.sigma))
        objectness, box = zip(*losses, strict=True)
        return torch.stack(objectness).mean(), torch.stack(box).mean()

    @torch.no_grad()
    def sample_rois(self, proposals: Float[Tensor, "K 4"], target: Target, generator: torch.Generator) -> RoiSample:
        """The proposal target rule: ground truth joins the proposals, so that the head sees objects from the
        first step on; then a sample (Girshick 2015, section 2.3)."""
        rules = self.detector.config.train.roi
        boxes, gt_labels = target.boxes[~target.difficult], target.labels[~target.difficult]
        rois = torch.cat((boxes, proposals))
        labels, matched_idxs = match_rois(
            iou(rois, boxes),
            gt_labels,
            fg_iou=rules.fg_iou,
            bg_iou_low=rules.bg_iou_low,
            bg_iou_high=rules.bg_iou_high,
        )
        labels = _ignore_difficult(labels, rois, target, rules.fg_iou)
        chosen = sample(labels, size=rules.sample_size, fg_fraction=rules.fg_fraction, generator=generator)
        rois, labels, matched_idxs = rois[chosen], labels[chosen], matched_idxs[chosen]
        deltas = torch.zeros_like(rois)
        foreground = labels > 0
        deltas[foreground] = encode(
            boxes[matched_idxs[foreground]],
            rois[foreground],
            mean=self.detector.delta_mean,
            std=self.detector.delta_std,
        )
        return RoiSample(rois, labels, deltas)

    def roi_losses(
        self, features: Sequence[Tensor], samples: list[RoiSample]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Run the RoI head on all samples at once, and each image's two losses."""
        rois = nn.utils.rnn.pad_sequence([s.rois for s in samples], batch_first=True)  # (B, S, 4)
        output = self.detector.roi_head(features, rois)
        losses = [
            roi_losses(
                logits[: len(s.labels)],
                deltas[: len(s.labels)],
                s.labels,
                s.deltas,
                sigma=self.detector.config.train.roi.sigma,
            )
            for logits, deltas, s in zip(output.logits, output.deltas, samples, strict=True)
        ]
        classification, box = zip(*losses, strict=True)
        return torch.stack(classification).mean(), torch.stack(box).mean()


def _ignore_difficult(labels: Tensor, boxes: Tensor, target: Target, threshold: float) -> Tensor:
    """Background that lies on a "difficult" object is no example of background."""
    if not target.difficult.any():
        return labels
    on_difficult = (iou(boxes, target.boxes[target.difficult]) >= threshold).any(dim=1)
    return labels.masked_fill(on_difficult & (labels == 0), -1)
