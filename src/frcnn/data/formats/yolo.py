"""YOLO: data.yaml with `train`, `val`, `test` (folders, or lists of images) and `names`; for each image in images/ a
label file in labels/ with the same name: a line a box, `class cx cy width height`, shares of the image's sides.

Lines of more numbers are outlines, of which the box is taken. An image without a label file holds no objects.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from frcnn.config import DataSettings
from frcnn.data.formats.lines import read_lines, read_text, to_numbers
from frcnn.data.images import IMAGE_SUFFIXES, image_size
from frcnn.data.problems import Problem, Report
from frcnn.data.records import make_record
from frcnn.files import write_text
from frcnn.types import Record

LAYOUT = "YOLO: data.yaml, images/{train,val}/NAME.jpg, labels/{train,val}/NAME.txt"
_SETS = ("train", "val", "test")


def recognises(folder: Path, settings: DataSettings) -> bool:
    return _description(folder) is not None


def sets(folder: Path, settings: DataSettings) -> list[str]:
    _, content = _described(folder)
    return [name for name in _SETS if content.get(name)]


def read(folder: Path, name: str, settings: DataSettings, report: Report) -> Iterator[Record]:
    """The images of a set, in the order of its list, or of their names."""
    file, content = _described(folder)
    names = content["names"]
    numbered = enumerate(names) if isinstance(names, list) else names.items()
    try:
        classes = {int(number): name for number, name in numbered}
    except ValueError:
        raise ValueError(f"{file}: names must be a list, or begin with whole numbers: 0: cat") from None
    if not all(isinstance(name, str) and name for name in classes.values()) or len(set(classes.values())) < len(
        classes
    ):
        raise ValueError(f"{file}: every class in names must have a name, and one of its own: {names}")
    root = _first_folder(folder / str(content.get("path") or "."), folder)
    entries = content[name] if isinstance(content[name], list) else [content[name]]
    for entry in entries:
        for image in _images(root, str(entry), file, report):
            yield _record(image, root, classes, report)


def image_place(name: str, record: Record) -> str:
    """The folder of an image."""
    return f"images/{name}"


def write(folder: Path, sets: Mapping[str, Sequence[Record]], classes: Sequence[str]) -> None:
    """Sets are lists of images, which keep their order."""
    for name, records in sets.items():
        paths = [record.image.relative_to(folder).as_posix() for record in records]
        write_text(folder / f"{name}.txt", "".join(f"./{path}\n" for path in paths))
        for record in records:
            height, width = record.size or image_size(record.image)
            lines = []
            for (x1, y1, x2, y2), label in zip(record.boxes.astype(np.float64), record.names, strict=True):
                shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
                lines.append(f"{classes.index(label)} {' '.join(f'{share:.10g}' for share in shares)}\n")
            write_text(_label_file(record.image, folder), "".join(lines))
    content = {name: f"{name}.txt" for name in sets} | {"names": dict(enumerate(classes))}
    write_text(folder / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _description(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    for file in sorted(folder.glob("*.y*ml"), key=lambda file: (file.stem != "data", file.name)):
        try:
            content = yaml.load(read_text(file), Loader=yaml.BaseLoader)  # names are text: no is not False
        except (yaml.YAMLError, ValueError):
            continue
        if isinstance(content, dict) and isinstance(content.get("names"), list | dict):
            return file, {key: value for key, value in content.items() if value not in ("", "null", "~", [])}
    return None


def _described(folder: Path) -> tuple[Path, dict[str, Any]]:
    found = _description(folder)
    if found is None:
        raise ValueError(f"{folder}: has no data.yaml with 'train' and 'names'")
    return found


def _first_folder(*places: Path) -> Path:
    return next((place for place in places if place.is_dir()), places[-1])


def _images(root: Path, entry: str, file: Path, report: Report) -> Iterator[Path]:
    """Of a folder, or of a list of images; "../train" is meant from the folder too, by some exporters."""
    place = next(
        (place for name in (entry, entry.removeprefix("../")) if (place := root / name).exists()), root / entry
    )
    if place.is_dir():
        images = [image for image in place.rglob("*") if image.suffix.lower() in IMAGE_SUFFIXES]
        yield from sorted(images, key=lambda image: (image.parent, len(image.stem), image.name))
    elif place.is_file():
        for line in read_lines(place):
            if line.strip():
                yield place.parent / line if line.startswith("./") else root / line
    else:
        report(Problem("missing folder", file, f"there is no {place}"))


def _label_file(image: Path, root: Path) -> Path:
    """In labels/, where the image is in images/ (the last part of that name) below the root; else beside it."""
    try:
        parts = list(image.relative_to(root.parent).parts)
    except ValueError:
        root, parts = Path(), list(image.parts)
    places = [number for number, part in enumerate(parts[:-1]) if part == "images"]
    beside = image.with_suffix(".txt")
    if not places or beside.is_file():
        return beside
    parts[places[-1]] = "labels"
    return root.parent.joinpath(*parts).with_suffix(".txt")


def _record(image: Path, root: Path, classes: Mapping[int, str], report: Report) -> Record:
    file = _label_file(image, root)
    lines = read_lines(file) if file.is_file() else []
    try:
        height, width = image_size(image)
    except (ValueError, OSError):
        return make_record(image, ())  # whoever reads the image says what is wrong with it
    objects = []
    for number, line in enumerate(lines, start=1):
        parts = line.split()
        if not parts:
            continue
        values = to_numbers(parts, len(parts))
        if values is None or (len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0)):
            rule = f"'{line.strip()}' must be a class and four shares: cx cy width height (or an outline's points)"
            report(Problem("not a box", file, rule, f"line {number}"))
        elif values[0] not in classes:
            rule = f"there is no class {values[0]:g}; data.yaml has {len(classes)} names"
            report(Problem("unknown class", file, rule, f"line {number}"))
        else:
            objects.append((_box(values[1:], height, width), classes[int(values[0])]))
    return make_record(image, objects)


def _box(shares: Sequence[float], height: int, width: int) -> list[float]:
    """In pixels, rounded to 1/10000, since that is what remains of whole numbers that were written as shares."""
    if len(shares) == 4:
        cx, cy, w, h = shares
        sides = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    else:
        sides = (min(shares[::2]), min(shares[1::2]), max(shares[::2]), max(shares[1::2]))
    return [round(side * size, 4) for side, size in zip(sides, (width, height, width, height), strict=True)]
