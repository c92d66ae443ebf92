"""The region proposal network: at every cell of the feature map and for every anchor, is there an object, and
where exactly.

Letters: B images, C channels, H x W cells, A anchors per cell, N = H * W * A.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frcnn.config import AnchorSettings
from frcnn.ops.anchors import anchor_grid, base_anchors
from frcnn.types import RpnOutput


class RPN(nn.Module):
    """A 3x3 convolution, then objectness and box deltas by 1x1 convolutions.

    Args:
        stride, offset: cell i of the feature map looks at the input pixel (i + offset) * stride.
        anchors: the boxes at each cell.

    Source:
        Ren et al. 2015, section 3.1; new layers start from N(0, 0.01²).
        Differs from the paper: one logit per anchor and a sigmoid instead of two and a softmax; the same
        function, since a softmax over two depends on their difference alone.
    """

    base: Tensor

    def __init__(self, in_channels: int, channels: int, stride: int, offset: float, anchors: AnchorSettings) -> None:
        super().__init__()
        sizes = [anchors.base_size * scale for scale in anchors.scales]
        self.register_buffer("base", base_anchors(sizes, anchors.aspect_ratios), persistent=False)
        self.stride = stride
        self.offset = offset
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, len(self.base), 1)
        self.deltas = nn.Conv2d(channels, 4 * len(self.base), 1)
        for layer in (self.conv, self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, features: Float[Tensor, "B C H W"]) -> RpnOutput:
        hidden = torch.relu(self.conv(features))
        logits = self.objectness(hidden).permute(0, 2, 3, 1).flatten(1)  # (B, H * W * A)
        deltas = self.deltas(hidden).permute(0, 2, 3, 1).reshape(*logits.shape, 4)
        height, width = features.shape[-2:]
        anchors = anchor_grid(self.base, (height, width), stride=self.stride, offset=self.offset)
        return RpnOutput(logits, deltas, anchors)
