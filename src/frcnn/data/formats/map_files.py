"""The map files of CNTK's tutorial.

class_map.txt: `name<TAB>index`, index 0 is the background. train_img_file.txt: `index<TAB>path<TAB>0`, paths
relative to the folder. train_roi_file.txt: `index |roiAndLabel x1 y1 x2 y2 label x1 y1 x2 y2 label ...`, pixels of
the image. The same for test.
"""

from pathlib import Path

import numpy as np

from frcnn.config import DataSettings
from frcnn.data.formats.lines import read_lines
from frcnn.types import Record


def recognises(folder: Path, settings: DataSettings) -> bool:
    return (folder / settings.class_map_file).is_file() and (folder / settings.train_map_file).is_file()


def read(folder: Path, split: str, settings: DataSettings) -> list[Record]:
    """The images of a split, in the order of its image file."""
    image_file = folder / (settings.train_map_file if split == "train" else settings.test_map_file)
    roi_file = folder / (settings.train_roi_file if split == "train" else settings.test_roi_file)
    if split == "test" and not image_file.is_file():
        return []
    classes = _classes(folder / settings.class_map_file)
    rois = {}
    for index, entry in _rois(roi_file, classes):
        if index in rois:
            raise ValueError(f"{roi_file}: index {index} appears twice; put all boxes of an image into one line")
        rois[index] = entry
    images: dict[str, str] = {}
    for index, path, _ in _rows(image_file, columns=3):
        if index in images:
            raise ValueError(f"{image_file}: index {index} appears twice; give every image its own")
        images[index] = path
    for index in rois:
        if index not in images:
            raise ValueError(f"{roi_file}: index {index} has no image in {image_file.name}")
    records = []
    for index, path in images.items():
        if index not in rois:
            raise ValueError(
                f"{image_file}: image {path} (index {index}) has no line in {roi_file.name}; write "
                f"'{index} |roiAndLabel' if it holds no objects"
            )
        boxes, names = rois[index]
        records.append(
            Record(folder / path, np.array(boxes, np.float32).reshape(-1, 4), names, np.zeros(len(names), bool))
        )
    return records


def _rows(file: Path, columns: int) -> list[list[str]]:
    rows = []
    for number, line in enumerate(read_lines(file), start=1):
        if line.strip():
            rows.append(line.rstrip().split("\t"))
            if len(rows[-1]) != columns:
                raise ValueError(f"{file}, line {number}: '{line}' must have {columns} columns separated by tabs")
    return rows


def _classes(file: Path) -> dict[int, str]:
    classes: dict[int, str] = {}
    for name, index in _rows(file, columns=2):
        if not index.strip().isdecimal():
            raise ValueError(f"{file}: the index of class '{name}' is '{index}', not a whole number")
        if int(index) in classes:
            raise ValueError(f"{file}: index {int(index)} appears twice; give every class its own")
        classes[int(index)] = name
    return classes


def _rois(file: Path, classes: dict[int, str]) -> list[tuple[str, tuple[list[list[float]], tuple[str, ...]]]]:
    entries = []
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        index, separator, text = line.partition("|roiAndLabel")
        try:
            values = [float(part) for part in text.split()]
        except ValueError:
            raise ValueError(f"{where}: holds something that is not a number") from None
        if not separator or len(values) % 5:
            raise ValueError(f"{where}: must read 'index |roiAndLabel' and then x1 y1 x2 y2 label for each box")
        boxes = [values[start : start + 4] for start in range(0, len(values), 5)]
        labels = values[4::5]
        for label in labels:
            if label == 0 or label not in classes:
                raise ValueError(f"{where}: label {label:g} is not the index of a class (0 is the background)")
        entries.append((index.strip(), (boxes, tuple(classes[int(label)] for label in labels))))
    return entries
