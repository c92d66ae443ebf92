"""The region proposal network: for every anchor at every cell of the feature maps, an objectness logit and box deltas.

Letters: B images, F channels, H x W cells, A anchors per cell.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from frcnn.config import AnchorSettings
from frcnn.config.rules import PAPER, Rules
from frcnn.ops.anchors import anchor_grid, base_anchors
from frcnn.types import Level, RpnOutput


class RPN(nn.Module):
    """3x3 convolutions, then objectness and box deltas by 1x1 convolutions; the same layers for every level.

    Args:
        in_channels: F, the same on every level.
        channels: of the 3x3 convolutions.
        convs: number of 3x3 convolutions.
        levels: stride and offset of each feature map.
        anchors: sizes and aspect ratios of the anchors at each cell.
        rules: how anchors are rounded and spaced.

    Source:
        Ren et al. 2015, section 3.1; new layers are initialized from N(0, 0.01²). On a pyramid: Lin et al. 2017,
        arXiv:1612.03144, section 4.1.
        Differs from the paper: one logit per anchor and a sigmoid instead of two and a softmax; the same
        function, since a softmax over two depends on their difference alone.
    """

    base: Tensor

    def __init__(
        self,
        in_channels: int,
        channels: int,
        convs: int,
        levels: Sequence[Level],
        anchors: AnchorSettings,
        rules: Rules = PAPER,
    ) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.spacing = rules.anchor_spacing
        base = []
        with torch.device("cpu"):  # also in a model without weights, see `empty_model`
            for level in levels:
                sizes = [(anchors.base_size or level.stride) * scale for scale in anchors.scales]
                base.append(base_anchors(sizes, anchors.aspect_ratios, rounded=rules.rounded_anchors))
        self.register_buffer("base", torch.stack(base), persistent=False)  # (levels, A, 4)
        count = self.base.shape[1]
        self.convs = nn.ModuleList(
            nn.Conv2d(in_channels if number == 0 else channels, channels, 3, padding=1) for number in range(convs)
        )
        self.objectness = nn.Conv2d(channels, count, 1)
        self.deltas = nn.Conv2d(channels, 4 * count, 1)
        for layer in (*self.convs, self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Sequence[Tensor], frame_size: tuple[int, int]) -> RpnOutput:
        """Logits and deltas of every anchor.

        Args:
            features: (B, F, H, W) of each level, finest first.
            frame_size: (height, width) of the frame that the images are in, input pixels.
        """
        logits, deltas, anchors = [], [], []
        for hidden, level, base in zip(features, self.levels, self.base, strict=True):
            for conv in self.convs:
                hidden = torch.relu(conv(hidden))
            logits.append(self.objectness(hidden).permute(0, 2, 3, 1).flatten(1))  # (B, H * W * A)
            deltas.append(self.deltas(hidden).permute(0, 2, 3, 1).reshape(*logits[-1].shape, 4))
            height, width = hidden.shape[-2:]
            stride = (level.stride, level.stride)
            if self.spacing == "frame":
                stride = (frame_size[0] // height, frame_size[1] // width)
            anchors.append(anchor_grid(base, (height, width), stride=stride, offset=level.offset))
        return RpnOutput(
            torch.cat(logits, 1), torch.cat(deltas, 1), torch.cat(anchors), [level.shape[0] for level in anchors]
        )
