"""One training step: the detector's own modules, targets for what they say, and their losses.

Letters: B images, N anchors, G ground-truth boxes, S sampled RoIs.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from frcnn.nn.detector import FasterRCNN
from frcnn.ops.boxes import inside, iou, iou_blocks
from frcnn.ops.coding import encode
from frcnn.ops.losses import roi_losses, rpn_losses
from frcnn.ops.matching import match_anchors, match_rois
from frcnn.ops.sampling import sample
from frcnn.ops.selection import select_proposals
from frcnn.training.phases import Part
from frcnn.types import Batch, RpnOutput, Target

LOSSES = ("rpn_objectness", "rpn_box", "roi_class", "roi_box")
Losses = dict[str, Tensor]
"""By name, means over the images of a batch."""


class MicroBatch(NamedTuple):
    """What goes through the detector at once; a step may take several."""

    batch: Batch
    weight: float
    """Of its mean loss in that of the step."""
    seeds: list[tuple[int, ...]]
    """Of each image's samples."""


class RoiSample(NamedTuple):
    """The RoIs of one image that train the RoI head, and what they should say."""

    rois: Float[Tensor, "S 4"]
    labels: Int[Tensor, "S"]
    deltas: Float[Tensor, "S 4"]


class TrainingStep(nn.Module):
    """Losses of a batch. Holds no weights of its own: it is what is optimised, never what is saved.

    Args:
        parts: what learns; of those, the RPN and the RoI head give losses.

    Raises:
        ValueError: the detector is compressed.
    """

    def __init__(self, detector: FasterRCNN, parts: Collection[Part] = tuple(Part)) -> None:
        super().__init__()
        if detector.svd_rank is not None:
            raise ValueError(
                f"training: the detector is compressed (svd {detector.svd_rank}) and can only detect and be exported; "
                f"train the one that it was made of"
            )
        self.detector = detector
        self.parts = frozenset(parts)

    def forward(self, batch: Batch, generators: Sequence[torch.Generator]) -> Losses:
        """The losses of the paper, each the mean over the images.

        Args:
            batch: with kept proposals, the RoI head learns from those; else from what the RPN says now.
            generators: draw the samples, one for each image, so that it does not matter what else is in its batch; on
                the CPU.
        """
        detector = self.detector
        features = detector.backbone(detector.normalize(batch.images, batch.image_sizes))
        losses: Losses = {}
        proposals = batch.proposals
        if Part.RPN in self.parts or proposals is None:
            rpn = detector.rpn(features, (batch.images.shape[-2], batch.images.shape[-1]))
            if Part.RPN in self.parts:
                losses["rpn_objectness"], losses["rpn_box"] = self.rpn_losses(rpn, batch, generators)
        if Part.ROI_HEAD in self.parts:
            if proposals is None:
                rules = detector.config.detector.train_proposals
                boxes, _, valid = select_proposals(rpn, batch.image_sizes, batch.original_sizes, **rules.model_dump())
                proposals = [b[v] for b, v in zip(boxes, valid, strict=True)]
            samples = [self.sample_rois(*each) for each in zip(proposals, batch.targets, generators, strict=True)]
            losses["roi_class"], losses["roi_box"] = self.roi_losses(features, samples)
        return losses

    def set_modes(self) -> None:
        """Training mode for what learns; what does not also keeps the statistics of its batch norm."""
        self.detector.train()
        for part in Part:
            getattr(self.detector, part.value).train(part in self.parts)
        self.detector.freeze_batch_norm()

    def rpn_losses(
        self, rpn: RpnOutput, batch: Batch, generators: Sequence[torch.Generator]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The anchor target rule (section 3.1.2), a sample (3.1.3), and its two losses."""
        rules = self.detector.config.train.rpn
        zeros, ones = rpn.anchors.new_zeros(4), rpn.anchors.new_ones(4)
        losses = []
        for logits, deltas, size, target, generator in zip(
            rpn.logits, rpn.deltas, batch.image_sizes, batch.targets, generators, strict=True
        ):
            boxes = target.boxes[~target.difficult]
            eligible = inside(rpn.anchors, size) | (not rules.inside_only)
            labels, matched_idxs = match_anchors(
                iou_blocks(rpn.anchors[eligible], boxes),
                eligible,
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
    for ious in iou_blocks(boxes, target.boxes[target.difficult]):
        labels = labels.masked_fill((ious >= threshold).any(dim=1) & (labels == 0), -1)
    return labels
