"""The RoI head: for each region of interest (RoI), class logits and a box for each class. A cascade has several RoI
heads, called stages.

Letters: B images, K RoIs of each, R RoIs of all, F channels, H x W cells, C classes.
"""

import copy
from collections.abc import Iterator, Sequence
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
        stage_number: position in the cascade; the first is 1.

    Attributes:
        next: the RoI head of the next stage, with layers of its own; None: this is the last one.

    Source:
        Girshick 2015, arXiv:1504.08083, section 2; the output layers are initialized from N(0, 0.01²) and
        N(0, 0.001²). The cascade: Cai & Vasconcelos 2018, arXiv:1712.00726, section 4.
    """

    def __init__(
        self,
        settings: BaseModelSettings,
        in_channels: int,
        levels: Sequence[Level],
        head: nn.Module,
        classes: int,
        rules: Rules = PAPER,
        stage_number: int = 1,
    ) -> None:
        super().__init__()
        self.stage_number = stage_number
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
        self.deltas = nn.Linear(widths[-1], 4 * (1 + classes if settings.box_per_class else 1))
        for layer, std in ((self.logits, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        self.next: RoiHead | None = None
        if stage_number < settings.cascade:
            self.next = RoiHead(settings, in_channels, levels, copy.deepcopy(head), classes, rules, stage_number + 1)

    def stages(self) -> Iterator["RoiHead"]:
        """This head, and those after it."""
        yield self
        if self.next is not None:
            yield from self.next.stages()

    def forward(self, features: Sequence[Tensor], rois: Float[Tensor, "B K 4"]) -> RoiOutput:
        """Logits and deltas of every RoI, of this stage alone.

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
        deltas = deltas / self.stage_number  # later corrections are smaller: Cascade R-CNN divides the std by 2, 3
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
        logits, deltas = self.logits(hidden), self.deltas(hidden).unflatten(1, (-1, 4))
        return logits, deltas.expand(-1, logits.shape[1], -1)
