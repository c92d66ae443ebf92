"""The RoI head: what each region of interest shows, and where exactly its object is.

Letters: B images, K RoIs each, C classes.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frcnn.nn.fpn import conv_layer
from frcnn.nn.linear import Linear
from frcnn.types import RoiOutput


class RoiHead(nn.Module):
    """RoI pooling, layers, then classes and a box for each class.

    The layers are those of the base model after its conv layers, or new ones, or both.

    Args:
        pool: (features, rois) -> a map of fixed size for each RoI.
        channels: of the pooled maps.
        conv_channels: of new 3x3 convolutions right after pooling, e.g. (256, 256, 256, 256).
        norm: after each of them: "none", "batch" or "group".
        head: the base model's layers; (B * K, channels, size, size) -> maps or vectors.
        hidden: numbers per RoI that `head` gives.
        fc_channels: widths of fully connected layers that follow `head`, e.g. (1024, 1024).
        dropout: probability after each of these.
        classes: C, without background.

    Source:
        Girshick 2015, arXiv:1504.08083, section 2; new layers start from N(0, 0.01²) and N(0, 0.001²).
    """

    def __init__(
        self,
        pool: Callable[[Sequence[Tensor], Tensor], Tensor],
        channels: int,
        conv_channels: Sequence[int],
        norm: str,
        head: nn.Module,
        hidden: int,
        fc_channels: Sequence[int],
        dropout: float,
        classes: int,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.convs = nn.ModuleList(
            conv_layer(before, after, 3, norm) for before, after in pairwise([channels, *conv_channels])
        )
        for module in self.convs.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.head = head
        widths = [hidden, *fc_channels]
        self.fc = nn.ModuleList(Linear(before, after) for before, after in pairwise(widths))
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.logits = nn.Linear(widths[-1], 1 + classes)
        self.deltas = nn.Linear(widths[-1], 4 * (1 + classes))
        for layer, std in ((self.logits, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Sequence[Tensor], rois: Float[Tensor, "B K 4"]) -> RoiOutput:
        """What it says of every RoI.

        Args:
            features: (B, F, H, W) of each level, finest first.
            rois: input pixels.
        """
        batch, count, _ = rois.shape
        logits, deltas = self.read(self.pool(features, rois))
        return RoiOutput(logits.unflatten(0, (batch, count)), deltas.unflatten(0, (batch, count)))

    def read(self, pooled: Float[Tensor, "R F S S"]) -> tuple[Float[Tensor, "R 1+C"], Float[Tensor, "R 1+C 4"]]:
        """Logits and deltas of R pooled RoIs."""
        hidden = pooled.to(self.logits.weight.dtype)
        for conv in self.convs:
            hidden = torch.relu(conv(hidden))
        hidden = self.head(hidden).flatten(1)
        for layer in self.fc:
            hidden = self.dropout(torch.relu(layer(hidden)))
        return self.logits(hidden), self.deltas(hidden).unflatten(1, (-1, 4))
