"""Pascal VOC: Annotations/NAME.xml, ImageSets/Main/SET.txt (a name a line), JPEGImages/NAME.jpg.

Without ImageSets, all annotations are one set; the images may lie in images/ or beside the annotations too, and the
annotations in the folder itself, as labelling tools leave them, or in a folder for each set (train/, valid/, test/).

Boxes are 1-based and inclusive there: [xmin, xmax] becomes [xmin - 1, xmax]. One whose xmax is not greater than its
xmin is a mistake, not a pixel, and keeps its numbers. Objects marked "difficult" stay, marked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from frcnn.data.formats.lines import plain, read_lines, to_numbers, to_size, visible, while_unchanged
from frcnn.data.images import image_size, images_among
from frcnn.data.problems import Problem, Report, object_place, twins
from frcnn.files import whole_file, write_text
from frcnn.types import Annotation, Record

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "Pascal VOC: Annotations/NAME.xml, ImageSets/Main/{trainval,test}.txt, JPEGImages/NAME.jpg"
ALL = "all"
"""The set's name where ImageSets is missing."""
_Box = tuple[float, float, float, float]
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def recognises(folder: Path, settings: DataSettings) -> bool:
    first = next(visible(chain(_annotations(folder).glob("*.xml"), folder.glob("*/*.xml"))), None)
    return first is not None and b"<annotation" in first.read_bytes()[:1000]


def sets(folder: Path, settings: DataSettings) -> list[str]:
    """Of the files of one class, as "aeroplane_train", those that the settings name."""
    files = [file.stem for file in sorted((folder / "ImageSets" / "Main").glob("*.txt"))]
    named = {settings.train_set, settings.val_set, settings.test_set}
    chosen = [name for name in files if "_" not in name or name in named]
    if chosen or _has_annotations(_annotations(folder)):
        return chosen or [ALL]
    return sorted({file.parent.name for file in visible(folder.glob("*/*.xml"))})


def read(folder: Path, name: str, settings: DataSettings, report: Report) -> Iterator[Record]:
    """The images of a set, in the order of its file."""
    own = _folder_of(folder, name)
    folder, name = own, (name if own == folder else ALL)
    place = _images(folder)
    images: dict[str, Path] = {}
    found = images_among(place.iterdir())
    for problem in twins(found):
        report(problem)
    for image in found:
        images.setdefault(image.stem, image)
    for image_name, where in _names(folder, name, images):
        file = _annotations(folder) / f"{image_name}.xml"
        if image_name not in images:
            rule = f"there is no image {image_name} in {place}"
            report(Problem("annotation without image", where[0], rule, where[1]))
        elif not file.is_file():
            rule = f"the annotation of {images[image_name].name} is missing"
            report(Problem("image without annotation", file, rule))
        else:
            yield from _record(images[image_name], file, report)


def image_place(name: str, record: Record) -> str:
    """The folder of an image."""
    return "JPEGImages"


def write(folder: Path, sets: Mapping[str, Sequence[Record]], classes: Sequence[str]) -> None:
    """Boxes go back to 1-based and inclusive."""
    names = {name: [record.image.stem for record in records] for name, records in sets.items()}
    for name, stems in names.items():
        write_text(folder / "ImageSets" / "Main" / f"{name}.txt", "".join(f"{stem}\n" for stem in stems))
    for record in (record for records in sets.values() for record in records):
        marks = record.difficult.tolist()
        things = zip(record.boxes.tolist(), record.names, marks, strict=True)
        objects = [Annotation(box, name, difficult) for box, name, difficult in things]
        root = _header(record.image, record.size or image_size(record.image))
        _write(folder / "Annotations" / f"{record.image.stem}.xml", root, record.image, objects)


def images(folder: Path, settings: DataSettings) -> Iterator[tuple[str, Path]]:
    """Of a set's list, also those without annotation; where there are no lists, all images. Once each: the list of
    `trainval` has those of `train`."""
    yielded: set[Path] = set()
    for name, image in _listed(folder, settings):
        if image not in yielded:
            yielded.add(image)
            yield name, image


def _listed(folder: Path, settings: DataSettings) -> Iterator[tuple[str, Path]]:
    for name in sets(folder, settings):
        own = _folder_of(folder, name)
        found = images_among(_images(own).iterdir())
        if not (own / "ImageSets" / "Main" / f"{name}.txt").is_file():
            yield from ((name, image) for image in found)
            continue
        by_stem = {image.stem: image for image in found}
        for stem, _ in _names(own, name, by_stem):
            if stem in by_stem:
                yield name, by_stem[stem]


def class_names(folder: Path, settings: DataSettings) -> list[str]:
    return []


def read_image(folder: Path, name: str, image: Path, settings: DataSettings) -> list[Annotation] | None:
    file = _file_of(folder, name, image)
    if not file.is_file():
        return None
    return [
        Annotation(box, label, _is_difficult(thing), ElementTree.tostring(thing, "unicode").strip())
        for thing, label, box in _objects(_parsed(file))
        if label and box is not None
    ]


def write_image(
    folder: Path, name: str, image: Path, objects: Sequence[Annotation] | None, settings: DataSettings
) -> None:
    """Objects that cannot be read stay as they are, at the end."""
    file = _file_of(folder, name, image)
    if objects is None:
        file.unlink(missing_ok=True)
        return
    root = _parsed(file) if file.is_file() else _header(image, image_size(image))
    parents = {child: parent for parent in root.iter() for child in parent}
    for thing, label, box in list(_objects(root)):
        if label and box is not None:
            parents[thing].remove(thing)
    _write(file, root, image, objects)


def _write(file: Path, root: ElementTree.Element, image: Path, objects: Sequence[Annotation]) -> None:
    """The annotation `root` with these objects, before those that it has."""
    first = next((number for number, child in enumerate(root) if child.tag == "object"), len(root))
    for number, new in enumerate(objects):
        thing = ElementTree.fromstring(new.source) if new.source else ElementTree.Element("object")
        if not new.source or (_box(thing), _name(thing), _is_difficult(thing)) != new[:3]:
            try:
                _describe(thing, new.box, new.name, difficult=new.difficult)
            except ValueError as error:
                raise ValueError(f"{image}, {object_place(number, new.name)}: {error}") from None
        root.insert(first + number, thing)
    ElementTree.indent(root)
    with whole_file(file) as partial:
        ElementTree.ElementTree(root).write(partial, encoding="utf-8")


def _file_of(folder: Path, name: str, image: Path) -> Path:
    return _annotations(_folder_of(folder, name)) / f"{image.stem}.xml"


def _parsed(file: Path) -> ElementTree.Element:
    """With its comments.

    Raises:
        ValueError: not XML, or in letters that are not known.
    """
    try:
        parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
        return ElementTree.parse(file, parser).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: its encoding
        raise ValueError(f"{file}: not an XML file that can be read ({error})") from None


def _objects(root: ElementTree.Element) -> Iterator[tuple[ElementTree.Element, str, _Box | None]]:
    """Each object that is no part of another, its name, and its box if it has one."""
    for child in root:
        if child.tag == "object":
            yield child, _name(child), _box(child)
        else:
            yield from _objects(child)


def _name(thing: ElementTree.Element) -> str:
    return (thing.findtext("name") or "").strip()


def _box(thing: ElementTree.Element) -> _Box | None:
    box = to_numbers([thing.findtext(f"bndbox/{side}", "") for side in _SIDES], 4)
    if box is None:
        return None
    x1, y1, x2, y2 = box
    return x1 - (x2 > x1), y1 - (y2 > y1), x2, y2


def _is_difficult(thing: ElementTree.Element) -> bool:
    return (thing.findtext("difficult") or "0").strip() == "1"


def _header(image: Path, size: tuple[int, int]) -> ElementTree.Element:
    """An annotation without objects."""
    root = ElementTree.Element("annotation")
    _set(root, "folder", image.parent.name)
    _set(root, "filename", image.name)
    for tag, value in (("width", size[1]), ("height", size[0]), ("depth", 3)):
        _set(root, f"size/{tag}", str(value))
    return root


def _describe(thing: ElementTree.Element, box: Sequence[float], name: str, *, difficult: bool) -> None:
    """Set what we know of an object."""
    x1, y1, x2, y2 = box
    if x2 - x1 <= 1 or y2 - y1 <= 1:
        raise ValueError(
            f"is only {x2 - x1:g} x {y2 - y1:g} pixels, and Pascal VOC cannot hold less than two; convert to another "
            f"format, or remove it"
        )
    _set(thing, "name", name)
    _set(thing, "difficult", str(int(difficult)))
    for side, pixel in zip(_SIDES, (x1 + 1, y1 + 1, x2, y2), strict=True):
        _set(thing, f"bndbox/{side}", plain(pixel))


def _set(parent: ElementTree.Element, path: str, text: str) -> None:
    """The text of what a path leads to, which is made if it is missing."""
    for tag in path.split("/"):
        child = parent.find(tag)
        parent = ElementTree.SubElement(parent, tag) if child is None else child
    parent.text = text


def _folder_of(folder: Path, name: str) -> Path:
    """Where a set lies: each may have a folder of its own."""
    is_one = (folder / "Annotations").is_dir() or _has_annotations(folder) or not (folder / name).is_dir()
    return folder if is_one else folder / name


@while_unchanged
def _has_annotations(folder: Path) -> bool:
    return any(True for _ in visible(folder.glob("*.xml")))


def _annotations(folder: Path) -> Path:
    own = folder / "Annotations"
    return own if own.is_dir() else folder


def _images(folder: Path) -> Path:
    return next((place for name in ("JPEGImages", "images") if (place := folder / name).is_dir()), folder)


def _names(folder: Path, name: str, images: Mapping[str, Path]) -> Iterator[tuple[str, tuple[Path, str]]]:
    """The images of a set, and where it says so."""
    file = folder / "ImageSets" / "Main" / f"{name}.txt"
    if name == ALL and not file.is_file():
        for annotation in sorted(
            visible(_annotations(folder).glob("*.xml")), key=lambda file: (len(file.stem), file.name)
        ):
            yield annotation.stem, (annotation, "")
        return
    for number, line in enumerate(read_lines(file), start=1):
        image_name = line.strip()
        if image_name not in images:
            # "NAME -1" and "NAME 1" are in the files of one class; all but -1 belong to it.
            start, _, mark = image_name.rpartition(" ")
            if mark == "-1":
                continue
            image_name = start.strip() if mark in ("0", "1") else image_name
        if image_name:
            yield image_name, (file, f"line {number}")


def _record(image: Path, file: Path, report: Report) -> Iterator[Record]:
    try:
        root = _parsed(file)
    except ValueError as error:
        report(Problem("annotation cannot be read", file, str(error).removeprefix(f"{file}: ")))
        return
    boxes: list[Sequence[float]] = []
    names: list[str] = []
    difficult: list[bool] = []
    for number, (thing, name, box) in enumerate(_objects(root)):
        if not name or box is None:
            rule = f"its bndbox must have the numbers {', '.join(_SIDES)}" if name else "has no name"
            report(Problem("not a box", file, rule, object_place(number, name)))
            continue
        boxes.append(box)
        names.append(name)
        difficult.append(_is_difficult(thing))
    yield Record(
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        tuple(names),
        np.array(difficult, bool),
        to_size(root.findtext("size/height", ""), root.findtext("size/width", "")),
    )
