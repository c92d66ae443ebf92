"""Average precision (AP): Pascal VOC's and COCO's."""

from collections.abc import Iterator, Sequence

import numpy as np

from frcnn.data.records import Record
from frcnn.evaluation.matching import Boxes, arrange, match_coco, match_voc
from frcnn.inference.results import Detections

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MAX_DETECTIONS = 100


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
    boxes, objects, ignore = arrange(detections, records, classes)
    true, counts = match_voc(boxes, objects, ignore, iou_threshold=iou_threshold)
    ap = _eleven_points if use_07_metric else _area
    return {
        name: ap(*_recall_precision(true[own][counts[own]], total)) if total else float("nan")
        for name, own, total in _by_class(boxes, objects, ignore, classes)
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
    boxes, objects, crowd = arrange(detections, records, classes)
    boxes, true, ignored = match_coco(
        boxes, objects, crowd, iou_thresholds=IOU_THRESHOLDS, max_detections=MAX_DETECTIONS
    )
    ap = {}
    for name, own, total in _by_class(boxes, objects, crowd, classes):
        curves = (right[own][~skip[own]] for right, skip in zip(true, ignored, strict=True))
        values = [_at_101_recalls(*_recall_precision(curve, total)) for curve in curves] if total else [np.nan]
        ap[name] = float(np.mean(values))
    return ap


def mean_ap(ap: dict[str, float]) -> float:
    """The mean over the classes that have objects."""
    values = [value for value in ap.values() if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")


def _by_class(
    boxes: Boxes, objects: Boxes, ignore: np.ndarray, classes: Sequence[str]
) -> Iterator[tuple[str, slice, int]]:
    """Each class, its detections and the number of its objects that count."""
    present = np.bincount(objects.labels[~ignore], minlength=len(classes))
    ends = np.searchsorted(boxes.labels, np.arange(len(classes) + 1))
    for name, start, end, total in zip(classes, ends, ends[1:], present, strict=False):
        yield name, slice(start, end), int(total)


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
    levels = np.arange(11) / 10
    return float(np.mean([precision[recall >= level - 1e-12].max(initial=0.0) for level in levels]))


def _at_101_recalls(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """The envelope at recall 0, 0.01, ..., 1; 0 beyond the last recall (COCO)."""
    envelope = np.append(_envelope(precision), 0.0)
    return envelope[np.searchsorted(recall, RECALLS, side="left")]
