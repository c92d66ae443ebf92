"""How far a metric depends on which images are in the test set: 95% intervals by the bootstrap over images.

Letters: N images, D detections, B samples.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from frcnn.evaluation.average_precision import RECALLS, RECALLS_07, Matched

SAMPLES = 400
_MOST_VALUES = 20_000_000  # detections x thresholds x samples: 2 s
_CHUNK = 2_000_000  # values that are computed at once

OfSamples = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""A metric of one class at one IoU threshold: from the samples' numbers of correct detections (B, D) and of all
detections (B, D) among the first 1, 2, ... D, and of objects (B,), to its value in each sample (B,)."""


class Interval(NamedTuple):
    """95% bootstrap interval: the 2.5th and 97.5th percentile over resampled sets of images."""

    low: float
    high: float


def interval(classes: Sequence[Matched], metric: OfSamples, *, seed: int = 0) -> Interval | None:
    """The interval of a metric, the mean over classes and IoU thresholds.

    Images are drawn with replacement, as many as there are. A class without objects in a sample does not count in it.

    Args:
        metric: `coco_ap`, `voc_ap`, `voc_07_ap` or `recall` of this module.

    Returns:
        None: there are fewer than two images, or no objects.

    Source:
        Efron 1979, "Bootstrap Methods"; the percentile method.
    """
    classes = [_until_last_correct(each) for each in classes if each.total]
    if not classes or len(classes[0].objects) < 2:
        return None
    images = len(classes[0].objects)
    samples = int(np.clip(_MOST_VALUES // max(sum(each.true.size for each in classes), 1), 100, SAMPLES))
    rng = np.random.default_rng(seed)
    drawn = np.stack([np.bincount(rng.integers(0, images, images), minlength=images) for _ in range(samples)])
    values = np.stack([_of_class(each, drawn, metric) for each in classes])  # (C, B)
    values = values[:, ~np.isnan(values).all(axis=0)]
    low, high = np.quantile(np.nanmean(values, axis=0), (0.025, 0.975))
    return Interval(float(low), float(high))


def _until_last_correct(matched: Matched) -> Matched:
    """Without the detections after the last correct one, which change no metric."""
    right = np.flatnonzero((matched.true & matched.counts).any(axis=0))
    end = int(right[-1]) + 1 if len(right) else 0
    return matched._replace(
        scores=matched.scores[:end],
        image=matched.image[:end],
        true=matched.true[:, :end],
        counts=matched.counts[:, :end],
    )


def _of_class(matched: Matched, drawn: np.ndarray, metric: OfSamples) -> np.ndarray:
    """(B,): the metric of one class in each sample; NaN where it has no objects.

    Args:
        drawn: (B, N), how often each sample has each image.
    """
    totals = drawn @ matched.objects
    sums = np.zeros(len(drawn))
    for true, counts in zip(matched.true, matched.counts, strict=True):
        image, right = matched.image[counts], true[counts]
        step = max(1, _CHUNK // max(len(image), 1))
        for start in range(0, len(drawn), step):
            own = slice(start, start + step)
            weights = drawn[own][:, image]
            if len(image):
                correct, count = np.cumsum(weights * right, axis=1), np.cumsum(weights, axis=1)
                sums[own] += metric(correct, count, np.maximum(totals[own], 1))
    return np.where(totals > 0, sums / len(matched.true), np.nan)


def coco_ap(correct: np.ndarray, count: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """COCO's AP: the mean of the best precision at 101 recalls."""
    return _mean_at(RECALLS, correct, count, totals)


def voc_ap(correct: np.ndarray, count: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Pascal VOC's AP: the area under the best precision."""
    gains = np.diff(correct, axis=1, prepend=0) / totals[:, None]
    area: np.ndarray = (gains * _envelope(correct, count)).sum(axis=1)
    return area


def voc_07_ap(correct: np.ndarray, count: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Pascal VOC 2007's AP: the mean of the best precision at 11 recalls."""
    return _mean_at(RECALLS_07, correct, count, totals)


def recall(correct: np.ndarray, count: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """The fraction of the objects that are found."""
    found: np.ndarray = correct[:, -1] / totals
    return found


def _mean_at(recalls: np.ndarray, correct: np.ndarray, count: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """(B,): the mean of the best precision at these recalls."""
    envelope = np.pad(_envelope(correct, count), ((0, 0), (0, 1)))
    recall = correct / totals[:, None]
    return np.array(
        [row[np.searchsorted(own, recalls, side="left")].mean() for row, own in zip(envelope, recall, strict=True)]
    )


def _envelope(correct: np.ndarray, count: np.ndarray) -> np.ndarray:
    """(B, D): the best precision at each detection or a later one."""
    precision = correct / np.maximum(count, 1)
    return np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
