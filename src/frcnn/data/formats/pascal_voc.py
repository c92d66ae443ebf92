"""Pascal VOC: one XML file <annotation> per image, e.g. Annotations/NAME.xml for JPEGImages/NAME.jpg.

The XML files may be anywhere: beside the images, in a folder of any name, in one folder per split, or in several years
of a VOCdevkit. ImageSets/Main/SPLIT.txt lists the names of a split, one per line; so may train.txt and val.txt anywhere
else. Without lists, the folders tell the splits.

VOC's boxes are 1-based and inclusive: [xmin, xmax] becomes [xmin - 1, xmax]. If several boxes of the data begin at 0,
their writer counts from 0, and nothing is subtracted. A box whose xmax is not greater than its xmin is a mistake, not a
pixel, and keeps its numbers. <polygon> and <robndbox> become the box around them. "difficult" objects become ignored
objects. The names of elements may have capitals, e.g. <Difficult>.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

import numpy as np

from frcnn.data.formats.lines import read_lines, slashes, to_size
from frcnn.data.formats.source import ALL, Source, by_split, of_split, split_of_image
from frcnn.data.formats.voc_objects import (
    ROOT,
    SIDES,
    Shape,
    box_of,
    class_of,
    continuous,
    describe,
    header,
    is_difficult,
    objects_of,
    shape_of,
)
from frcnn.data.formats.xml_files import has_tag, read_xml, root_tag, text_of
from frcnn.data.images import IMAGE_SUFFIXES, image_size
from frcnn.data.problems import (
    ImageNotFoundError,
    Level,
    OnProblem,
    Problem,
    ProblemKind,
    invalid_object,
    missing_image,
    most_telling,
    object_place,
    unreadable_annotation,
    without_annotation,
)
from frcnn.data.records import Annotation, Record
from frcnn.data.tree import Tree, split_in
from frcnn.files import atomic_write, write_text
from frcnn.messages import plural

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = (
    "Pascal VOC: Annotations/NAME.xml, JPEGImages/NAME.jpg, and ImageSets/Main/{trainval,test}.txt if there are splits"
)
SUFFIXES = frozenset({".xml", ""})  # the latter: Stanford's dogs
_OF_ONE_CLASS = re.compile(r"(.+?)\s+(-1|0|1)")
"""A line of a list for one class: name, and whether the image has the class. All but -1 belong to the list."""

_NUMBERED = re.compile(r"(\S+)(\s+-?\d+){2,}")
"""A line of Oxford's pets: name, class, species, breed."""
_BEGINS_AT_ZERO = re.compile(rb"<[xy]min>\s*[0.]", re.IGNORECASE)
_BOX = re.compile(rb"<bndbox", re.IGNORECASE)


def recognizes(file: Path, start: bytes) -> bool:
    return root_tag(start) == ROOT


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    """Lists of names, else the annotation files themselves."""
    lists = _lists(tree, {_stem(file.name) for file in files}, settings)
    if lists:
        return by_split(sorted(lists, key=lambda file: file.stem), lambda file: file.stem)
    return by_split(files, lambda file: _split_of(file, tree))


def _lists(tree: Tree, stems: set[str], settings: DataSettings) -> list[Path]:
    """The files that list the names of a split. Lists of one class, e.g. "aeroplane_train", count only if the settings
    name them."""
    named = {settings.train_split, settings.val_split, settings.test_split}
    main, others = [], []
    for file in tree.with_suffix(".txt"):
        in_sets = file.parent.name.lower() == "imagesets" or file.parent.parent.name.lower() == "imagesets"
        if in_sets and file.parent.name.lower() in ("main", "imagesets"):
            lines = _first_lines(file, tree)
            of_one_class = bool(lines) and lines[0] not in stems and _OF_ONE_CLASS.fullmatch(lines[0]) is not None
            if file.stem in named or not of_one_class:
                main.append(file)
        elif not in_sets and split_in(file.name):
            lines = _first_lines(file, tree)
            if sum(_listed(line, stems) in stems for line in lines) > len(lines) / 2:
                others.append(file)
    return main or others


def _first_lines(file: Path, tree: Tree) -> list[str]:
    """At most 100, without empty ones."""
    lines = tree.start(file).decode("utf-8", "replace").splitlines()
    return [line.strip() for line in lines[:100] if line.strip()]


def _split_of(file: Path, tree: Tree) -> str | None:
    """The split that the folder of an annotation or of its image tells."""
    return tree.split_of(file.parent) or split_of_image(_without_xml(file.name), file, tree)


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a split, in the order of its lists."""
    annotated = list(_annotated(source, tree, on_problem))
    zero_based = _zero_based(tree)
    if zero_based is not None:
        message = (
            f"boxes begin at pixel 0, so the {plural(len(annotated), 'annotation')}{of_split(source.split)} must count "
            f"from 0, not from 1 as in Pascal VOC; nothing is subtracted"
        )
        on_problem(Problem(ProblemKind.ZERO_BASED, zero_based, message, level="repaired"))
    rotated = [one.file for one in annotated for _ in range(one.rotated)]
    if rotated:
        boxes = plural(len(rotated), "rotated box", "rotated boxes")
        message = f"the upright boxes around {boxes}{of_split(source.split)} are used"
        on_problem(Problem(ProblemKind.ROTATED_BOXES, rotated[0], message, level="warning"))
    first_pixel = 1 if zero_based is None else 0
    for one in annotated:
        yield one.record._replace(boxes=continuous(one.record.boxes, one.inclusive_offsets, first_pixel))


class _Annotated(NamedTuple):
    """One image and its annotation."""

    file: Path
    record: Record
    """Boxes as the file says them."""
    inclusive_offsets: np.ndarray
    """(G, 4): of each box, see `Shape`."""
    rotated: int
    """Number of rotated boxes."""


@lru_cache(maxsize=8)
def _zero_based(tree: Tree) -> Path | None:
    """The first annotation with a box that begins at 0, if the data count from 0; None: they count from 1.

    One program wrote all splits, so all of them decide. Two boxes are enough, or 1 %: a single one may be a mistake."""
    first, at_zero, count = None, 0, 0
    for file in filter(lambda file: recognizes(file, tree.start(file)), tree.with_suffix(*SUFFIXES)):
        content = file.read_bytes().replace(b"\0", b"")
        boxes = len(_BOX.findall(content))
        count += boxes
        if boxes and _BEGINS_AT_ZERO.search(content):
            with suppress(ValueError):
                shapes = [shape for shape in map(shape_of, objects_of(read_xml(file, ROOT))) if shape is not None]
                found = sum(any(one and 0 <= x < 1 for x, one in zip(*shape[:2], strict=True)) for shape in shapes)
                at_zero += found
                first = first or (file if found else None)
    return first if at_zero >= 2 or at_zero > 0.01 * count else None


def _annotated(source: Source, tree: Tree, on_problem: OnProblem) -> Iterator[_Annotated]:
    """Read the annotations of a source, and find their images."""
    files = _files_by_stem(tree)
    used: dict[Path, _Annotated] = {}
    own = set()
    for entry in _entries(source, files):
        one = _annotation(entry, source, tree, files, on_problem)
        if isinstance(one, Problem):
            on_problem(one)
            continue
        own.add(entry.stem)
        earlier = used.setdefault(one.record.image, one)
        if earlier is one:
            yield one
        else:
            on_problem(_second_annotation(one, earlier))
    if not _is_listed(source):
        others = {stem: files[stem] for stem in files.keys() - own}
        for image in _unannotated(tree, used, others):
            on_problem(_without_annotation(image))


def _files_by_stem(tree: Tree) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for file in tree.with_suffix(*SUFFIXES):
        files.setdefault(_stem(file.name), []).append(file)
    return files


class _Entry(NamedTuple):
    """One image that a source should have."""

    stem: str
    file: Path | None
    """Its annotation; None: it is missing."""
    listed_in: Path
    place: str


def _is_listed(source: Source) -> bool:
    return any(file.suffix.lower() == ".txt" for file in source.files)


def _entries(source: Source, files: Mapping[str, Sequence[Path]]) -> Iterator[_Entry]:
    if not _is_listed(source):
        yield from (_Entry(_stem(file.name), file, file, "") for file in source.files)
        return
    seen: set[tuple[str, Path | None]] = set()  # several folders, each with lists of its own, may have the same names
    for file in source.files:
        for number, line in enumerate(read_lines(file), start=1):
            stem = _listed(line, files)
            nearest = max(files.get(stem, ()), key=lambda xml: len(os.path.commonpath([xml, file])), default=None)
            if stem and (stem, nearest) not in seen:
                seen.add((stem, nearest))
                yield _Entry(stem, nearest, file, f"line {number}")


def _listed(line: str, known: Collection[str]) -> str:
    """The stem of the image that a line lists; empty: none, or an image without the class of the list."""
    line = slashes(line.strip())
    numbered = _NUMBERED.fullmatch(line)
    if numbered and _stem(line) not in known:
        return _stem(numbered[1])
    of_one_class = _OF_ONE_CLASS.fullmatch(line)
    if of_one_class and _stem(line) not in known:
        return "" if of_one_class[2] == "-1" else _stem(of_one_class[1])
    if line.lower().endswith(".xml") and _stem(line) not in known:
        line = line.rpartition(" ")[2]  # "JPEGImages/NAME.jpg Annotations/NAME.xml"
    first = _stem(line.partition(" ")[0])
    if first in known and _stem(line) not in known:
        return first
    return _stem(line)


def _annotation(
    entry: _Entry, source: Source, tree: Tree, files: Collection[str], on_problem: OnProblem
) -> _Annotated | Problem:
    """One image and its objects, or why it is left out."""
    split = None if source.split == ALL else source.split
    file = entry.file
    if file is None:
        try:
            return _without_annotation(tree.find_image(entry.stem, entry.listed_in, split=split))
        except ImageNotFoundError as error:
            return missing_image(entry.listed_in, error, entry.place)
    try:
        root = read_xml(file, ROOT)
    except ValueError as error:
        return unreadable_annotation(file, error)
    elements = list(objects_of(root))
    try:
        image = _image(file, root, tree, split, files)
    except ImageNotFoundError as error:
        return missing_image(file, error, lost=map(class_of, elements))
    found: list[tuple[Shape, str, bool]] = []
    for number, element in enumerate(elements):
        shape, name = shape_of(element), class_of(element)
        if name and shape is not None:
            found.append((shape, name, is_difficult(element)))
        else:
            message = f"its bndbox must have the numbers {', '.join(SIDES)}" if name else "has no name"
            on_problem(invalid_object(file, message, object_place(number, name), name))
    boxes = np.array([(shape.box, shape.inclusive_offset) for shape, _, _ in found], np.float32).reshape(-1, 2, 4)
    record = Record(
        image,
        boxes[:, 0],
        tuple(name for _, name, _ in found),
        np.array([difficult for *_, difficult in found], bool),
        to_size(text_of(root, "size/height"), text_of(root, "size/width")),
    )
    return _Annotated(file, record, boxes[:, 1], sum(shape.is_rotated for shape, _, _ in found))


def _image(file: Path, root: ElementTree.Element, tree: Tree, split: str | None, files: Collection[str]) -> Path:
    """The image with the stem of the XML file; only if there is none, the one that the file names, because programs
    that rename or copy images leave old names behind.

    Raises:
        ImageNotFoundError: there is neither.
    """
    folder, name, path = (text_of(root, tag).strip() for tag in ("folder", "filename", "path"))
    named = [each for each in (path, f"{folder}/{name}" if folder and name else "", name) if each]
    stem = _stem(file.name)
    errors = []
    for each in (*(each for each in named if _stem(each) == stem), _without_xml(file.name), *named):
        try:
            image = tree.find_image(each, file, split=split)
        except ImageNotFoundError as error:
            errors.append(error)
            continue
        if _stem(image.name) == stem or _stem(image.name) not in files:
            return image
        errors.append(ImageNotFoundError(f"there is no image {each}; {image.name} has an annotation of its own"))
    raise most_telling(errors)


def _without_annotation(image: Path) -> Problem:
    message = "is not annotated; it is left out. If it has no objects, give it an XML file without <object>"
    return without_annotation(image, message)


def _second_annotation(one: _Annotated, earlier: _Annotated) -> Problem:
    is_copy = one.record.class_names == earlier.record.class_names and np.array_equal(
        one.record.boxes, earlier.record.boxes
    )
    message = f"{one.record.image.name} is annotated in {earlier.file} too; this file is left out"
    lost = () if is_copy else one.record.class_names
    level: Level = "warning" if is_copy else "left out"
    return Problem(ProblemKind.ANNOTATED_TWICE, one.file, message, level=level, other=one.record.image, lost=lost)


def _unannotated(tree: Tree, used: Collection[Path], others: Mapping[str, Sequence[Path]]) -> Iterator[Path]:
    """The images beside annotated ones, and that no other annotation is for."""
    folders = {image.parent for image in used}
    for image in tree.images:
        if image.parent in folders and image not in used:
            files = others.get(_stem(image.name), ())
            if not any(recognizes(file, tree.start(file)) for file in files):  # e.g. it is empty
                yield image


def image_dir(split: str, record: Record) -> str:
    """The folder for an image of a split, relative to the data folder."""
    return "JPEGImages"


def write(folder: Path, splits: Mapping[str, Sequence[Record]], classes: Sequence[str]) -> None:
    """Boxes become 1-based and inclusive again."""
    for split, records in splits.items():
        stems = "".join(f"{record.image.stem}\n" for record in records)
        write_text(folder / "ImageSets" / "Main" / f"{split}.txt", stems)
    for record in (record for records in splits.values() for record in records):
        marks = record.ignore.tolist()
        rows = zip(record.boxes.tolist(), record.class_names, marks, strict=True)
        objects = [Annotation(box, name, ignore) for box, name, ignore in rows]
        root = header(record.image, record.size or image_size(record.image))
        _write(folder / "Annotations" / f"{record.image.stem}.xml", root, record.image, objects, first_pixel=1)


class _Index(NamedTuple):
    """What edits need to know of a source."""

    files: dict[Path, Path]
    """The annotation of each image; also of images that are not annotated yet."""
    first_pixel: int
    """The number of the first pixel, 0 or 1."""


@lru_cache(maxsize=8)
def _index(source: Source, tree: Tree) -> _Index:
    problems: list[Problem] = []
    annotated = list(_annotated(source, tree, problems.append))
    files = {one.record.image: one.file for one in annotated}
    folders = {image.parent: file.parent for image, file in files.items()}
    for problem in problems:
        if problem.kind == ProblemKind.WITHOUT_ANNOTATION:
            image = problem.path
            folder = folders.get(image.parent, next(iter(folders.values()), image.parent))
            files[image] = folder / f"{image.stem}.xml"
        elif problem.kind == ProblemKind.UNREADABLE_ANNOTATION:
            with suppress(ImageNotFoundError):  # so that `read_image` says why
                files[tree.find_image(_without_xml(problem.path.name), problem.path)] = problem.path
    return _Index(files, 0 if _zero_based(tree) is not None else 1)


def images(source: Source, tree: Tree) -> list[Path]:
    """Those of the lists, annotated or not; without lists, those that are annotated and those beside them."""
    return list(_index(source, tree).files)


def class_names(sources: Sequence[Source], tree: Tree) -> list[str]:
    return []


def read_image(source: Source, image: Path, tree: Tree) -> list[Annotation] | None:
    files, first_pixel = _index(source, tree)
    if not files[image].is_file():
        return None
    return [
        Annotation(
            box_of(shape, first_pixel), name, is_difficult(element), ElementTree.tostring(element, "unicode").strip()
        )
        for element in objects_of(read_xml(files[image], ROOT))
        if (name := class_of(element)) and (shape := shape_of(element)) is not None
    ]


def write_image(source: Source, image: Path, objects: Sequence[Annotation] | None, tree: Tree) -> None:
    """Objects that cannot be read are kept, at the end."""
    files, first_pixel = _index(source, tree)
    file = files[image]
    if objects is None:
        file.unlink(missing_ok=True)
        return
    root = read_xml(file, ROOT) if file.is_file() else header(image, image_size(image))
    parents = {child: parent for parent in root.iter() for child in parent}
    for element in list(objects_of(root)):
        if class_of(element) and shape_of(element) is not None:
            parents[element].remove(element)
    _write(file, root, image, objects, first_pixel=first_pixel)


def _write(
    file: Path, root: ElementTree.Element, image: Path, objects: Sequence[Annotation], *, first_pixel: int
) -> None:
    """Write the annotation `root` with these objects before its own."""
    place = next((number for number, child in enumerate(root) if has_tag(child, "object")), len(root))
    for number, new in enumerate(objects):
        element = ElementTree.fromstring(new.source) if new.source else ElementTree.Element("object")
        shape = shape_of(element)
        if shape is None or (box_of(shape, first_pixel), class_of(element), is_difficult(element)) != new[:3]:
            try:
                describe(element, new, first_pixel)
            except ValueError as error:
                raise ValueError(f"{image}, {object_place(number, new.name)}: {error}") from None
        root.insert(place + number, element)
    ElementTree.indent(root)
    with atomic_write(file) as partial:
        ElementTree.ElementTree(root).write(partial, encoding="utf-8")


def _without_xml(name: str) -> str:
    """1.jpg for 1.jpg.xml, 1 for 1.xml.xml."""
    while name.lower().endswith(".xml"):
        name = name[:-4]
    return name


def _stem(path: str) -> str:
    """1 for a/1.jpg.xml, 1.xml.xml, a/1.jpg and 1."""
    stem, suffix = os.path.splitext(_without_xml(slashes(path).rpartition("/")[2]))
    return stem if suffix.lower() in IMAGE_SUFFIXES else stem + suffix
