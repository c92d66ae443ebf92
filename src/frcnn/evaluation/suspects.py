"""Labels that are probably wrong: where a detector and the annotation disagree, and the detector is sure.

The detector should not have trained on these labels, because it learns wrong ones too: use the folds of a
cross-validation.

Letters: D detections and O objects (labels) of one image.
"""

import os
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from frcnn.data.records import Record
from frcnn.evaluation.matching import inside_ignored, iou_matrix
from frcnn.files import relative_path
from frcnn.inference.results import Detections

SAME, NEAR, APART = 0.5, 0.3, 0.1
"""IoU of a detection and a label. `SAME` or more: the same object. `NEAR` or more: something is there. Under `APART`:
unrelated."""
WELL_PLACED = 0.7
"""IoU from which a label is not called badly placed."""
TWICE = 0.8
"""IoU of two labels of one class that are probably of one object."""
LEAST_SCORE = 0.3
"""Suspects with a lower score are not listed."""


class SuspectKind(StrEnum):
    """What is probably wrong."""

    MISSING = "object without label"
    EXTRA = "label without object"
    CLASS = "wrong class"
    PLACE = "badly placed box"
    TWICE = "duplicate label"


class Suspect(NamedTuple):
    """A label, or the lack of one, that a person should look at."""

    image: Path
    kind: SuspectKind
    score: float
    """0..1; higher is more suspicious. What it measures depends on the kind (docs/data.md)."""
    box: tuple[float, float, float, float]
    """What the detector proposes, pixels; of a label to be removed, its own box."""
    class_name: str
    """The class that the detector proposes; of a label to be removed, its own."""
    label: tuple[float, float, float, float] | None
    """The box of the label; None: there is none."""
    reason: str
    label_class: str | None = None
    """The class of the label, where it differs from the proposed one."""

    @property
    def subject(self) -> str:
        """The class that texts name first: that of the label; if there is no label, the one that is proposed."""
        return self.label_class or self.class_name

    @property
    def proposed(self) -> tuple[float, float, float, float] | None:
        """The box that the detector proposes, pixels; None: it proposes to remove the label."""
        return None if self.kind in (SuspectKind.EXTRA, SuspectKind.TWICE) else self.box

    def to_dict(self, root: Path) -> dict[str, Any]:
        """Plain data.

        Args:
            root: the folder that the path of the image is relative to.
        """
        return {
            "image": _relative(self.image, root),
            "kind": self.kind.value,
            "score": round(self.score, 4),
            "box": [round(value, 1) for value in self.box],
            "class": self.class_name,
            "label_class": self.label_class,
            "label": None if self.label is None else [round(value, 1) for value in self.label],
            "reason": self.reason,
        }


def _relative(image: Path, root: Path) -> str:
    """The path of an image relative to a folder. For a link in the folder, it is that of the link, not of
    its target."""
    absolute = Path(os.path.abspath(image))
    for base in (Path(os.path.abspath(root)), root.resolve()):  # the folder itself may be reached by a link
        if absolute.is_relative_to(base):
            return absolute.relative_to(base).as_posix()
    return relative_path(image.resolve(), root.resolve())


def find_suspects(detections: Sequence[Detections], records: Sequence[Record]) -> list[Suspect]:
    """The suspicious labels of images, the most suspicious first; at most one for each label.

    Classes without a label in these images are not judged: perhaps nobody looked for them.

    Args:
        detections, records: of the same images, in the same order. Ignored objects are not judged.
    """
    records = list(records)
    labeled = sorted({name for record in records for name in record.class_names})
    detections = [each[np.isin(each.class_name, labeled)] for each in detections]
    iou = [iou_matrix(own.xyxy, record.boxes) for own, record in zip(detections, records, strict=True)]
    seen = list(map(_seen, detections, iou))
    usual = _usually_seen(seen, records)
    suspects = chain.from_iterable(map(_of_image, detections, records, iou, seen, usual))
    return sorted(suspects, key=lambda each: -each.score)


def _seen(detections: Detections, iou: np.ndarray) -> np.ndarray:
    """(O,): the highest confidence of a detection at each label; 0: there is none."""
    seen: np.ndarray = (detections.confidence[:, None] * (iou >= NEAR)).max(axis=0, initial=0)
    return seen


def _usually_seen(seen: Sequence[np.ndarray], records: Sequence[Record]) -> list[np.ndarray]:
    """For each image (O,): how sure the detector is of labels like this one, 0..1. This is the lower of two means of
    what it sees: at the other labels of the image, if there are others, and at the other labels of the class.

    Where a detector misses much, a label without a detection is not suspicious.
    """
    numbers = [len(each) for each in seen]
    flat = np.concatenate([np.zeros(0), *seen])
    judged = ~np.concatenate([np.zeros(0, bool), *(record.ignore for record in records)])
    names = np.array([name for record in records for name in record.class_names], str)
    of_class, _ = _mean_of_others(flat, judged, np.unique(names, return_inverse=True)[1])
    of_image, others = _mean_of_others(flat, judged, np.repeat(np.arange(len(records)), numbers))
    usual = np.where(others > 0, np.minimum(of_image, of_class), of_class)
    return np.split(usual, np.cumsum(numbers)[:-1])


def _mean_of_others(values: np.ndarray, judged: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(O,) each: the mean of the judged values of the same group without the own one, 0 if there are none; and how many
    these are."""
    values = values * judged
    others = np.bincount(group, judged)[group] - judged
    return (np.bincount(group, values)[group] - values) / np.maximum(others, 1), others


def _of_image(
    detections: Detections, record: Record, iou: np.ndarray, seen: np.ndarray, usual: np.ndarray
) -> Iterator[Suspect]:
    names = detections.class_name
    told = set()  # boxes that are proposed for a label
    for label in range(len(record.boxes)):
        if not record.ignore[label]:
            found = _of_label(detections, record, iou, names, label)
            found = found or _without_object(record, label, float(seen[label]), float(usual[label]))
            if found.score >= LEAST_SCORE:
                told.add(found.box)
                yield found
    yield from (each for each in _missing(detections, record, iou, names) if each.box not in told)


def _of_label(detections: Detections, record: Record, iou: np.ndarray, names: np.ndarray, label: int) -> Suspect | None:
    """What is wrong with a label, unless it has no object."""
    image, name = record.image, record.class_names[label]
    own_box = _corners(record.boxes[label])
    twin = _twin(record, label)
    if twin is not None:
        return Suspect(
            image,
            SuspectKind.TWICE,
            twin,
            own_box,
            name,
            own_box,
            f"another label of {name} has an IoU of {twin:.2f} with it",
        )
    overlap, scores, same = iou[:, label], detections.confidence, names == name
    elsewhere = _overlap_with_own(iou, names, record) > overlap  # it belongs to another label
    mine, theirs = scores * (same & (overlap >= SAME)), scores * (~same & ~elsewhere & (overlap >= SAME))
    best, other = float(mine.max(initial=0)), float(theirs.max(initial=0))
    if other - best >= LEAST_SCORE:
        index = int(theirs.argmax())
        reason = f"detected as {names[index]} ({other:.2f}), not as {name} ({best:.2f})"
        box = _corners(detections.xyxy[index])
        return Suspect(image, SuspectKind.CLASS, other - best, box, str(names[index]), own_box, reason, name)
    placed = _badly_placed(detections, iou, same, label)
    if placed is not None and placed[1] >= LEAST_SCORE:
        index, score = placed
        reason = f"detected in another place ({scores[index]:.2f}); the IoU with the label is {overlap[index]:.2f}"
        return Suspect(image, SuspectKind.PLACE, score, _corners(detections.xyxy[index]), name, own_box, reason)
    return None


def _without_object(record: Record, label: int, seen: float, usual: float) -> Suspect:
    name, box = record.class_names[label], _corners(record.boxes[label])
    reason = "nothing is detected there" if seen < 0.01 else f"the best detection there has a confidence of {seen:.2f}"
    return Suspect(record.image, SuspectKind.EXTRA, (1 - seen) * usual, box, name, box, reason)


def _twin(record: Record, label: int) -> float | None:
    """The IoU with an earlier label of the same class that is probably of the same object."""
    same = [other for other in range(label) if record.class_names[other] == record.class_names[label]]
    overlap = iou_matrix(record.boxes[label : label + 1], record.boxes[same])
    most = float(overlap.max(initial=0))
    return most if most >= TWICE else None


def _badly_placed(detections: Detections, iou: np.ndarray, same: np.ndarray, label: int) -> tuple[int, float] | None:
    """The detection that shows where the object of a badly placed label is, and how sure that is.

    It is the surest one near the label that belongs to no other label, and has no rival that fits the label well.
    """
    overlap = iou[:, label]
    if (same & (overlap >= WELL_PLACED) & (detections.confidence >= LEAST_SCORE)).any():
        return None
    others = np.delete(iou, label, axis=1).max(axis=1, initial=0)
    near = same & (overlap >= APART) & (overlap > others)
    if not near.any():
        return None
    index = int((detections.confidence * near).argmax())
    fits = overlap[index]
    return None if fits >= WELL_PLACED else (index, float(detections.confidence[index] * (1 - fits)))


def _overlap_with_own(iou: np.ndarray, names: np.ndarray, record: Record) -> np.ndarray:
    """(D,): the IoU of each detection with the best label of its class."""
    labels = np.array(record.class_names, dtype=str)
    return (iou * (names[:, None] == labels[None])).max(axis=1, initial=0)


def _missing(detections: Detections, record: Record, iou: np.ndarray, names: np.ndarray) -> Iterator[Suspect]:
    """Detections where no label is, each place once. An ignored object may be a region with many objects."""
    free = (iou.max(axis=1, initial=0) < NEAR) & ~inside_ignored(detections, record)
    free &= detections.confidence >= LEAST_SCORE
    taken: list[int] = []
    for index in np.flatnonzero(free).tolist():  # by falling confidence
        if iou_matrix(detections.xyxy[index : index + 1], detections.xyxy[taken]).max(initial=0) < NEAR:
            taken.append(index)
            score, name = float(detections.confidence[index]), str(names[index])
            box = _corners(detections.xyxy[index])
            reason = f"detected with a confidence of {score:.2f}, and no label is there"
            yield Suspect(record.image, SuspectKind.MISSING, score, box, name, None, reason)


def _corners(box: np.ndarray) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, x2, y2
