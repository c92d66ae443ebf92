"""Running a detector over a split, and telling how good it is."""

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from frcnn.data.dataset import read_split
from frcnn.data.loader import batched_by_frame, load_batch, read_ahead
from frcnn.evaluation.coco_ap import coco_ap
from frcnn.evaluation.voc_ap import mean_ap, voc_ap
from frcnn.nn.checkpoint import load
from frcnn.nn.detector import FasterRCNN
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
        return "\n".join([*lines, f"Mean AP = {self.mean_ap:.4f}", f"COCO AP = {self.coco_ap:.4f}"])

    def to_json(self) -> str:
        """What evaluation.json holds; a class without objects has null."""
        plain = {
            "mean_ap": None if math.isnan(self.mean_ap) else self.mean_ap,
            "coco_ap": None if math.isnan(self.coco_ap) else self.coco_ap,
            "ap": {name: None if math.isnan(value) else value for name, value in self.ap.items()},
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
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Measure a detector on one split of a data set.

    Args:
        model: a detector, or a RUN.
        data: folder of images and boxes; None takes the one that the detector was trained on.
        split: "test" or "train".
        on_batch: called with the images done and their total.

    Raises:
        ValueError, FileNotFoundError: no such data, no image in the split, or a class the model does not know.
    """
    detector = model if isinstance(model, FasterRCNN) else load(model)
    folder = data if data is not None else detector.config.data.path
    if folder is None:
        raise ValueError("no data: the model does not say what it was trained on; name a folder")
    records = read_split(Path(folder), split, detector.config.data)
    if not records:
        raise ValueError(f"{folder}: has no images in the split '{split}'")
    for record in records:
        for name in record.names:
            if name not in detector.classes:
                raise ValueError(
                    f"{record.image}: class '{name}' is unknown to the model, which knows: "
                    f"{', '.join(detector.classes)}"
                )
    predictions, seconds_per_image = detect(detector, records, on_batch)
    results = detector.config.detector.results
    ap = voc_ap(
        predictions,
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
        mean_ap(coco_ap(predictions, records, detector.classes)),
        len(records),
        counts,
        seconds_per_image,
        predictions,
        records,
    )


@torch.no_grad()
def detect(
    detector: FasterRCNN,
    records: Sequence[Record],
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Prediction], float]:
    """The detector's predictions for these images, in order, and the median of the seconds an image (the first ones
    warm up)."""
    device = next(detector.parameters()).device
    settings = detector.config.detector.image
    batches = read_ahead(
        partial(load_batch, classes=detector.classes, settings=settings),
        batched_by_frame(records, detector.config.train.batch_size, settings),
        workers=detector.config.data.workers,
    )
    predictions: list[Prediction] = []
    seconds: list[float] = []
    for batch in batches:
        start = time.perf_counter()
        detections = detector(batch.images.to(device), batch.image_sizes.to(device), batch.original_sizes.to(device))
        predictions += detector.to_predictions(detections, batch.names)
        seconds += [(time.perf_counter() - start) / len(batch.images)] * len(batch.images)
        on_batch(len(predictions), len(records))
    return predictions, statistics.median(seconds)
