"""`frcnn check --model` and `--crossval`: labels that are probably wrong, as text and pictures."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from frcnn.data.dataset import Dataset
from frcnn.data.images import cropped, read_image
from frcnn.data.records import Record
from frcnn.data.tiles import window_around
from frcnn.detector import Detector
from frcnn.evaluation.evaluate import evaluate
from frcnn.evaluation.suspects import Suspect, find_suspects
from frcnn.inference.results import Detections
from frcnn.tools.check.pictures import CELL, empty_cell, sheets, write

_SHOWN = 20
_CONTEXT = 4.0
"""Size of the part of the image that a picture shows, in sizes of its boxes."""
_LEAST_WINDOW = 64
"""Pixels of the image that a picture shows, at least."""
_LABEL, _PROPOSED, _TEXT = (235, 60, 60), (90, 200, 250), (235, 235, 235)


def suspects_of(
    detector: Detector, dataset: Dataset, *, on_image: Callable[[int, int], None] = lambda done, total: None
) -> list[Suspect]:
    """The suspicious labels of all images, judged by a detector.

    Classes that only the detector or only the data has are not judged, but their objects explain what is there.

    Args:
        on_image: called with the number of images that are done, and with their total.
    """
    records = [record for split in ("train", "val", "test") for record in dataset.records(split)]
    return find_suspects(*judge(detector, records, on_image=on_image))


def judge(
    detector: Detector,
    records: Sequence[Record],
    *,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Detections], list[Record]]:
    """The detections in images, and the images, where objects of classes that the detector does not know are ignored:
    they explain what is there.

    Args:
        on_image: called with the number of images that are done, and with their total.
    """
    detections = evaluate(detector.runtime, records, split=None, on_image=on_image).detections
    judged = [
        each._replace(ignore=each.ignore | ~np.isin(np.array(each.class_names, str), detector.classes))
        for each in records
    ]
    return list(detections), judged


def in_words(suspects: Sequence[Suspect]) -> str:
    """How many suspects of each kind there are, and the first ones."""
    if not suspects:
        return "labels that are probably wrong: none"
    lines = [f"labels that are probably wrong: {len(suspects)}"]
    lines += [f"  {kind.value} ({number})" for kind, number in Counter(each.kind for each in suspects).most_common()]
    lines.append(f"the first {_SHOWN}, by score:" if len(suspects) > _SHOWN else "by score:")
    for each in suspects[:_SHOWN]:
        lines.append(f"  {each.score:.2f}  {each.image.name}: {each.kind.value}, {each.subject}; {each.reason}")
    return "\n".join(lines)


def write_suspects(suspects: Sequence[Suspect], folder: Path) -> list[Path]:
    """Draw contact sheets (`suspects-1.jpg`, ...): red the label, blue the box that the detector proposes.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return list(sheets(folder, "suspects", map(_cell, suspects)))


def _cell(suspect: Suspect) -> Image.Image:
    cell = empty_cell()
    pen = ImageDraw.Draw(cell)
    label, proposed = suspect.label, suspect.proposed
    image = read_image(suspect.image)
    shown = [box for box in (label, proposed) if box is not None]
    window = window_around(shown, image.size, context=_CONTEXT, least=_LEAST_WINDOW)
    small = ImageOps.contain(cropped(image, window), CELL)
    left, top = (CELL[0] - small.width) // 2, (CELL[1] - small.height) // 2
    cell.paste(small, (left, top))
    scale = small.width / (window[2] - window[0])
    for box, color in ((label, _LABEL), (proposed, _PROPOSED)):
        if box is not None:
            x1, y1, x2, y2 = ((value - window[axis % 2]) * scale for axis, value in enumerate(box))
            pen.rectangle((left + x1, top + y1, left + x2, top + y2), outline=color, width=2)
    write(pen, (6, CELL[1] + 2), f"{suspect.image.name}: {suspect.kind.value}, {suspect.subject}", _TEXT)
    write(pen, (6, CELL[1] + 17), suspect.reason, _TEXT)
    return cell
