"""The RoI head: what each region of interest shows, and where exactly its object is.

Letters: B images, K RoIs each, C classes.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frcnn.types import RoiOutput


class RoiHead(nn.Module):
    """RoI pooling, the base model's layers after its conv layers, then classes and a box for each class.

    Args:
        pool: (features, rois) -> a map of fixed size for each RoI.
        head: the base model's layers; (B * K, channels, size, size) -> maps or vectors.
        hidden: numbers per RoI that `head` gives.
        fc_channels: widths of fully connected layers that follow `head`, e.g. (1024, 1024).
        classes: C, without background.

    Source:
        Girshick 2015, arXiv:1504.08083, section 2; new layers start from N(0, 0.01²) and N(0, 0.001²).
    """

    def __init__(
        self,
        pool: Callable[[Tensor, Tensor], Tensor],
        head: nn.Module,
        hidden: int,
        fc_channels: Sequence[int],
        classes: int,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.head = head
        widths = [hidden, *fc_channels]
        self.fc = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.logits = nn.Linear(widths[-1], 1 + classes)
        self.deltas = nn.Linear(widths[-1], 4 * (1 + classes))
        for layer, std in ((self.logits, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Float[Tensor, "B F H W"], rois: Float[Tensor, "B K 4"]) -> RoiOutput:
        batch, count, _ = rois.shape
        hidden = self.head(self.pool(features, rois)).flatten(1)
        for layer in self.fc:
            hidden = torch.relu(layer(hidden))
        logits = self.logits(hidden).view(batch, count, self.logits.out_features)
        deltas = self.deltas(hidden).view(batch, count, self.logits.out_features, 4)
        return RoiOutput(logits, deltas)
