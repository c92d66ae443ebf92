"""Why an object was not detected: a two-stage detector can tell where it was lost."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from frcnn.data.transforms import prepare_images
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.ops.box_coder import decode
from frcnn.ops.boxes import clip, iou, rescale

_SAME_OBJECT = 0.5  # IoU, as in `DetectionError`


class Reason(StrEnum):
    """Where an object was lost, in the order of the detector's steps."""

    ANCHOR = "no anchor"
    """No anchor overlaps it by an IoU of 0.5."""
    PROPOSAL = "no proposal"
    """The RPN made no proposal that overlaps it by an IoU of 0.5."""
    LOCATION = "box badly placed"
    """A proposal does, but no box of the RoI head."""
    OTHER_CLASS = "another class"
    """The RoI head takes it for an object of another class."""
    BACKGROUND = "background"
    """The RoI head takes it for background."""
    LOW_SCORE = "low confidence"
    """Its class has the highest probability, but less than the threshold."""
    NMS = "removed by NMS"
    """Its box had enough confidence; a better one near it, or the limit of detections, removed it."""


class Explanation(NamedTuple):
    """Why one object was not detected, with the figures that say so."""

    reason: Reason
    anchor_iou: float
    """Of the best anchor."""
    proposal_iou: float
    """Of the best proposal."""
    score: float
    """The highest confidence of a box of its class that overlaps it by an IoU of 0.5; 0: there is none."""
    other_class: str | None
    """The most probable other class of those boxes."""
    other_score: float
    background: float
    """Probability of background of the box that `score` is of."""


@torch.no_grad()
def why_missed(
    model: FasterRCNN, image: Path | Image.Image, boxes: np.ndarray, class_names: Sequence[str], *, threshold: float
) -> list[Explanation]:
    """Why these objects of an image were not detected.

    Args:
        model: in evaluation mode.
        image: the image, or the tile that shows the objects.
        boxes: (G, 4), pixels of the image.
        class_names: (G,), classes that the model knows.
        threshold: the least confidence of a detection.
    """
    detector = model.settings.detector
    batch = (torch.from_numpy(array).to(model.mean.device) for array in prepare_images([image], detector.resizing))
    images, sizes, originals = batch
    truth = torch.from_numpy(np.asarray(boxes, np.float32)).to(model.mean.device)
    features = model.backbone(model.normalize(images, sizes))
    rpn = model.rpn(features, (images.shape[-2], images.shape[-1]))
    proposals = model.propose(rpn, sizes, originals, detector.test_proposals)
    rois, output = model.run_roi_head(features, proposals, sizes)
    anchor_iou = _best(rescale(rpn.anchors[None], sizes, originals)[0], truth)
    proposal_iou = _best(rescale(proposals.boxes, sizes, originals)[0][proposals.valid[0]], truth)
    valid = rois.valid[0]
    probabilities = output.logits.float().softmax(dim=-1)[0][valid]  # (K, 1 + C)
    refined = decode(output.deltas[:, :, 1:], rois.boxes[:, :, None], mean=model.delta_mean, std=model.delta_std)
    refined = rescale(clip(refined, sizes), sizes, originals)[0][valid]  # (K, C or 1, 4)
    explanations = []
    for number, name in enumerate(class_names):
        label = model.classes.index(name)
        own = refined[:, min(label, refined.shape[1] - 1)]
        near = iou(own, truth[number : number + 1])[:, 0] >= _SAME_OBJECT
        explanations.append(
            _explain(
                model, label, probabilities[near], float(anchor_iou[number]), float(proposal_iou[number]), threshold
            )
        )
    return explanations


def _explain(
    model: FasterRCNN, label: int, near: Tensor, anchor_iou: float, proposal_iou: float, threshold: float
) -> Explanation:
    """Why an object of this class was not detected.

    Args:
        near: (M, 1 + C), the probabilities of the boxes that overlap it enough.
    """
    if not len(near):
        reason = Reason.LOCATION if proposal_iou >= _SAME_OBJECT else Reason.PROPOSAL
        if reason is Reason.PROPOSAL and anchor_iou < _SAME_OBJECT:
            reason = Reason.ANCHOR
        return Explanation(reason, anchor_iou, proposal_iou, 0.0, None, 0.0, 0.0)
    best = int(near[:, 1 + label].argmax())
    score, background = float(near[best, 1 + label]), float(near[best, 0])
    others = near[:, 1:].clone()
    others[:, label] = -1
    other_score, other = (float(value) for value in others.max(dim=0).values.max(dim=0))
    if score >= threshold:
        reason = Reason.NMS
    elif other_score > max(score, background):
        reason = Reason.OTHER_CLASS
    else:
        reason = Reason.BACKGROUND if background > score else Reason.LOW_SCORE
    other_class = model.classes[int(other)] if len(model.classes) > 1 else None
    return Explanation(reason, anchor_iou, proposal_iou, score, other_class, max(other_score, 0.0), background)


def _best(boxes: Tensor, truth: Tensor) -> Tensor:
    """(G,): the IoU of each object with the best of these boxes."""
    overlap = iou(boxes, truth)
    return overlap.max(dim=0).values if len(boxes) else overlap.new_zeros(len(truth))
