"""Precision, recall and F1 at any confidence, and which confidence is best.

Letters: D detections of one class, or of all classes, by falling confidence.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from frcnn.data.records import Record
from frcnn.evaluation.average_precision import matched_by_coco
from frcnn.inference.results import Detections

MATCH_IOU = 0.5
LEAST_SCORE = 0.05
"""Lower thresholds are not suggested: there, most detections are background."""


class Curve(NamedTuple):
    """The detections of one class, matched at IoU 0.5."""

    scores: np.ndarray
    """(D,) float, falling."""
    true: np.ndarray
    """(D,) bool: which are correct."""
    objects: int
    """How many there are to find."""

    def at(self, threshold: float) -> "Counts":
        """The counts at this confidence threshold."""
        limit = np.asarray(-threshold, self.scores.dtype)  # 0.9 as float32 is less than 0.9
        above = int(np.searchsorted(-self.scores, limit, side="right"))
        right = int(self.true[:above].sum())
        return Counts(right, above - right, self.objects - right)

    def best_threshold(self, *, precision: float | None = None, recall: float | None = None) -> float | None:
        """The threshold with the highest F1, midway between two confidences, so that it also suits slightly different
        images.

        Args:
            precision: with the highest recall among the thresholds with at least this precision instead.
            recall: with the highest precision among the thresholds with at least this recall instead.

        Returns:
            None: no threshold gives that, or there are no objects.
        """
        ends = np.flatnonzero(np.append(self.scores[1:] < self.scores[:-1], True)[: len(self.scores)])
        ends = ends[self.scores[ends] >= LEAST_SCORE]  # after each of them, a threshold can be
        if not len(ends) or not self.objects:
            return None
        right = np.cumsum(self.true)[ends]
        precisions, recalls = right / (ends + 1), right / self.objects
        if precision is not None:
            value, possible = recalls, precisions >= precision
        elif recall is not None:
            value, possible = precisions, recalls >= recall
        else:
            value, possible = 2 * right / (ends + 1 + self.objects), right > 0
        if not possible.any():
            return None
        best = ends[np.where(possible, value, -1).argmax()]
        below = self.scores[best + 1] if best + 1 < len(self.scores) else 0.0
        return round(float(max((self.scores[best] + below) / 2, LEAST_SCORE)), 6)


class Counts(NamedTuple):
    """Correct detections, false detections and missed objects."""

    correct: int
    false: int
    missed: int

    @property
    def precision(self) -> float:
        """The fraction of the detections that are correct; NaN without detections."""
        return _fraction(self.correct, self.correct + self.false)

    @property
    def recall(self) -> float:
        """The fraction of the objects that are found; NaN without objects."""
        return _fraction(self.correct, self.correct + self.missed)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; NaN without detections and objects."""
        return _fraction(2 * self.correct, 2 * self.correct + self.false + self.missed)


def curves(detections: Sequence[Detections], records: Sequence[Record], classes: Sequence[str]) -> dict[str, Curve]:
    """The curve of each class. Detections and objects are matched as for COCO's AP at IoU 0.5, but without a limit of
    detections.

    Args:
        detections, records: of the same images, in the same order.
    """
    most = max((len(each) for each in detections), default=1)
    matched = matched_by_coco(
        detections, records, classes, iou_thresholds=np.array([MATCH_IOU]), max_detections=max(most, 1)
    )
    return {each.name: Curve(each.scores[each.counts[0]], each.true[0][each.counts[0]], each.total) for each in matched}


def together(of_classes: Mapping[str, Curve]) -> Curve:
    """All classes as one curve, each detection and object counted once."""
    scores = np.concatenate([np.zeros(0, np.float32), *(each.scores for each in of_classes.values())])
    true = np.concatenate([np.zeros(0, bool), *(each.true for each in of_classes.values())])
    order = np.argsort(-scores, kind="stable")
    return Curve(scores[order], true[order], sum(each.objects for each in of_classes.values()))


def calibration(curve: Curve, bins: int = 10) -> list[tuple[float, float, int]]:
    """How far confidence is a probability: for each of `bins` equal ranges of confidence that has detections, their
    mean confidence, the fraction that are correct, and their number."""
    which = np.minimum((curve.scores * bins).astype(int), bins - 1)
    return [
        (float(curve.scores[own].mean()), float(curve.true[own].mean()), int(own.sum()))
        for number in range(bins)
        for own in [which == number]
        if own.any()
    ]


def _fraction(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
