"""Verification of an exported file: its detections in real photos are compared with those of PyTorch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from frcnn.data.records import Record
from frcnn.data.transforms import PaddedBatch, prepare_images
from frcnn.evaluation.average_precision import mean_ap, voc_ap
from frcnn.evaluation.matching import iou_matrix
from frcnn.inference.description import ResultRules
from frcnn.inference.results import Detections
from frcnn.inference.runtimes import Exported, Runtime
from frcnn.messages import plural
from frcnn.resizing import Resizing

T = TypeVar("T")

PIXELS, SCORE = 0.05, 1e-4
"""Tolerances of a float32 file: coordinates of boxes (pixels of the photo) and scores."""
TIE_IOU = 1e-3
"""NMS nearly ties if an IoU is so near its threshold."""
MAX_TIES = 0.01
"""Largest fraction of the detections without match that near ties may explain; two may always be."""
BATCH = 3
SMALLER = 0.75
_TWO_SIDED = ("fp16", "bf16")
"""A higher AP is as suspect as a lower one; int8 and SVD may raise it by chance."""


class Difference(NamedTuple):
    """Between the detections of two models in the same images."""

    detections: int
    """Of the second model."""
    without_match: int
    """Detections of either model without match in the other, and without near tie."""
    near_ties: int
    """Detections of either model without match, because NMS nearly tied."""
    pixels: float
    """Largest distance of a coordinate."""
    score: float
    """Largest distance of a score."""

    def __add__(self, other: Difference) -> Difference:  # type: ignore[override]
        return Difference(
            self.detections + other.detections,
            self.without_match + other.without_match,
            self.near_ties + other.near_ties,
            max(self.pixels, other.pixels),
            max(self.score, other.score),
        )


class VerificationRun(NamedTuple):
    """One comparison on the photos, e.g. in batches."""

    name: str
    difference: Difference
    """Between the file and PyTorch; of a batch, also between the batch and its photos one by one."""
    ap: float
    """Of the file; NaN if nothing is annotated."""
    other_ap: float
    seconds: float
    """Per photo, of the file; the median."""
    other_seconds: float


def compare(detections: Detections, expected: Detections, rules: ResultRules) -> Difference:
    """Match the detections of one image: same class, box within PIXELS, score within SCORE.

    Rounding may decide what is in a list. So a detection without match is no difference if its score is within SCORE of
    the score threshold, or of the last score of a list that is full. It is a near tie of NMS if the other list has a
    box of its class, with the same or a higher score (up to SCORE), that

    * overlaps it by the NMS threshold (up to TIE_IOU); or
    * overlaps it by more than the threshold, and has no match either: that box took its place.
    """
    distances = np.abs(detections.xyxy[:, None] - expected.xyxy).max(axis=2, initial=0.0)  # (D, E)
    scores = np.abs(detections.confidence[:, None] - expected.confidence)
    same = (distances <= PIXELS) & (scores <= SCORE)
    same &= detections.class_name[:, None] == expected.class_name
    pairs: dict[int, int] = {}  # expected -> detection
    for index in range(len(detections)):
        free = [other for other in np.flatnonzero(same[index]).tolist() if other not in pairs]
        if free:
            pairs[min(free, key=lambda other: distances[index, other])] = index
    matched, expected_matched = set(pairs.values()), set(pairs)
    alone, ties = _without_match(detections, matched, expected, expected_matched, rules)
    expected_alone, expected_ties = _without_match(expected, expected_matched, detections, matched, rules)
    return Difference(
        len(expected),
        alone + expected_alone,
        ties + expected_ties,
        max((float(distances[d, e]) for e, d in pairs.items()), default=0.0),
        max((float(scores[d, e]) for e, d in pairs.items()), default=0.0),
    )


def _without_match(
    detections: Detections,
    matched: Collection[int],
    other: Detections,
    other_matched: Collection[int],
    rules: ResultRules,
) -> tuple[int, int]:
    """The numbers of detections without match: real differences, and near ties."""
    full = len(other) == rules.max_detections
    least = max(rules.score_threshold, float(other.confidence[-1]) if full else 0.0) + SCORE
    alone = np.setdiff1d(np.flatnonzero(detections.confidence > least), list(matched))
    iou = iou_matrix(detections.xyxy[alone], other.xyxy)
    replaces = ~np.isin(np.arange(len(other)), list(other_matched)) | (iou <= rules.nms_threshold + TIE_IOU)
    replaces &= iou >= rules.nms_threshold - TIE_IOU
    replaces &= other.confidence >= detections.confidence[alone, None] - SCORE
    replaces &= other.class_name == detections.class_name[alone, None]
    ties = int(replaces.any(axis=1).sum())
    return len(alone) - ties, ties


def verification_run(
    file: Exported,
    reference: Runtime,
    records: Sequence[Record],
    *,
    name: str = "one by one",
    size: int = 1,
    settings: Resizing | None = None,
    on_image: Callable[[int], None] = lambda count: None,
) -> VerificationRun:
    """Compare a file with another runtime on these photos, batch by batch.

    Args:
        name: of the comparison.
        size: photos in a batch.
        settings: how they are resized; None: as the file says.
        on_image: called with the number of photos after each batch.
    """
    detections: list[Detections] = []
    expected: list[Detections] = []
    seconds: list[float] = []
    other_seconds: list[float] = []
    results = file.description.results
    difference = Difference(0, 0, 0, 0.0, 0.0)
    for frames in _batches(records, size, settings or file.resizing):
        start = time.perf_counter()
        detections += file.detect(frames).detections
        middle = time.perf_counter()
        expected += reference.detect(frames).detections
        other_seconds.append((time.perf_counter() - middle) / size)
        seconds.append((middle - start) / size)
        for index in range(size if size > 1 else 0):  # a batch gives the detections of its photos one by one
            row = PaddedBatch(*(array[index : index + 1] for array in frames))
            (alone,) = file.detect(row).detections
            difference += compare(alone, detections[index - size], results)
        on_image(size)
    detections, expected = detections[: len(records)], expected[: len(records)]  # the last batch was filled up
    for one, other in zip(detections, expected, strict=True):
        difference += compare(one, other, results)
    ap, expected_ap = (
        mean_ap(voc_ap(each, records, file.classes, iou_threshold=results.ap_iou, use_07_metric=results.use_07_metric))
        for each in (detections, expected)
    )
    return VerificationRun(
        name, difference, ap, expected_ap, statistics.median(seconds), statistics.median(other_seconds)
    )


def verification_runs(
    file: Exported,
    reference: Runtime,
    records: Sequence[Record],
    *,
    one_size: bool,
    on_image: Callable[[int, int], None],
) -> list[VerificationRun]:
    """Compare them on these photos one by one, in batches of three, and smaller.

    Args:
        one_size: the file accepts frames of one size only, so the smaller ones are left out.
        on_image: called with the photos done and their total.
    """
    settings = file.resizing
    runs = [("one by one", 1, settings), (f"{BATCH} at once", BATCH, settings)]
    if not one_size:
        runs.append(("smaller", 1, _smaller(settings)))
    done, total = 0, len(runs) * len(records)

    def count(images: int) -> None:
        nonlocal done
        done += images
        on_image(min(done, total), total)

    return [
        verification_run(file, reference, records, name=name, size=size, settings=sized, on_image=count)
        for name, size, sized in runs
    ]


def rule(change: str, max_ap_loss: float) -> str:
    """The rule of `refusal` in words; the same arguments."""
    if change == "fp32":
        return (
            f"every detection has a match of the same class, its box within {PIXELS} px, its score within {SCORE}; "
            f"near ties of NMS may explain {MAX_TIES:.0%} without match"
        )
    if change in _TWO_SIDED:
        return f"AP differs by at most {max_ap_loss}"
    return f"AP at most {max_ap_loss} lower"


def refusal(runs: Sequence[VerificationRun], change: str, max_ap_loss: float) -> str | None:
    """Why the file is refused; None: it passes.

    Args:
        change: between the two models: their precision, "fp32", "fp16", "bf16" or "int8"; or "svd".
    """
    for one in runs:
        difference = one.difference
        if not difference.detections:
            return f"{one.name}: PyTorch detects nothing in these photos; name others (data=, --data)"
        most = max(2, round(MAX_TIES * difference.detections))
        if change == "fp32" and (difference.without_match or difference.near_ties > most):
            return (
                f"{one.name}: of {plural(difference.detections, 'detection')}, without a match within {PIXELS} px and "
                f"a score of {SCORE}: {difference.without_match}; with only a near tie of NMS: {difference.near_ties} "
                f"(at most {most} may)"
            )
        loss = one.other_ap - one.ap
        if change in _TWO_SIDED:
            loss = abs(loss)
        if change != "fp32" and not loss <= max_ap_loss:  # NaN verifies nothing
            return f"{one.name}: AP {one.ap:.4f} instead of {one.other_ap:.4f}; the rule: {rule(change, max_ap_loss)}"
    return None


def to_dict(one: VerificationRun, other: str) -> dict[str, Any]:
    """For FILE.verification.json; AP is null where nothing is annotated.

    Args:
        other: name of the model that the file was compared with.
    """
    return {
        "name": one.name,
        "detections": one.difference.detections,
        "without_match": one.difference.without_match,
        "near_ties": one.difference.near_ties,
        "largest_box_difference_px": one.difference.pixels,
        "largest_score_difference": one.difference.score,
        "map50": None if np.isnan(one.ap) else one.ap,
        f"map50_{other}": None if np.isnan(one.other_ap) else one.other_ap,
        "seconds_per_image": one.seconds,
        f"seconds_per_image_{other}": one.other_seconds,
    }


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of them, evenly."""
    step = max(1.0, len(items) / max(count, 1))
    return [items[int(index * step)] for index in range(min(count, len(items)))]


def _batches(records: Sequence[Record], size: int, settings: Resizing) -> Iterator[PaddedBatch]:
    """The last one is filled up with the first photos, so that all are of one size."""
    for start in range(0, len(records), size):
        part = [records[(start + index) % len(records)] for index in range(size)]
        yield prepare_images([record.image for record in part], settings)


def _smaller(settings: Resizing) -> Resizing:
    sides = ("width", "height", "shorter_side", "longer_side")
    return settings._replace(**{side: round(SMALLER * getattr(settings, side)) for side in sides})
