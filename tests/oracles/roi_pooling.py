"""RoI pooling, one bin at a time. A RoI is (image, x1, y1, x2, y2), input pixels; cell i of the feature map stands
for pixel (i + offset) * stride."""

import math
from collections.abc import Sequence

import numpy as np


def roi_align(
    features: np.ndarray, rois: Sequence[Sequence[float]], size: int, stride: int, offset: float
) -> np.ndarray:
    """Mask R-CNN, section 3: the mean of bilinear samples, nothing rounded."""
    pooled = np.zeros((len(rois), features.shape[1], size, size))
    for k, (image, *box) in enumerate(rois):
        x1, y1, x2, y2 = (value / stride - offset for value in box)
        bin_width, bin_height = (x2 - x1) / size, (y2 - y1) / size
        across, down = math.ceil(bin_width), math.ceil(bin_height)  # samples per bin
        for row in range(size):
            for column in range(size):
                samples = [
                    _bilinear(
                        features[int(image)],
                        y1 + (row + (i + 0.5) / down) * bin_height,
                        x1 + (column + (j + 0.5) / across) * bin_width,
                    )
                    for i in range(down)
                    for j in range(across)
                ]
                pooled[k, :, row, column] = np.mean(samples, axis=0)
    return pooled


def _bilinear(feature: np.ndarray, y: float, x: float) -> np.ndarray:
    """(C,): 0 farther than one cell outside, else the border goes on."""
    height, width = feature.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(feature.shape[0])
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = feature[:, top, left] * (1 - (x - left)) + feature[:, top, right] * (x - left)
    lower = feature[:, bottom, left] * (1 - (x - left)) + feature[:, bottom, right] * (x - left)
    return upper * (1 - (y - top)) + lower * (y - top)


def round_half_up(value: float) -> int:
    return math.floor(value + 0.5)


def roi_max_pool(
    features: np.ndarray, rois: Sequence[Sequence[float]], size: int, stride: int, offset: float
) -> np.ndarray:
    """Fast R-CNN, section 2.1: the corners are rounded to whole cells (both belong to the RoI), a bin holds
    every cell that it touches, an empty bin gives 0."""
    height, width = features.shape[2:]
    pooled = np.zeros((len(rois), features.shape[1], size, size))
    for k, (image, *box) in enumerate(rois):
        x1, y1, x2, y2 = (round_half_up(value / stride - (offset - 0.5)) for value in box)
        bin_width, bin_height = max(x2 - x1 + 1, 1) / size, max(y2 - y1 + 1, 1) / size
        for row in range(size):
            for column in range(size):
                top, bottom = y1 + math.floor(row * bin_height), y1 + math.ceil((row + 1) * bin_height)
                left, right = x1 + math.floor(column * bin_width), x1 + math.ceil((column + 1) * bin_width)
                cells = [
                    features[int(image), :, y, x]
                    for y in range(max(top, 0), min(bottom, height))
                    for x in range(max(left, 0), min(right, width))
                ]
                if cells:
                    pooled[k, :, row, column] = np.max(cells, axis=0)
    return pooled
