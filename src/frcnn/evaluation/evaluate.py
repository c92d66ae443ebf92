"""Measuring anything that detects on a data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from frcnn.data.ahead import read_ahead
from frcnn.data.dataset import read_split
from frcnn.data.transforms import frames_of
from frcnn.detectors import Detector, Exported, open_detector
from frcnn.evaluation.report import Evaluation, Found, report, require_known_classes
from frcnn.types import Frames, Record

if TYPE_CHECKING:
    from frcnn.config import DataSettings
    from frcnn.nn.detector import FasterRCNN


def evaluate(
    model: Detector | str | Path,
    data: str | Path | None = None,
    *,
    split: str = "test",
    data_format: str | None = None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Measure a detector on one split of a data set.

    Args:
        model: a detector, a RUN, or a file that `frcnn export` wrote.
        data: folder of images and boxes; None takes the one that the detector was trained on.
        split: "test" or "train".
        data_format: of `data`, e.g. "coco"; None finds out by looking.
        on_batch: called with the images done and their total.

    Raises:
        ValueError, FileNotFoundError: no such data, no image in the split, or a class the model does not know.
    """
    detector = open_detector(model)
    folder, settings = _data_of(detector, data, data_format)
    records = read_split(folder, split, settings)
    if not records:
        raise ValueError(f"{folder}: has no images in the split '{split}'")
    require_known_classes(records, detector.classes)
    if isinstance(detector, Exported):
        found = detect(detector, records, on_batch)
        return report(found, records, detector.classes, detector.description.results, split=split)
    from frcnn.evaluation.measure import measure

    return measure(cast("FasterRCNN", detector), records, split=split, on_batch=on_batch)


def detect(
    detector: Detector, records: Sequence[Record], on_image: Callable[[int, int], None] = lambda done, total: None
) -> Found:
    """Detect in these images, one by one."""

    def prepare(record: Record) -> Frames:
        return frames_of([record.image], detector.image_settings)

    predictions, seconds = [], []
    for record, inputs in zip(records, read_ahead(prepare, iter(records), workers=1), strict=True):
        start = time.perf_counter()
        predictions += detector.detect(inputs, [str(record.image)])
        seconds.append(time.perf_counter() - start)
        on_image(len(predictions), len(records))
    return Found(predictions, seconds, {})


def _data_of(detector: Detector, data: str | Path | None, data_format: str | None) -> tuple[Path, DataSettings]:
    """The folder to measure on, and how it is read."""
    if isinstance(detector, Exported):
        if data is None:
            raise ValueError("no data: an exported file does not say what it was trained on; name a folder with --data")
        rules = vars(detector.description.data) | {"format": data_format}
        return Path(data), cast("DataSettings", SimpleNamespace(**rules))
    from frcnn.config import DataSettings

    own = cast("FasterRCNN", detector).config.data
    if data is not None:
        return Path(data), DataSettings(format=data_format)
    if own.path is None:
        raise ValueError("no data: the model does not say what it was trained on; name a folder")
    return Path(own.path), own
