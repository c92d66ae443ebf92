"""Pascal VOC: Annotations/NAME.xml, ImageSets/Main/SPLIT.txt (a name a line), JPEGImages/NAME.jpg.

Boxes are 1-based and inclusive there: [xmin, xmax] becomes [xmin - 1, xmax]. Objects marked "difficult" stay, marked.
"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from frcnn.config import DataSettings
from frcnn.data.formats.lines import read_lines
from frcnn.data.images import IMAGE_SUFFIXES
from frcnn.types import Record

_SIDES = ("xmin", "ymin", "xmax", "ymax")


def recognises(folder: Path, settings: DataSettings) -> bool:
    return (folder / "Annotations").is_dir() and (folder / "ImageSets" / "Main").is_dir()


def read(folder: Path, split: str, settings: DataSettings) -> list[Record]:
    """The images of a split, in the order of its file.

    Without `data.train_set` and `data.test_set`: trainval.txt and test.txt, or, where there is no test.txt (VOC 2012),
    train.txt and val.txt.
    """
    file = folder / "ImageSets" / "Main" / f"{_image_set(folder, split, settings)}.txt"
    if split == "test" and settings.test_set is None and not file.is_file():
        return []
    images = {
        image.stem: image for image in (folder / "JPEGImages").iterdir() if image.suffix.lower() in IMAGE_SUFFIXES
    }
    records = []
    # "NAME -1" and "NAME 1" are in the files of one class; all but -1 belong to it.
    for number, line in enumerate(read_lines(file), start=1):
        name, _, mark = line.strip().partition(" ")
        if not name or mark.strip() == "-1":
            continue
        if name not in images:
            raise ValueError(f"{file}, line {number}: there is no image {name} in {folder / 'JPEGImages'}")
        records.append(_record(images[name], folder / "Annotations" / f"{name}.xml"))
    return records


def _image_set(folder: Path, split: str, settings: DataSettings) -> str:
    named = settings.train_set if split == "train" else settings.test_set
    if named is not None:
        return named
    has_test = (folder / "ImageSets" / "Main" / "test.txt").is_file()
    return {"train": "trainval" if has_test else "train", "test": "test" if has_test else "val"}[split]


def _record(image: Path, file: Path) -> Record:
    try:
        root = ElementTree.parse(file).getroot()
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: the annotation of {image.name} is missing") from None
    except ElementTree.ParseError as error:
        raise ValueError(f"{file}: not an XML file ({error})") from None
    boxes, names, difficult = [], [], []
    for number, thing in enumerate(root.iter("object"), start=1):
        name = (thing.findtext("name") or "").strip()
        where = f"{file}, object {number} ('{name}')"
        if not name:
            raise ValueError(f"{where}: has no name")
        try:
            x1, y1, x2, y2 = (float(thing.findtext(f"bndbox/{side}", "")) for side in _SIDES)
        except ValueError:
            raise ValueError(f"{where}: its bndbox must have the numbers {', '.join(_SIDES)}") from None
        if x2 < x1 or y2 < y1:
            raise ValueError(
                f"{where}: xmax ({x2:g}) must not be less than xmin ({x1:g}), nor ymax ({y2:g}) than ymin ({y1:g}); "
                f"correct or remove the box"
            )
        boxes.append([x1 - 1, y1 - 1, x2, y2])
        names.append(name)
        difficult.append((thing.findtext("difficult") or "0").strip() == "1")
    return Record(image, np.array(boxes, np.float32).reshape(-1, 4), tuple(names), np.array(difficult, bool))
