"""Running a detector over images, on one process or several, and measuring what it finds."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from frcnn import processes
from frcnn.data.loader import batch_to, own_batches
from frcnn.evaluation.report import Evaluation, Found, report
from frcnn.nn.detector import FasterRCNN
from frcnn.ops.boxes import iou
from frcnn.ops.matching import first_match, recall
from frcnn.types import Prediction, Record


def measure(
    detector: FasterRCNN,
    records: Sequence[Record],
    *,
    split: str,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Measure a detector on these images; several processes share them out, and all get the whole result.

    Args:
        split: what these images are, for the report.
    """
    found = detect(detector, records, on_batch)
    return report(found, records, detector.classes, detector.config.detector.results, split=split)


class _Share(NamedTuple):
    """What was found in the images of one batch."""

    first: int
    """Of its images, among all."""
    predictions: list[Prediction]
    places: list[int]
    """Of each object, the place of the first proposal that overlaps it by an IoU of 0.5 or more."""
    seconds: list[float]


@torch.no_grad()
def detect(
    detector: FasterRCNN,
    records: Sequence[Record],
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Found:
    """Detect in these images; several processes share them out batch by batch, and all get the whole result."""
    device = next(detector.parameters()).device
    mine: list[_Share] = []
    done = 0
    for own, batch in own_batches(records, detector.classes, detector.config):
        images, sizes, originals, targets, names, _ = batch_to(batch, device)
        start = time.perf_counter()
        proposals, output = detector.propose_and_classify(images, sizes, originals)
        detections = detector.select(proposals, output, sizes, originals)
        predictions = detector.to_predictions(detections, names)
        seconds = (time.perf_counter() - start) / len(names)
        places = [
            place
            for boxes, valid, target in zip(proposals.boxes, proposals.valid, targets, strict=True)
            for place in first_match(iou(boxes[valid], target.boxes[~target.difficult])).tolist()
        ]
        mine.append(_Share(own.start, predictions, places, [seconds] * len(names)))
        done += len(names) * processes.count()
        on_batch(min(done, len(records)), len(records))
    shares = sorted((share for part in processes.gather(mine) for share in part), key=lambda share: share.first)
    return Found(
        [prediction for share in shares for prediction in share.predictions],
        [seconds for share in shares for seconds in share.seconds],
        recall([place for share in shares for place in share.places]),
    )
