"""Running a detector over a split, and telling how good it is."""

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from frcnn import processes
from frcnn.config import DataSettings
from frcnn.data.dataset import read_split
from frcnn.data.loader import batch_to, own_batches
from frcnn.evaluation.coco_ap import coco_ap
from frcnn.evaluation.voc_ap import mean_ap, voc_ap
from frcnn.nn.checkpoint import load
from frcnn.nn.detector import FasterRCNN
from frcnn.ops.boxes import iou
from frcnn.ops.matching import first_match, recall
from frcnn.types import Prediction, Record


class Evaluation(NamedTuple):
    """What was measured, and the detections that it was measured on."""

    split: str
    metric: str
    ap: dict[str, float]
    """Class name -> average precision; NaN for a class without objects."""
    mean_ap: float
    """Over the classes that have objects."""
    coco_ap: float
    """COCO's AP: at IoU 0.50:0.95, mean over the classes that have objects."""
    images: int
    objects: dict[str, int]
    recall: dict[int, float]
    """Share of the objects that the best n proposals of the RPN overlap by an IoU of 0.5 or more, for some n."""
    seconds_per_image: float
    """Of detection alone, without reading the image; the median."""
    predictions: list[Prediction]
    records: list[Record]

    def table(self) -> str:
        """The tutorial's table, and COCO's figure."""
        lines = [
            f"AP for {name:>15} = " + ("no objects" if math.isnan(value) else f"{value:.4f}")
            for name, value in self.ap.items()
        ]
        recall = ", ".join(f"{value:.4f} at {count}" for count, value in self.recall.items())
        totals = [f"Mean AP = {self.mean_ap:.4f}", f"COCO AP = {self.coco_ap:.4f}", f"Recall of proposals = {recall}"]
        return "\n".join(lines + totals)

    def to_json(self) -> str:
        """What evaluation.json holds; a class without objects has null."""

        def number(value: float) -> float | None:
            return None if math.isnan(value) else value

        plain = {
            "mean_ap": number(self.mean_ap),
            "coco_ap": number(self.coco_ap),
            "ap": {name: number(value) for name, value in self.ap.items()},
            "recall": {count: number(value) for count, value in self.recall.items()},
            "metric": self.metric,
            "split": self.split,
            "images": self.images,
            "objects": self.objects,
            "seconds_per_image": self.seconds_per_image,
        }
        return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def evaluate(
    model: FasterRCNN | str | Path,
    data: str | Path | None = None,
    *,
    split: str = "test",
    data_format: str | None = None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Measure a detector on one split of a data set.

    Args:
        model: a detector, or a RUN.
        data: folder of images and boxes; None takes the one that the detector was trained on.
        split: "test" or "train".
        data_format: of `data`, e.g. "coco"; None finds out by looking.
        on_batch: called with the images done and their total.

    Raises:
        ValueError, FileNotFoundError: no such data, no image in the split, or a class the model does not know.
    """
    detector = model if isinstance(model, FasterRCNN) else load(model)
    folder = data if data is not None else detector.config.data.path
    if folder is None:
        raise ValueError("no data: the model does not say what it was trained on; name a folder")
    settings = detector.config.data if data is None else DataSettings(format=data_format)
    records = read_split(Path(folder), split, settings)
    if not records:
        raise ValueError(f"{folder}: has no images in the split '{split}'")
    for record in records:
        for name in record.names:
            if name not in detector.classes:
                raise ValueError(
                    f"{record.image}: class '{name}' is unknown to the model, which knows: "
                    f"{', '.join(detector.classes)}"
                )
    return measure(detector, records, split=split, on_batch=on_batch)


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
    results = detector.config.detector.results
    ap = voc_ap(
        found.predictions,
        records,
        detector.classes,
        iou_threshold=results.ap_iou,
        eleven_point=results.ap_11_point,
    )
    form = "11-point" if results.ap_11_point else "area under the curve"
    counts = {name: sum(record.names.count(name) for record in records) for name in detector.classes}
    return Evaluation(
        split,
        f"Pascal VOC average precision ({form}) at IoU {results.ap_iou:g}",
        ap,
        mean_ap(ap),
        mean_ap(coco_ap(found.predictions, records, detector.classes)),
        len(records),
        counts,
        recall(found.places),
        statistics.median(found.seconds),
        found.predictions,
        list(records),
    )


class Found(NamedTuple):
    """What a detector found in some images."""

    predictions: list[Prediction]
    """Of each image, in order."""
    places: list[int]
    """Of each object, the place of the first proposal that overlaps it by an IoU of 0.5 or more."""
    seconds: list[float]
    """That each image took; the first ones warm up."""


@torch.no_grad()
def detect(
    detector: FasterRCNN,
    records: Sequence[Record],
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Found:
    """Detect in these images; several processes share them out batch by batch, and all get the whole result."""
    device = next(detector.parameters()).device
    mine: list[tuple[int, Found]] = []
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
        mine.append((own.start, Found(predictions, places, [seconds] * len(names))))
        done += len(names) * processes.count()
        on_batch(min(done, len(records)), len(records))
    everywhere = [found for share in processes.gather(mine) for found in share]
    in_order = [found for _, found in sorted(everywhere, key=lambda placed: placed[0])]
    return Found(
        [prediction for found in in_order for prediction in found.predictions],
        [place for found in in_order for place in found.places],
        [seconds for found in in_order for seconds in found.seconds],
    )
