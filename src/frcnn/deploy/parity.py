"""The proof that a file is the same model: what it finds in real photos, beside what PyTorch finds."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from frcnn.config import ImageSettings
from frcnn.data.transforms import frames_of
from frcnn.detectors import Detector, Exported
from frcnn.evaluation.voc_ap import mean_ap, voc_ap
from frcnn.types import Frames, Prediction, Record

T = TypeVar("T")

PIXELS, SCORE = 0.05, 1e-4
"""How far boxes (pixels of the photo) and scores of a float32 file may be from PyTorch's."""
BATCH = 3
SMALLER = 0.75


class Difference(NamedTuple):
    """Between the detections of two models in the same images."""

    detections: int
    """Compared."""
    without_match: int
    """Found by one of the two alone."""
    pixels: float
    """Largest distance of a coordinate."""
    score: float
    """Largest distance of a score."""

    def __add__(self, other: Difference) -> Difference:  # type: ignore[override]
        return Difference(
            self.detections + other.detections,
            self.without_match + other.without_match,
            max(self.pixels, other.pixels),
            max(self.score, other.score),
        )


class Pass(NamedTuple):
    """The same photos, run in one way."""

    name: str
    difference: Difference
    """Between the file and PyTorch; of a batch, also between it and its photos alone."""
    ap: float
    """Of the file; NaN if nothing is annotated."""
    other_ap: float
    seconds: float
    """Per photo, of the file; the median."""
    other_seconds: float


def compare(found: Prediction, expected: Prediction, *, full: int) -> Difference:
    """Pair off the detections of one image that are the same: class, box within PIXELS, score within SCORE.

    Scores that are equal but for rounding may change places; at the end of a list of `full` detections, one may take
    the other's.
    """
    near = np.abs(found.boxes[:, None] - expected.boxes).max(axis=2, initial=0.0)  # (F, E)
    scores = np.abs(found.scores[:, None] - expected.scores)
    same = (near <= PIXELS) & (scores <= SCORE)
    same &= np.array(found.names, object)[:, None] == np.array(expected.names, object)
    pairs: dict[int, int] = {}  # expected -> found
    for index in range(len(found.boxes)):
        free = [other for other in np.flatnonzero(same[index]).tolist() if other not in pairs]
        if free:
            pairs[min(free, key=lambda other: near[index, other])] = index
    alone = _alone(found, set(pairs.values()), expected, full) + _alone(expected, set(pairs), found, full)
    return Difference(
        len(expected.boxes),
        alone,
        max((float(near[f, e]) for e, f in pairs.items()), default=0.0),
        max((float(scores[f, e]) for e, f in pairs.items()), default=0.0),
    )


def _alone(found: Prediction, paired: set[int], other: Prediction, full: int) -> int:
    """How many detections have no match, though the other list had a place for them."""
    last = float(other.scores[-1]) + SCORE if len(other.scores) == full else -math.inf
    return sum(index not in paired and score > last for index, score in enumerate(found.scores.tolist()))


def run(
    file: Exported,
    detector: Detector,
    records: Sequence[Record],
    *,
    name: str = "one by one",
    size: int = 1,
    settings: ImageSettings | None = None,
    on_image: Callable[[int], None] = lambda count: None,
) -> Pass:
    """Run a file and a detector over these photos, one after the other on each batch.

    Args:
        name: of this way to run them.
        size: photos in a batch.
        settings: how they are resized; None: as the file says.
        on_image: called with the number of photos after each batch.
    """
    found: list[Prediction] = []
    expected: list[Prediction] = []
    seconds: list[float] = []
    other_seconds: list[float] = []
    results = file.description.results
    difference = Difference(0, 0, 0.0, 0.0)
    for frames, names in _batches(records, size, settings or file.image_settings):
        start = time.perf_counter()
        found += file.detect(frames, names)
        middle = time.perf_counter()
        expected += detector.detect(frames, names)
        other_seconds.append((time.perf_counter() - middle) / size)
        seconds.append((middle - start) / size)
        for index in range(size if size > 1 else 0):  # a batch gives what its photos give alone
            row = Frames(*(array[index : index + 1] for array in frames))
            (alone,) = file.detect(row, names[index : index + 1])
            difference += compare(alone, found[index - size], full=results.max_detections)
        on_image(size)
    found, expected = found[: len(records)], expected[: len(records)]  # the last batch was filled up
    for one, other in zip(found, expected, strict=True):
        difference += compare(one, other, full=results.max_detections)
    ap, expected_ap = (
        mean_ap(voc_ap(each, records, file.classes, iou_threshold=results.ap_iou, eleven_point=results.ap_11_point))
        for each in (found, expected)
    )
    return Pass(name, difference, ap, expected_ap, statistics.median(seconds), statistics.median(other_seconds))


def run_all(
    file: Exported,
    detector: Detector,
    records: Sequence[Record],
    *,
    one_size: bool,
    on_image: Callable[[int, int], None],
) -> list[Pass]:
    """Run them over these photos in all ways: one by one, in batches of three, and smaller.

    Args:
        one_size: the file takes frames of one size only, so smaller ones are left out.
        on_image: called with the photos done and their total.
    """
    settings = file.image_settings
    ways = [("one by one", 1, settings), (f"{BATCH} at once", BATCH, settings)]
    if not one_size:
        ways.append(("smaller", 1, _smaller(settings)))
    done, total = 0, len(ways) * len(records)

    def count(images: int) -> None:
        nonlocal done
        done += images
        on_image(min(done, total), total)

    return [
        run(file, detector, records, name=name, size=size, settings=sized, on_image=count) for name, size, sized in ways
    ]


def verdict(passes: Sequence[Pass], change: str, max_ap_loss: float) -> str | None:
    """Why the file is not the same model; None: it is.

    Args:
        change: between the two models: their precision, "fp32", "fp16", "bf16" or "int8"; or "svd".
    """
    for one in passes:
        difference = one.difference
        if not difference.detections:
            return f"{one.name}: PyTorch finds nothing in these photos, which proves nothing; name others with --data"
        if change == "fp32" and difference.without_match:
            return (
                f"{one.name}: of {difference.detections} detections, {difference.without_match} have no match within "
                f"{PIXELS} px and a score of {SCORE}"
            )
        loss = one.other_ap - one.ap
        if change in ("fp16", "bf16"):  # so near that more is as wrong as less; the others may help by chance
            loss = abs(loss)
        if change != "fp32" and not loss <= max_ap_loss:  # NaN is not proof
            return f"{one.name}: AP {one.ap:.4f} instead of {one.other_ap:.4f}, more than {max_ap_loss} away"
    return None


def to_json(one: Pass, other: str) -> dict[str, Any]:
    """For FILE.parity.json; null where nothing is annotated.

    Args:
        other: what the file was compared with.
    """
    return {
        "how": one.name,
        "detections": one.difference.detections,
        "without_match": one.difference.without_match,
        "largest_box_difference_px": one.difference.pixels,
        "largest_score_difference": one.difference.score,
        "mean_ap": None if np.isnan(one.ap) else one.ap,
        f"mean_ap_{other}": None if np.isnan(one.other_ap) else one.other_ap,
        "seconds_per_image": one.seconds,
        f"seconds_per_image_{other}": one.other_seconds,
    }


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of them, evenly."""
    step = max(1.0, len(items) / max(count, 1))
    return [items[int(index * step)] for index in range(min(count, len(items)))]


def _batches(records: Sequence[Record], size: int, settings: ImageSettings) -> Iterator[tuple[Frames, list[str]]]:
    """The last one is filled up with the first photos, so that all are of one size."""
    for start in range(0, len(records), size):
        part = [records[(start + index) % len(records)] for index in range(size)]
        yield frames_of([record.image for record in part], settings), [str(one.image) for one in part]


def _smaller(settings: ImageSettings) -> ImageSettings:
    sides = ("width", "height", "shorter_side", "longer_side")
    return ImageSettings(
        **{**vars(settings), **{side: max(1, round(SMALLER * getattr(settings, side))) for side in sides}}
    )
