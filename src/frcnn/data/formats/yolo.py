"""YOLO: data.yaml with `train`, `val`, `test` (folders, or lists of images) and `names`; for each image in images/ a
label file in labels/ with the same name: a line a box, `class cx cy width height`, shares of the image's sides.

Lines of more numbers are outlines, of which the box is taken. An image without a label file holds no objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from frcnn.data.formats.lines import read_lines, read_text, to_numbers, visible, while_unchanged
from frcnn.data.images import image_size, images_among
from frcnn.data.problems import Problem, Report, twins
from frcnn.data.records import make_record
from frcnn.files import write_text
from frcnn.types import Annotation, Record

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "YOLO: data.yaml, images/{train,val}/NAME.jpg, labels/{train,val}/NAME.txt"
_SETS = ("train", "val", "test")


def recognises(folder: Path, settings: DataSettings) -> bool:
    return _description(folder) is not None


def sets(folder: Path, settings: DataSettings) -> list[str]:
    _, content = _described(folder)
    return [name for name in _SETS if content.get(name)]


def read(folder: Path, name: str, settings: DataSettings, report: Report) -> Iterator[Record]:
    """The images of a set, in the order of its list, or of their names."""
    classes, root, found = _classes(folder), _root(folder), []
    for image in _set_images(folder, name, report):
        found.append(image)
        yield _record(image, root, classes, report)
    for problem in twins(found):
        report(problem)
    files = {_label_file(image, root) for image in found}
    for place in {file.parent for file in files if "labels" in file.parts}:
        with_image = _image_names(place)
        for file in sorted(visible(place.glob("*.txt"))):
            if file not in files and file.name != "classes.txt" and file.stem not in with_image:
                rule = f"there is no image {file.stem} for it in the set '{name}'; add the image or remove the file"
                report(Problem("annotation without image", file, rule, level="warning"))


def image_place(name: str, record: Record) -> str:
    """The folder of an image."""
    return f"images/{name}"


def images(folder: Path, settings: DataSettings) -> Iterator[tuple[str, Path]]:
    for name in sets(folder, settings):
        yield from ((name, image) for image in _set_images(folder, name, lambda problem: None))


def class_names(folder: Path, settings: DataSettings) -> list[str]:
    return list(_classes(folder).values())


def read_image(folder: Path, name: str, image: Path, settings: DataSettings) -> list[Annotation] | None:
    """Without a label file it is not annotated, although training takes it as an image without objects."""
    file = _label_file(image, _root(folder))
    if not file.is_file():
        return None
    classes, (height, width) = _classes(folder), image_size(image)
    read = ((line, _read_line(line, classes)) for line in read_lines(file))
    return [
        Annotation(_box(found[1], height, width), found[0], source=line)
        for line, found in read
        if not isinstance(found, str)
    ]


def write_image(
    folder: Path, name: str, image: Path, objects: Sequence[Annotation] | None, settings: DataSettings
) -> None:
    """Lines that cannot be read stay as they are, at the end."""
    file = _label_file(image, _root(folder))
    if objects is None:
        file.unlink(missing_ok=True)
        return
    classes, (height, width) = _classes(folder), image_size(image)
    unread = [
        line for line in (read_lines(file) if file.is_file() else []) if isinstance(_read_line(line, classes), str)
    ]
    numbers = {label: number for number, label in classes.items()}
    lines = []
    for thing in objects:
        if thing.name not in numbers:
            raise ValueError(f"there is no class '{thing.name}' in {_described(folder)[0]}; add it to `names` there")
        found = _read_line(thing.source, classes)
        if isinstance(found, str) or (_box(found[1], height, width), found[0]) != thing[:2]:
            lines.append(_line(numbers[thing.name], thing.box, height, width))
        else:
            lines.append(thing.source)
    write_text(file, "".join(f"{line}\n" for line in [*lines, *filter(str.strip, unread)]))


def write(folder: Path, sets: Mapping[str, Sequence[Record]], classes: Sequence[str]) -> None:
    """Sets are lists of images, which keep their order."""
    for name, records in sets.items():
        paths = [record.image.relative_to(folder).as_posix() for record in records]
        write_text(folder / f"{name}.txt", "".join(f"./{path}\n" for path in paths))
        for record in records:
            height, width = record.size or image_size(record.image)
            lines = (
                _line(classes.index(label), box, height, width)
                for box, label in zip(record.boxes.tolist(), record.names, strict=True)
            )
            write_text(_label_file(record.image, folder), "".join(f"{line}\n" for line in lines))
    content = {name: f"{name}.txt" for name in sets} | {"names": dict(enumerate(classes))}
    write_text(folder / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _description(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    found = ((file, _read_description(file)) for file in _yaml_files(folder))
    return next(((file, content) for file, content in found if content is not None), None)


@while_unchanged
def _yaml_files(folder: Path) -> list[Path]:
    return sorted(visible(folder.glob("*.y*ml")), key=lambda file: (file.stem != "data", file.name))


@while_unchanged
def _read_description(file: Path) -> dict[str, Any] | None:
    try:
        content = yaml.load(read_text(file), Loader=yaml.BaseLoader)  # names are text: no is not False
    except (yaml.YAMLError, ValueError) as error:
        if file.stem == "data":
            raise ValueError(f"{file}: not a YAML file that can be read ({error})") from None
        return None
    if not isinstance(content, dict) or not isinstance(content.get("names"), list | dict):
        return None
    return {key: value for key, value in content.items() if value not in ("", "null", "~", [])}


def _described(folder: Path) -> tuple[Path, dict[str, Any]]:
    found = _description(folder)
    if found is None:
        raise ValueError(f"{folder}: has no data.yaml with 'train' and 'names'")
    return found


def _classes(folder: Path) -> dict[int, str]:
    file, content = _described(folder)
    names = content["names"]
    numbered = enumerate(names) if isinstance(names, list) else names.items()
    try:
        classes = {int(number): name for number, name in numbered}
    except ValueError:
        raise ValueError(f"{file}: names must be a list, or begin with whole numbers: 0: cat") from None
    has_names = all(isinstance(name, str) and name for name in classes.values())
    if not has_names or len(set(classes.values())) < len(classes):
        raise ValueError(f"{file}: every class in names must have a name, and one of its own: {names}")
    return classes


def _root(folder: Path) -> Path:
    _, content = _described(folder)
    path = folder / str(content.get("path") or ".")
    return path if path.is_dir() else folder


def _set_images(folder: Path, name: str, report: Report) -> Iterator[Path]:
    file, content = _described(folder)
    entries = content[name] if isinstance(content[name], list) else [content[name]]
    for entry in entries:
        yield from _images(_root(folder), str(entry), file, report)


def _images(root: Path, entry: str, file: Path, report: Report) -> Iterator[Path]:
    """Of a folder, or of a list of images; "../train" is meant from the folder too, by some exporters."""
    place = next(
        (place for name in (entry, entry.removeprefix("../")) if (place := root / name).exists()), root / entry
    )
    if place.is_dir():
        yield from images_among(place.rglob("*"))
    elif place.is_file():
        for line in read_lines(place):
            if line.strip():
                yield place.parent / line if line.startswith("./") else root / line
    else:
        report(Problem("missing folder", file, f"there is no {place}"))


def _label_file(image: Path, root: Path) -> Path:
    """In labels/, where the image is in images/ (the last part of that name) below the root; else beside it."""
    above, beside = root.parent, image.with_suffix(".txt")
    below = beside.relative_to(above) if beside.is_relative_to(above) else beside
    if "images" not in below.parts[:-1] or beside.is_file():
        return beside
    return above / _with_part(below, "images", "labels")


def _image_names(place: Path) -> set[str]:
    """Those that the label files of a folder may have, in any set: lists may share a folder."""
    images = _with_part(place / "NAME.txt", "labels", "images").parent
    return {image.stem for image in images.iterdir()} if images.is_dir() else set()


def _with_part(path: Path, before: str, after: str) -> Path:
    """With the last folder of that name replaced."""
    parts = list(path.parts)
    place = len(parts) - 2 - parts[-2::-1].index(before)
    return Path(*parts[:place], after, *parts[place + 1 :])


def _record(image: Path, root: Path, classes: Mapping[int, str], report: Report) -> Record:
    file = _label_file(image, root)
    lines = read_lines(file) if file.is_file() else []
    try:
        height, width = image_size(image)
    except (ValueError, OSError):
        return make_record(image, ())  # whoever reads the image says what is wrong with it
    objects = []
    for number, line in enumerate(lines, start=1):
        found = _read_line(line, classes)
        if not isinstance(found, str):
            objects.append((_box(found[1], height, width), found[0]))
        elif line.strip():
            kind = "unknown class" if found.startswith("there is no class") else "not a box"
            report(Problem(kind, file, found, f"line {number}"))
    return make_record(image, objects)


def _read_line(line: str, classes: Mapping[int, str]) -> tuple[str, list[float]] | str:
    """Class and shares of the image's sides, or why it has none."""
    parts = line.split()
    values = to_numbers(parts, len(parts))
    if values is None or (len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0)):
        return f"'{line.strip()}' must be a class and four shares: cx cy width height (or an outline's points)"
    if values[0] not in classes:
        return f"there is no class {values[0]:g}; data.yaml has {len(classes)} names"
    return classes[int(values[0])], values[1:]


def _line(number: int, box: Sequence[float], height: int, width: int) -> str:
    x1, y1, x2, y2 = box
    shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return f"{number} {' '.join(f'{share:.10g}' for share in shares)}"


def _box(shares: Sequence[float], height: int, width: int) -> tuple[float, float, float, float]:
    """In pixels, rounded to 1/10000, since that is what remains of whole numbers that were written as shares."""
    if len(shares) == 4:
        cx, cy, w, h = shares
        sides = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    else:
        sides = (min(shares[::2]), min(shares[1::2]), max(shares[::2]), max(shares[1::2]))
    x1, y1, x2, y2 = (round(side * size, 4) for side, size in zip(sides, (width, height, width, height), strict=True))
    return x1, y1, x2, y2
