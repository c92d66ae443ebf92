"""How good detections are: average precision, confusion matrix, recall of proposals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from frcnn.data.records import Record
from frcnn.evaluation import figures, intervals
from frcnn.evaluation.average_precision import (
    SIZES,
    Matched,
    ap_of,
    ar_of,
    coco_ap,
    matched_by_coco,
    matched_by_voc,
    mean_ap,
    voc_ap,
)
from frcnn.evaluation.errors import ErrorKind, ErrorReport, find_errors
from frcnn.evaluation.intervals import Interval
from frcnn.evaluation.matching import inside_ignored, iou_matrix
from frcnn.evaluation.thresholds import Counts, Curve, calibration, curves, together
from frcnn.inference.results import Detections, missing_attribute
from frcnn.json_text import to_json
from frcnn.messages import plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECALL_AT = (50, 100, 300)
_MATCH_IOU = 0.5

_OTHER_LIBRARIES = {
    **dict.fromkeys(("mAP", "mean_ap", "box"), "map50 (IoU 0.5) or map (the mean over IoU 0.50:0.95)"),
    **dict.fromkeys(("ap50", "mAP50", "map_50"), "map50"),
    **dict.fromkeys(("ap", "map50_95", "coco_ap"), "map"),
    **dict.fromkeys(("maps", "classes", "names"), "per_class"),
    "results_dict": "to_dict()",
}
"""Names of other libraries -> ours, for messages."""


class ClassMetrics(NamedTuple):
    """How well one class is detected. NaN if it has no objects."""

    ap50: float
    """Pascal VOC's AP at the IoU of `Metrics.map50`."""
    ap: float
    """COCO's AP: the mean over IoU 0.50:0.95."""
    objects: int
    """In the ground truth, ignored ones included."""


@dataclass(frozen=True, eq=False, repr=False)
class Metrics:
    """How good a detector is on one split of a data set. `print(metrics)` shows a table."""

    map50: float
    """Mean over the classes of Pascal VOC's AP at IoU `detector.results.ap_iou` (default 0.5); NaN without
    objects."""
    map: float
    """Mean over the classes of COCO's AP, at IoU 0.50:0.95; NaN without objects."""
    per_class: dict[str, ClassMetrics]
    """Class name -> its metrics."""
    confusion_matrix: np.ndarray
    """(C + 1, C + 1) int: row = class of the object, column = class of the detection, in the order of `per_class`. The
    last row and column are the background: false positives and missed objects."""
    confusion_threshold: float
    """The confidence from which a detection is in the confusion matrix."""
    recall: dict[int, float]
    """n -> fraction of the objects that one of the n best proposals overlaps by an IoU of 0.5 or more; empty for an
    exported file, which does not give its proposals, and for a detector trained on tiles."""
    metric: str
    """What `map50` is, in words."""
    ap_iou: float
    """The IoU of `map50`."""
    use_07_metric: bool
    """Whether `map50` is VOC 2007's mean over 11 recalls, not the area under the curve."""
    split: str | None
    """The name of the split; None: the data has no splits, and these are all images."""
    images: int
    seconds_per_image: float
    """Of detection alone, without reading the image (with tiles: reading included); the median."""
    detections: list[Detections] = field(default_factory=list)
    """Of each image, without threshold."""
    records: Sequence[Record] = ()
    """The images and their objects."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Class that the detector does not know -> the number of its objects, which are not in the metrics."""

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """Class name -> its detections, matched at IoU 0.5: precision, recall and F1 at any threshold."""
        return curves(self.detections, self.records, tuple(self.per_class))

    def counts(self, threshold: float | None = None) -> Counts:
        """Correct detections, false ones and missed objects of all classes.

        Args:
            threshold: least confidence of a detection; None: `confusion_threshold`.
        """
        return together(self.curves).at(self.confusion_threshold if threshold is None else threshold)

    def best_threshold(
        self, class_name: str | None = None, *, precision: float | None = None, recall: float | None = None
    ) -> float | None:
        """The confidence threshold with the highest F1; arguments as for `Curve.best_threshold`.

        Args:
            class_name: of this class; None: of all classes together.
        """
        curve = together(self.curves) if class_name is None else self.curves[class_name]
        return curve.best_threshold(precision=precision, recall=recall)

    @cached_property
    def ar(self) -> float:
        """COCO's average recall with at most 100 detections per image and class: the mean over IoU 0.50:0.95 and the
        classes."""
        return mean_ap({each.name: ar_of(each) for each in self._by_coco})

    @cached_property
    def by_size(self) -> dict[str, float]:
        """Size ("small", "medium", "large") -> COCO's AP of such objects: under 32 x 32 pixels, up to 96 x 96, and
        over; NaN without such objects."""
        return {name: mean_ap({each.name: ap_of(each) for each in own}) for name, own in self._by_size.items()}

    @cached_property
    def intervals(self) -> dict[str, Interval | None]:
        """Metric ("map50", "map", "ar", "small", "medium", "large") -> its 95% bootstrap interval over the images.
        None: fewer than two images, or no objects."""
        by_voc = matched_by_voc(self.detections, self.records, tuple(self.per_class), iou_threshold=self.ap_iou)
        return {
            "map50": intervals.interval(by_voc, intervals.voc_07_ap if self.use_07_metric else intervals.voc_ap),
            "map": intervals.interval(self._by_coco, intervals.coco_ap),
            "ar": intervals.interval(self._by_coco, intervals.recall),
            **{name: intervals.interval(own, intervals.coco_ap) for name, own in self._by_size.items()},
        }

    @cached_property
    def errors(self) -> ErrorReport:
        """The errors of all detections, whatever their confidence, and what each kind costs, as in TIDE."""
        return find_errors(self.detections, self.records, tuple(self.per_class))

    def error_counts(self, threshold: float | None = None) -> dict[ErrorKind, int]:
        """The number of errors of each kind at a confidence threshold. An object without a correct detection counts as
        missed, unless a detection of the wrong class or with poor localization is about it.

        Args:
            threshold: least confidence of a detection; None: `confusion_threshold`.
        """
        limit = self.confusion_threshold if threshold is None else threshold
        kept = [each.confidence >= float(limit) for each in self.detections]
        false = [
            error for error in self.errors.errors if error.detection is not None and kept[error.image][error.detection]
        ]
        found = {
            (image, target)
            for image, matches in enumerate(self.errors.matches)
            for target in matches[kept[image]].tolist()
        }
        found |= {(error.image, error.object) for error in false if error.kind in (ErrorKind.CLASS, ErrorKind.LOCATION)}
        objects = (
            (image, target) for image, each in enumerate(self.records) for target in np.flatnonzero(~each.ignore)
        )
        counts = Counter(error.kind for error in false)
        counts[ErrorKind.MISSED] = sum(each not in found for each in objects)
        return {kind: counts[kind] for kind in ErrorKind}

    def plot_confusion_matrix(self) -> Figure:
        """The confusion matrix as a matplotlib figure. A notebook shows it; `figure.savefig(path)` saves it."""
        return figures.plot_confusion_matrix(self)

    def plot_pr(self) -> Figure:
        """Precision over recall of each class, at IoU 0.5, as a matplotlib figure."""
        return figures.plot_pr(self)

    @cached_property
    def _by_coco(self) -> list[Matched]:
        return matched_by_coco(self.detections, self.records, tuple(self.per_class))

    @cached_property
    def _by_size(self) -> dict[str, list[Matched]]:
        classes = tuple(self.per_class)
        return {
            name: matched_by_coco(self.detections, self.records, classes, area=area) for name, area in SIZES.items()
        }

    if not TYPE_CHECKING:  # else every name would be an attribute

        def __getattr__(self, name: str) -> Any:
            raise missing_attribute(self, name, _OTHER_LIBRARIES)

    def __str__(self) -> str:
        """The tutorial's table, with COCO's AP and the recall of proposals."""
        lines = [
            f"AP for {name:>15} = " + ("no objects" if math.isnan(own.ap50) else f"{own.ap50:.4f}")
            for name, own in self.per_class.items()
        ]
        lines += [f"Mean AP = {self.map50:.4f}", f"COCO AP = {self.map:.4f}"]
        if self.recall:
            recall = ", ".join(f"{value:.4f} at {count}" for count, value in self.recall.items())
            lines.append(f"Recall of proposals = {recall}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Metrics: map50 {self.map50:.4f}, map {self.map:.4f}, {self.images_of_split()}>"

    def images_of_split(self) -> str:
        """Which images were evaluated, in words: "2 images of split 'test'"."""
        return plural(self.images, "image") + ("" if self.split is None else f" of split {self.split!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the detections; None for NaN."""
        error_counts = self.error_counts()
        return {
            "map50": _number(self.map50),
            "map": _number(self.map),
            "per_class": {
                name: {
                    "ap50": _number(own.ap50),
                    "ap": _number(own.ap),
                    "objects": own.objects,
                    "best_threshold": self.best_threshold(name),
                    **_at_threshold(self.curves[name].at(self.confusion_threshold)),
                }
                for name, own in self.per_class.items()
            },
            "left_out": self.left_out,
            "recall": {str(count): _number(value) for count, value in self.recall.items()},
            "confusion_matrix": self.confusion_matrix.tolist(),
            "confusion_threshold": self.confusion_threshold,
            "at_threshold": _at_threshold(self.counts()),
            "calibration": [
                {"confidence": confidence, "correct": correct, "detections": count}
                for confidence, correct, count in calibration(together(self.curves))
            ],
            "ar": _number(self.ar),
            "by_size": {name: _number(value) for name, value in self.by_size.items()},
            "intervals": {name: None if each is None else list(each) for name, each in self.intervals.items()},
            "errors": {kind.value: {"count": error_counts[kind], "cost": self.errors.cost[kind]} for kind in ErrorKind},
            "best_threshold": self.best_threshold(),
            "metric": self.metric,
            "split": self.split,
            "images": self.images,
            "seconds_per_image": self.seconds_per_image,
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text, as in metrics.json."""
        return to_json(self.to_dict())

    def to_dataframe(self) -> Any:
        """A pandas DataFrame with a row per class: class_name, ap50, ap, objects.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError:
            raise ModuleNotFoundError("to_dataframe needs pandas; run `pip install pandas`", name="pandas") from None
        return pandas.DataFrame([{"class_name": name, **own._asdict()} for name, own in self.per_class.items()])


def compute_metrics(
    detections: Sequence[Detections],
    records: Sequence[Record],
    classes: Sequence[str],
    *,
    iou_threshold: float = 0.5,
    use_07_metric: bool = False,
    threshold: float = 0.5,
    recall: dict[int, float] | None = None,
    split: str | None = "test",
    seconds_per_image: float = math.nan,
    left_out: dict[str, int] | None = None,
) -> Metrics:
    """The metrics of detections.

    Args:
        detections, records: of the same images, in the same order.
        classes: of the model.
        iou_threshold, use_07_metric: see `voc_ap`.
        threshold: the confidence from which detections are in the confusion matrix.
        recall, split, seconds_per_image, left_out: as in `Metrics`.

    Raises:
        ValueError: the numbers of detections and records differ.
    """
    ap50 = voc_ap(detections, records, classes, iou_threshold=iou_threshold, use_07_metric=use_07_metric)
    ap = coco_ap(detections, records, classes)
    objects = Counter(name for record in records for name in record.class_names)
    form = "11-point" if use_07_metric else "area under the curve"
    return Metrics(
        map50=mean_ap(ap50),
        map=mean_ap(ap),
        per_class={name: ClassMetrics(ap50[name], ap[name], objects[name]) for name in classes},
        confusion_matrix=confusion_matrix(detections, records, classes, threshold=threshold),
        confusion_threshold=threshold,
        recall=recall or {},
        ap_iou=iou_threshold,
        use_07_metric=use_07_metric,
        metric=f"Pascal VOC average precision ({form}) at IoU {iou_threshold:g}",
        split=split,
        images=len(records),
        seconds_per_image=seconds_per_image,
        detections=list(detections),
        records=records,
        left_out=left_out or {},
    )


def confusion_matrix(
    detections: Sequence[Detections], records: Sequence[Record], classes: Sequence[str], *, threshold: float = 0.5
) -> np.ndarray:
    """Which classes are detected as which, (C + 1, C + 1) int: row = object, column = detection, background last.

    In each image, detections and objects are paired whatever their classes: of the pairs with an IoU of 0.5 or more,
    the one with the highest IoU first, and each detection and object once. Ignored objects, their detections, and the
    other detections inside ignored objects of their class do not count.

    Args:
        detections, records: of the same images, in the same order.
        threshold: detections with less confidence are left out.
    """
    index = {name: number for number, name in enumerate(classes)}
    matrix = np.zeros((len(classes) + 1, len(classes) + 1), np.int64)
    for own, record in zip(detections, records, strict=True):
        kept = own[own.confidence >= threshold]
        predicted = [index[name] for name in kept.class_name.tolist()]
        actual = [index[name] for name in record.class_names]
        inside = inside_ignored(kept, record)
        iou = iou_matrix(kept.xyxy, record.boxes)  # (N, O)
        free, unmatched = set(range(len(actual))), set(range(len(predicted)))
        for pair in np.argsort(-iou, axis=None, kind="stable").tolist():
            d, o = divmod(pair, len(actual))
            if iou[d, o] < _MATCH_IOU:
                break
            if d in unmatched and o in free:
                unmatched.remove(d)
                free.remove(o)
                if not record.ignore[o]:
                    matrix[actual[o], predicted[d]] += 1
        for d in unmatched:
            if not inside[d]:
                matrix[-1, predicted[d]] += 1
        for o in free:
            if not record.ignore[o]:
                matrix[actual[o], -1] += 1
    return matrix


def first_match(proposals: np.ndarray, record: Record) -> list[int]:
    """For each object of an image that counts, the index of the first proposal that overlaps it by an IoU of 0.5 or
    more; -1 if none does.

    Args:
        proposals: (K, 4), best first, pixels of the original image.
    """
    matches = iou_matrix(proposals, record.boxes[~record.ignore]) >= _MATCH_IOU
    matches = np.concatenate((matches, np.zeros((1, matches.shape[1]), bool)))  # so that a column is not empty
    return np.where(matches.any(axis=0), matches.argmax(axis=0), -1).tolist()


def recall_at(first_matches: Sequence[int], counts: Sequence[int] = RECALL_AT) -> dict[int, float]:
    """The fraction of objects with a match among the n best proposals, for each n; NaN without objects.

    Args:
        first_matches: of every object, see `first_match`.
    """
    total = len(first_matches)
    return {n: sum(0 <= match < n for match in first_matches) / total if total else math.nan for n in counts}


def _at_threshold(counts: Counts) -> dict[str, float | None]:
    """Plain data."""
    return {"precision": _number(counts.precision), "recall": _number(counts.recall), "f1": _number(counts.f1)}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
