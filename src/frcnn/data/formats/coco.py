"""COCO: annotations/instances_SET.json, and the images in SET/, images/SET/ or images/; or, as some tools export it,
SET/_annotations.coco.json beside the images, or NAME.json in the folder itself.

Boxes are x, y, width, height there. Crowds ("iscrowd": a box around many objects) are marked as "difficult".
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec
import numpy as np

from frcnn.data.formats.json_files import read_json
from frcnn.data.formats.lines import slashes, visible, while_unchanged
from frcnn.data.images import image_size, images_among
from frcnn.data.problems import Problem, Report
from frcnn.data.records import Records
from frcnn.files import whole_file
from frcnn.types import Annotation, Record

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "COCO: annotations/instances_{train,val}*.json, images in a folder of the set's name, or images/"
_ROUNDING = 0.02  # COCO's numbers have two decimals, so a box at the border may leave the image by this much
_PREFIX = "instances_"
_BESIDE = "_annotations.coco.json"
_FORM = "COCO's format, which has lists 'images', 'categories', 'annotations'"
_FORM = "COCO's format, which has lists 'images', 'categories', 'annotations'"
_FEW = 5  # JSON files: more are those of single images
_Key = int | str
_Raw = dict[str, Any]
_Json = tuple[Any, ...] | dict[str, Any] | str | int | float | bool | None
"""Anything; an array becomes a tuple. Python's garbage collector soon leaves tuples of numbers alone; with a list for
each box it took a third of the time to open the annotations of 100,000 images."""


class _Image(msgspec.Struct, gc=False):
    id: _Key
    file_name: str
    width: int | float | None
    height: int | float | None


class _Category(msgspec.Struct, gc=False):
    id: _Key
    name: str | int | float


class _Annotation(msgspec.Struct, gc=False):
    image_id: _Key
    category_id: _Key
    bbox: _Json = None
    id: _Key | None = None
    iscrowd: int | float | bool | None = 0


class _Content(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


def recognises(folder: Path, settings: DataSettings) -> bool:
    return bool(_files(folder))


def sets(folder: Path, settings: DataSettings) -> list[str]:
    return list(_files(folder))


def read(folder: Path, name: str, settings: DataSettings, report: Report) -> Records:
    """The images of a set, in the order of its file."""
    file = _files(folder)[name]
    content = read_json(file, _Content, _FORM)
    place = {image.id: number for number, image in enumerate(content.images)}
    listed = [str(category.name) for category in content.categories]
    known = {label: number for number, label in enumerate(listed)}
    names = {category.id: known[str(category.name)] for category in content.categories}  # two may have one name
    if len(place) < len(content.images):
        twice = next(image.id for number, image in enumerate(content.images) if place[image.id] != number)
        report(Problem("index twice", file, f"image id {twice} appears twice; give every image its own"))
    good = [a for n, a in enumerate(content.annotations, start=1) if _is_good(a, n, place, names, file, report)]
    images = np.array([place[annotation.image_id] for annotation in good], np.int64)
    labels = np.array([names[annotation.category_id] for annotation in good], np.int64)
    crowds = np.array([bool(annotation.iscrowd) for annotation in good], bool)
    sides = cast("list[tuple[float, ...]]", [annotation.bbox for annotation in good])
    boxes = np.fromiter(chain.from_iterable(sides), np.float64, 4 * len(sides)).reshape(-1, 4)
    content.annotations, good, sides = [], [], []
    sizes = np.array([(image.height or 0, image.width or 0) for image in content.images], np.int64).reshape(-1, 2)

    order = np.argsort(images, kind="stable")
    images, boxes = images[order], boxes[order]
    return Records.of_arrays(
        _paths(folder, name, file, [image.file_name for image in content.images]),
        _corners(boxes, sizes[images]),
        labels[order],
        listed,
        np.bincount(images, minlength=len(sizes)),
        difficult=crowds[order],
        sizes=sizes,
    )


def image_place(name: str, record: Record) -> str:
    """The folder of an image."""
    return f"images/{name}"


def write(folder: Path, sets: Mapping[str, Sequence[Record]], classes: Sequence[str]) -> None:
    categories = {label: number for number, label in enumerate(classes, start=1)}
    for name, records in sets.items():
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, record in enumerate(records, start=1):
            height, width = record.size or image_size(record.image)
            images.append({"id": number, "file_name": record.image.name, "width": width, "height": height})
            for box, label, crowd in zip(record.boxes.tolist(), record.names, record.difficult, strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": categories[label],
                        **_sides(box),
                        "iscrowd": int(crowd),
                    }
                )
        content = {
            "images": images,
            "categories": [{"id": number, "name": label} for label, number in categories.items()],
            "annotations": annotations,
        }
        with whole_file(folder / "annotations" / f"{_PREFIX}{name}.json") as partial:
            partial.write_bytes(msgspec.json.encode(content))


def images(folder: Path, settings: DataSettings) -> Iterator[tuple[str, Path]]:
    """Those of the files, and those beside them that are in none, which become part of a set there."""
    files = sorted(_files(folder).items(), key=lambda item: not item[0].startswith("train"))
    listed = {Path(image): name for name, file in files for image in _opened(file).images}
    yield from ((name, image) for image, name in listed.items())
    for name, file in files:
        beside = {Path(image).parent for image in _opened(file).images} or set(_places(folder, name, file))
        for place in sorted(filter(Path.is_dir, beside)):
            for image in images_among(place.iterdir()):
                if image not in listed:
                    listed[image] = name
                    yield name, image


def class_names(folder: Path, settings: DataSettings) -> list[str]:
    names = (label for file in _files(folder).values() for label in _opened(file).names.values())
    return list(dict.fromkeys(names))


def read_image(folder: Path, name: str, image: Path, settings: DataSettings) -> list[Annotation] | None:
    """An image that the file does not list is not annotated; one that is listed twice cannot be changed."""
    opened = _opened(_files(folder)[name])
    twice = [file for file in _files(folder).values() for _ in range(_opened(file).listed[str(image)])]
    if len(twice) > 1:
        raise ValueError(f"{image}: is listed in {twice[0]} and in {twice[1]}; one list must have it, once")
    entry = opened.images.get(str(image))
    return None if entry is None else [_annotation(one, entry, opened.names) for one in opened.readable(entry)]


def write_image(
    folder: Path, name: str, image: Path, objects: Sequence[Annotation] | None, settings: DataSettings
) -> None:
    """An object whose box is changed loses its outline; those that cannot be read stay as they are."""
    file = _files(folder)[name]
    opened = _opened(file)
    entry = opened.images.get(str(image)) or _entry(image, opened, _places(folder, name, file))
    names = dict(opened.names)
    for label in dict.fromkeys(thing.name for thing in objects or ()):
        if label not in names.values():
            names[_free(names)] = label
    replaced = opened.readable(entry) if objects is not None else opened.annotations.get(entry["id"], [])
    ids = {id(one) for one in replaced}
    before = opened.content["annotations"]
    kept = [one for one in before if id(one) not in ids]
    place = next((number for number, one in enumerate(before) if id(one) in ids), len(before))
    used = {one.get("id") for one in kept}
    new = []
    for thing in objects or ():
        new.append(_described(thing, entry, names, used))
        used.add(new[-1]["id"])
    others = [one for one in opened.content["images"] if one is not entry]
    images = opened.content["images"] if str(image) in opened.images else [*opened.content["images"], entry]
    categories = [{"id": key, "name": label} for key, label in names.items() if key not in opened.names]
    content = opened.content | {
        "images": others if objects is None else images,
        "annotations": [*kept[:place], *new, *kept[place:]],
        "categories": [*opened.content["categories"], *categories],
    }
    with whole_file(file) as partial:
        partial.write_bytes(msgspec.json.encode(content))


class _Opened(NamedTuple):
    """A file, with all that we do not know of."""

    content: _Raw
    listed: Counter[str]
    """How often each path is."""
    images: dict[str, _Raw]
    """By path."""
    annotations: dict[_Key, list[_Raw]]
    """By the id of their image."""
    names: dict[_Key, str]
    """Of the categories."""

    def readable(self, entry: _Raw) -> list[_Raw]:
        """The annotations of an image that are boxes of a class."""
        own = self.annotations.get(entry["id"], [])
        return [one for one in own if one["category_id"] in self.names and _is_box(one.get("bbox"))]


@while_unchanged
def _opened(file: Path) -> _Opened:
    read_json(file, _Content, _FORM)
    content = read_json(file, _Raw, _FORM)
    name = next(name for name, other in _files(_folder_of(file)).items() if other == file)
    names = [entry["file_name"] for entry in content["images"]]
    paths = [str(Path(path)) for path in _paths(_folder_of(file), name, file, names)]
    annotations: dict[_Key, list[_Raw]] = {}
    for one in content["annotations"]:
        annotations.setdefault(one["image_id"], []).append(one)
    return _Opened(
        content,
        Counter(paths),
        dict(zip(paths, content["images"], strict=True)),
        annotations,
        {category["id"]: str(category["name"]) for category in content["categories"]},
    )


def _annotation(one: _Raw, entry: _Raw, names: Mapping[_Key, str]) -> Annotation:
    sizes = np.array([[entry["height"] or 0, entry["width"] or 0]])
    x1, y1, x2, y2 = _corners(np.array([one["bbox"]], np.float64), sizes)[0].tolist()
    is_crowd = bool(one.get("iscrowd"))
    return Annotation((x1, y1, x2, y2), names[one["category_id"]], is_crowd, msgspec.json.encode(one).decode())


def _described(thing: Annotation, entry: _Raw, names: Mapping[_Key, str], used: set[_Key | None]) -> _Raw:
    one: _Raw = msgspec.json.decode(thing.source) if thing.source else {}
    old = _annotation(one, entry, names) if thing.source else None
    if one.get("id") in used or not one:
        one = {"id": _free(used)} | {key: value for key, value in one.items() if key != "id"}
    one["image_id"] = entry["id"]
    if old is None or old.name != thing.name:
        one["category_id"] = next(key for key, label in names.items() if label == thing.name)
    if old is None or old.box != thing.box:
        one = {key: value for key, value in one.items() if key != "segmentation"} | _sides(thing.box)
    if old is None or old.difficult != thing.difficult:
        one["iscrowd"] = int(thing.difficult)
    return one


def _entry(image: Path, opened: _Opened, places: Sequence[Path]) -> _Raw:
    place = next(place for place in places if image.is_relative_to(place))
    height, width = image_size(image)
    key = _free(
        [*opened.annotations, *(entry["id"] for entry in opened.content["images"])]
    )  # boxes may be without image
    return {"id": key, "file_name": image.relative_to(place).as_posix(), "width": width, "height": height}


def _free(keys: Iterable[_Key | None]) -> int:
    return max((key for key in keys if isinstance(key, int)), default=0) + 1


def _corners(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """x1, y1, x2, y2 of x, y, width, height; and inside the image, if rounding is all that leads out of it."""
    corners = boxes.copy()
    corners[:, 2:] = (boxes[:, :2] + boxes[:, 2:]).round(4)  # x + width of decimals: 0.1 + 0.2 is 0.3
    clipped = corners.clip(0, np.tile(sizes[:, ::-1], 2))
    return np.where(np.abs(corners - clipped) <= _ROUNDING, clipped, corners)


def _sides(box: Sequence[float]) -> _Raw:
    x, y, w, h = (_short(value) for value in (box[0], box[1], box[2] - box[0], box[3] - box[1]))
    return {"bbox": [x, y, w, h], "area": _short(w * h)}


def _short(value: float) -> int | float:
    """Whole numbers as such, others with four decimals."""
    rounded = round(value, 4)
    return int(rounded) if rounded == int(rounded) else rounded


def _files(folder: Path) -> dict[str, Path]:
    """The file of each set."""
    found = {
        file.stem.removeprefix(_PREFIX): file for file in sorted((folder / "annotations").glob(f"{_PREFIX}*.json"))
    }
    found = found or {file.parent.name: file for file in sorted(folder.glob(f"*/{_BESIDE}"))}
    alone = sorted(visible(folder.glob("*.json")))
    return found or {file.stem: file for file in alone if len(alone) <= _FEW and _is_coco(file)}


@while_unchanged
def _is_coco(file: Path) -> bool:
    try:
        read_json(file, _Content, _FORM)
    except (ValueError, OSError):
        return False
    return True


def _folder_of(file: Path) -> Path:
    """Of the data."""
    return file.parent.parent if file.name == _BESIDE or file.name.startswith(_PREFIX) else file.parent


def _places(folder: Path, name: str, file: Path) -> list[Path]:
    """Where the images of a set may lie."""
    if file.name == _BESIDE:
        return [file.parent]
    around = (folder / name, folder / "images" / name, folder / "images", folder)
    return [place for place in around if place.is_dir()]


def _paths(folder: Path, name: str, file: Path, names: Sequence[str]) -> Iterable[str]:
    places, names = _places(folder, name, file), [slashes(name) for name in names]
    if len(places) > 1:
        # A hundred images say where they all are, not each of a million.
        found = [sum((place / name).is_file() for name in names[:100]) for place in places]
        if max(found) in (0, len(names[:100])):
            places = [places[found.index(max(found))]]
    if len(places) == 1:
        return (os.path.join(places[0], name) for name in names)
    return (str(next((p / name for p in places if (p / name).is_file()), places[0] / name)) for name in names)


def _is_box(box: object) -> bool:
    return isinstance(box, list | tuple) and len(box) == 4 and all(isinstance(value, int | float) for value in box)


def _is_good(
    annotation: _Annotation,
    number: int,
    images: Mapping[_Key, int],
    names: Mapping[_Key, int],
    file: Path,
    report: Report,
) -> bool:
    box = annotation.bbox
    if annotation.image_id not in images:
        kind, rule = "annotation without image", f"there is no image {annotation.image_id}"
    elif annotation.category_id not in names:
        kind, rule = "unknown class", f"there is no category {annotation.category_id}"
    elif not _is_box(box):
        shown = list(box) if isinstance(box, tuple) else box
        kind, rule = "not a box", f"bbox {shown!r} must be four numbers: x, y, width, height"
    else:
        return True
    place = f"annotation {annotation.id if annotation.id is not None else number}"
    report(Problem(kind, file, rule, place))
    return False
