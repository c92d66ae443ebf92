"""COCO: one JSON file with lists "images", "annotations" and "categories" for all images of a split.

The split is in the name of the file or of its folder, else in that of the folder of each image. Boxes are x, y, width,
height; an annotation without a box gets the one around its segmentation. Crowds ("iscrowd": one box around many
objects) and annotations with "ignore" are ignored objects. An image without annotations has no objects. Also read: the
keys "annotation" and "filename", ids and numbers as text, an empty box as the mark of an image without objects, boxes
in fractions of the image's sides.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec
import numpy as np

from frcnn.data.formats.four_numbers import are_fractions
from frcnn.data.formats.json_files import id_of, plain_start, read_json
from frcnn.data.formats.lines import slashes, to_number, to_size, while_unchanged
from frcnn.data.formats.masks import around
from frcnn.data.formats.source import ALL, Source, by_image_split, image_splits
from frcnn.data.images import image_size
from frcnn.data.problems import (
    ImageNotFoundError,
    OnProblem,
    Problem,
    ProblemKind,
    invalid_object,
    missing_image,
    unknown_class,
)
from frcnn.data.records import Annotation, Record, Records
from frcnn.data.tree import Tree
from frcnn.files import atomic_write
from frcnn.json_text import decode_json
from frcnn.messages import plural, train_command

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "COCO: annotations/instances_train.json or train/_annotations.coco.json, and the images anywhere"
SUFFIXES = frozenset({".json"})
_FORM = "COCO's format, which has lists 'images', 'categories', 'annotations'"
_PREFIX = "instances_"
_TOP_KEY = re.compile(rb'"(images|annotations?|categories|info|licenses)"\s*:')
_IMAGES = re.compile(rb'"images"\s*:\s*\[\s*(\]|\{.{0,2000}?"(?:file_?name|coco_url)"\s*:)', re.DOTALL)
_ANNOTATIONS = re.compile(rb'"annotations?"\s*:\s*\[')
_YES = (1, "1")
_NUMBERS = frozenset({int, float})
_Key = float | str | None
_Raw = dict[str, Any]
_Json = tuple[Any, ...] | dict[str, Any] | str | int | float | bool | None
"""Any JSON value; an array becomes a tuple, because the garbage collector stops tracking tuples of numbers. With lists,
it took a third of the time to read the annotations of 100,000 images."""


class _Image(msgspec.Struct, gc=False):
    id: int | float | str
    file_name: str | None = None
    filename: str | None = None
    coco_url: str | None = None
    width: int | float | str | None = None
    height: int | float | str | None = None

    @property
    def name(self) -> str:
        return self.file_name or self.filename or self.coco_url or ""


class _Category(msgspec.Struct, gc=False):
    id: int | float | str
    name: str | int | float | bool


class _Annotation(msgspec.Struct, gc=False):
    image_id: int | float | str | None = None
    category_id: int | float | str | None = None
    bbox: _Json = None
    id: int | float | str | None = None
    iscrowd: int | float | bool | str | None = 0
    ignore: _Json = None

    @property
    def is_ignored(self) -> bool:
        return self.iscrowd in _YES or self.ignore in _YES


class _Outline(msgspec.Struct, gc=False):
    bbox: _Json = None
    segmentation: _Json = None


class _Content(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation] = []
    annotation: list[_Annotation] = []


class _Images(msgspec.Struct):
    images: list[_Image]


class _Outlines(msgspec.Struct):
    annotations: list[_Outline] = []
    annotation: list[_Outline] = []


def recognizes(file: Path, start: bytes) -> bool:
    """An object with lists of categories and of images that have a file name. The lists may come in any order, so the
    rest of the file is looked at if the start looks like COCO's."""
    start = plain_start(start)
    if start.lstrip()[:1] != b"{" or not _TOP_KEY.search(start):
        return False
    with _bytes_of(file) as content:
        # COCO's own files have their classes at the end.
        return _IMAGES.search(content) is not None and content.rfind(b'"categories"') >= 0


@contextmanager
def _bytes_of(file: Path) -> Iterator[mmap | bytes]:
    """The bytes of a file in UTF-8; without reading them all, if it is so already."""
    with file.open("rb") as opened:
        start = opened.read(2)
        if start in (b"\xff\xfe", b"\xfe\xff"):
            yield plain_start(start + opened.read())
        else:
            with mmap(opened.fileno(), 0, access=ACCESS_READ) as mapped:
                yield mapped


def _has_annotations(file: Path) -> bool:
    with _bytes_of(file) as content:
        return _ANNOTATIONS.search(content) is not None


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    """One source for each split. Files that only list images are skipped."""
    labeled = _labeled(files)
    if labeled and len(labeled) < len(files):
        tree.skipped["COCO files without labels of objects"] = len(files) - len(labeled)
    return _by_split(labeled, tree)


def _by_split(files: Iterable[Path], tree: Tree) -> list[Source]:
    """A file of no split has the images of the splits that their folders tell."""

    def splits_of(file: Path) -> Iterable[str]:
        own = tree.split_of(file)
        if own is not None:
            return [own]
        try:
            return _splits(read_json(file, _Images, _FORM).images, file, tree).values()
        except ValueError:
            return []  # `read` says why

    return by_image_split(files, splits_of)


def _splits(images: Iterable[_Image], file: Path, tree: Tree) -> dict[str, str]:
    """The split of each image of a file, by its name."""
    return image_splits((image.name for image in images), file, tree)


def _labeled(files: Sequence[Path]) -> list[Path]:
    """The files with annotations. COCO's own files of captions, key points and stuff have the images of its instances
    again."""
    instances = {file for file in files if file.name.startswith(_PREFIX)}
    others = ("captions_", "person_keypoints_", "stuff_", "panoptic_")
    again = {file.with_name(other + file.name.removeprefix(_PREFIX)) for file in instances for other in others}
    return [file for file in files if file not in again and _has_annotations(file)]


@np.errstate(over="ignore", invalid="ignore")  # boxes that are not finite are a problem of their own
def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Records:
    """The images of a source, in the order of its files. A file of other images, beside one whose images are there, is
    left aside."""
    classes: dict[str, int] = {}
    first: dict[str, tuple[Path, _Image]] = {}
    found: dict[Path, list[Problem]] = {file: [] for file in source.files}
    parts = [_read_file(file, source.split, tree, classes, first, problems.append) for file, problems in found.items()]
    has_images = any(part.paths for part in parts)
    for (file, problems), part in zip(found.items(), parts, strict=True):
        if has_images and not part.paths and problems and all(map(_is_missing, problems)):
            message = f"none of its {plural(len(problems), 'image')} is in the folder, so it is left aside"
            on_problem(Problem(ProblemKind.MISSING_IMAGE, file, message, level="warning"))
            continue
        for problem in problems:
            on_problem(problem)
    return Records.of_arrays(
        chain.from_iterable(part.paths for part in parts),
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.labels for part in parts]),
        list(classes),
        np.concatenate([part.counts for part in parts]),
        ignore=np.concatenate([part.crowds for part in parts]),
        sizes=np.concatenate([part.sizes for part in parts]),
    )


def _is_missing(problem: Problem) -> bool:
    return problem.kind == ProblemKind.MISSING_IMAGE


class _Part(NamedTuple):
    """The arrays of one file, as `Records.of_arrays` takes them."""

    paths: list[str]
    boxes: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    crowds: np.ndarray
    sizes: np.ndarray


def _read_file(
    file: Path,
    split: str,
    tree: Tree,
    classes: dict[str, int],
    first: dict[str, tuple[Path, _Image]],
    on_problem: OnProblem,
) -> _Part:
    """The images of a split in one file. Its classes are added to `classes`, its images to `first`."""
    content = read_json(file, _Content, _FORM)
    annotations = content.annotations or content.annotation
    odd = {number for number, annotation in enumerate(annotations) if not _is_box(annotation.bbox)}
    if odd:
        outlines = read_json(file, _Outlines, _FORM)
        for number in odd:
            outline = (outlines.annotations or outlines.annotation)[number]
            annotations[number].bbox = box_of(outline.bbox, outline.segmentation)
    names = {id_of(each.id): classes.setdefault(str(each.name), len(classes)) for each in content.categories}
    if len(names) < len(content.categories):
        _report_categories(content.categories, file, on_problem)
    known = list(classes)
    place = {id_of(image.id): number for number, image in enumerate(content.images)}
    splits = _splits(content.images, file, tree)
    others = {id_of(image.id) for image in content.images if splits[image.name] != split}
    if len(place) < len(content.images):
        _report_ids(content.images, place, file, on_problem)
    good = [
        annotation
        for number, annotation in enumerate(annotations)
        if (annotation.image_id in place and annotation.category_id in names and number not in odd)
        or _is_good(annotation, number, number in odd, place, others, names, known, file, on_problem)
    ]
    images = np.array([_find(place, annotation.image_id) for annotation in good], np.int64)
    labels = np.array([_find(names, annotation.category_id) for annotation in good], np.int64)
    crowds = np.array([annotation.is_ignored for annotation in good], bool)
    sides = cast("list[tuple[float, ...]]", [annotation.bbox for annotation in good])
    try:
        boxes = np.fromiter(chain.from_iterable(sides), np.float64, 4 * len(sides)).reshape(-1, 4)
    except OverflowError:
        raise ValueError(f"{file}: a bbox has a number with more than 300 digits; correct it") from None
    content.annotations, content.annotation, annotations, good, sides = [], [], [], [], []

    order = np.argsort(images, kind="stable")
    counts = np.bincount(images, minlength=len(content.images))
    starts = np.cumsum(counts) - counts

    def classes_of(number: int) -> list[str]:
        return [known[label] for label in labels[order[starts[number] :][: counts[number]]]]

    paths = _paths(file, tree, content.images, others, classes_of, first, on_problem)
    is_there = np.array([path is not None for path in paths], bool)
    order = order[is_there[images[order]]]
    images, boxes = images[order], boxes[order]
    in_fractions = are_fractions(_corners(boxes))
    sizes = np.array(
        [
            to_size(image.height, image.width) or (image_size(Path(path)) if in_fractions and path else (0, 0))
            for image, path in zip(content.images, paths, strict=True)
        ],
        np.int64,
    ).reshape(-1, 2)
    if in_fractions:
        boxes = boxes * np.tile(sizes[images][:, ::-1], 2)
        message = "boxes are fractions of the image's sides, as Azure writes them; they become pixels"
        on_problem(Problem(ProblemKind.FRACTIONS, file, message, level="repaired"))
    kept = [path for path in paths if path is not None]
    return _Part(kept, _corners(boxes), labels[order], counts[is_there], crowds[order], sizes[is_there])


def _paths(
    file: Path,
    tree: Tree,
    images: Sequence[_Image],
    others: Collection[_Key],
    classes_of: Callable[[int], list[str]],
    first: dict[str, tuple[Path, _Image]],
    on_problem: OnProblem,
) -> list[str | None]:
    """The path of each image; None: there is no such image, or it is of another split.

    Args:
        others: the ids of images of other splits.
        classes_of: the classes of the objects of an image, by its number.
    """
    paths: list[str | None] = []
    twice: list[Problem] = []
    for number, image in enumerate(images):
        if id_of(image.id) in others:
            paths.append(None)
            continue
        try:
            path = str(tree.find_image(image.name, file))
        except ImageNotFoundError as error:
            on_problem(missing_image(file, error, f"image {image.id}", classes_of(number)))
            paths.append(None)
            continue
        paths.append(path)
        other_file, other = first.setdefault(path, (file, image))
        if other is not image:
            name_one = "" if other_file == file else f", or name the file to use: {train_command(other_file)}"
            message = (
                f"{image.name} (id {image.id}) is also image {other.id} of {other_file}; list each image once, "
                f"because the objects of one entry would be background for the other{name_one}"
            )
            twice.append(Problem(ProblemKind.ANNOTATED_TWICE, file, message, other=Path(path)))
    if twice:
        on_problem(twice[0]._replace(message=twice[0].message + _more(len(twice))))
    return paths


def _report_ids(images: Sequence[_Image], place: Mapping[_Key, int], file: Path, on_problem: OnProblem) -> None:
    """One error for all ids that several images have."""
    shared = [image for number, image in enumerate(images) if place[id_of(image.id)] != number]
    one, other = shared[0], images[place[id_of(shared[0].id)]]
    message = f"image id {one.id} appears twice: {one.name} and {other.name}; give every image its own"
    on_problem(Problem(ProblemKind.DUPLICATE_ID, file, message + _more(len(shared))))


def _report_categories(categories: Sequence[_Category], file: Path, on_problem: OnProblem) -> None:
    """An error if categories of one id have different names."""
    names: dict[_Key, str] = {}
    for each in categories:
        name = names.setdefault(id_of(each.id), str(each.name))
        if name != str(each.name):
            message = f"category id {each.id} appears twice: {name} and {each.name}; give every category its own"
            on_problem(Problem(ProblemKind.DUPLICATE_ID, file, message))


def _more(count: int) -> str:
    return f" ({count} images of this file)" if count > 1 else ""


def _is_good(
    annotation: _Annotation,
    number: int,
    is_odd: bool,
    images: Mapping[_Key, int],
    others: Collection[_Key],
    names: Mapping[_Key, int],
    classes: Sequence[str],
    file: Path,
    on_problem: OnProblem,
) -> bool:
    if is_odd and annotation.bbox == ():
        return False  # the mark of an image without objects
    if id_of(annotation.image_id) in others:
        return False  # of another split
    label = _find(names, annotation.category_id)
    name = "" if label is None else classes[label]
    place = f"annotation {annotation.id if annotation.id is not None else number + 1}"
    if _find(images, annotation.image_id) is None:
        message = f"there is no image {annotation.image_id}; it is left out"
        on_problem(missing_image(file, message, place, [name])._replace(images=0))
    elif is_odd and not _is_box(annotation.bbox):
        shown = list(annotation.bbox) if isinstance(annotation.bbox, tuple) else annotation.bbox
        message = f"bbox {shown!r} must be four numbers: x, y, width, height"
        on_problem(invalid_object(file, message, place, name))
    elif label is None:
        on_problem(unknown_class(file, f"there is no category {annotation.category_id}", place))
    else:
        return True
    return False


def _find(numbers: Mapping[_Key, int], key: _Key) -> int | None:
    number = numbers.get(key)
    return numbers.get(id_of(key)) if number is None else number


def _is_box(box: object) -> bool:
    """Whether this is four numbers, and the first is not NaN."""
    return isinstance(box, list | tuple) and len(box) == 4 and _NUMBERS.issuperset(map(type, box)) and box[0] == box[0]


def box_of(bbox: object, segmentation: object) -> Any:
    """x, y, width, height of an annotation whose box is missing or unusual.

    Args:
        bbox: may have numbers as text, or be empty, or have no numbers at all (NaN, null).
        segmentation: gives the box if `bbox` does not.

    Returns:
        (): both are empty, which marks an image without objects. `bbox` itself: it is no box.
    """
    is_list = isinstance(bbox, list | tuple)
    numbers = [math.nan if value is None else to_number(value) for value in cast("list[Any]", bbox if is_list else [])]
    if None in numbers or (bbox is not None and not is_list):
        return bbox
    if not all(number != number for number in numbers):
        return tuple(numbers) if len(numbers) == 4 else bbox
    return around(segmentation) or (() if is_list else None)


def _corners(boxes: np.ndarray) -> np.ndarray:
    """x1, y1, x2, y2 of x, y, width, height."""
    corners = boxes.copy()
    corners[:, 2:] = (boxes[:, :2] + boxes[:, 2:]).round(4)  # x + width of decimals: 0.1 + 0.2 is 0.3
    return corners


def image_dir(split: str, record: Record) -> str:
    """The folder for an image of a split, relative to the data folder."""
    return f"images/{split}"


def write(folder: Path, splits: Mapping[str, Sequence[Record]], classes: Sequence[str]) -> None:
    categories = {label: number for number, label in enumerate(classes, start=1)}
    for split, records in splits.items():
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, record in enumerate(records, start=1):
            height, width = record.size or image_size(record.image)
            images.append({"id": number, "file_name": record.image.name, "width": width, "height": height})
            for box, label, crowd in zip(record.boxes.tolist(), record.class_names, record.ignore, strict=True):
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
        with atomic_write(folder / "annotations" / f"{_PREFIX}{split}.json") as partial:
            partial.write_bytes(msgspec.json.encode(content))


def images(source: Source, tree: Tree) -> Iterator[Path]:
    """The images of the files, and new images in the same folders. A new image in a folder of several splits belongs to
    the first of them, train before others."""
    groups = sorted(_all_sources(tree), key=lambda group: not group.split.startswith("train"))
    listed = {image: group.split for group in groups for image in _listed_in(group, tree)}
    owners: dict[str, str] = {}
    for image, split in listed.items():
        owners.setdefault(os.path.dirname(image), split)
    yield from map(Path, _listed_in(source, tree))
    everywhere = None if listed else groups[0].split  # files that list no image yet
    for new in tree.images:
        if str(new) not in listed and owners.get(str(new.parent), everywhere) == source.split:
            yield new


def _listed_in(source: Source, tree: Tree) -> Iterator[str]:
    """The images of a split that its files list."""
    for file in source.files:
        own = tree.split_of(file)
        for image in _opened(file, tree).images:
            if source.split == (own or tree.split_of(Path(image).parent) or ALL):
                yield image


def class_names(sources: Sequence[Source], tree: Tree) -> list[str]:
    files = (file for source in sources for file in source.files)
    return list(dict.fromkeys(label for file in files for label in _opened(file, tree).names.values()))


def read_image(source: Source, image: Path, tree: Tree) -> list[Annotation] | None:
    """An image that the files do not list is not annotated. One that is listed twice cannot be edited."""
    files = dict.fromkeys(file for group in _all_sources(tree) for file in group.files)
    twice = [file for file in files for _ in range(_opened(file, tree).listed[str(image)])]
    if len(twice) > 1:
        raise ValueError(f"{image}: is listed in {twice[0]} and in {twice[1]}; one list must have it, once")
    if not twice:
        return None
    opened = _opened(twice[0], tree)
    return [_annotation(one, opened) for one in opened.readable(opened.images[str(image)])]


def write_image(source: Source, image: Path, objects: Sequence[Annotation] | None, tree: Tree) -> None:
    """An object whose box is changed loses its outline. Objects that cannot be read are kept."""
    file = _file_of(source, image, tree)
    opened = _opened(file, tree)
    entry = opened.images.get(str(image)) or _entry(image, opened, tree)
    categories = list(opened.content["categories"])
    for label in dict.fromkeys(annotation.name for annotation in objects or ()):
        if label not in opened.names.values():
            categories.append({"id": _free(each["id"] for each in categories), "name": label})
    replaced = opened.readable(entry) if objects is not None else opened.annotations.get(id_of(entry["id"]), [])
    ids = {id(one) for one in replaced}
    before = opened.content.get(opened.key, [])
    kept = [one for one in before if id(one) not in ids]
    place = next((number for number, one in enumerate(before) if id(one) in ids), len(before))
    used = {one.get("id") for one in kept}
    new = []
    for annotation in objects or ():
        new.append(_to_coco(annotation, entry, categories, opened, used))
        used.add(new[-1]["id"])
    others = [one for one in opened.content["images"] if one is not entry]
    entries = opened.content["images"] if str(image) in opened.images else [*opened.content["images"], entry]
    content = opened.content | {
        "images": others if objects is None else entries,
        opened.key: [*kept[:place], *new, *kept[place:]],
        "categories": categories,
    }
    with atomic_write(file) as partial:
        partial.write_bytes(msgspec.json.encode(content))


class _Opened(NamedTuple):
    """A whole file, with the fields that frcnn does not know."""

    content: _Raw
    key: str
    """Of the annotations."""
    listed: Counter[str]
    """How often each path is listed."""
    images: dict[str, _Raw]
    """By path."""
    annotations: dict[_Key, list[_Raw]]
    """By the id of their image."""
    names: dict[_Key, str]
    """Of the categories, by id."""

    def readable(self, entry: _Raw) -> list[_Raw]:
        """The annotations of an image that are boxes of a class."""
        own = self.annotations.get(id_of(entry["id"]), [])
        return [one for one in own if id_of(one.get("category_id")) in self.names and _is_box(_box(one))]


@lru_cache(maxsize=2)
def _all_sources(tree: Tree) -> list[Source]:
    """Of all files of the tree; they do not change while images are edited."""
    files = [file for file in tree.with_suffix(*SUFFIXES) if recognizes(file, tree.start(file))]
    return _by_split(_labeled(files), tree)


@while_unchanged
def _opened(file: Path, tree: Tree) -> _Opened:
    read_json(file, _Content, _FORM)
    content = read_json(file, _Raw, _FORM)
    key = "annotation" if "annotation" in content else "annotations"
    entries: dict[str, _Raw] = {}
    listed: Counter[str] = Counter()
    for entry in content["images"]:
        with suppress(ImageNotFoundError):
            path = str(tree.find_image(_name(entry), file))
            entries[path] = entry
            listed[path] += 1
    annotations: dict[_Key, list[_Raw]] = {}
    for one in content.get(key, []):
        annotations.setdefault(id_of(one.get("image_id")), []).append(one)
    boxes = [box for box in map(_box, content.get(key, [])) if _is_box(box)]
    if are_fractions(_corners(np.array(boxes, np.float64).reshape(-1, 4))):
        raise ValueError(f"{file}: boxes are fractions, not pixels; edit a copy that `frcnn convert` writes")
    names = {id_of(category["id"]): str(category["name"]) for category in content["categories"]}
    return _Opened(content, key, listed, entries, annotations, names)


def _file_of(source: Source, image: Path, tree: Tree) -> Path:
    """The file that lists an image; of a new image, the first one that lists images of its folder."""
    folder = f"{image.parent}{os.sep}"
    for fits in (lambda path: path == str(image), lambda path: path.startswith(folder)):
        for file in source.files:
            if any(map(fits, _opened(file, tree).images)):
                return file
    return source.files[0]


def _name(entry: _Raw) -> str:
    return str(entry.get("file_name") or entry.get("filename") or entry.get("coco_url") or "")


def _box(one: _Raw) -> Any:
    return one.get("bbox") if _is_box(one.get("bbox")) else box_of(one.get("bbox"), one.get("segmentation"))


def _annotation(one: _Raw, opened: _Opened) -> Annotation:
    x1, y1, x2, y2 = _corners(np.array([_box(one)], np.float64))[0].tolist()
    name = opened.names[id_of(one["category_id"])]
    is_ignored = any(one.get(mark) in _YES for mark in ("iscrowd", "ignore"))
    return Annotation((x1, y1, x2, y2), name, is_ignored, msgspec.json.encode(one).decode())


def _to_coco(annotation: Annotation, entry: _Raw, categories: Sequence[_Raw], opened: _Opened, used: set[_Key]) -> _Raw:
    one: _Raw = decode_json(annotation.source, dict[str, Any]) if annotation.source else {}
    old = _annotation(one, opened) if annotation.source else None
    if one.get("id") in used or not one:
        one = {"id": _free(used)} | {key: value for key, value in one.items() if key != "id"}
    one["image_id"] = entry["id"]
    if old is None or old.name != annotation.name:
        one["category_id"] = next(each["id"] for each in categories if str(each["name"]) == annotation.name)
    if old is None or old.box != annotation.box:
        one = {key: value for key, value in one.items() if key != "segmentation"} | _sides(annotation.box)
    if old is None or old.ignore != annotation.ignore:
        one = {key: value for key, value in one.items() if key != "ignore"} | {"iscrowd": int(annotation.ignore)}
    return one


def _entry(image: Path, opened: _Opened, tree: Tree) -> _Raw:
    """The entry of a new image. Its path is relative to the folder to which those of the other images are relative."""
    base, key = tree.root, "file_name"
    for path, entry in opened.images.items():
        name = slashes(_name(entry))
        if path.endswith("/" + name) and image.is_relative_to(path.removesuffix(name)):
            base, key = Path(path.removesuffix(name)), "file_name" if "file_name" in entry else "filename"
            break
    height, width = image_size(image)
    ids = [*opened.annotations, *(entry["id"] for entry in opened.content["images"])]  # boxes may be without image
    return {"id": _free(ids), key: image.relative_to(base).as_posix(), "width": width, "height": height}


def _free(keys: Iterable[_Key]) -> int:
    """A number greater than all ids that are numbers."""
    numbers = [key for key in map(id_of, keys) if isinstance(key, int | float)]
    return int(max(numbers, default=0)) + 1


def _sides(box: Sequence[float]) -> _Raw:
    x, y, w, h = (_short(value) for value in (box[0], box[1], box[2] - box[0], box[3] - box[1]))
    return {"bbox": [x, y, w, h], "area": _short(w * h)}


def _short(value: float) -> int | float:
    """Rounded to four decimals; whole numbers become integers."""
    rounded = round(value, 4)
    return int(rounded) if rounded == int(rounded) else rounded
