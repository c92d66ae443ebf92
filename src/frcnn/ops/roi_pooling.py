"""RoI pooling: a feature map of fixed size from every RoI.

Letters: B images, K RoIs each, R RoIs in all, S output side.

Features are taken to float32 first: in bfloat16 a coordinate of 500 px is off by up to 2 px.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
import torchvision
from jaxtyping import Float, Int
from torch import Tensor

from frcnn.types import Level

Pool = Callable[[Tensor, Tensor, int, Level], Tensor]
"""(features (B, C, H, W), rois (R, 5), S, level) -> (R, C, S, S); a row of rois is the image's number and xyxy."""


def pool_rois(
    features: Sequence[Tensor],
    rois: Float[Tensor, "B K 4"],
    *,
    levels: Sequence[Level],
    size: int,
    pool: Pool,
    min_side: float = 0.0,
) -> Float[Tensor, "B*K C S S"]:
    """Every RoI pooled from the level of the pyramid that suits its size.

    Args:
        features: (B, C, H, W) of each level, finest first; those after the last of `levels` are not used.
        rois: input pixels.
        levels: where the cells of each map look.
        size: S, bins per side.
        min_side: RoIs smaller than so many cells are widened to it, to the right and downwards.
    """
    batch, count, _ = rois.shape
    index = torch.arange(batch, device=rois.device, dtype=rois.dtype).repeat_interleave(count)
    rows = torch.cat((index[:, None], rois.reshape(-1, 4)), dim=1)
    if len(levels) == 1:
        return pool(features[0], _widened(rows, min_side * levels[0].stride), size, levels[0])

    suits = assign_levels(rows[:, 1:], [level.stride for level in levels])
    places, parts = [], []
    for number, level in enumerate(levels):
        here = (suits == number).nonzero().flatten()
        places.append(here)
        parts.append(pool(features[number], _widened(rows[here], min_side * level.stride), size, level))
    pooled = rows.new_empty(rows.shape[0], features[0].shape[1], size, size)
    return pooled.index_copy(0, torch.cat(places), torch.cat(parts))


def assign_levels(rois: Float[Tensor, "R 4"], strides: Sequence[int]) -> Int[Tensor, "R"]:
    """The index of the level that each RoI is pooled from: the larger the RoI, the coarser.

    Args:
        rois: input pixels.
        strides: of the levels, rising; where two are equal, the first is taken.

    Source:
        Lin et al. 2017, Feature Pyramid Networks, arXiv:1612.03144, equation 1: k = floor(4 + log2(sqrt(w h) / 224)),
        where level k has stride 2^k. The millionth is torchvision's, against rounding at the borders.
    """
    numbers = [math.log2(stride) for stride in strides]
    sides = (rois[:, 2:] - rois[:, :2]).clamp(min=0).prod(dim=1).sqrt()
    wanted = torch.floor(4 + torch.log2(sides / 224) + 1e-6).clamp(numbers[0], numbers[-1])
    finer = torch.stack([wanted > number for number in numbers])
    return finer.sum(dim=0)  # the first level that is not finer than wanted


def roi_align(
    features: Float[Tensor, "B C H W"],
    rois: Float[Tensor, "R 5"],
    size: int,
    level: Level,
    *,
    samples: int | None = None,
) -> Float[Tensor, "R C S S"]:
    """Each RoI cut into `size` x `size` bins; a bin is the mean of bilinear samples inside it.

    Args:
        rois: the image's number and xyxy, input pixels.
        samples: per bin and direction; None: as dense as the map (ceil(bin side)).

    Source:
        He et al. 2017, Mask R-CNN, arXiv:1703.06870, section 3; no rounding. Differs from Mask R-CNN: there, cells
        stand for their corners; in detectron2 ("aligned") for their centres; here for what the network looks at.
    """
    features, rois = features.float(), _centred(rois, level)
    if features.device.type == "cpu" and not torch.compiler.is_compiling():
        return _align_by_cells(features, rois[:, 0].long(), rois[:, 1:] / level.stride - 0.5, size, samples)
    return torchvision.ops.roi_align(features, rois, size, 1 / level.stride, samples or -1, aligned=True)


def roi_max_pool(
    features: Float[Tensor, "B C H W"], rois: Float[Tensor, "R 5"], size: int, level: Level
) -> Float[Tensor, "R C S S"]:
    """Each RoI, rounded to whole cells (arguments as above), cut into `size` x `size` bins; a bin is its largest value.

    Source:
        Girshick 2015, section 2.1 (the tutorial's ROI pooling).
    """
    return torchvision.ops.roi_pool(features.float(), _centred(rois, level), size, 1 / level.stride)


_CELLS_AT_ONCE = 2**20  # so that their lists stay small, tens of megabytes, however large the map


def _align_by_cells(
    features: Float[Tensor, "B C H W"],
    images: Int[Tensor, "R"],
    rois: Float[Tensor, "R 4"],
    size: int,
    samples: int | None,
) -> Float[Tensor, "R C S S"]:
    """torchvision's kernel on a processor: every bin as the weighted sum of the cells (rows of C numbers) that its
    samples touch. Averaged bilinear sampling is separable: what a bin takes of a cell is what it takes of the cell's
    row, times what it takes of its column.

    Measured on maps of 512 channels in channels-last order, 128 to 300 RoIs: 5 times as fast as the kernel, its
    gradient 30 to 40 times.

    Args:
        rois: xyxy, cells of the map; 0 is the centre of the first one.
    """
    _, channels, height, width = features.shape
    cells = features.permute(0, 2, 3, 1).reshape(-1, channels)
    rois = rois.nan_to_num(0, 0, 0)  # of a training that diverges: its loss will tell
    parts = [(images[:0], rois[:0, 0], images[:0])]
    sides = torch.cat((rois.new_zeros(1, 2), (rois[:, 2:] - rois[:, :2]).abs())).amax(dim=0)
    at_once = max(int(_CELLS_AT_ONCE / (sides + 3 * size).prod()), 1)  # a bin touches side / size + 3 cells at most
    for start in range(0, len(rois), at_once):
        chunk = slice(start, start + at_once)
        x1, y1, x2, y2 = rois[chunk].unbind(1)
        rows, of_rows = _bin_cells(y1, y2, size, height, samples)
        columns, of_columns = _bin_cells(x1, x2, size, width, samples)
        rows = rows + images[chunk, None, None] * height
        places = (rows[:, :, None, :, None] * width + columns[:, None, :, None, :]).flatten(3)  # (R, S, S, cells)
        weights = (of_rows[:, :, None, :, None] * of_columns[:, None, :, None, :]).flatten(3)
        used = weights != 0
        parts.append((places[used], weights[used], used.sum(dim=-1).flatten()))
    places, weights, counts = map(torch.cat, zip(*parts, strict=True))
    bins = F.embedding_bag(places, cells, counts.cumsum(0) - counts, mode="sum", per_sample_weights=weights)
    return bins.view(-1, size, size, channels).permute(0, 3, 1, 2)


def _bin_cells(
    start: Float[Tensor, "R"], end: Float[Tensor, "R"], size: int, cells: int, samples: int | None
) -> tuple[Int[Tensor, "R S T"], Float[Tensor, "R S T"]]:
    """In one direction: the cells between which the samples of each bin lie, and each one's share of the mean. A sample
    more than a cell outside the map is 0."""
    side = (end - start) / size
    count = side.ceil().clamp(min=0) if samples is None else torch.full_like(side, samples)
    number = torch.arange(max(int(count.max()), 1))
    bins = torch.arange(size)[:, None] + (number + 0.5) / count.clamp(min=1)[:, None, None]
    centres = start[:, None, None] + bins * side[:, None, None]  # (R, S, samples)
    exists = number < count[:, None, None]
    counts = exists & (centres >= -1) & (centres <= cells)
    centres = centres.where(exists, centres[..., :1]).clamp(0, cells - 1)
    first = centres.amin(dim=-1, keepdim=True).floor()
    taps = first + torch.arange(int((centres - first).max()) + 2)
    near = (1 - (centres[..., None] - taps[..., None, :]).abs()).clamp(min=0)
    shares = (near * counts[..., None]).sum(dim=2) / count.clamp(min=1)[:, None, None]
    return taps.long(), shares


def _centred(rois: Float[Tensor, "R 5"], level: Level) -> Float[Tensor, "R 5"]:
    """RoIs for a map whose cells look at their own centres."""
    shift = (0.5 - level.offset) * level.stride
    return torch.cat((rois[:, :1], rois[:, 1:] + shift), dim=1)


def _widened(rois: Float[Tensor, "R 5"], least: float) -> Float[Tensor, "R 5"]:
    """RoIs with no side under `least` pixels; where none can be, they are not touched."""
    if least == 0:
        return rois
    return torch.cat((rois[:, :3], torch.maximum(rois[:, 3:], rois[:, 1:3] + least)), dim=1)
