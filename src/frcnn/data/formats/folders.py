"""The folders of CNTK's tutorial: positive/ (training), negative/ (no objects), testImages/.

Beside NAME.jpg lie NAME.bboxes.tsv (a line a box: x1, y1, x2, y2, pixels) and NAME.bboxes.labels.tsv (a line a
class name, same order). An image with empty files holds no objects.
"""

from pathlib import Path

import numpy as np

from frcnn.config import DataSettings
from frcnn.data.formats.lines import read_lines
from frcnn.data.images import IMAGE_SUFFIXES
from frcnn.types import Record


def recognises(folder: Path, settings: DataSettings) -> bool:
    return (folder / "positive").is_dir() or (folder / "testImages").is_dir()


def read(folder: Path, split: str, settings: DataSettings) -> list[Record]:
    """The images of positive/ and negative/ ("train") or of testImages/ ("test"), in order of name."""
    if split == "test":
        return [_annotated(image) for image in _images(folder / "testImages")]
    records = [_annotated(image) for image in _images(folder / "positive")]
    if settings.use_negative:
        records += [_without_objects(image) for image in _images(folder / "negative")]
    return records


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    images = [file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
    stems = {file.stem for file in images}
    for file in folder.glob("*.bboxes.tsv"):
        stem = file.name.removesuffix(".bboxes.tsv")
        if stem not in stems:
            raise ValueError(
                f"{file}: there is no image {stem} that can be read ({', '.join(sorted(IMAGE_SUFFIXES))}); "
                f"convert the image or remove the file"
            )
    # 2.jpg before 10.jpg: shorter names first, so that numbers are in order
    return sorted(images, key=lambda file: (len(file.stem), file.name))


def _without_objects(image: Path) -> Record:
    return Record(image, np.zeros((0, 4), np.float32), (), np.zeros(0, bool))


def _annotated(image: Path) -> Record:
    boxes_file = image.with_name(f"{image.stem}.bboxes.tsv")
    labels_file = image.with_name(f"{image.stem}.bboxes.labels.tsv")
    for file in (boxes_file, labels_file):
        if not file.is_file():
            raise ValueError(
                f"{image}: its annotation {file.name} is missing; annotate the image, write an empty file if it "
                f"holds no objects, or move it to negative/"
            )
    boxes = [
        _box(line, f"{boxes_file}, line {number}")
        for number, line in enumerate(read_lines(boxes_file), start=1)
        if line.strip()
    ]
    names = tuple(line.strip() for line in read_lines(labels_file) if line.strip())
    if len(boxes) != len(names):
        raise ValueError(
            f"{boxes_file} has {len(boxes)} boxes, but {labels_file.name} has {len(names)} labels; "
            f"there must be one line in each for every object"
        )
    return Record(image, np.array(boxes, np.float32).reshape(-1, 4), names, np.zeros(len(boxes), bool))


def _box(line: str, where: str) -> list[float]:
    try:
        numbers = [float(part) for part in line.split()]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise ValueError(f"{where}: '{line.strip()}' is not a box; four numbers are needed: x1 y1 x2 y2, pixels")
    return numbers
