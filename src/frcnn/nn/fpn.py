"""The feature pyramid network (FPN). Letters: B images, F_l channels and H_l x W_l cells of level l."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from frcnn.config.schema import GROUPS

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: nn.Identity(),
    "batch": nn.BatchNorm2d,
    "group": lambda channels: nn.GroupNorm(GROUPS, channels),
}


def conv_layer(in_channels: int, channels: int, kernel_size: int, norm: str) -> nn.Sequential:
    """A convolution that keeps the size of the map, then the normalization. A norm replaces the bias."""
    conv = nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2, bias=norm == "none")
    return nn.Sequential(conv, NORMS[norm](channels))


class FPN(nn.Module):
    """Lateral 1x1 convolutions, a top-down path, 3x3 convolutions, and one more level.

    Args:
        in_channels: channels of the base model's maps, finest first.
        channels: channels of every level.
        norm: "none", "batch" or "group".

    Source:
        Lin et al. 2017, arXiv:1612.03144, section 3; the last level is every other cell of the level before
        (section 4.1, footnote). New layers are initialized as in torchvision (Kaiming uniform, a = 1).
        Differs from torchvision's FeaturePyramidNetwork: group norm and batch norm are possible, and other keys.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, norm: str) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv_layer(count, channels, 1, norm) for count in in_channels)
        self.smooth = nn.ModuleList(conv_layer(channels, channels, 3, norm) for _ in in_channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """(B, F_l, H_l, W_l) of each map, finest first -> (B, channels, H_l, W_l) of each, and of one more level."""
        path = [layer(one) for layer, one in zip(self.lateral, maps, strict=True)]
        for finer in range(len(path) - 2, -1, -1):
            path[finer] = path[finer] + F.interpolate(path[finer + 1], size=path[finer].shape[-2:], mode="nearest")
        levels = [layer(one) for layer, one in zip(self.smooth, path, strict=True)]
        return [*levels, levels[-1][..., ::2, ::2]]
