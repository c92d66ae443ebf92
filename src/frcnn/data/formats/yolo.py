"""YOLO: NAME.txt for NAME.jpg has one line `class cx cy width height` per box, in fractions of the image's sides.

data.yaml names the classes and the folders or lists of each split; darknet's .data and .names files, or classes.txt, do
it too. Lines with more numbers are outlines; their bounding box is used. Where most images have a label file, an image
without one has no objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from frcnn.data.formats.lines import read_lines
from frcnn.data.formats.source import Source, of_split
from frcnn.data.formats.yolo_description import Names, choose_description, is_description
from frcnn.data.formats.yolo_labels import (
    Convention,
    has_wrong_end,
    is_fraction,
    parse_line,
    to_box,
    to_line,
    to_number,
)
from frcnn.data.formats.yolo_layout import Layout, conventional_label, is_label_file, layout_of, lines_of
from frcnn.data.images import image_size
from frcnn.data.problems import (
    OnProblem,
    Problem,
    ProblemKind,
    classes_without_names,
    duplicate_stems,
    invalid_object,
    missing_image,
    unknown_class,
    unreadable_annotation,
    without_annotation,
)
from frcnn.data.records import Annotation, Record, make_record
from frcnn.data.tree import Tree
from frcnn.files import write_text
from frcnn.messages import plural

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "YOLO: data.yaml, images/{train,val}/NAME.jpg, labels/{train,val}/NAME.txt"
SUFFIXES = frozenset({".txt", ".yaml", ".yml", ".data"})


def recognizes(file: Path, start: bytes) -> bool:
    suffix = file.suffix.lower()
    if suffix == ".txt":
        return bool(is_label_file(start))
    text = start.decode("utf-8", errors="replace")
    if suffix == ".data":
        keys = {line.partition("=")[0].strip() for line in text.splitlines() if "=" in line}
        return {"train", "names"} <= keys
    return is_description(text) or is_description(file.read_bytes().decode("utf-8", errors="replace"))


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    description = choose_description(tree, [file for file in files if file.suffix.lower() != ".txt"])
    layout = layout_of(tree, description)
    if description is None and not layout.labels:
        return []
    first = () if description is None else (description,)
    texts = set(tree.with_suffix(".txt"))  # the description may name images elsewhere
    return [
        Source(split, (*first, *(layout.labels[image] for image in images if layout.labels.get(image) in texts)))
        for split, images in layout.splits.items()
    ]


def _layout(source: Source, tree: Tree) -> Layout:
    return layout_of(tree, next((file for file in source.files if file.suffix.lower() != ".txt"), None))


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a split, in the order of its list, or by name."""
    layout = _layout(source, tree)
    images = layout.splits[source.split]
    if not layout.labels:
        raise ValueError(
            f"{layout.description}: none of its {plural(len(images), 'image')} has a label file"
            f"{_near(images, layout.tree)}; add labels/NAME.txt for images/NAME.jpg, or draw boxes with "
            f"`frcnn annotate {tree.root}`"
        )
    for problem in (*_problems(layout, source.split), *duplicate_stems(images)):
        on_problem(problem)
    labeled = [image for image in images if image in layout.labels]
    if len(labeled) < len(images):
        for problem in _without_labels(images, layout, source.split):
            on_problem(problem)
    if 2 * len(labeled) < len(images):
        images = labeled
    for image in images:  # threads take twice the time here: each file is small, and Python runs one thread at a time
        record, problems = _record(image, layout)
        for problem in problems:
            on_problem(problem)
        if record is not None:
            yield record


def _near(images: Sequence[Path], tree: Tree) -> str:
    """A file with the name of an image that is no label file, and how it begins."""
    stems = {image.stem for image in images}
    file = next((file for file in tree.with_suffix(".txt") if file.stem in stems), None)
    if file is None:
        return ""
    line = tree.start(file).decode("utf-8", errors="replace").strip().partition("\n")[0].strip()
    return f" (the line '{line[:80]}' of {tree.relative(file)} is not YOLO's `class cx cy width height`)"


def _without_labels(images: Sequence[Path], layout: Layout, split: str) -> Iterator[Problem]:
    unlabeled = [image for image in images if image not in layout.labels]
    if len(unlabeled) == len(images):
        message = f"none of the {plural(len(images), 'image')}{of_split(split)} has a label file, so none is used"
        yield without_annotation(images[0].parent, message)._replace(level="warning")
    elif 2 * len(unlabeled) > len(images):
        for image in unlabeled:
            message = "has no label file; write an empty one if the image has no objects"
            yield without_annotation(image, message)
    else:
        message = (
            f"{plural(len(unlabeled), 'image')}{of_split(split)} without a label file; unless another format annotates "
            f"such images, they count as images without objects"
        )
        yield without_annotation(unlabeled[0], message)._replace(level="warning")


def _problems(layout: Layout, split: str) -> Iterator[Problem]:
    """What is wrong with label files that belong to no image. For the first split also what is wrong or odd with the
    data set as a whole."""
    first = next(iter(layout.splits))
    for label, reason in layout.orphans.items():
        own = layout.tree.split_of(label.parent)
        if split == (own if own in layout.splits else first):
            lines = list(lines_of(label))
            if layout.convention.in_pixels or all(map(is_fraction, lines)):
                names = layout.names_of(label)
                lost = (_class_name(line.label, names, layout.convention) or "" for line in lines)
                yield missing_image(label, reason, lost=lost)
            else:
                message = f"{reason}, and its numbers are no fractions, so it is no label file"
                yield Problem(ProblemKind.MISSING_IMAGE, label, message, level="warning")
    if split != first:
        return
    yield from layout.problems
    place = layout.description or layout.tree.root
    if layout.convention.in_pixels:
        message = "the numbers of the label files are pixels, not fractions of the image's sides"
        yield Problem(ProblemKind.PIXELS, place, message, level="repaired")
    if layout.convention.has_corners:
        message = "the boxes of the label files are corners x1 y1 x2 y2, not center and size"
        yield Problem(ProblemKind.CORNERS, place, message, level="repaired")
    if layout.convention.first_class:
        message = "the label files count classes from 1, not from 0"
        yield Problem(ProblemKind.CLASSES_FROM_ONE, place, message, level="repaired")
    if layout.convention.num_confidences:
        counted = plural(layout.convention.num_confidences, "line ends", "lines end")
        message = f"{counted} with a confidence, which is ignored; are these detections?"
        yield Problem(ProblemKind.CONFIDENCE, place, message, level="warning")
    if not any(layout.names.values()) and layout.convention.has_numbers:
        yield classes_without_names(place)


def _record(image: Path, layout: Layout) -> tuple[Record | None, list[Problem]]:
    """The record of an image, and what is wrong with its lines. None: its label file cannot be read."""
    if image not in layout.labels:
        return make_record(image, ()), []
    file = layout.labels[image]
    try:
        size = image_size(image)
    except (ValueError, OSError):
        size = (1, 1)  # verifying the image reports its error
    try:
        parsed = [outcome for _, outcome in _parsed(file, size, layout)]
    except (ValueError, OSError) as error:
        return None, [unreadable_annotation(file, error)]
    problems = [outcome for outcome in parsed if isinstance(outcome, Problem)]
    unread = [problem for problem in problems if problem.kind is ProblemKind.INVALID_OBJECT]
    if 2 * len(unread) > len(parsed):
        return None, [unreadable_annotation(file, f"most of its lines cannot be read: {unread[0].message}")]
    objects = [(outcome.box, outcome.name) for outcome in parsed if isinstance(outcome, Annotation)]
    return make_record(image, objects), problems


def _parsed(file: Path, size: tuple[int, int], layout: Layout) -> Iterator[tuple[str, Annotation | Problem]]:
    """Each line of a label file that is not empty, and its object, or why it has none."""
    names = layout.names_of(file)
    for number, text in enumerate(read_lines(file), start=1):
        if text.strip():
            yield text, _object(text, f"line {number}", file, size, names, layout.convention)


def _object(
    text: str, place: str, file: Path, size: tuple[int, int], names: Names, convention: Convention
) -> Annotation | Problem:
    line = parse_line(text)
    name = None if line is None else _class_name(line.label, names, convention)
    if line is None or has_wrong_end(line.values, convention):
        message = (
            f"'{text.strip()}' must be a class and four fractions: cx cy width height (or an outline's points, then a "
            f"confidence)"
        )
        return invalid_object(file, message, place, name or "")
    if name is None:
        message = f"there is no class {line.label}; {plural(len(names), 'class has a name', 'classes have names')}"
        return unknown_class(file, message, place)
    return Annotation(to_box(line.values, size, convention), name, source=text)


def _class_name(label: str, names: Names, convention: Convention) -> str | None:
    """The name of a class as a label file writes it; None: there is no such class."""
    number = to_number(label)
    if number is None:
        known = {name.casefold(): name for name in names.values()}
        return known.get(label.casefold()) if names else label
    if number != int(number) or number < 0:
        return None
    return names.get(int(number) - convention.first_class) if names else str(int(number))


def images(source: Source, tree: Tree) -> Sequence[Path]:
    return _layout(source, tree).splits[source.split]


def class_names(sources: Sequence[Source], tree: Tree) -> list[str]:
    layouts = (_layout(source, tree) for source in sources)
    return list(dict.fromkeys(name for layout in layouts for names in layout.names.values() for name in names.values()))


def read_image(source: Source, image: Path, tree: Tree) -> list[Annotation] | None:
    """An image without a label file is not annotated yet, although training may use it as one without objects."""
    layout = _layout(source, tree)
    file = layout.label_file(image)
    if not file.is_file():
        return None
    parsed = _parsed(file, image_size(image), layout)
    return [outcome for _, outcome in parsed if isinstance(outcome, Annotation)]


def write_image(source: Source, image: Path, objects: Sequence[Annotation] | None, tree: Tree) -> None:
    """Lines that cannot be read are kept, at the end."""
    layout = _layout(source, tree)
    file = layout.label_file(image)
    if objects is None:
        file.unlink(missing_ok=True)
        return
    size = image_size(image)
    old = list(_parsed(file, size, layout)) if file.is_file() else []
    unread = [text for text, outcome in old if isinstance(outcome, Problem)]
    names, convention = layout.names_of(file), layout.convention
    lines = []
    for annotation in objects:
        label = _label(annotation.name, names, layout)
        is_same = _object(annotation.source, "", file, size, names, convention) == annotation
        lines.append(annotation.source if is_same else to_line(label, annotation.box, size, convention))
    write_text(file, "".join(f"{line}\n" for line in [*lines, *unread]))


def _label(name: str, names: Names, layout: Layout) -> str:
    """How a label file writes a class."""
    number = next((number for number, known in names.items() if known == name), None)
    if number is not None:
        return str(number + layout.convention.first_class)
    if names or (layout.convention.has_numbers and not name.isdecimal()):
        place = layout.description or layout.tree.root
        raise ValueError(f"there is no class '{name}' in {place}; add it to the names of the classes there")
    return name


def image_dir(split: str, record: Record) -> str:
    """The folder for an image of a split, relative to the data folder."""
    return f"images/{split}"


def write(folder: Path, splits: Mapping[str, Sequence[Record]], classes: Sequence[str]) -> None:
    """Splits are written as lists of images, to keep their order."""
    for split, records in splits.items():
        paths = [record.image.relative_to(folder).as_posix() for record in records]
        write_text(folder / f"{split}.txt", "".join(f"./{path}\n" for path in paths))
        for record in records:
            size = record.size or image_size(record.image)
            lines = (
                to_line(str(classes.index(label)), box, size)
                for box, label in zip(record.boxes.tolist(), record.class_names, strict=True)
            )
            write_text(conventional_label(record.image, folder), "".join(f"{line}\n" for line in lines))
    content = {split: f"{split}.txt" for split in splits} | {"names": dict(enumerate(classes))}
    write_text(folder / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
