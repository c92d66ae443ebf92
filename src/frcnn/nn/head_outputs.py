"""Raw outputs of the RoI head, before box regression and NMS, under the names of CNTK's tutorial.

Letters: B images, K RoIs, C classes.
"""

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.types import Proposals, RoiOutput


class HeadOutputs(NamedTuple):
    """The outputs before NMS, and which RoIs are valid."""

    rpn_rois: Float[Tensor, "B K 4"]
    """xyxy, input pixels. In a cascade, the boxes that its last stage classified."""
    cls_pred: Float[Tensor, "B K 1+C"]
    """Probabilities; column 0 is background."""
    bbox_regr: Float[Tensor, "B K 1+C 4"]
    """Deltas from the RoI for each class, normalized by the detector's means and standard deviations."""
    valid: Bool[Tensor, "B K"]


def head_outputs(proposals: Proposals, output: RoiOutput) -> HeadOutputs:
    """The RoI head's output for these proposals, under the names of CNTK's tutorial."""
    return HeadOutputs(proposals.boxes, output.logits.float().softmax(dim=-1), output.deltas.float(), proposals.valid)


def run_heads(model: FasterRCNN, images: Tensor, image_sizes: Tensor, original_sizes: Tensor) -> HeadOutputs:
    """The outputs before NMS; arguments as for `FasterRCNN.forward`."""
    return head_outputs(*model.propose_and_classify(images, image_sizes, original_sizes))
