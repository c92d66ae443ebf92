"""COCO's average precision: the mean over ten IoU thresholds, 0.50 to 0.95.

Letters: T thresholds, D detections, G objects, both over all images.
"""

from collections.abc import Sequence

import numpy as np

from frcnn.evaluation.pairs import Boxes, arrange, overlapping
from frcnn.types import Prediction, Record

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MAX_DETECTIONS = 100


def coco_ap(predictions: Sequence[Prediction], records: Sequence[Record], classes: Sequence[str]) -> dict[str, float]:
    """AP of each class at IoU 0.50:0.95, all sizes, at most 100 detections an image and class; NaN without objects.

    "Difficult" objects are COCO's crowds: any number of detections may lie in one (by the share of the detection that
    does), and they neither count nor count against.

    Args:
        predictions: one for each record, in order.

    Raises:
        ValueError: there are not as many predictions as records.

    Source:
        Lin et al. 2014, arXiv:1405.0312; the rules of pycocotools' COCOeval. Differs from Pascal VOC: a detection takes
        the best object that is still free, not the best of all; precision is read at 101 recalls.
    """
    found, objects, crowd = arrange(predictions, records, classes)
    rank = _number_in(found.groups)
    best = np.flatnonzero(rank < MAX_DETECTIONS)
    found, rank = found.take(best), rank[best]
    right, skipped = _match(found, rank, objects, crowd)

    present = np.bincount(objects.labels[~crowd], minlength=len(classes))
    ends = np.searchsorted(found.labels, np.arange(len(classes) + 1))
    return {
        name: _ap(right[:, start:end], skipped[:, start:end], total)
        for name, start, end, total in zip(classes, ends, ends[1:], present, strict=False)
    }


def _match(found: Boxes, rank: np.ndarray, objects: Boxes, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every threshold and detection (T, D): does it find something, and is that a crowd?

    Detections take turns by their rank in their image and class, and each tries its objects in turn: no two pairs of
    a turn have a detection or an object in common, so that all are decided at once.
    """
    d, o, overlap = overlapping(found, objects, at_least=IOU_THRESHOLDS[0], crowd=crowd)
    order = np.lexsort((-o, -overlap, crowd[o], d))  # a crowd after single objects; of equal ones the last, as COCOeval
    d, o, overlap = d[order], o[order], overlap[order]
    turns = rank[d] * (len(objects.labels) + 1) + _number_in(d)
    reaches = overlap >= IOU_THRESHOLDS[:, None]
    right = np.zeros((len(IOU_THRESHOLDS), len(found.labels)), bool)
    skipped, free = np.zeros_like(right), np.ones((len(IOU_THRESHOLDS), len(objects.labels)), bool)
    order = np.argsort(turns, kind="stable")
    for turn in np.split(order, np.flatnonzero(np.diff(turns[order])) + 1):
        mine, theirs = d[turn], o[turn]
        takes = reaches[:, turn] & free[:, theirs] & ~right[:, mine]
        right[:, mine] |= takes
        skipped[:, mine] |= takes & crowd[theirs]
        free[:, theirs] &= ~takes | crowd[theirs]
    return right, skipped


def _number_in(groups: np.ndarray) -> np.ndarray:
    """How many of the same group stand before each."""
    order = np.argsort(groups, kind="stable")
    _, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    numbers = np.empty(len(groups), int)
    numbers[order] = np.arange(len(groups)) - np.repeat(starts, counts)
    return numbers


def _ap(right: np.ndarray, skipped: np.ndarray, objects: int) -> float:
    """Of one class, whose detections (T, D) stand by falling score."""
    if objects == 0:
        return float("nan")
    true, false = (right & ~skipped).cumsum(axis=1), (~right & ~skipped).cumsum(axis=1)
    recall = true / objects
    precision = true / np.maximum(true + false, 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # the best at this recall or a higher one
    precision = np.concatenate((precision, np.zeros((len(IOU_THRESHOLDS), 1))), axis=1)
    return float(np.mean([p[np.searchsorted(r, RECALLS, side="left")] for p, r in zip(precision, recall, strict=True)]))
