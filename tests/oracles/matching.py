"""The target rules of the two papers, one anchor or RoI at a time."""

import numpy as np


def match_anchors(
    ious: np.ndarray, eligible: np.ndarray, positive_iou: float, negative_iou: float, clobber_positives: bool
) -> list[int]:
    """Labels. Faster R-CNN, section 3.1.2: "we assign a positive label to two kinds of anchors: (i) the
    anchor/anchors with the highest IoU with a ground-truth box, or (ii) an anchor that has an IoU higher than 0.7
    with any ground-truth box"; negative "if its IoU ratio is lower than 0.3 for all ground-truth boxes"."""
    anchors, boxes = ious.shape
    labels = []
    for n in range(anchors):
        if not eligible[n]:
            labels.append(-1)
            continue
        is_best = False
        for g in range(boxes):
            highest = max(ious[m, g] for m in range(anchors) if eligible[m])
            if highest > 0 and ious[n, g] == highest:
                is_best = True
        positive = is_best or any(ious[n, g] >= positive_iou for g in range(boxes))
        negative = all(ious[n, g] < negative_iou for g in range(boxes))
        if positive and negative:
            labels.append(0 if clobber_positives else 1)
        else:
            labels.append(1 if positive else 0 if negative else -1)
    return labels


def match_rois(
    ious: np.ndarray, gt_labels: np.ndarray, positive_iou: float, negative_iou_low: float, negative_iou_high: float
) -> tuple[list[int], list[int]]:
    """Fast R-CNN, section 2.3: foreground from IoU 0.5 on, background in [low, high), by the best box."""
    labels, matched = [], []
    for overlaps in ious:
        best = max(range(len(overlaps)), key=lambda g: (overlaps[g], -g))
        matched.append(best)
        if overlaps[best] >= positive_iou:
            labels.append(int(gt_labels[best]))
        else:
            labels.append(0 if negative_iou_low <= overlaps[best] < negative_iou_high else -1)
    return labels, matched
