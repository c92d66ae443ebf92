"""The folders of CNTK's tutorial: positive/ (training), negative/ (no objects), testImages/.

Beside NAME.jpg are NAME.bboxes.tsv (one line x1, y1, x2, y2 per box, pixels) and NAME.bboxes.labels.tsv (one class name
per line, in the same order). An image with empty files has no objects. An image without files is not annotated yet, and
is left out. A folder of photos with such files beside them has one split.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from frcnn.data.formats.lines import plain, read_lines, to_numbers
from frcnn.data.formats.source import Source, by_split
from frcnn.data.problems import (
    OnProblem,
    Problem,
    ProblemKind,
    duplicate_stems,
    invalid_object,
    missing_image,
    unreadable_annotation,
    without_annotation,
)
from frcnn.data.records import Annotation, Record, make_record
from frcnn.data.tree import Tree
from frcnn.files import atomic_write_all, remove_all
from frcnn.messages import plural

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "positive/, negative/ and testImages/ with NAME.bboxes.tsv and NAME.bboxes.labels.tsv beside each image"
SUFFIXES = frozenset({".tsv"})
_BOXES, _LABELS = ".bboxes.tsv", ".bboxes.labels.tsv"
_DIRS = {"train": "positive", "test": "testImages"}


def recognizes(file: Path, start: bytes) -> bool:
    return file.name.endswith((_BOXES, _LABELS))


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    splits = {"negative": "train"} | {directory: split for split, directory in _DIRS.items()}
    return by_split(files, lambda file: splits.get(file.parent.name) or tree.split_of(file.parent))


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of the source's folders, then those of negative/, each in order of name."""
    images = _images(source, tree)
    for problem in duplicate_stems(images):
        on_problem(problem)
    stems = {image.with_suffix("") for image in (*images, *_negatives(source, tree))}
    for file in source.files:
        if file.name.endswith(_BOXES) and file.with_name(file.name.removesuffix(_BOXES)) not in stems:
            message = (
                f"there is no image {file.name.removesuffix(_BOXES)} of a format that Pillow reads; convert the image "
                f"or remove the file"
            )
            lost = [line for line in read_lines(file) if line.strip()]
            names = _names(file.with_name(file.name.removesuffix(_BOXES) + _LABELS))
            on_problem(missing_image(file, message, lost=(name for _, name in zip_longest(lost, names, fillvalue=""))))
    for image in images:
        yield from _annotated(image, on_problem)
    for image in _negatives(source, tree) if settings.use_negative else ():
        if boxes_file(image).is_file() and boxes_file(image).stat().st_size:
            message = "has boxes, but images in negative/ must not have objects; move it to positive/"
            on_problem(Problem(ProblemKind.BOXES_IN_NEGATIVE, image, message))
        yield make_record(image, ())


def _images(source: Source, tree: Tree) -> list[Path]:
    """The images of the folders that hold the source's files, annotated or not."""
    folders = {file.parent for file in source.files} - _negative_dirs(source)
    return [image for image in tree.images if image.parent in folders]


def _negatives(source: Source, tree: Tree) -> list[Path]:
    folders = _negative_dirs(source)
    return [image for image in tree.images if image.parent in folders]


def _negative_dirs(source: Source) -> set[Path]:
    """negative/ beside positive/."""
    return {file.parent.with_name("negative") for file in source.files if file.parent.name == _DIRS["train"]}


def image_dir(split: str, record: Record) -> str:
    """The folder for an image of a split, relative to the data folder."""
    return "negative" if split == "train" and not record.class_names else _DIRS[split]


def write(folder: Path, splits: Mapping[str, Sequence[Record]], classes: Sequence[str]) -> None:
    """Images without objects in positive/ or testImages/ get empty files."""
    for record in (record for records in splits.values() for record in records):
        if record.image.parent.name == "negative":
            continue
        _write(record.image, record.boxes.tolist(), record.class_names)


def images(source: Source, tree: Tree) -> list[Path]:
    """Also the images of negative/, in which nothing can be drawn. Without annotations: all images of the tree."""
    return [*_images(source, tree), *_negatives(source, tree)] if source.files else tree.images


def class_names(sources: Sequence[Source], tree: Tree) -> list[str]:
    return []


def read_image(source: Source, image: Path, tree: Tree) -> list[Annotation] | None:
    if image.parent in _negative_dirs(source):
        return []
    problems: list[Problem] = []
    record = next(_annotated(image, problems.append), None)
    errors = [problem for problem in problems if problem.kind != ProblemKind.WITHOUT_ANNOTATION]
    if errors:
        raise ValueError(str(errors[0]))
    if record is None:
        return None
    return [Annotation(tuple(box), label) for box, label in zip(record.boxes.tolist(), record.class_names, strict=True)]


def write_image(source: Source, image: Path, objects: Sequence[Annotation] | None, tree: Tree) -> None:
    if image.parent in _negative_dirs(source):
        if objects:
            raise ValueError(f"{image}: images in negative/ must not have objects; move it to positive/")
    elif objects is None:
        remove_all(boxes_file(image), labels_file(image))
    else:
        _write(image, [each.box for each in objects], [each.name for each in objects])


def boxes_file(image: Path) -> Path:
    return image.with_name(image.stem + _BOXES)


def labels_file(image: Path) -> Path:
    return image.with_name(image.stem + _LABELS)


def _write(image: Path, boxes: Iterable[Sequence[float]], names: Iterable[str]) -> None:
    with atomic_write_all(boxes_file(image), labels_file(image)) as (of_boxes, of_labels):
        of_boxes.write_text("".join("\t".join(map(plain, box)) + "\n" for box in boxes), encoding="utf-8")
        of_labels.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _annotated(image: Path, on_problem: OnProblem) -> Iterator[Record]:
    missing = [file for file in (boxes_file(image), labels_file(image)) if not file.is_file()]
    if len(missing) == 2:
        message = (
            f"is left out, because it is not annotated ({missing[0].name} is missing); annotate it, or move it to "
            f"negative/ if it has no objects"
        )
        on_problem(without_annotation(image, message))
        return
    if missing:
        message = f"{missing[0].name} is missing; there must be a file of boxes and one of labels"
        on_problem(unreadable_annotation(image, message))
        return
    boxes = list(_boxes(boxes_file(image)))
    names = _names(labels_file(image))
    if len(boxes) != len(names):
        message = (
            f"has {plural(len(boxes), 'box', 'boxes')}, but {labels_file(image).name} has "
            f"{plural(len(names), 'label')}; there must be one line in each for every object"
        )
        lost = tuple(name for _, name in zip_longest(boxes, names, fillvalue=""))
        on_problem(unreadable_annotation(boxes_file(image), message)._replace(lost=lost))
        return
    objects = []
    for box, name in zip(boxes, names, strict=True):
        if isinstance(box, Problem):
            on_problem(box._replace(lost=(name,)))
        else:
            objects.append((box, name))
    yield make_record(image, objects)


def _names(file: Path) -> list[str]:
    return [line.strip() for line in read_lines(file) if line.strip()] if file.is_file() else []


def _boxes(file: Path) -> Iterator[list[float] | Problem]:
    """The boxes of a file, and what is wrong with its other lines."""
    for number, line in enumerate(read_lines(file), start=1):
        if line.strip():
            message = f"'{line.strip()}' is not a box; four numbers are needed: x1 y1 x2 y2, pixels"
            yield to_numbers(line.split(), 4) or invalid_object(file, message, f"line {number}")
