"""The four losses. Letters: S sampled anchors or RoIs, C classes without the background."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def smooth_l1(predicted: Float[Tensor, "*b"], target: Float[Tensor, "*b"], *, sigma: float) -> Float[Tensor, "*b"]:
    """0.5 (sigma d)² where |d| < 1 / sigma², else |d| - 0.5 / sigma²; d is the difference.

    Source:
        Girshick 2015, equation 3, with py-faster-rcnn's sigma: the larger, the closer to L1.
    """
    return F.smooth_l1_loss(predicted, target, reduction="none", beta=1 / sigma**2)


def rpn_losses(
    logits: Float[Tensor, "S"],
    deltas: Float[Tensor, "S 4"],
    labels: Int[Tensor, "S"],
    target_deltas: Float[Tensor, "S 4"],
    *,
    sigma: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Objectness and box loss of one image's sampled anchors, both divided by the number of samples.

    Args:
        logits, deltas: of the RPN.
        labels: 1 object, 0 background; only objects have a box loss.

    Source:
        Ren et al. 2015, equation 1, normalized as in py-faster-rcnn (both terms by the sample's size).
    """
    objectness = F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="sum")
    foreground = labels == 1
    box = smooth_l1(deltas[foreground].float(), target_deltas[foreground], sigma=sigma).sum()
    count = max(len(labels), 1)
    return objectness / count, box / count


def roi_losses(
    logits: Float[Tensor, "S 1+C"],
    deltas: Float[Tensor, "S 1+C 4"],
    labels: Int[Tensor, "S"],
    target_deltas: Float[Tensor, "S 4"],
    *,
    sigma: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Class and box loss of one image's sampled RoIs, both divided by the number of samples.

    Args:
        logits, deltas: of the RoI head.
        labels: 0 background, 1..C; the box loss is that of the deltas for the label's class, background has none.

    Source:
        Girshick 2015, equations 1 and 2, lambda = 1.
    """
    classification = F.cross_entropy(logits.float(), labels, reduction="sum")
    foreground = (labels > 0).nonzero().flatten()
    own = deltas[foreground, labels[foreground]].float()
    box = smooth_l1(own, target_deltas[foreground], sigma=sigma).sum()
    count = max(len(labels), 1)
    return classification / count, box / count
