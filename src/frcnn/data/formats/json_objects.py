"""Other JSON, by content: images with objects that have a box and a class, whatever the keys are and however deep.

One file has all images (a list, an object, or one JSON value per line), or each image has its own file. These are
SageMaker's manifests, Hugging Face's metadata.jsonl, Azure, BDD100K, Labelbox, V7, Dataloop, Datumaro, FiftyOne,
detectron2, Cityscapes, Mapillary, CrowdHuman, TT100K, PaliGemma, TensorBox, sloth and others. An image is named by a
value with the suffix of an image, else by the key of its objects or by the file. Its split may be said, too. Boxes with
a score are detections.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import yaml

from frcnn.data.formats.csv_cells import read_rows
from frcnn.data.formats.csv_columns import SPLIT
from frcnn.data.formats.four_numbers import are_corners, are_fractions, read_as_corners
from frcnn.data.formats.json_files import id_of, plain_start, read_json
from frcnn.data.formats.lines import read_text, to_number, to_size, while_unchanged
from frcnn.data.formats.location_tokens import objects_in
from frcnn.data.formats.masks import around
from frcnn.data.formats.names_files import are_numbers, names_in
from frcnn.data.formats.source import Source, by_image_split, image_splits
from frcnn.data.images import IMAGE_SUFFIXES, UNREADABLE, image_size
from frcnn.data.problems import (
    AmbiguousImageError,
    ImageNotFoundError,
    OnProblem,
    Problem,
    ProblemKind,
    classes_without_names,
    invalid_object,
    missing_image,
    most_telling,
    no_classes,
    without_annotation,
)
from frcnn.data.records import ONLY_CLASS, Record, same_objects
from frcnn.data.tree import Tree, split_in
from frcnn.messages import plural
from frcnn.yaml_text import load_yaml

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "other JSON: images with lists of objects, each with a box and a class"
SUFFIXES = frozenset({".json", ".jsonl", ".ndjson", ".manifest", ".odgt", ".yaml", ".yml"})
_YAML = frozenset({".yaml", ".yml"})
_CSV = frozenset({".csv", ".tsv"})
_FORM = "JSON of images and objects"
_CORNERS = (
    "x1 xmin minx left topx x0",
    "y1 ymin miny top topy y0",
    "x2 xmax maxx right bottomx",
    "y2 ymax maxy bottom bottomy",
)
_FROM_ZERO = ("x0", "y0", "x1", "y1")
_SIZE = ("w width bboxwidth boxwidth", "h height bboxheight boxheight")
_CORNER_AND_SIZE = ("x left xmin x1 xpos", "y top ymin y1 ypos", *_SIZE)
_CENTER = ("cx xcenter centerx xc", "cy ycenter centery yc")
_BOX = (
    "bbox bboxes box boxes box2d bbox2d 2d amodal boundingbox boundingboxes bndbox fbox rect rectangle rects xyxy xywh "
    "coordinates coords position geometry polygon points vertices exterior segmentation"
)
"""Keys of one value that is a box, or the outline of an object; or, with lists of classes beside it, of all boxes."""
_ARE_CORNERS = frozenset({"xyxy", "polygon", "points", "vertices", "exterior", "segmentation"})
"""Four numbers of these keys are two opposite corners."""
_YOLO = ("cx", "cy", "width", "height")
_LABEL = (
    "labelname classname categoryname displayname label class category objectclass object identity species title "
    "tagname tag classtitle name names value labels categories classes labelid classid categoryid type kind text"
)
_COMMON = ("label", "class", "category", "species")
"""Keys of the class of all boxes beside them."""
_CLASSES = frozenset({"categories", "classes", "names", "classnames", "labelnames", "classmap", "labelmap"})
"""Keys of the names of classes, by number."""
_IDS = "filename imagename imagepath imagefilename imageid imgid"
_PATH = f"{_IDS} image img file path"
_NO_OBJECTS = frozenset({"poly2d", "keypoints"})
"""Keys of lanes and points."""
_LISTS_OF_OBJECTS = frozenset({"labels", "objects", "annotations"})
"""Keys of which null is an empty list (BDD100K). Elsewhere, null is a list that nobody made (FiftyOne)."""
_IGNORE = "ignore difficult iscrowd crowd isgroupof"
_ABOUT = ("extra", "attributes")
"""Keys of more about an object, which may say that it is ignored (CrowdHuman)."""
_SCORE = "score confidence conf"
_SPLIT = re.compile(rf"{SPLIT.replace(' ', '|')}|.*mluse")  # the latter: Vertex AI
_MARK = re.compile(
    rb'[\w"\s]\b(\w*box\w*|x_?min|x[01]?|left|top_?x|rects?|polygon|points|vertices|geometry|coordinates|amodal)"?\s*:|<loc_?\d'
    rb'|"(annotations|objects)"\s*:\s*\[\s*\]',  # of an image without objects, in a file of its own
    re.IGNORECASE,
)
_CITYSCAPES = re.compile(r"_gt(Fine_polygons|Coarse_polygons|Bbox[A-Za-z0-9]*)$")


class _Object(NamedTuple):
    numbers: tuple[float, ...]
    """Corners; or the four numbers of a list."""
    is_list: bool
    """Whether it may be x, y, width, height."""
    label: Any
    """As the file says it."""
    key: str
    """Of the list of objects."""
    ignore: bool


class _Image(NamedTuple):
    names: tuple[str, ...]
    """What may name its file, best first."""
    size: tuple[int, int] | None
    objects: list[_Object]
    is_annotated: bool
    split: str | None = None
    """As the file says it for this image."""

    @property
    def shown(self) -> str:
        return next(filter(_is_image, self.names), self.names[-1])


class _Content(NamedTuple):
    images: list[_Image]
    class_names: dict[Any, str]
    num_detections: int
    odd: list[tuple[str, str]]
    """The class of each box without numbers, and what is wrong."""


_Group = dict[Path, tuple[Path, _Image]]
"""By image, the annotation file and what it says."""


def recognizes(file: Path, start: bytes) -> bool:
    start = plain_start(start)
    first = start.lstrip()[:1]
    if first not in ((b"-",) if file.suffix.lower() in _YAML else (b"{", b"[")):
        return False
    return _MARK.search(start) is not None or _MARK.search(plain_start(file.read_bytes())) is not None


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    """Files without an object of an image in the tree are something else; except those of one image beside others."""
    splits: dict[Path, list[str]] = {}
    lost: list[Path] = []
    for file in files:
        with suppress(ValueError):
            images = _content(file).images
            names = [_name(image.names, file, tree) for image in images]
            if any(image.objects and isinstance(_find(image.names, file, tree), Path) for image in images):
                splits[file] = list(_splits(images, names, file, tree).values())
            elif len(images) == 1:
                lost.append(file)
    folders = {file.parent: own[0] for file, own in splits.items()}
    splits |= {file: [folders[file.parent]] for file in lost if file.parent in folders}
    return by_image_split(splits, lambda file: splits[file])


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a split. If several files have an image, it is read once, but again for other objects. Files of one
    image each decide together what four numbers mean."""
    single: _Group = {}
    groups = [single]
    detections = waiting = 0
    listed = dict(enumerate(names_in(tree)))
    for file in source.files:
        content = _content(file)
        content = content._replace(class_names=content.class_names or listed)
        detections += content.num_detections
        for name, message in content.odd:
            on_problem(invalid_object(file, message, f"object '{name}'", name))
        names = [_name(image.names, file, tree) for image in content.images]
        splits = _splits(content.images, names, file, tree)
        own: _Group = {}
        if len(set(names)) == 1 and _find((names[0],), file, tree) not in single:
            own = single
        else:
            groups.append(own)
        for name, entry in zip(names, content.images, strict=True):
            if len(names) > 1 and splits[name] != source.split:
                continue
            image = _find(entry.names, file, tree)
            if not isinstance(image, Path):
                lost = (_label(one.label, content.class_names) or "" for one in entry.objects)
                error = image if isinstance(image, AmbiguousImageError) else f"there is no image {entry.shown}"
                on_problem(missing_image(file, error, lost=lost))
            elif not entry.is_annotated and not entry.objects:
                waiting += 1
            else:
                earlier = own[image][1].objects if image in own else []
                objects = [one._replace(label=_label(one.label, content.class_names)) for one in entry.objects]
                own[image] = file, entry._replace(objects=[*earlier, *objects])
    if waiting:
        message = f"{plural(waiting, 'image has', 'images have')} no list of objects, and so no annotation"
        on_problem(without_annotation(source.files[0], message))
    if detections:
        message = f"{plural(detections, 'box has', 'boxes have')} a score, so a detector made them; they are left out"
        on_problem(Problem(ProblemKind.CONFIDENCE, source.files[0], message, level="warning"))
    records: dict[Path, list[Record]] = {}
    for group in filter(None, groups):
        for record in _records(group, on_problem):
            earlier_records = records.setdefault(record.image, [])
            if not any(same_objects(earlier, record) for earlier in earlier_records):
                earlier_records.append(record)
    yield from chain.from_iterable(records.values())


@lru_cache(maxsize=200_000)
def _find(names: tuple[str, ...], file: Path, tree: Tree) -> Path | ImageNotFoundError:
    """The image with one of these names, or why there is none."""
    errors = []
    for name in names:
        try:
            return tree.find_image(name, file)
        except ImageNotFoundError as error:
            errors.append(error)
    return most_telling(errors)


def _name(names: tuple[str, ...], file: Path, tree: Tree) -> str:
    """The name that an image has, else the first one."""
    return (
        next((name for name in names if isinstance(_find((name,), file, tree), Path)), names[0])
        if len(names) > 1
        else names[0]
    )


def _splits(images: Sequence[_Image], names: Sequence[str], file: Path, tree: Tree) -> dict[str, str]:
    """The split of each image, by its name: the one that is said for it, else that of the file or of its folder."""
    said = {name: image.split for name, image in zip(names, images, strict=True) if image.split is not None}
    if all(split.startswith("train") for split in said.values()):
        said = {}  # nothing is set aside: "train" may be what is seen in the image
    return image_splits(names, file, tree) | said


@while_unchanged
def _content(file: Path) -> _Content:
    """The images of a file.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        suffix = file.suffix.lower()
        value: Any
        if suffix in _CSV:
            value = read_rows(file)
        else:
            value = load_yaml(read_text(file)) if suffix in _YAML else read_json(file, object, _FORM)
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: not YAML ({error})") from None
    except ValueError as error:
        try:
            value = msgspec.json.Decoder().decode_lines(plain_start(file.read_bytes()))
        except (msgspec.DecodeError, RecursionError):  # the latter: nested too deeply
            raise error from None
    content = _Content([], {}, 0, [])
    return _collect(value, None, (_CITYSCAPES.sub("_leftImg8bit", file.stem),), content)


def _collect(value: Any, image: _Image | None, keys: tuple[str, ...], content: _Content) -> _Content:
    """Add the images and objects in a JSON value.

    Args:
        image: the nearest image around the value.
        keys: those around the value, the nearest first; at last the name of the file.
    """
    if isinstance(value, list):
        for each in value:
            content = _collect(each, image, keys, content)
        return content
    if not isinstance(value, dict):
        return content
    own = _plain_keys(value)
    names = _image_names(value, own)
    if image is not None and _is_image(image.shown) and not any(map(_is_image, names)):
        names = ()  # the id of an object
    if names and (image is None or names[0] not in image.names):
        size = to_size(own.get("height"), own.get("width"))
        image = _Image(names, size, [], _has_list(value), _said_split(value))
        content.images.append(image)
    rows = _rows(own)
    if rows:
        for row in rows:
            content = _collect(row, image, keys, content)
        return content
    numbers = _box(own)
    if numbers is not None:
        return _with_object(own, numbers, image, keys, content)
    for key, each in value.items():
        if isinstance(each, str) and "<loc" in each:
            each = objects_in(each)
        if _plain(key) in _CLASSES:
            content.class_names.update(_numbered(each))
        if each in ([], {}) and image is None and _is_image(key):
            content.images.append(_Image((key,), None, [], is_annotated=True))
        if key not in _NO_OBJECTS:
            content = _collect(each, image, (key, *keys), content)
    return content


def _with_object(
    own: Mapping[str, Any], numbers: Sequence[Any], image: _Image | None, keys: tuple[str, ...], content: _Content
) -> _Content:
    if _is_detection(own):
        return content._replace(num_detections=content.num_detections + 1)
    values = [to_number(number) for number in numbers[:4]]
    label = _first(own, _LABEL)
    if None in values:
        content.odd.append((_label(label, content.class_names) or "", f"{list(numbers[:4])} must be four numbers"))
        return content
    if image is None:
        if not content.images or content.images[-1].names != keys:
            content.images.append(_Image(keys, None, [], is_annotated=True))
        image = content.images[-1]
    marks = [own, *(_plain_keys(own[key]) for key in _ABOUT if isinstance(own.get(key), dict))]
    ignore = any(_first(each, _IGNORE) in (1, True, "1", "true", "True") for each in marks)
    is_list = len(numbers) == 4 and own.get("bboxmode") != 0
    image.objects.append(
        _Object(tuple(value for value in values if value is not None), is_list, label, keys[0], ignore)
    )
    return content


def _is_detection(own: Mapping[str, Any]) -> bool:
    """Whether an object has the score that a detector gave it."""
    score = _first(own, _SCORE)
    return isinstance(score, float) and 0 < score < 1


def _said_split(value: Mapping[Any, Any]) -> str | None:
    """The split that an image says it belongs to: by a key (Ultralytics, Vertex AI) or a tag (FiftyOne); None: none, or
    several."""
    inner = [_plain_keys(one) for one in (value, *value.values()) if isinstance(one, dict)]
    said = [each for one in inner for key, each in one.items() if _SPLIT.fullmatch(key)]
    tags = value.get("tags")
    words = [*said, *(tags if isinstance(tags, list) else ())]
    splits = {split_in(word) for word in words if isinstance(word, str) and word.isalnum()} - {None}
    return splits.pop() if len(splits) == 1 else None


def _rows(own: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The objects of lists side by side: {"bbox": [[...], [...]], "category": [...]}; empty: it is something else."""
    for key in _BOX.split():
        boxes = own.get(key)
        if isinstance(boxes, list) and boxes and all(map(_is_yolo, boxes)):
            return [dict(zip(("label", *_YOLO), box, strict=True)) for box in boxes]
        if isinstance(boxes, list) and boxes and all(map(_is_four, boxes)):
            columns = {name: each for name, each in own.items() if isinstance(each, list) and len(each) == len(boxes)}
            common = {name: own[name] for name in _COMMON if isinstance(own.get(name), str)}
            return [common | dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return []


def _is_yolo(box: Any) -> bool:
    """Whether a list has the number of a class, then center and size in fractions, as Ultralytics writes it."""
    is_long = isinstance(box, list) and len(box) == 1 + len(_YOLO) and isinstance(box[0], int)
    return is_long and all(isinstance(side, int | float) and 0 <= side <= 1 for side in box[1:])


def _is_four(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box)


def _box(own: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Four numbers of a list; or corners, and a fifth value as a mark; None: it is no object."""
    for key in _BOX.split():
        value = own.get(key)
        if isinstance(value, dict):
            box = _box(_plain_keys(value))
            if box is not None:
                return box
        elif isinstance(value, list) and value:
            if len(value) == 4 and not any(isinstance(each, list | dict) for each in value):
                return (*value, True) if key in _ARE_CORNERS else tuple(value)
            points = [[each.get("x"), each.get("y")] if isinstance(each, dict) else each for each in value]
            outline = around(points) if len(points) > 1 or isinstance(points[0], list) else None
            if outline is not None:
                return outline[0], outline[1], outline[0] + outline[2], outline[1] + outline[3], True
    sides = [own.get(name) for name in _FROM_ZERO]
    if None in sides or "x2" in own:
        sides = [_first(own, names) for names in _CORNERS]
    if None not in sides:
        return *sides, True
    x, y, width, height = (to_number(_first(own, names)) for names in _CORNER_AND_SIZE)
    if x is None or y is None:
        cx, cy = (to_number(_first(own, names)) for names in _CENTER)
        if cx is not None and cy is not None and width is not None and height is not None:
            x, y = cx - width / 2, cy - height / 2
    if x is None or y is None or width is None or height is None:
        return None
    return x, y, x + width, y + height, True


def _records(group: _Group, on_problem: OnProblem) -> Iterator[Record]:
    """The records of images whose boxes mean the same."""
    file = next(iter(group.values()))[0]
    images = {image: entry for image, (_, entry) in group.items()}
    objects = [one for image in images.values() for one in image.objects]
    by_key = len({one.key for one in objects}) > 1 and all(one.label in (None, "") for one in objects)
    if objects and not by_key and all(one.label is None for one in objects):
        on_problem(no_classes(file))
    have_corners = are_corners(
        [(image, one.numbers) for image in images for one in images[image].objects if one.is_list]
    )
    if have_corners:
        on_problem(read_as_corners(file))
    boxes = {image: _corners(entry.objects, have_corners) for image, entry in images.items()}
    fractions = are_fractions([box for each in boxes.values() for box in each])
    if fractions:
        message = "most coordinates are 1 or less: all are fractions of the image's sides, and are read as such"
        on_problem(Problem(ProblemKind.FRACTIONS, file, message, level="warning"))
    if not by_key and are_numbers(one.label or "" for one in objects):
        on_problem(classes_without_names(file))
    for image, entry in images.items():
        corners = np.array(boxes[image], np.float64).reshape(-1, 4)
        size = entry.size
        if fractions:
            with suppress(*UNREADABLE):  # it is reported later
                size = image_size(image)
                corners = (corners * (size[1], size[0], size[1], size[0])).round(4)
        labels = (one.key if by_key else one.label for one in entry.objects)
        names = tuple(ONLY_CLASS if label is None else label for label in labels)
        kept = [bool(name) for name in names]
        for _ in range(kept.count(False)):
            on_problem(invalid_object(group[image][0], "an object has no class", entry.shown))
        ignore = np.array([one.ignore for one in entry.objects], bool)
        yield Record(image, corners[kept].astype(np.float32), tuple(filter(None, names)), ignore[kept], size)


def _corners(objects: Sequence[_Object], have_corners: bool) -> list[tuple[float, ...]]:
    return [
        (x, y, round(x + a, 4), round(y + b, 4)) if one.is_list and not have_corners else (x, y, a, b)
        for one in objects
        for x, y, a, b in (one.numbers,)
    ]


def _label(label: Any, class_names: Mapping[Any, str]) -> str | None:
    """The class of an object; empty: it has none; None: the file does not say it."""
    if isinstance(label, list):
        label = label[0] if label else ""
    if isinstance(label, dict):
        label = _first(_plain_keys(label), _LABEL)
    if label is None:
        return None
    name = class_names.get(id_of(label)) if isinstance(label, int | float | str) else None
    return str(label) if name is None else name


def _numbered(value: Any) -> dict[Any, str]:
    """The names of classes by their numbers: a list of names, of objects with id and name, or an object."""
    if isinstance(value, dict):
        texts = {key: each for key, each in value.items() if isinstance(each, str | int)}
        if len(texts) < len(value):
            return next(filter(None, map(_numbered, value.values())), {})
        numbers: dict[Any, str] = {each: key for key, each in texts.items() if isinstance(each, int)}
        return numbers or {id_of(key): each for key, each in texts.items() if isinstance(each, str)}
    if not isinstance(value, list):
        return {}
    if all(isinstance(each, str) for each in value):
        return dict(enumerate(value))
    if all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in value):
        return {id_of(each.get("id", number)): each["name"] for number, each in enumerate(value)}
    return {}


def _image_names(value: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[str, ...]:
    """What may name the image of an object: texts with the suffix of an image, those of the keys that name it first; in
    the object, else in one of those in it; else the value of such a key."""
    names = _texts(value, own) or next(iter(_inner_texts(value, depth=2)), ())
    if not names:
        names = tuple(str(own[key]) for key in _IDS.split() if isinstance(own.get(key), str | int) and own[key] != "")
        names += (own["id"],) if isinstance(own.get("id"), str) and _has_list(value) else ()
    return tuple(dict.fromkeys(names))


def _texts(value: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[str, ...]:
    keys = dict.fromkeys((*(key for key in _PATH.split() if key in own), *own))
    return tuple(own[key] for key in keys if isinstance(own[key], str) and _is_image(own[key]))


def _inner_texts(value: Mapping[str, Any], depth: int) -> list[tuple[str, ...]]:
    """The names in the objects of an object; empty: several of them have names, so they are images themselves."""
    found: list[tuple[str, ...]] = []
    for each in value.values():
        if isinstance(each, dict):
            names = _texts(each, _plain_keys(each))
            found += [names] if names else _inner_texts(each, depth - 1) if depth > 1 else []
    return found if len(found) == 1 else []


def _has_list(value: Mapping[str, Any]) -> bool:
    """Whether it says which objects an image has, perhaps none. Detections alone do not say it."""
    inner = [each for each in value.values() if isinstance(each, dict)]
    lists = [(_plain(key), each) for one in (value, *inner) for key, each in one.items()]
    return _has_no_objects(value) or any(
        key != "tags" and not _are_detections(each)
        if isinstance(each, list)
        else each is None and key in _LISTS_OF_OBJECTS
        for key, each in lists
    )


def _are_detections(objects: Sequence[Any]) -> bool:
    return bool(objects) and all(isinstance(one, dict) and _is_detection(_plain_keys(one)) for one in objects)


def _has_no_objects(value: Any) -> bool:
    """Whether an empty list `objects` is somewhere inside (Labelbox)."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (isinstance(value, dict) and value.get("objects") == []) or any(map(_has_no_objects, inner))


def _first(own: Mapping[str, Any], names: str) -> Any:
    """The value of the first of these keys that has one."""
    return next((own[name] for name in names.split() if own.get(name) is not None), None)


def _plain_keys(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {_plain(key): each for key, each in value.items() if isinstance(key, str)}


@lru_cache(maxsize=10_000)
def _plain(key: str) -> str:
    """A key as letters and digits in lower case."""
    return re.sub(r"[^a-z0-9]", "", key.lower())


def _is_image(name: str) -> bool:
    return len(name) < 1000 and name.partition("?")[0].lower().endswith(tuple(IMAGE_SUFFIXES))
