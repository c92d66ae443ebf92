"""COCO: annotations/instances_SET.json, and the images in SET/, images/SET/ or images/; or, as some tools export it,
SET/_annotations.coco.json beside the images.

Boxes are x, y, width, height there. Crowds ("iscrowd": a box around many objects) are marked as "difficult".
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from frcnn.config import DataSettings
from frcnn.data.formats.json_files import read_json
from frcnn.data.images import image_size
from frcnn.data.problems import Problem, Report
from frcnn.data.records import Records
from frcnn.files import whole_file
from frcnn.types import Record

LAYOUT = "COCO: annotations/instances_{train,val}*.json, images in a folder of the set's name, or images/"
_ROUNDING = 0.02  # COCO's numbers have two decimals, so a box at the border may leave the image by this much
_PREFIX = "instances_"
_BESIDE = "_annotations.coco.json"
_Key = int | str


class _Image(msgspec.Struct, gc=False):
    id: _Key
    file_name: str
    width: int
    height: int


class _Category(msgspec.Struct, gc=False):
    id: _Key
    name: str


class _Annotation(msgspec.Struct, gc=False):
    image_id: _Key
    category_id: _Key
    bbox: Any = None
    id: _Key | None = None
    iscrowd: int | None = 0


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
    content = read_json(file, _Content, "COCO's format, which has lists 'images', 'categories', 'annotations'")
    place = {image.id: number for number, image in enumerate(content.images)}
    known = {category.name: number for number, category in enumerate(content.categories)}
    names = {category.id: known[category.name] for category in content.categories}  # two may have one name
    if len(place) < len(content.images):
        twice = next(image.id for number, image in enumerate(content.images) if place[image.id] != number)
        report(Problem("index twice", file, f"image id {twice} appears twice; give every image its own"))
    good = [a for n, a in enumerate(content.annotations, start=1) if _is_good(a, n, place, names, file, report)]
    images = np.array([place[annotation.image_id] for annotation in good], np.int64)
    labels = np.array([names[annotation.category_id] for annotation in good], np.int64)
    crowds = np.array([bool(annotation.iscrowd) for annotation in good], bool)
    boxes = np.fromiter(chain.from_iterable(a.bbox for a in good), np.float64, 4 * len(good)).reshape(-1, 4)
    content.annotations, good = [], []
    sizes = np.array([(image.height, image.width) for image in content.images], np.int64).reshape(-1, 2)

    order = np.argsort(images, kind="stable")
    images, boxes = images[order], boxes[order]
    boxes[:, 2:] = (boxes[:, :2] + boxes[:, 2:]).round(4)  # x + width of decimals: 0.1 + 0.2 is 0.3
    clipped = boxes.clip(0, np.tile(sizes[images][:, ::-1], 2))
    boxes = np.where(np.abs(boxes - clipped) <= _ROUNDING, clipped, boxes)
    return Records.of_arrays(
        _paths(folder, name, file, [image.file_name for image in content.images]),
        boxes,
        labels[order],
        [category.name for category in content.categories],
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
                x, y, w, h = (_short(value) for value in (box[0], box[1], box[2] - box[0], box[3] - box[1]))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": categories[label],
                        "bbox": [x, y, w, h],
                        "area": _short(w * h),
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


def _short(value: float) -> int | float:
    """Whole numbers as such, others with four decimals."""
    rounded = round(value, 4)
    return int(rounded) if rounded == int(rounded) else rounded


def _files(folder: Path) -> dict[str, Path]:
    """The file of each set."""
    found = {
        file.stem.removeprefix(_PREFIX): file for file in sorted((folder / "annotations").glob(f"{_PREFIX}*.json"))
    }
    return found or {file.parent.name: file for file in sorted(folder.glob(f"*/{_BESIDE}"))}


def _paths(folder: Path, name: str, file: Path, names: Sequence[str]) -> Iterable[str]:
    if file.name == _BESIDE:
        places = [file.parent]
    else:
        around = (folder / name, folder / "images" / name, folder / "images", folder)
        places = [place for place in around if place.is_dir()]
    if len(places) > 1:
        # A hundred images say where they all are, not each of a million.
        found = [sum((place / name).is_file() for name in names[:100]) for place in places]
        if max(found) in (0, len(names[:100])):
            places = [places[found.index(max(found))]]
    if len(places) == 1:
        return (os.path.join(places[0], name) for name in names)
    return (str(next((p / name for p in places if (p / name).is_file()), places[0] / name)) for name in names)


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
    elif not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int | float) for value in box):
        kind, rule = "not a box", f"bbox {box!r} must be four numbers: x, y, width, height"
    else:
        return True
    place = f"annotation {annotation.id if annotation.id is not None else number}"
    report(Problem(kind, file, rule, place))
    return False
