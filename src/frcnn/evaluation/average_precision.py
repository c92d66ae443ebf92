"""Average precision (AP) and average recall (AR): Pascal VOC's and COCO's.

Letters: D detections and O objects, over all images; N images; T IoU thresholds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from frcnn.data.records import Record
from frcnn.evaluation.matching import Boxes, arrange, match_coco, match_voc
from frcnn.inference.results import Detections

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
RECALLS_07 = np.arange(11) / 10 - 1e-12
"""VOC 2007's, a little lower because recalls are rounded."""
MAX_DETECTIONS = 100
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}
"""COCO's sizes of objects: least and largest area, square pixels."""
ALL_SIZES = (0.0, np.inf)


class Matched(NamedTuple):
    """The detections of one class, matched to its objects."""

    name: str
    scores: np.ndarray
    """(D,), falling."""
    image: np.ndarray
    """(D,): in which image each detection is."""
    true: np.ndarray
    """(T, D) bool: correct at each IoU threshold."""
    counts: np.ndarray
    """(T, D) bool: counts for or against."""
    objects: np.ndarray
    """(N,): the number of objects of each image that count."""

    @property
    def total(self) -> int:
        """The number of objects."""
        return int(self.objects.sum())


def matched_by_voc(
    detections: Sequence[Detections], records: Sequence[Record], classes: Sequence[str], *, iou_threshold: float = 0.5
) -> list[Matched]:
    """Each class, matched by the rule of Pascal VOC (see `match_voc`) at one threshold.

    Args:
        detections, records: of the same images, in the same order.

    Raises:
        ValueError: the numbers of detections and records differ.
    """
    boxes, objects, ignore, scores = arrange(detections, records, classes)
    true, counts = match_voc(boxes, objects, ignore, iou_threshold=iou_threshold)
    return _by_class(boxes, scores, true[None], counts[None], objects, ignore, len(records), classes)


def matched_by_coco(
    detections: Sequence[Detections],
    records: Sequence[Record],
    classes: Sequence[str],
    *,
    iou_thresholds: np.ndarray = IOU_THRESHOLDS,
    area: tuple[float, float] = ALL_SIZES,
    max_detections: int = MAX_DETECTIONS,
) -> list[Matched]:
    """Each class, matched by COCO's rule (see `match_coco`). Objects to be ignored are COCO's crowds.

    Args:
        detections, records: of the same images, in the same order.
        area: objects of other areas, square pixels, and the detections of these do not count. COCO's own annotations
            have the area of a mask, these have that of the box.
        max_detections: of an image and class.

    Raises:
        ValueError: the numbers of detections and records differ.
    """
    boxes, objects, crowd, scores = arrange(detections, records, classes)
    ignore = crowd | _outside(objects.boxes, area)
    best, true, ignored = match_coco(
        boxes, objects, crowd, iou_thresholds=iou_thresholds, max_detections=max_detections, ignore=ignore
    )
    boxes, scores = boxes.take(best), scores[best]
    counts = ~ignored & (true | ~_outside(boxes.boxes, area))
    return _by_class(boxes, scores, true, counts, objects, ignore, len(records), classes)


def voc_ap(
    detections: Sequence[Detections],
    records: Sequence[Record],
    classes: Sequence[str],
    *,
    iou_threshold: float = 0.5,
    use_07_metric: bool = False,
) -> dict[str, float]:
    """Pascal VOC's AP of each class: the area under the curve of precision over recall.

    Args:
        detections, records: of the same images, in the same order.
        iou_threshold: least IoU of a true positive.
        use_07_metric: VOC 2007's mean over 11 recalls instead of the area.

    Returns:
        Class name -> 0..1; NaN for a class without (not ignored) objects.

    Raises:
        ValueError: the numbers of detections and records differ.

    Source:
        Everingham et al. 2010, "The Pascal Visual Object Classes Challenge", section 4.2; VOCdevkit's VOCevaldet.
        Differs from it: IoU is continuous, without "+1"; boxes that were read as [xmin - 1, xmax] give the kit's IoU.
    """
    ap = _eleven_points if use_07_metric else _area
    return {
        each.name: ap(*_recall_precision(each.true[0][each.counts[0]], each.total)) if each.total else float("nan")
        for each in matched_by_voc(detections, records, classes, iou_threshold=iou_threshold)
    }


def coco_ap(detections: Sequence[Detections], records: Sequence[Record], classes: Sequence[str]) -> dict[str, float]:
    """COCO's AP of each class: the mean over IoU 0.50:0.95, all sizes, at most 100 detections per image and class.

    Objects to be ignored are COCO's crowds.

    Args:
        detections, records: of the same images, in the same order.

    Returns:
        Class name -> 0..1; NaN for a class without (not ignored) objects.

    Raises:
        ValueError: the numbers of detections and records differ.

    Source:
        Lin et al. 2014, arXiv:1405.0312; pycocotools' COCOeval. Differs from Pascal VOC also in that precision is read
        at 101 recalls.
    """
    return {each.name: ap_of(each) for each in matched_by_coco(detections, records, classes)}


def ap_of(matched: Matched) -> float:
    """COCO's AP of one class, the mean over its IoU thresholds; NaN without objects."""
    if not matched.total:
        return float("nan")
    curves = (true[counts] for true, counts in zip(matched.true, matched.counts, strict=True))
    return float(np.mean([ap_at_101_recalls(curve, matched.total) for curve in curves]))


def ar_of(matched: Matched) -> float:
    """COCO's average recall of one class: the fraction of its objects that are found, the mean over its IoU thresholds;
    NaN without objects."""
    if not matched.total:
        return float("nan")
    return float((matched.true & matched.counts).sum(axis=1).mean() / matched.total)


def mean_ap(ap: dict[str, float]) -> float:
    """The mean over the classes that have objects."""
    values = [value for value in ap.values() if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")


def ap_at_101_recalls(true: np.ndarray, objects: int) -> float:
    """COCO's AP of one class at one IoU.

    Args:
        true: (D,) bool, which detections are correct, by falling confidence.
        objects: their number, at least 1.
    """
    return float(np.mean(_at_101_recalls(*_recall_precision(true, objects))))


def _by_class(
    boxes: Boxes,
    scores: np.ndarray,
    true: np.ndarray,
    counts: np.ndarray,
    objects: Boxes,
    ignore: np.ndarray,
    images: int,
    classes: Sequence[str],
) -> list[Matched]:
    """Each class, its detections and objects."""
    ends = np.searchsorted(boxes.labels, np.arange(len(classes) + 1))
    image_of_object = objects.groups // max(len(classes), 1)
    matched = []
    for label, name in enumerate(classes):
        own = slice(ends[label], ends[label + 1])
        present = image_of_object[(objects.labels == label) & ~ignore]
        matched.append(
            Matched(
                name,
                scores[own],
                boxes.groups[own] // len(classes),
                true[:, own],
                counts[:, own],
                np.bincount(present, minlength=images),
            )
        )
    return matched


def _outside(boxes: np.ndarray, area: tuple[float, float]) -> np.ndarray:
    """(N,) bool: which boxes have an area out of this range."""
    own = (boxes[:, 2:].astype(float) - boxes[:, :2]).prod(axis=1)
    return (own < area[0]) | (own > area[1])


def _recall_precision(true: np.ndarray, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision of the first 1, 2, ... detections of a class, by falling confidence."""
    true_positives = np.cumsum(true)
    return true_positives / objects, true_positives / np.arange(1, len(true) + 1)


def _envelope(precision: np.ndarray) -> np.ndarray:
    """The best precision at each recall or a higher one."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def _area(recall: np.ndarray, precision: np.ndarray) -> float:
    """The area under the envelope (VOC 2010 and later)."""
    return float((np.diff(recall, prepend=0.0) * _envelope(precision)).sum())


def _eleven_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """The mean of the best precision at recall >= 0, 0.1, ..., 1 (VOC 2007)."""
    return float(np.mean([precision[recall >= level].max(initial=0.0) for level in RECALLS_07]))


def _at_101_recalls(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """The envelope at recall 0, 0.01, ..., 1; 0 beyond the last recall (COCO)."""
    envelope = np.append(_envelope(precision), 0.0)
    return envelope[np.searchsorted(recall, RECALLS, side="left")]
