"""The map files of CNTK's tutorial.

class_map.txt: `name<TAB>index`; index 0 is the background. train_img_file.txt: `index<TAB>path<TAB>0`; the path is
relative to the folder, or points into an archive: `photos.zip@/inside.jpg`. train_roi_file.txt:
`index |roiAndLabel x1 y1 x2 y2 label x1 y1 x2 y2 label ...`, pixels. The test files have the same form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from frcnn.data.formats.lines import is_count, plain, read_lines, read_text, slashes, to_numbers, while_unchanged
from frcnn.data.formats.source import Source, find_or_report
from frcnn.data.problems import (
    ImageNotFoundError,
    OnProblem,
    Problem,
    ProblemKind,
    missing_image,
    unknown_class,
    unreadable_annotation,
    without_annotation,
)
from frcnn.data.records import Annotation, Record, make_record
from frcnn.data.tree import Tree
from frcnn.files import relative_path, write_text

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "class_map.txt, train_img_file.txt, train_roi_file.txt, test_img_file.txt, test_roi_file.txt"
SUFFIXES = frozenset({".txt"})
BACKGROUND = "__background__"
_START = re.compile(rb"\s*(\d+\t[^\t\n]+\t\d+\s|\d+ \|roiAndLabel|__background__\t\d)")

Objects = list[tuple[Sequence[float], str]]


def recognizes(file: Path, start: bytes) -> bool:
    return _START.match(start + b"\n") is not None


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    """The files that the settings name, in the first folder that has them."""
    of_splits = {
        "train": (settings.train_map_file, settings.train_roi_file),
        "test": (settings.test_map_file, settings.test_roi_file),
    }
    for folder in dict.fromkeys([tree.root, *(file.parent for file in files)]):
        class_file = folder / settings.class_map_file
        found = [
            Source(split, (class_file, folder / image_file, folder / roi_file))
            for split, (image_file, roi_file) in of_splits.items()
            if (folder / image_file).is_file()
        ]
        if class_file.is_file() and found and found[0].split == "train":
            return found
    return []


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a split, in the order of its image file."""
    class_file, image_file, roi_file = source.files
    classes = _classes(class_file, on_problem)
    objects: dict[str, Objects] = {}
    for index, new in _objects_of(roi_file, read_lines(roi_file), classes, on_problem):
        if index in objects:
            message = f"index {index} appears twice; put all boxes of an image into one line"
            on_problem(Problem(ProblemKind.DUPLICATE_ID, roi_file, message))
        objects.setdefault(index, []).extend(new)
    images: dict[str, str] = {}
    for index, path, _ in _rows(image_file, 3, on_problem):
        if index in images:
            message = f"index {index} appears twice; give every image its own"
            on_problem(Problem(ProblemKind.DUPLICATE_ID, image_file, message))
        images.setdefault(index, path)
    for index, own in objects.items():
        if index not in images:
            message = f"index {index} has no image in {image_file.name}"
            on_problem(missing_image(roi_file, message, lost=(name for _, name in own)))
    for index, path in images.items():
        if index not in objects:
            message = (
                f"image {path} (index {index}) has no line in {roi_file.name}; write "
                f"'{index} |roiAndLabel' if it has no objects"
            )
            on_problem(without_annotation(image_file, message))
            continue
        lost = [name for _, name in objects[index]]
        find = partial(tree.find_image, path, image_file)
        image = find_or_report(find, image_file, on_problem, f"index {index}", lost)
        if image is not None:
            yield make_record(image, objects[index])


def image_dir(split: str, record: Record) -> str:
    """The folder for an image of a split, relative to the data folder."""
    return f"{split}_images"


def write(folder: Path, splits: Mapping[str, Sequence[Record]], classes: Sequence[str]) -> None:
    numbers = {label: number for number, label in enumerate(classes, start=1)}
    rows = [f"{BACKGROUND}\t0\n", *(f"{label}\t{number}\n" for label, number in numbers.items())]
    write_text(folder / "class_map.txt", "".join(rows))
    for split, records in splits.items():
        images, rois = [], []
        for index, record in enumerate(records):
            images.append(f"{index}\t{relative_path(record.image, folder)}\t0\n")
            labels = [numbers[label] for label in record.class_names]
            rois.append(_roi_line(str(index), zip(record.boxes.tolist(), labels, strict=True)) + "\n")
        write_text(folder / f"{split}_img_file.txt", "".join(images))
        write_text(folder / f"{split}_roi_file.txt", "".join(rois))


def images(source: Source, tree: Tree) -> list[Path]:
    image_file = source.files[1]
    rows = _rows(image_file, 3, lambda problem: None)
    return [image for _, path, _ in rows if (image := _found(path, image_file, tree)) is not None]


def class_names(sources: Sequence[Source], tree: Tree) -> list[str]:
    return [name for number, name in _classes(sources[0].files[0], lambda problem: None).items() if number]


def read_image(source: Source, image: Path, tree: Tree) -> list[Annotation] | None:
    problems: list[Problem] = []
    class_file, _, roi_file = source.files
    line = _line_of(source, image, tree)
    classes = _classes(class_file, problems.append)
    parsed = list(_objects_of(roi_file, [line.text], classes, problems.append)) if line.text else []
    if problems:
        raise ValueError(str(problems[0]))
    if not parsed:
        return None
    return [Annotation((box[0], box[1], box[2], box[3]), label) for box, label in parsed[0][1]]


def write_image(source: Source, image: Path, objects: Sequence[Annotation] | None, tree: Tree) -> None:
    """New classes are added to the class map."""
    class_file, _, roi_file = source.files
    numbers = {label: number for number, label in _classes(class_file, lambda problem: None).items()}
    if any(numbers.get(annotation.name) == 0 or annotation.name == BACKGROUND for annotation in objects or ()):
        raise ValueError(f"{image}: the background is no class; choose another name")
    new = {annotation.name for annotation in objects or ()} - set(numbers)
    if new:
        old = read_text(class_file)
        added = enumerate(sorted(new), start=max(numbers.values(), default=0) + 1)
        new_rows = {label: number for number, label in added}
        rows = "".join(f"{label}\t{number}\n" for label, number in new_rows.items())
        write_text(class_file, old + ("" if old.endswith("\n") else "\n") + rows)
        numbers |= new_rows
    line = _line_of(source, image, tree)
    lines = read_lines(roi_file) if roi_file.is_file() else []
    text = (
        []
        if objects is None
        else [_roi_line(line.image, [(annotation.box, numbers[annotation.name]) for annotation in objects])]
    )
    lines[line.number : line.number + bool(line.text)] = text
    write_text(roi_file, "".join(f"{line}\n" for line in lines))


class _Line(NamedTuple):
    """One line of the file of boxes."""

    image: str
    """The index of the image."""
    number: int
    """From 0: where the line is, or where it can be inserted."""
    text: str
    """Empty: there is no such line yet."""


def _line_of(source: Source, image: Path, tree: Tree) -> _Line:
    _, image_file, roi_file = source.files
    index = _index_of(image, image_file, tree)
    if index is None:
        raise ValueError(f"{image}: is not in {image_file} any more")
    lines = _lines_by_index(roi_file) if roi_file.is_file() else {}
    return lines.get(index, _Line(index, max((line.number + 1 for line in lines.values()), default=0), ""))


def _index_of(image: Path, image_file: Path, tree: Tree) -> str | None:
    """The index of an image in the file of images; None: it is not there."""
    rows = _rows_by_name(image_file)
    candidates = rows.get(image.name) or chain.from_iterable(rows.values())
    return next((index for index, path in candidates if _found(path, image_file, tree) == image), None)


def _found(path: str, image_file: Path, tree: Tree) -> Path | None:
    try:
        return tree.find_image(path, image_file)
    except ImageNotFoundError:
        return None


@while_unchanged
def _rows_by_name(image_file: Path) -> dict[str, list[tuple[str, str]]]:
    """Index and path of each image, by the name of its file."""
    rows: dict[str, list[tuple[str, str]]] = {}
    for index, path, _ in _rows(image_file, 3, lambda problem: None):
        rows.setdefault(slashes(path).rpartition("/")[2], []).append((index, path))
    return rows


@while_unchanged
def _lines_by_index(roi_file: Path) -> dict[str, _Line]:
    lines: dict[str, _Line] = {}
    for number, text in enumerate(read_lines(roi_file)):
        index = text.partition("|roiAndLabel")[0].strip()
        lines.setdefault(index, _Line(index, number, text))
    return lines


def _roi_line(index: str, objects: Iterable[tuple[Sequence[float], int]]) -> str:
    return f"{index} |roiAndLabel" + "".join(f" {' '.join(map(plain, box))} {label}" for box, label in objects)


def _rows(file: Path, columns: int, on_problem: OnProblem) -> Iterator[list[str]]:
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        row = line.rstrip().split("\t")
        if len(row) == columns:
            yield row
        else:
            message = f"'{line}' must have {columns} columns separated by tabs"
            on_problem(unreadable_annotation(file, message, f"line {number}"))


def _classes(file: Path, on_problem: OnProblem) -> dict[int, str]:
    classes: dict[int, str] = {}
    for name, index in _rows(file, 2, on_problem):
        if not is_count(index.strip()):
            message = f"the index of class '{name}' is '{index}', not a whole number of at most nine digits"
            on_problem(Problem(ProblemKind.UNREADABLE_ANNOTATION, file, message))
        elif int(index) in classes:
            message = f"index {int(index)} appears twice; give every class its own"
            on_problem(Problem(ProblemKind.DUPLICATE_ID, file, message))
        else:
            classes[int(index)] = name
    return classes


def _objects_of(
    file: Path, lines: Iterable[str], classes: dict[int, str], on_problem: OnProblem
) -> Iterator[tuple[str, Objects]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        index, separator, text = line.partition("|roiAndLabel")
        values = to_numbers(text.split())
        if values is None or not separator or len(values) % 5:
            form = "must read 'index |roiAndLabel' and then x1 y1 x2 y2 label for each box"
            message = "holds something that is not a number" if values is None else form
            on_problem(unreadable_annotation(file, message, f"line {number}"))
            continue
        objects: Objects = []
        for start in range(0, len(values), 5):
            label = values[start + 4]
            if label == 0 or label not in classes:
                message = f"label {label:g} is not the index of a class (0 is the background)"
                on_problem(unknown_class(file, message, f"line {number}"))
                continue
            objects.append((values[start : start + 4], classes[int(label)]))
        yield index.strip(), objects
