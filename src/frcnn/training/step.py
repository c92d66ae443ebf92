"""One training step: the model's own modules, targets for their outputs, and the losses.

Letters: B images, N anchors or RoIs, K proposals, S sampled of them.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from frcnn.config import RoiTrainSettings, RpnTrainSettings, TrainSettings
from frcnn.fast.matching import highest_iou_in_chunks, match_anchors_in_chunks
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.ops.box_coder import encode
from frcnn.ops.boxes import inside, iou
from frcnn.ops.losses import roi_losses, rpn_losses
from frcnn.ops.matcher import match_rois
from frcnn.ops.sampler import sample
from frcnn.training.schemes import Part
from frcnn.types import Batch, RoiOutput, RpnOutput, Target

LOSSES = ("rpn_objectness", "rpn_box", "roi_class", "roi_box")


class RoiSample(NamedTuple):
    """The RoIs of one image that train the RoI head, and their targets."""

    rois: Float[Tensor, "S 4"]
    labels: Int[Tensor, "S"]
    deltas: Float[Tensor, "S 4"]


class TrainingStep(nn.Module):
    """The losses of a batch. It adds no weights; only `model` is saved.

    Args:
        model: on the device on which it is trained.
        settings: `rpn` and `roi` hold the thresholds, samples and losses of the two heads.
        parts: the parts that are trained; the RPN and the RoI head have losses only if they are.

    Raises:
        ValueError: the model is compressed.
    """

    def __init__(self, model: FasterRCNN, settings: TrainSettings, parts: Collection[Part] = tuple(Part)) -> None:
        super().__init__()
        if model.svd_rank is not None:
            raise ValueError(
                f"training: the model is compressed (svd {model.svd_rank}) and can only detect and be exported; "
                f"train the uncompressed model"
            )
        self.model = model
        self.settings = settings
        self.parts = frozenset(parts)

    def forward(self, batch: Batch, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
        """The losses of the paper by name, each the mean over the images.

        Args:
            batch: if it holds proposals, the RoI head is trained on them; else on those of the RPN in this step.
            generators: on the CPU, one per image, so that the samples of an image do not depend on its batch.
        """
        model = self.model
        features = model.backbone(model.normalize(batch.images, batch.image_sizes))
        losses: dict[str, Tensor] = {}
        proposals = batch.proposals
        if Part.RPN in self.parts or proposals is None:
            rpn = model.rpn(features, (batch.images.shape[-2], batch.images.shape[-1]))
            if Part.RPN in self.parts:
                losses["rpn_objectness"], losses["rpn_box"] = self.rpn_losses(rpn, batch, generators)
        if Part.ROI_HEAD in self.parts:
            if proposals is None:
                settings = model.settings.detector.train_proposals
                boxes, _, valid = model.propose(rpn, batch.image_sizes, batch.original_sizes, settings)
                proposals = [b[v] for b, v in zip(boxes, valid, strict=True)]
            losses["roi_class"], losses["roi_box"] = self.roi_losses(features, proposals, batch, generators)
        return losses

    def set_modes(self) -> None:
        """Put the trained parts into training mode. Others stay in evaluation mode: their statistics do not change."""
        self.model.train()
        for part in set(Part) - self.parts:
            getattr(self.model, part.value).eval()

    def rpn_losses(
        self, rpn: RpnOutput, batch: Batch, generators: Sequence[torch.Generator]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The anchor target rule (Ren et al. 2015, section 3.1.2), a sample (3.1.3), and its two losses."""
        settings = self.settings.rpn
        mean, std = rpn.anchors.new_zeros(4), rpn.anchors.new_ones(4)  # RPN deltas are not normalized
        losses = []
        for logits, deltas, size, target, generator in zip(
            rpn.logits, rpn.deltas, batch.image_sizes, batch.targets, generators, strict=True
        ):
            eligible = (inside(rpn.anchors, size) | (not settings.inside_only)).nonzero().flatten()
            anchors = rpn.anchors[eligible]
            labels, matched_idxs = match_anchors_in_chunks(
                anchors,
                target.boxes[~target.ignore],
                positive_iou=settings.positive_iou,
                negative_iou=settings.negative_iou,
                clobber_positives=settings.clobber_positives,
            )
            labels = _ignore_background(labels, anchors, target, settings.negative_iou)
            chosen, labels, target_deltas = _draw_sample(
                anchors, labels, matched_idxs, target, settings, generator, mean=mean, std=std
            )
            chosen = eligible[chosen]
            losses.append(rpn_losses(logits[chosen], deltas[chosen], labels, target_deltas, sigma=settings.sigma))
        objectness, box = zip(*losses, strict=True)
        return torch.stack(objectness).mean(), torch.stack(box).mean()

    def roi_losses(
        self,
        features: Sequence[Tensor],
        proposals: Sequence[Float[Tensor, "K 4"]],
        batch: Batch,
        generators: Sequence[torch.Generator],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The two losses of the RoI head, over all images at once.

        In a cascade, the refined RoIs of one stage are the proposals of the next. The loss of each stage has half the
        weight of the previous one.

        Source:
            Cai & Vasconcelos 2018, section 4; weights as in the authors' code.
        """
        losses = []
        for stage in self.model.roi_head.stages():
            samples = [
                self.sample_rois(*each, stage=stage.stage_number)
                for each in zip(proposals, batch.targets, generators, strict=True)
            ]
            rois = nn.utils.rnn.pad_sequence([s.rois for s in samples], batch_first=True)  # (B, S, 4)
            output = stage(features, rois)
            losses.append(self.stage_losses(output, samples, stage.stage_number))
            if stage.next is not None:
                refined = self.model.refine_boxes(rois, output, batch.image_sizes)
                proposals = [_with_area(boxes[: len(s.rois)]) for boxes, s in zip(refined, samples, strict=True)]
        classification, box = zip(*losses, strict=True)
        weights = [0.5**number for number in range(len(losses))]
        return (
            sum(weight * loss for weight, loss in zip(weights, classification, strict=True)),
            sum(weight * loss for weight, loss in zip(weights, box, strict=True)),
        )

    @torch.no_grad()
    def sample_rois(
        self, proposals: Float[Tensor, "K 4"], target: Target, generator: torch.Generator, stage: int = 1
    ) -> RoiSample:
        """The proposal target rule, then a sample (Girshick 2015, section 2.3). The ground-truth boxes join the
        proposals, so that the head sees objects from the first step on. Each later stage of a cascade raises both
        IoU thresholds by 0.1, to at most 0.9."""
        settings = self.settings.roi
        higher = min(0.1 * (stage - 1), max(0.9 - settings.positive_iou, 0))
        boxes, gt_labels = target.boxes[~target.ignore], target.labels[~target.ignore]
        rois = torch.cat((boxes, proposals))
        labels, matched_idxs = match_rois(
            iou(rois, boxes),
            gt_labels,
            positive_iou=settings.positive_iou + higher,
            negative_iou_low=settings.negative_iou_low,
            negative_iou_high=settings.negative_iou_high + higher,
        )
        labels = _ignore_background(labels, rois, target, settings.positive_iou + higher)
        mean, std = self.model.delta_mean, self.model.delta_std
        chosen, labels, deltas = _draw_sample(
            rois, labels, matched_idxs, target, settings, generator, mean=mean, std=std
        )
        return RoiSample(rois[chosen], labels, deltas)

    def stage_losses(
        self, output: RoiOutput, samples: Sequence[RoiSample], stage: int = 1
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The two losses of one stage. The deltas of later stages are smaller, so the loss multiplies them by the
        stage number."""
        sigma = self.settings.roi.sigma
        losses = [
            roi_losses(
                logits[: len(s.labels)], stage * deltas[: len(s.labels)], s.labels, stage * s.deltas, sigma=sigma
            )
            for logits, deltas, s in zip(output.logits, output.deltas, samples, strict=True)
        ]
        classification, box = zip(*losses, strict=True)
        return torch.stack(classification).mean(), torch.stack(box).mean()


def _with_area(boxes: Float[Tensor, "K 4"]) -> Float[Tensor, "_ 4"]:
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]


def _ignore_background(
    labels: Int[Tensor, "N"], boxes: Float[Tensor, "N 4"], target: Target, threshold: float
) -> Int[Tensor, "N"]:
    """Background with IoU >= `threshold` with an ignored object becomes -1. From this IoU with a counted
    object, an anchor (`negative_iou`) or a RoI (`positive_iou`) is not background."""
    if not target.ignore.any():
        return labels
    overlaps = highest_iou_in_chunks(boxes, target.boxes[target.ignore]) >= threshold
    return labels.masked_fill(overlaps & (labels == 0), -1)


def _draw_sample(
    boxes: Float[Tensor, "N 4"],
    labels: Int[Tensor, "N"],
    matched_idxs: Int[Tensor, "N"],
    target: Target,
    settings: RpnTrainSettings | RoiTrainSettings,
    generator: torch.Generator,
    *,
    mean: Float[Tensor, "4"],
    std: Float[Tensor, "4"],
) -> tuple[Int[Tensor, "S"], Int[Tensor, "S"], Float[Tensor, "S 4"]]:
    """A sample of anchors or RoIs: their indices, labels and target deltas, normalized by mean and std; the deltas of
    background are 0."""
    chosen = sample(
        labels, size=settings.sample_size, positive_fraction=settings.positive_fraction, generator=generator
    )
    labels, deltas = labels[chosen], boxes.new_zeros((len(chosen), 4))
    foreground = labels > 0
    positives = chosen[foreground]
    deltas[foreground] = encode(
        target.boxes[~target.ignore][matched_idxs[positives]], boxes[positives], mean=mean, std=std
    )
    return chosen, labels, deltas
