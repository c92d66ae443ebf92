"""Average precision as in the Pascal VOC development kit, without its loop over detections."""

from collections.abc import Sequence

import numpy as np

from frcnn.evaluation.pairs import arrange, overlapping
from frcnn.types import Prediction, Record


def voc_ap(
    predictions: Sequence[Prediction],
    records: Sequence[Record],
    classes: Sequence[str],
    *,
    iou_threshold: float = 0.5,
    eleven_point: bool = False,
) -> dict[str, float]:
    """Average precision of each class.

    A detection goes to the object of its class that it overlaps most, in its image. It is right if that overlap
    reaches the threshold and no detection of higher score has taken the object; if the object is "difficult",
    it counts neither for nor against.

    Args:
        predictions, records: of the same images, in the same order.
        iou_threshold: least overlap of a right detection.
        eleven_point: VOC 2007's mean over 11 recalls instead of the area under the curve.

    Returns:
        Class name -> 0..1; NaN for a class without (not difficult) objects.

    Raises:
        ValueError: there are not as many predictions as records.

    Source:
        Everingham et al. 2010, "The Pascal Visual Object Classes Challenge", section 4.2; VOCdevkit's VOCevaldet.
        Overlaps are continuous; boxes that were read as [xmin - 1, xmax] give the kit's "+1" overlaps.
    """
    found, objects, difficult = arrange(predictions, records, classes)
    d, o, overlap = overlapping(found, objects, at_least=iou_threshold, crowd=np.zeros_like(difficult))
    most = np.lexsort((o, -overlap, d))  # of equal overlaps the first object
    d, first = np.unique(d[most], return_index=True)
    o = o[most][first]
    counts, right = np.ones(len(found.labels), bool), np.zeros(len(found.labels), bool)
    counts[d[difficult[o]]] = False
    right[d[np.unique(o, return_index=True)[1]]] = True  # the surest detection of each object

    present = np.bincount(objects.labels[~difficult], minlength=len(classes))
    ends = np.searchsorted(found.labels, np.arange(len(classes) + 1))
    return {
        name: _ap(right[start:end][counts[start:end]], total, eleven_point)
        for name, start, end, total in zip(classes, ends, ends[1:], present, strict=False)
    }


def mean_ap(ap: dict[str, float]) -> float:
    """The mean over the classes that have objects."""
    values = [value for value in ap.values() if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")


def _ap(right: np.ndarray, objects: int, eleven_point: bool) -> float:
    """Of one class, whose detections are right or not, by falling score."""
    if objects == 0:
        return float("nan")
    true_positives = np.cumsum(right)
    recall = true_positives / objects
    precision = true_positives / np.arange(1, len(right) + 1)
    return _eleven_point(recall, precision) if eleven_point else _area(recall, precision)


def _area(recall: np.ndarray, precision: np.ndarray) -> float:
    """Under the curve of the best precision at each recall or beyond (VOC 2010 and later)."""
    recall = np.concatenate(([0.0], recall))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall) * envelope).sum())


def _eleven_point(recall: np.ndarray, precision: np.ndarray) -> float:
    """The mean of the best precision at recall >= 0, 0.1, ..., 1 (VOC 2007)."""
    levels = np.arange(11) / 10
    best = [precision[recall >= level - 1e-12].max(initial=0.0) for level in levels]
    return float(np.mean(best))
