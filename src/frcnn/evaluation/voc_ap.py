"""Average precision as in the Pascal VOC development kit, without its loop over detections.

Letters: D detections, G ground-truth boxes, both over all images.
"""

from collections.abc import Sequence

import numpy as np

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

    Source:
        Everingham et al. 2010, "The Pascal Visual Object Classes Challenge", section 4.2; VOCdevkit's VOCevaldet.
        Overlaps are continuous; boxes that were read as [xmin - 1, xmax] give the kit's "+1" overlaps.
    """
    index = {name: number for number, name in enumerate(classes)}
    labels, scores, matched, overlaps, difficult = _match(predictions, records, index)
    objects = np.bincount(
        [index[n] for r in records for n, hard in zip(r.names, r.difficult, strict=True) if not hard],
        minlength=len(classes),
    )

    order = np.argsort(-scores, kind="stable")
    labels, matched, overlaps, difficult = labels[order], matched[order], overlaps[order], difficult[order]
    reaches = overlaps >= iou_threshold
    counts = ~(reaches & difficult)
    right = np.zeros(len(order), bool)
    claims = np.flatnonzero(reaches & ~difficult)
    right[claims[np.unique(matched[claims], return_index=True)[1]]] = True  # the first claim of each object

    result = {}
    for name, number in index.items():
        hits = right[counts & (labels == number)]
        if objects[number] == 0:
            result[name] = float("nan")
            continue
        true_positives = np.cumsum(hits)
        recall = true_positives / objects[number]
        precision = true_positives / np.arange(1, len(hits) + 1)
        result[name] = _eleven_point(recall, precision) if eleven_point else _area(recall, precision)
    return result


def mean_ap(ap: dict[str, float]) -> float:
    """The mean over the classes that have objects."""
    values = [value for value in ap.values() if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")


def _match(
    predictions: Sequence[Prediction], records: Sequence[Record], index: dict[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of every detection: class, score, the object it overlaps most (a number over all images), that overlap,
    and whether the object is difficult."""
    labels, scores, matched, overlaps, difficult = [], [], [], [], []
    first = 0
    for prediction, record in zip(predictions, records, strict=True):
        detected = np.array([index[name] for name in prediction.names], int)
        present = np.array([index[name] for name in record.names], int)
        labels.append(detected)
        scores.append(prediction.scores)
        if len(present) == 0:
            matched.append(np.zeros(len(detected), int))
            overlaps.append(np.zeros(len(detected)))
            difficult.append(np.zeros(len(detected), bool))
            continue
        ious = _iou(prediction.boxes, record.boxes)
        ious[detected[:, None] != present] = 0.0
        best = ious.argmax(axis=1)
        matched.append(first + best)
        overlaps.append(ious.max(axis=1))
        difficult.append(record.difficult[best])
        first += len(present)
    return (
        np.concatenate([np.zeros(0, int), *labels]),
        np.concatenate([np.zeros(0), *scores]),
        np.concatenate([np.zeros(0, int), *matched]),
        np.concatenate([np.zeros(0), *overlaps]),
        np.concatenate([np.zeros(0, bool), *difficult]),
    )


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """In NumPy and float64, so that evaluation needs no torch and sums of areas are exact."""
    a, b = a.astype(float), b.astype(float)
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    intersection = sides.clip(min=0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1] - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


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
