"""Evaluating a detector on images with ground truth, in one process or several."""

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from frcnn import distributed
from frcnn.data.prefetch import prefetch
from frcnn.data.records import Record, Records
from frcnn.data.transforms import PaddedBatch, batches_by_shape, prepare_images
from frcnn.evaluation.metrics import Metrics, compute_metrics, first_match, recall_at
from frcnn.inference.predictor import predict_each
from frcnn.inference.results import Detections
from frcnn.inference.runtimes import Runtime
from frcnn.messages import plural


class _Evaluated(NamedTuple):
    """The result of one image."""

    image_index: int
    """Index of its record."""
    detections: Detections
    first_matches: list[int] | None
    """See `first_match`; None if the runtime does not give proposals."""
    seconds: float


def evaluate(
    runtime: Runtime,
    records: Sequence[Record],
    *,
    split: str | None = "test",
    threshold: float | None = None,
    workers: int = 1,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Metrics:
    """Evaluate a detector on these images. With several processes, each takes a part, and all get the whole result.

    Args:
        split: which images these are, for the metrics; None: all of data without splits.
        threshold: the confidence from which detections are in the confusion matrix; None: the detector's own
            (`detector.results.predict_threshold`).
        workers: threads that read images; 0: none.
        on_image: called with the numbers of images done and in total.

    Raises:
        ValueError: no images, or the model knows none of the classes.
    """
    if not len(records):
        raise ValueError(f"there are no images to evaluate on{'' if split is None else f' in the split {split!r}'}")
    records = Records.of(records)
    left_out = unknown_counts(records, runtime.classes)
    records = known_objects(records, runtime.classes)
    results = [each for part in distributed.gather(_detect(runtime, records, workers, on_image)) for each in part]
    results.sort(key=lambda each: each.image_index)
    matches = [each.first_matches for each in results if each.first_matches is not None]
    settings = runtime.result_settings
    return compute_metrics(
        [each.detections for each in results],
        records,
        runtime.classes,
        iou_threshold=settings.ap_iou,
        use_07_metric=settings.use_07_metric,
        threshold=settings.predict_threshold if threshold is None else threshold,
        recall=recall_at([match for image in matches for match in image]) if matches else None,
        split=split,
        seconds_per_image=statistics.median(each.seconds for each in results),
        left_out=left_out,
    )


def _detect(
    runtime: Runtime, records: Sequence[Record], workers: int, on_image: Callable[[int, int], None]
) -> list[_Evaluated]:
    """The results of this process's part of the images."""

    if runtime.resizing.tile:
        return _detect_in_tiles(runtime, records, on_image)

    def read(index: int) -> tuple[int, PaddedBatch]:
        return index, prepare_images([records[index].image], runtime.resizing)

    size = distributed.world_size()
    inputs = prefetch(read, iter(range(distributed.rank(), len(records), size)), workers=workers)
    done: list[_Evaluated] = []
    for batch in batches_by_shape(inputs, lambda item: item[1].images.shape, runtime.batch_size):
        indices, arrays = zip(*batch, strict=True)
        start = time.perf_counter()
        try:
            detections, proposals = runtime.detect(PaddedBatch(*map(np.concatenate, zip(*arrays, strict=True))))
        except ValueError as error:  # e.g. an input that is too small for the layers, as all in the batch are
            raise ValueError(f"{records[indices[0]].image}: {error}") from None
        seconds = (time.perf_counter() - start) / len(batch)
        for i, index in enumerate(indices):
            record = records[index]
            matches = None if proposals is None else first_match(proposals[i], record)
            done.append(_Evaluated(index, replace(detections[i], path=str(record.image)), matches, seconds))
        on_image(min(len(done) * size, len(records)), len(records))
    return done


def _detect_in_tiles(
    runtime: Runtime, records: Sequence[Record], on_image: Callable[[int, int], None]
) -> list[_Evaluated]:
    """`_detect` for a detector that was trained on tiles; without proposals, which are those of tiles."""
    size = distributed.world_size()
    own = range(distributed.rank(), len(records), size)
    done: list[_Evaluated] = []
    start = time.perf_counter()
    detected = predict_each(runtime, (records[index].image for index in own), threshold=0.0)
    for index, detections in zip(own, detected, strict=True):
        now = time.perf_counter()
        detections = replace(detections, path=str(records[index].image), image=None)
        done.append(_Evaluated(index, detections, None, now - start))
        on_image(min(len(done) * size, len(records)), len(records))
        start = now
    return done


def unknown_counts(records: Records, classes: Sequence[str]) -> dict[str, int]:
    """The number of objects of each class that the model does not know."""
    return {name: count for name, count in records.learned_counts.items() if name not in classes}


def known_objects(records: Sequence[Record], classes: Sequence[str]) -> Records:
    """The images with the objects of classes that the model knows; a warning names the other classes.

    Raises:
        ValueError: there are objects, but none of a class that the model knows.
    """
    all_records = Records.of(records)
    unknown = unknown_counts(all_records, classes)
    if unknown and len(unknown) == len(all_records.learned_counts):
        raise ValueError(
            f"the model knows none of the classes of these images ({', '.join(unknown)}); it knows: "
            f"{', '.join(classes)}"
        )
    if unknown:
        left_out = ", ".join(f"'{name}' ({plural(count, 'object')})" for name, count in unknown.items())
        warnings.warn(f"left out, because the model does not know the class: {left_out}", stacklevel=3)
    return all_records.of_classes(classes)
