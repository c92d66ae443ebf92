"""Anchors: the boxes that the region proposal network refines.

Letters: A anchors per cell, H x W cells of the feature map, N = H * W * A.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def base_anchors(
    sizes: Sequence[float], aspect_ratios: Sequence[float], *, rounded: bool = False
) -> Float[Tensor, "A 4"]:
    """Boxes centered on the origin, one per (aspect ratio, size), each with area size².

    Args:
        sizes: side of the square anchor, input pixels, e.g. (128, 256, 512).
        aspect_ratios: height / width, e.g. (0.5, 1, 2); 0.5 is wide, 2 is tall.
        rounded: round coordinates to whole pixels, as torchvision's detectors do.

    Returns:
        xyxy, pixels; ordered by aspect ratio, then size.

    Source:
        Ren et al. 2015, arXiv:1506.01497, section 3.1.1.
        Differs from py-faster-rcnn and CNTK: no rounding, so areas are exact.
    """
    size = torch.tensor(sizes, dtype=torch.float32)
    ratio = torch.tensor(aspect_ratios, dtype=torch.float32)[:, None]
    half_width = (size / ratio.sqrt() / 2).flatten()
    half_height = (size * ratio.sqrt() / 2).flatten()
    anchors = torch.stack((-half_width, -half_height, half_width, half_height), dim=1)
    return anchors.round() if rounded else anchors


def anchor_grid(
    base: Float[Tensor, "A 4"], feature_size: tuple[int, int], *, stride: tuple[float, float], offset: float
) -> Float[Tensor, "N 4"]:
    """Every base anchor at every cell of the feature map.

    Args:
        feature_size: (H, W), cells.
        stride: input pixels per cell, (y, x).
        offset: of the anchors' center in the cell: 0.5 is the cell's center, 0 its upper left corner.

    Returns:
        xyxy, input pixels; ordered by row, column, base anchor; they may cross the border of the image.

    Source:
        Ren et al. 2015, section 3.1.1. py-faster-rcnn and CNTK use the center of the cell, torchvision its corner.
    """
    height, width = feature_size
    y = (torch.arange(height, device=base.device, dtype=base.dtype) + offset) * stride[0]
    x = (torch.arange(width, device=base.device, dtype=base.dtype) + offset) * stride[1]
    y, x = torch.meshgrid(y, x, indexing="ij")
    centers = torch.stack((x, y, x, y), dim=-1)  # (H, W, 4)
    return (centers[:, :, None] + base).reshape(-1, 4)
