"""The map files of CNTK's tutorial.

class_map.txt: `name<TAB>index`, index 0 is the background. train_img_file.txt: `index<TAB>path<TAB>0`, where a path is
relative to the folder, or leads into an archive: `photos.zip@/inside.jpg`. train_roi_file.txt:
`index |roiAndLabel x1 y1 x2 y2 label x1 y1 x2 y2 label ...`, pixels of the image. The same for test.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from frcnn.data.formats.lines import plain, read_lines, read_text, slashes, to_numbers, while_unchanged
from frcnn.data.problems import Problem, Report
from frcnn.data.records import make_record
from frcnn.files import write_text
from frcnn.types import Annotation, Record

if TYPE_CHECKING:
    from frcnn.config import DataSettings

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
    for index, found in _objects_of(roi_file, read_lines(roi_file), classes, report):
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
        yield make_record(folder / slashes(path), objects[index])


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
            labels = [numbers[label] for label in record.names]
            rois.append(_roi_line(str(index), zip(record.boxes.tolist(), labels, strict=True)) + "\n")
        write_text(folder / f"{name}_img_file.txt", "".join(images))
        write_text(folder / f"{name}_roi_file.txt", "".join(rois))


def images(folder: Path, settings: DataSettings) -> Iterator[tuple[str, Path]]:
    for name in sets(folder, settings):
        image_file, _ = _files(folder, name, settings)
        yield from ((name, folder / slashes(path)) for _, path, _ in _rows(image_file, 3, lambda problem: None))


def class_names(folder: Path, settings: DataSettings) -> list[str]:
    return [name for number, name in _classes(folder / settings.class_map_file, lambda problem: None).items() if number]


def read_image(folder: Path, name: str, image: Path, settings: DataSettings) -> list[Annotation] | None:
    problems: list[Problem] = []
    line = _line_of(folder, name, image, settings)
    classes = _classes(folder / settings.class_map_file, problems.append)
    roi_file = _files(folder, name, settings)[1]
    found = list(_objects_of(roi_file, [line.text], classes, problems.append)) if line.text else []
    if problems:
        raise ValueError(str(problems[0]))
    if not found:
        return None
    return [Annotation((box[0], box[1], box[2], box[3]), label) for box, label in found[0][1]]


def write_image(
    folder: Path, name: str, image: Path, objects: Sequence[Annotation] | None, settings: DataSettings
) -> None:
    """New classes are added to the class map."""
    class_file, (_, roi_file) = folder / settings.class_map_file, _files(folder, name, settings)
    numbers = {label: number for number, label in _classes(class_file, lambda problem: None).items()}
    if any(numbers.get(thing.name) == 0 or thing.name == BACKGROUND for thing in objects or ()):
        raise ValueError(f"{image}: the background is no class; choose another name")
    new = {thing.name for thing in objects or ()} - set(numbers)
    if new:
        old = read_text(class_file)
        added = enumerate(sorted(new), start=max(numbers.values(), default=0) + 1)
        new_rows = {label: number for number, label in added}
        rows = "".join(f"{label}\t{number}\n" for label, number in new_rows.items())
        write_text(class_file, old + ("" if old.endswith("\n") else "\n") + rows)
        numbers |= new_rows
    line = _line_of(folder, name, image, settings)
    lines = read_lines(roi_file) if roi_file.is_file() else []
    text = [] if objects is None else [_roi_line(line.image, [(thing.box, numbers[thing.name]) for thing in objects])]
    lines[line.number : line.number + bool(line.text)] = text
    write_text(roi_file, "".join(f"{line}\n" for line in lines))


class _Line(NamedTuple):
    """Of the box file."""

    image: str
    """Its index."""
    number: int
    """From 0; where it is, or where it can be put."""
    text: str
    """Empty if there is none."""


def _line_of(folder: Path, name: str, image: Path, settings: DataSettings) -> _Line:
    image_file, roi_file = _files(folder, name, settings)
    index = _indices(image_file).get(str(image))
    if index is None:
        raise ValueError(f"{image}: is not in {image_file} any more")
    lines = _lines_by_index(roi_file) if roi_file.is_file() else {}
    return lines.get(index, _Line(index, max((line.number + 1 for line in lines.values()), default=0), ""))


@while_unchanged
def _indices(image_file: Path) -> dict[str, str]:
    """Of each image's path."""
    rows = _rows(image_file, 3, lambda problem: None)
    return {str(image_file.parent / slashes(path)): index for index, path, _ in rows}


@while_unchanged
def _lines_by_index(roi_file: Path) -> dict[str, _Line]:
    found: dict[str, _Line] = {}
    for number, text in enumerate(read_lines(roi_file)):
        index = text.partition("|roiAndLabel")[0].strip()
        found.setdefault(index, _Line(index, number, text))
    return found


def _roi_line(index: str, objects: Iterable[tuple[Sequence[float], int]]) -> str:
    return f"{index} |roiAndLabel" + "".join(f" {' '.join(map(plain, box))} {label}" for box, label in objects)


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


def _objects_of(
    file: Path, lines: Iterable[str], classes: dict[int, str], report: Report
) -> Iterator[tuple[str, Objects]]:
    for number, line in enumerate(lines, start=1):
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
