"""Pascal VOC: Annotations/NAME.xml, ImageSets/Main/SET.txt (a name a line), JPEGImages/NAME.jpg.

Without ImageSets, all annotations are one set; the images may lie in images/ or beside the annotations too, and the
annotations in the folder itself, as labelling tools leave them, or in a folder for each set (train/, valid/, test/).

Boxes are 1-based and inclusive there: [xmin, xmax] becomes [xmin - 1, xmax]. One whose xmax is not greater than its
xmin is a mistake, not a pixel, and keeps its numbers. Objects marked "difficult" stay, marked.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from frcnn.config import DataSettings
from frcnn.data.formats.lines import plain, read_lines, to_numbers, to_size
from frcnn.data.images import IMAGE_SUFFIXES, image_size
from frcnn.data.problems import Problem, Report, object_place
from frcnn.files import whole_file, write_text
from frcnn.types import Record

LAYOUT = "Pascal VOC: Annotations/NAME.xml, ImageSets/Main/{trainval,test}.txt, JPEGImages/NAME.jpg"
ALL = "all"
"""The set's name where ImageSets is missing."""
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def recognises(folder: Path, settings: DataSettings) -> bool:
    first = next(chain(_annotations(folder).glob("*.xml"), folder.glob("*/*.xml")), None)
    return first is not None and b"<annotation" in first.read_bytes()[:1000]


def sets(folder: Path, settings: DataSettings) -> list[str]:
    """Of the files of one class, as "aeroplane_train", those that the settings name."""
    files = [file.stem for file in sorted((folder / "ImageSets" / "Main").glob("*.txt"))]
    named = {settings.train_set, settings.val_set, settings.test_set}
    chosen = [name for name in files if "_" not in name or name in named]
    if chosen or any(_annotations(folder).glob("*.xml")):
        return chosen or [ALL]
    return sorted({file.parent.name for file in folder.glob("*/*.xml")})


def read(folder: Path, name: str, settings: DataSettings, report: Report) -> Iterator[Record]:
    """The images of a set, in the order of its file."""
    if not any(_annotations(folder).glob("*.xml")):
        folder, name = folder / name, ALL
    place = _images(folder)
    images: dict[str, Path] = {}
    for image in sorted(place.iterdir()):
        if image.suffix.lower() in IMAGE_SUFFIXES and images.setdefault(image.stem, image) != image:
            rule = f"has the name of {images[image.stem].name}, so both would have one annotation; rename one of them"
            report(Problem("two images for one annotation", image, rule))
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
        with whole_file(folder / "Annotations" / f"{record.image.stem}.xml") as partial:
            ElementTree.ElementTree(_annotation(record)).write(partial, encoding="utf-8")


def _annotation(record: Record) -> ElementTree.Element:
    root = ElementTree.Element("annotation")

    def add(parent: ElementTree.Element, tag: str, text: str = "") -> ElementTree.Element:
        child = ElementTree.SubElement(parent, tag)
        child.text = text
        return child

    height, width = record.size or image_size(record.image)
    add(root, "folder", record.image.parent.name)
    add(root, "filename", record.image.name)
    size = add(root, "size")
    for tag, value in (("width", width), ("height", height), ("depth", 3)):
        add(size, tag, str(value))
    for number, (box, label, difficult) in enumerate(zip(record.boxes, record.names, record.difficult, strict=True)):
        x1, y1, x2, y2 = (float(value) for value in box)
        if x2 - x1 <= 1 or y2 - y1 <= 1:
            raise ValueError(
                f"{record.image}, {object_place(number, label)}: is only {x2 - x1:g} x {y2 - y1:g} pixels, and Pascal "
                f"VOC cannot hold less than two; convert to another format, or remove it"
            )
        thing = add(root, "object")
        add(thing, "name", label)
        add(thing, "difficult", str(int(difficult)))
        sides = add(thing, "bndbox")
        for side, pixel in zip(_SIDES, (x1 + 1, y1 + 1, x2, y2), strict=True):
            add(sides, side, plain(pixel))
    ElementTree.indent(root)
    return root


def _annotations(folder: Path) -> Path:
    own = folder / "Annotations"
    return own if own.is_dir() else folder


def _images(folder: Path) -> Path:
    return next((place for name in ("JPEGImages", "images") if (place := folder / name).is_dir()), folder)


def _names(folder: Path, name: str, images: Mapping[str, Path]) -> Iterator[tuple[str, tuple[Path, str]]]:
    """The images of a set, and where it says so."""
    file = folder / "ImageSets" / "Main" / f"{name}.txt"
    if name == ALL and not file.is_file():
        for annotation in sorted(_annotations(folder).glob("*.xml"), key=lambda file: (len(file.stem), file.name)):
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
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: its encoding
        report(Problem("annotation cannot be read", file, f"not an XML file that can be read ({error})"))
        return
    boxes: list[list[float]] = []
    names: list[str] = []
    difficult: list[bool] = []
    for number, thing in enumerate(root.iter("object")):
        name = (thing.findtext("name") or "").strip()
        box = to_numbers([thing.findtext(f"bndbox/{side}", "") for side in _SIDES], 4)
        rule = None
        if not name:
            rule = "has no name"
        elif box is None:
            rule = f"its bndbox must have the numbers {', '.join(_SIDES)}"
        if box is None or rule is not None:
            report(Problem("not a box", file, str(rule), object_place(number, name)))
            continue
        x1, y1, x2, y2 = box
        boxes.append([x1 - (x2 > x1), y1 - (y2 > y1), x2, y2])
        names.append(name)
        difficult.append((thing.findtext("difficult") or "0").strip() == "1")
    yield Record(
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        tuple(names),
        np.array(difficult, bool),
        to_size(root.findtext("size/height", ""), root.findtext("size/width", "")),
    )
