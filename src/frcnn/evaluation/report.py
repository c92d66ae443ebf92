"""How good a detector is, from what it found. Without torch: exported files are measured with this too."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from frcnn.evaluation.coco_ap import coco_ap
from frcnn.evaluation.voc_ap import mean_ap, voc_ap
from frcnn.types import Prediction, Record

if TYPE_CHECKING:
    from frcnn.config import ResultSettings


class Found(NamedTuple):
    """What a detector found in some images."""

    predictions: list[Prediction]
    """Of each image, in order."""
    seconds: list[float]
    """That each image took; the first ones warm up."""
    recall: dict[int, float]
    """As in `Evaluation`."""


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
    """Share of the objects that the best n proposals of the RPN overlap by an IoU of 0.5 or more, for some n; empty for
    an exported file, which does not tell its proposals."""
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
        totals = [f"Mean AP = {self.mean_ap:.4f}", f"COCO AP = {self.coco_ap:.4f}"]
        if self.recall:
            recall = ", ".join(f"{value:.4f} at {count}" for count, value in self.recall.items())
            totals.append(f"Recall of proposals = {recall}")
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


def report(
    found: Found, records: Sequence[Record], classes: Sequence[str], results: ResultSettings, *, split: str
) -> Evaluation:
    """Average precisions and counts.

    Args:
        found: in these images.
        results: by which rules to measure.
        split: what these images are.
    """
    ap = voc_ap(found.predictions, records, classes, iou_threshold=results.ap_iou, eleven_point=results.ap_11_point)
    objects = Counter(name for record in records for name in record.names)
    form = "11-point" if results.ap_11_point else "area under the curve"
    return Evaluation(
        split,
        f"Pascal VOC average precision ({form}) at IoU {results.ap_iou:g}",
        ap,
        mean_ap(ap),
        mean_ap(coco_ap(found.predictions, records, classes)),
        len(records),
        {name: objects[name] for name in classes},
        found.recall,
        statistics.median(found.seconds),
        found.predictions,
        list(records),
    )


def require_known_classes(records: Sequence[Record], classes: Sequence[str]) -> None:
    """A class that the model does not know cannot be measured.

    Raises:
        ValueError: naming the class and its image.
    """
    for record in records:
        for name in record.names:
            if name not in classes:
                raise ValueError(
                    f"{record.image}: class '{name}' is unknown to the model, which knows: {', '.join(classes)}"
                )
