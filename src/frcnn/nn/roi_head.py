"""The RoI head: for each region of interest (RoI), class logits and a box for each class.

Letters: B images, K RoIs of each, R RoIs of all, F channels, H x W cells, C classes.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frcnn.config import BaseModelSettings
from frcnn.config.rules import PAPER, Rules
from frcnn.nn.backbone import head_width
from frcnn.nn.fpn import conv_layer
from frcnn.ops.roi_pooling import RoiAlign, pool_rois, roi_align, roi_max_pool
from frcnn.types import Level, RoiOutput


class RoiHead(nn.Module):
    """RoI pooling, hidden layers, then class logits and box deltas.

    The hidden layers are those of the base model after its conv layers, or new layers, or both.

    Args:
        settings: method and size of RoI pooling, and the new layers: 3x3 convolutions before `head`, fully connected
            layers after it.
        in_channels: F, of the feature maps.
        levels: of the feature maps that RoIs are pooled from.
        head: the base model's layers; (R, channels, size, size) -> maps or vectors.
        classes: C, without background.
        rules: sampling ratio and least size of RoIs.

    Source:
        Girshick 2015, arXiv:1504.08083, section 2; the output layers are initialized from N(0, 0.01²) and
        N(0, 0.001²).
    """

    def __init__(
        self,
        settings: BaseModelSettings,
        in_channels: int,
        levels: Sequence[Level],
        head: nn.Module,
        classes: int,
        rules: Rules = PAPER,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.rules = rules
        self.levels = tuple(levels)
        self.align: RoiAlign = roi_align
        channels = (in_channels, *settings.conv_channels)
        self.convs = nn.ModuleList(conv_layer(before, after, 3, settings.norm) for before, after in pairwise(channels))
        for module in self.convs.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.head = head
        widths = (head_width(head, channels[-1], settings.roi_size), *settings.fc_channels)
        self.fc = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.dropout = nn.Dropout(settings.dropout) if settings.dropout else nn.Identity()
        self.logits = nn.Linear(widths[-1], 1 + classes)
        self.deltas = nn.Linear(widths[-1], 4 * (1 + classes))
        for layer, std in ((self.logits, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Sequence[Tensor], rois: Float[Tensor, "B K 4"]) -> RoiOutput:
        """Logits and deltas of every RoI.

        Args:
            features: (B, F, H, W) of each level, finest first.
            rois: input pixels.
        """
        batch, count, _ = rois.shape
        align = partial(self.align, sampling_ratio=self.rules.sampling_ratio)
        pooled = pool_rois(
            features,
            rois,
            levels=self.levels,
            size=self.settings.roi_size,
            pool=align if self.settings.roi_pooling == "align" else roi_max_pool,
            min_cells=self.rules.roi_min_cells,
        )
        logits, deltas = self.predict(pooled)
        return RoiOutput(logits.unflatten(0, (batch, count)), deltas.unflatten(0, (batch, count)))

    def predict(
        self, pooled: Float[Tensor, "R F size size"]
    ) -> tuple[Float[Tensor, "R 1+C"], Float[Tensor, "R 1+C 4"]]:
        """Logits and deltas of R pooled RoIs."""
        hidden = pooled.to(self.logits.weight.dtype)
        for conv in self.convs:
            hidden = torch.relu(conv(hidden))
        hidden = self.head(hidden).flatten(1)
        for layer in self.fc:
            hidden = self.dropout(torch.relu(layer(hidden)))
        return self.logits(hidden), self.deltas(hidden).unflatten(1, (-1, 4))
