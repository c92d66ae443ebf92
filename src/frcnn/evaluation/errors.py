"""What goes wrong: each false detection and each missed object has one kind of error, and each kind costs some AP.

Letters: D detections and O objects of one image.

Source:
    Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object Detection Errors", arXiv:2008.08115.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from frcnn.data.records import Record
from frcnn.evaluation.average_precision import ap_at_101_recalls
from frcnn.evaluation.matching import inside_ignored, iou_matrix
from frcnn.inference.results import Detections

FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1


class ErrorKind(StrEnum):
    """Of a false detection, or of an object without a detection."""

    CLASS = "class"
    """IoU of 0.5 or more with an object of another class."""
    LOCATION = "location"
    """IoU of 0.1 to 0.5 with an object of its class."""
    BOTH = "both"
    """IoU of 0.1 to 0.5 with an object of another class."""
    DUPLICATE = "duplicate"
    """IoU of 0.5 or more with an object of its class that a detection of higher confidence has."""
    BACKGROUND = "background"
    """IoU under 0.1 with all objects."""
    MISSED = "missed"
    """An object without a detection, and without an error of class or location beside it."""


class DetectionError(NamedTuple):
    """One false detection or missed object."""

    kind: ErrorKind
    image: int
    detection: int | None
    """Index in the detections of the image; None: a missed object."""
    object: int | None
    """Index in the record of the image; None: none is near."""
    fixable: bool
    """Fixing this error makes the detection correct. If several detections err about one object, only the one with the
    highest confidence is fixable; the others would be dropped."""


class ErrorReport(NamedTuple):
    """The errors of a detector."""

    errors: list[DetectionError]
    cost: dict[ErrorKind, float]
    """How much higher COCO's AP at IoU 0.5 would be without the errors of one kind."""
    ap50: float
    """COCO's AP at IoU 0.5."""
    matches: list[np.ndarray]
    """Of each image, for each detection: the index of its object; -1: it is an error; -2: it does not count."""


def find_errors(detections: Sequence[Detections], records: Sequence[Record], classes: Sequence[str]) -> ErrorReport:
    """The errors of a detector.

    By falling confidence, a detection takes the free object of its class that it overlaps most, if the IoU is 0.5 or
    more. The others are errors; those inside an ignored object of their class do not count.

    Args:
        detections, records: of the same images, in the same order.

    Source:
        See the module. Differs from the authors' program: classes without objects do not count in the mean AP,
        and all detections count, not only the first 100 of each image.
    """
    images: list[_Image] = []
    errors: list[DetectionError] = []
    for own, record in zip(detections, records, strict=True):
        image = _Image(own, record, classes)
        errors += image.errors(len(images))
        del image.iou, image.same  # they are large
        images.append(image)
    base = _mean_ap(images, [], classes)
    cost = {}
    for kind in ErrorKind:
        fixed = [error for error in errors if error.kind == kind]
        cost[kind] = max(0.0, _mean_ap(images, fixed, classes) - base) if fixed else 0.0
    return ErrorReport(errors, cost, base, [image.matches() for image in images])


class _Image:
    """The matches of one image."""

    def __init__(self, detections: Detections, record: Record, classes: Sequence[str]) -> None:
        index = {name: number for number, name in enumerate(classes)}
        self.scores = detections.confidence
        self.labels = np.array([index[name] for name in detections.class_name.tolist()], int)
        self.targets = np.array([index[name] for name in record.class_names], int)
        self.counted = np.flatnonzero(~record.ignore)
        self.iou = iou_matrix(detections.xyxy, record.boxes[self.counted])  # (D, O)
        self.same = self.labels[:, None] == self.targets[self.counted][None]
        self.object_of = np.full(len(detections), -1)
        self.detection_of = np.full(len(self.counted), -1)
        self._match()
        self.counts = (self.object_of >= 0) | ~inside_ignored(detections, record)

    def _match(self) -> None:
        own = self.iou * self.same
        for number in range(len(own)):
            free = own[number] * (self.detection_of < 0)
            if free.size and free.max() >= FOREGROUND_IOU:
                self.object_of[number] = free.argmax()
                self.detection_of[free.argmax()] = number

    def matches(self) -> np.ndarray:
        """See `ErrorReport`."""
        objects = np.append(self.counted, -1)[self.object_of]
        return np.where(self.counts, objects, -2)

    def errors(self, image: int) -> list[DetectionError]:
        """The errors of the image, by falling confidence, then the missed objects."""
        false = np.flatnonzero(self.counts & (self.object_of < 0)).tolist()
        kinds = [self._kind(number) for number in false]
        claimed: dict[int, int] = {}
        for number, (kind, near) in zip(false, kinds, strict=True):
            could = kind in (ErrorKind.CLASS, ErrorKind.LOCATION) and self.detection_of[near] < 0
            if could and near not in claimed:  # the first one has the highest confidence
                claimed[near] = number
        found = [
            DetectionError(
                kind, image, number, None if near < 0 else int(self.counted[near]), claimed.get(near) == number
            )
            for number, (kind, near) in zip(false, kinds, strict=True)
        ]
        missed = [near for near in np.flatnonzero(self.detection_of < 0).tolist() if near not in claimed]
        return found + [DetectionError(ErrorKind.MISSED, image, None, int(self.counted[near]), True) for near in missed]

    def _kind(self, number: int) -> tuple[ErrorKind, int]:
        """The kind of a false detection, and the object that it is about, an index of `counted`; -1: none is near."""
        iou, same = self.iou[number], self.same[number]
        if not iou.size:
            return ErrorKind.BACKGROUND, -1
        own, others, taken = iou * same, iou * ~same, iou * (same & (self.detection_of >= 0))
        if BACKGROUND_IOU <= own.max() <= FOREGROUND_IOU:
            return ErrorKind.LOCATION, int(own.argmax())
        if others.max() >= FOREGROUND_IOU:
            return ErrorKind.CLASS, int(others.argmax())
        if taken.max() >= FOREGROUND_IOU:
            return ErrorKind.DUPLICATE, int(taken.argmax())
        if iou.max() <= BACKGROUND_IOU:
            return ErrorKind.BACKGROUND, -1
        return ErrorKind.BOTH, int(iou.argmax())


def _mean_ap(images: Sequence[_Image], fixed: Sequence[DetectionError], classes: Sequence[str]) -> float:
    """COCO's AP at IoU 0.5, mean over the classes with objects, if these errors were corrected."""
    labels = [image.labels.copy() for image in images]
    true = [image.object_of >= 0 for image in images]
    counts = [image.counts.copy() for image in images]
    totals = np.zeros(len(classes))
    for image in images:
        totals += np.bincount(image.targets[image.counted], minlength=len(classes))
    present = totals > 0
    for error in fixed:
        image = images[error.image]
        if error.detection is None:
            totals[image.targets[error.object]] -= 1
        elif error.fixable:
            true[error.image][error.detection] = True
            labels[error.image][error.detection] = image.targets[error.object]
        else:
            counts[error.image][error.detection] = False
    label, is_true, keep = (np.concatenate([np.zeros(0, int), *each]) for each in (labels, true, counts))
    scores = np.concatenate([np.zeros(0), *(image.scores for image in images)])
    order = np.argsort(-scores, kind="stable")
    order = order[keep[order].astype(bool)]
    values = []
    for number in np.flatnonzero(present).tolist():
        own = order[label[order] == number]
        if totals[number]:
            values.append(ap_at_101_recalls(is_true[own].astype(bool), int(totals[number])))
        elif len(own):
            values.append(0.0)  # without its missed objects, all that is left is false
    return float(np.mean(values)) if values else float("nan")
