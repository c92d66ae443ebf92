"""COCO: annotations/instances_SET.json, and the images in SET/, images/SET/ or images/.

Boxes are x, y, width, height there. Crowds ("iscrowd": a box around many objects) are marked as "difficult".
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from frcnn.config import DataSettings
from frcnn.types import Record

_ROUNDING = 0.02  # COCO's numbers have two decimals, so a box at the border may leave the image by this much
_PREFIX = "instances_"


def recognises(folder: Path, settings: DataSettings) -> bool:
    return any((folder / "annotations").glob(f"{_PREFIX}*.json"))


def read(folder: Path, split: str, settings: DataSettings) -> list[Record]:
    """The images of a split, in the order of its file.

    Without `data.train_set` and `data.test_set`: the only set whose name begins with "train"; "test", or "val" where
    there is no "test".
    """
    name = _set_name(folder, split, settings)
    if name is None:
        return []
    file = folder / "annotations" / f"{_PREFIX}{name}.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        images = {image["id"]: image for image in content["images"]}
        annotations = list(content["annotations"])
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: this file is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not a JSON file ({error})") from None
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{file}: not COCO's format, which has lists 'images', 'categories', 'annotations': {error}"
        ) from None

    of_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for number, annotation in enumerate(annotations, start=1):
        where = f"{file}, annotation {annotation.get('id', number)}"
        if annotation.get("image_id") not in images:
            raise ValueError(f"{where}: there is no image {annotation.get('image_id')}")
        if annotation.get("category_id") not in names:
            raise ValueError(f"{where}: there is no category {annotation.get('category_id')}")
        box = annotation.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int | float) for value in box):
            raise ValueError(f"{where}: bbox {box!r} must be four numbers: x, y, width, height")
        of_image[annotation["image_id"]].append(annotation)
    places = [place for place in (folder / name, folder / "images" / name, folder / "images") if place.is_dir()]
    return [_record(image, of_image[key], names, places or [folder]) for key, image in images.items()]


def _set_name(folder: Path, split: str, settings: DataSettings) -> str | None:
    named = settings.train_set if split == "train" else settings.test_set
    if named is not None:
        return named
    sets = sorted(file.stem.removeprefix(_PREFIX) for file in (folder / "annotations").glob(f"{_PREFIX}*.json"))
    for beginning in ("train",) if split == "train" else ("test", "val"):
        found = [name for name in sets if name.startswith(beginning)]
        if len(found) > 1:
            raise ValueError(f"{folder}: has several sets {', '.join(found)}; choose one with data.{split}_set")
        if found:
            return found[0]
    return None


def _record(
    image: dict[str, Any], annotations: list[dict[str, Any]], names: dict[Any, str], places: list[Path]
) -> Record:
    path = next((place / image["file_name"] for place in places if (place / image["file_name"]).is_file()), None)
    boxes = np.array([annotation["bbox"] for annotation in annotations], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    limits = np.array([image["width"], image["height"]] * 2, np.float64)
    clipped = boxes.clip(0, limits)
    boxes = np.where(np.abs(boxes - clipped) <= _ROUNDING, clipped, boxes)
    return Record(
        path if path is not None else places[0] / image["file_name"],
        boxes.astype(np.float32),
        tuple(names[annotation["category_id"]] for annotation in annotations),
        np.array([bool(annotation.get("iscrowd", 0)) for annotation in annotations], bool),
    )
