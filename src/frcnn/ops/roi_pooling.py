"""RoI pooling: a feature map of fixed size from every RoI.

Letters: B images, K RoIs of each, R RoIs of all, F channels, H x W cells.

Features are converted to float32 first, because the kernels read RoIs in the precision of the features: in bfloat16, a
coordinate of 1000 pixels is off by up to 2.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torchvision
from jaxtyping import Float, Int
from torch import Tensor

from frcnn.types import Level

Pool = Callable[[Tensor, Tensor, int, int], Tensor]
"""The first four arguments and the result of `roi_align` and of `roi_max_pool`."""
RoiAlign = Callable[..., Tensor]
"""The arguments and the result of `roi_align`."""


def pool_rois(
    features: Sequence[Tensor],
    rois: Float[Tensor, "B K 4"],
    *,
    levels: Sequence[Level],
    size: int,
    pool: Pool,
    min_cells: float = 0.0,
) -> Float[Tensor, "B*K F size size"]:
    """Pool every RoI from the level of the pyramid that is assigned to its size.

    Args:
        features: (B, F, H, W) of each level, finest first; maps after the last of `levels` are not used.
        rois: input pixels.
        levels: stride and offset of each map.
        size: bins per side.
        pool: `roi_align` or `roi_max_pool`.
        min_cells: RoIs with shorter sides are enlarged to this many cells, to the right and downwards.
    """
    batch, count, _ = rois.shape
    image = torch.arange(batch, device=rois.device, dtype=rois.dtype).repeat_interleave(count)
    rows = torch.cat((image[:, None], rois.reshape(-1, 4)), dim=1)
    if len(levels) == 1:
        return pool(features[0], _adjusted(rows, levels[0], min_cells), size, levels[0].stride)

    level_of = assign_levels(rows[:, 1:], [level.stride for level in levels])
    indices, parts = [], []
    for number, level in enumerate(levels):
        index = (level_of == number).nonzero().flatten()
        indices.append(index)
        parts.append(pool(features[number], _adjusted(rows[index], level, min_cells), size, level.stride))
    pooled = rows.new_empty(rows.shape[0], features[0].shape[1], size, size)
    return pooled.index_copy(0, torch.cat(indices), torch.cat(parts))


def assign_levels(rois: Float[Tensor, "R 4"], strides: Sequence[int]) -> Int[Tensor, "R"]:
    """The index of the level that each RoI is pooled from: the larger the RoI, the coarser.

    Args:
        rois: input pixels.
        strides: of the levels, rising; of equal ones, the first is assigned.

    Source:
        Lin et al. 2017, Feature Pyramid Networks, arXiv:1612.03144, equation 1: k = floor(4 + log2(sqrt(w h) / 224)),
        where level k has stride 2^k. The 1e-6 is torchvision's, against rounding at the borders.
    """
    levels = [math.log2(stride) for stride in strides]
    sides = (rois[:, 2:] - rois[:, :2]).clamp(min=0).prod(dim=1).sqrt()
    k = torch.floor(4 + torch.log2(sides / 224) + 1e-6).clamp(levels[0], levels[-1])
    is_finer = torch.stack([level < k for level in levels])
    return is_finer.sum(dim=0)  # index of the first level that is not finer than k


def roi_align(
    features: Float[Tensor, "B F H W"],
    rois: Float[Tensor, "R 5"],
    size: int,
    stride: int,
    *,
    sampling_ratio: int | None = None,
) -> Float[Tensor, "R F size size"]:
    """RoIAlign: each RoI is divided into `size` x `size` bins; the value of a bin is the mean of bilinear samples.

    This is the plain version. `fast/roi_align.py` replaces it on CPUs.

    Args:
        rois: index of the image, xyxy; input pixels. Cell i is at the pixel (i + 0.5) * stride.
        stride: input pixels per cell.
        sampling_ratio: samples per bin and direction; None: as dense as the map, i.e. ceil(bin side in cells).

    Source:
        He et al. 2017, Mask R-CNN, arXiv:1703.06870, section 3; no rounding. "aligned" as in detectron2.
    """
    return torchvision.ops.roi_align(features.float(), rois, size, 1 / stride, sampling_ratio or -1, aligned=True)


def roi_max_pool(
    features: Float[Tensor, "B F H W"], rois: Float[Tensor, "R 5"], size: int, stride: int
) -> Float[Tensor, "R F size size"]:
    """RoI max pooling: each RoI is rounded to whole cells and divided into `size` x `size` bins; the value of a bin is
    the largest one in it. Arguments as for `roi_align`.

    Source:
        Girshick 2015, section 2.1 (ROI pooling in CNTK's tutorial).
    """
    return torchvision.ops.roi_pool(features.float(), rois, size, 1 / stride)


def _adjusted(rois: Float[Tensor, "R 5"], level: Level, min_cells: float) -> Float[Tensor, "R 5"]:
    """RoIs enlarged to `min_cells`, and shifted: `roi_align` and `roi_max_pool` put cell i at (i + 0.5) * stride, but
    on this level it is at (i + offset) * stride."""
    least, shift = min_cells * level.stride, (0.5 - level.offset) * level.stride
    if least > 0:
        rois = torch.cat((rois[:, :3], torch.maximum(rois[:, 3:], rois[:, 1:3] + least)), dim=1)
    return torch.cat((rois[:, :1], rois[:, 1:] + shift), dim=1)
