"""Which images to label next: those that differ most from the labeled ones, and from each other.

Distances are measured in the features of the detector's own backbone. Images are picked one by one, each time the one
farthest from all that are labeled or picked (the greedy k-center rule of Sener & Savarese 2018, Core-Set). How certain
the detector is of an image does not count: that it helps was not shown (benchmarks/next_images.md).

Letters: N images to choose from, L labeled images, F features.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from frcnn.data.transforms import prepare_images
from frcnn.nn.faster_rcnn import FasterRCNN


@torch.inference_mode()
def image_features(model: FasterRCNN, image: Path) -> np.ndarray:
    """(F,): the mean of the coarsest feature map over the image.

    Raises:
        ValueError: the image is too small.
        OSError: the image cannot be read.
    """
    images, sizes, _ = (torch.from_numpy(part) for part in prepare_images([image], model.settings.detector.resizing))
    device = next(model.parameters()).device
    *_, coarsest = model.backbone(model.normalize(images.to(device), sizes.to(device)))
    mean: np.ndarray = coarsest.float().mean(dim=(0, 2, 3)).cpu().numpy()
    return mean


def choose_next(new: Sequence[np.ndarray], labeled: Sequence[np.ndarray], count: int) -> list[int]:
    """Indices of the images to label next, the one that differs most first. Only the direction of the features from
    their mean counts.

    Args:
        new: (F,) features of each of the N images to choose from.
        labeled: (F,) features of each of the L labeled images.
        count: the number of images that are wanted.
    """
    if not new:
        return []
    both = np.stack([*labeled, *new])
    directions = both - both.mean(axis=0)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    return farthest_first(directions[len(labeled) :], directions[: len(labeled)], count)


def farthest_first(features: np.ndarray, labeled: np.ndarray, count: int) -> list[int]:
    """Indices of images, each the one farthest from all that are labeled or picked before it.

    Args:
        features: (N, F).
        labeled: (L, F); without any, the first one is that nearest to the mean.
        count: largest number of indices.
    """

    def distances(point: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.linalg.norm(features - point, axis=1)
        return found

    nearest = np.full(len(features), np.inf)  # the distance to what is labeled or picked
    for each in labeled:
        nearest = np.minimum(nearest, distances(each))
    picked: list[int] = []
    while len(picked) < min(count, len(features)):
        is_first = not picked and not len(labeled)
        index = int(distances(features.mean(axis=0)).argmin() if is_first else nearest.argmax())
        picked.append(index)
        nearest = np.minimum(nearest, distances(features[index]))
        nearest[picked] = -1
    return picked
