"""The map files of CNTK's tutorial.

class_map.txt: `name<TAB>index`, index 0 is the background. train_img_file.txt: `index<TAB>path<TAB>0`, where a path is
relative to the folder, or leads into an archive: `photos.zip@/inside.jpg`. train_roi_file.txt:
`index |roiAndLabel x1 y1 x2 y2 label x1 y1 x2 y2 label ...`, pixels of the image. The same for test.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from frcnn.config import DataSettings
from frcnn.data.formats.lines import plain, read_lines, to_numbers
from frcnn.data.problems import Problem, Report
from frcnn.data.records import make_record
from frcnn.files import write_text
from frcnn.types import Record

LAYOUT = "class_map.txt, train_img_file.txt, train_roi_file.txt, test_img_file.txt, test_roi_file.txt"
BACKGROUND = "__background__"

Objects = list[tuple[Sequence[float], str]]


def recognises(folder: Path, settings: DataSettings) -> bool:
    return (folder / settings.class_map_file).is_file() and (folder / settings.train_map_file).is_file()


def sets(folder: Path, settings: DataSettings) -> list[str]:
    return [name for name in ("train", "test") if _files(folder, name, settings)[0].is_file()]


def read(folder: Path, name: str, settings: DataSettings, report: Report) -> Iterator[Record]:
    """The images of a set, in the order of its image file."""
    image_file, roi_file = _files(folder, name, settings)
    classes = _classes(folder / settings.class_map_file, report)
    objects: dict[str, Objects] = {}
    for index, found in _objects(roi_file, classes, report):
        if index in objects:
            rule = f"index {index} appears twice; put all boxes of an image into one line"
            report(Problem("index twice", roi_file, rule))
        objects.setdefault(index, []).extend(found)
    images: dict[str, str] = {}
    for index, path, _ in _rows(image_file, 3, report):
        if index in images:
            report(Problem("index twice", image_file, f"index {index} appears twice; give every image its own"))
        images.setdefault(index, path)
    for index in objects:
        if index not in images:
            rule = f"index {index} has no image in {image_file.name}"
            report(Problem("annotation without image", roi_file, rule))
    for index, path in images.items():
        if index not in objects:
            rule = (
                f"image {path} (index {index}) has no line in {roi_file.name}; write "
                f"'{index} |roiAndLabel' if it holds no objects"
            )
            report(Problem("image without annotation", image_file, rule))
            continue
        yield make_record(folder / path, objects[index])


def image_place(name: str, record: Record) -> str:
    """The folder of an image."""
    return f"{name}_images"


def write(folder: Path, sets: Mapping[str, Sequence[Record]], classes: Sequence[str]) -> None:
    numbers = {label: number for number, label in enumerate(classes, start=1)}
    rows = [f"{BACKGROUND}\t0\n", *(f"{label}\t{number}\n" for label, number in numbers.items())]
    write_text(folder / "class_map.txt", "".join(rows))
    for name, records in sets.items():
        images, rois = [], []
        for index, record in enumerate(records):
            images.append(f"{index}\t{Path(os.path.relpath(record.image, folder)).as_posix()}\t0\n")
            objects = (
                f" {' '.join(map(plain, box.tolist()))} {numbers[label]}"
                for box, label in zip(record.boxes, record.names, strict=True)
            )
            rois.append(f"{index} |roiAndLabel{''.join(objects)}\n")
        write_text(folder / f"{name}_img_file.txt", "".join(images))
        write_text(folder / f"{name}_roi_file.txt", "".join(rois))


def _files(folder: Path, name: str, settings: DataSettings) -> tuple[Path, Path]:
    """The image file and the box file of a set."""
    if name == "train":
        return folder / settings.train_map_file, folder / settings.train_roi_file
    return folder / settings.test_map_file, folder / settings.test_roi_file


def _rows(file: Path, columns: int, report: Report) -> Iterator[list[str]]:
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        row = line.rstrip().split("\t")
        if len(row) == columns:
            yield row
        else:
            rule = f"'{line}' must have {columns} columns separated by tabs"
            report(Problem("not a row", file, rule, f"line {number}"))


def _classes(file: Path, report: Report) -> dict[int, str]:
    classes: dict[int, str] = {}
    for name, index in _rows(file, 2, report):
        if not index.strip().isdecimal():
            rule = f"the index of class '{name}' is '{index}', not a whole number"
            report(Problem("not a row", file, rule))
        elif int(index) in classes:
            report(Problem("index twice", file, f"index {int(index)} appears twice; give every class its own"))
        else:
            classes[int(index)] = name
    return classes


def _objects(file: Path, classes: dict[int, str], report: Report) -> Iterator[tuple[str, Objects]]:
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        index, separator, text = line.partition("|roiAndLabel")
        parts = text.split()
        values = to_numbers(parts, len(parts))
        rule = None
        if values is None:
            rule = "holds something that is not a number"
        elif not separator or len(values) % 5:
            rule = "must read 'index |roiAndLabel' and then x1 y1 x2 y2 label for each box"
        if values is None or rule is not None:
            report(Problem("not a row", file, str(rule), f"line {number}"))
            continue
        objects: Objects = []
        for start in range(0, len(values), 5):
            label = values[start + 4]
            if label == 0 or label not in classes:
                rule = f"label {label:g} is not the index of a class (0 is the background)"
                report(Problem("unknown class", file, rule, f"line {number}"))
                continue
            objects.append((values[start : start + 4], classes[int(label)]))
        yield index.strip(), objects
