"""Which files belong to a YOLO data set, and which split each image is in. (Helper, not a format.)"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path, PureWindowsPath

from frcnn.data.formats.lines import read_lines
from frcnn.data.formats.source import ALL
from frcnn.data.formats.yolo_description import (
    Description,
    Names,
    images_at,
    listed_names,
    named_tree,
    read_description,
    resolve,
)
from frcnn.data.formats.yolo_labels import (
    Convention,
    Line,
    are_labels,
    convention_of,
    has_corners,
    parse_line,
    to_number,
)
from frcnn.data.images import IMAGE_SUFFIXES, image_size
from frcnn.data.problems import ImageNotFoundError, Problem, ProblemKind, missing_image
from frcnn.data.tree import Tree, folded, split_in
from frcnn.messages import plural

_NAMES_FILE = re.compile(r"(^|[_ -])(classes|class[_ -]?names|names|labels)$", re.IGNORECASE)
_ORDER = ("tr", "va", "te")  # beginnings of the names of splits
_MANY = 0.1  # of the objects
_WHOLE = 4000  # bytes: a longer start is truncated


class Layout:
    """The images, labels, classes and splits of a YOLO data set.

    Attributes:
        tree: of the data set. That of the folder, or of another folder that the description names.
        description: data.yaml or a .data file; None: there is none.
        labels: the label file of each image that has one.
        orphans: label files without an image, and why.
        splits: the images of each split, with or without labels.
        problems: of the description and of lists.
    """

    def __init__(self, tree: Tree, description: Path | None) -> None:
        self.tree, self.description = tree, description
        self.problems: list[Problem] = []
        self._described = Description({}, {}, "", has_keypoints=False)
        if description is not None:
            self._described = read_description(description)
        self.labels, self.orphans, strays = _pairs(tree)
        places = self._places()
        if description is not None and not self.labels and not places:
            self.tree = named_tree(description, self._described) or tree
            self.labels, self.orphans, strays = _pairs(self.tree)
            places = self._places()
        if strays:
            such = plural(len(strays), "such label file")
            message = f"is not used, because no label file of its folder belongs to an image ({such})"
            self.problems.append(Problem(ProblemKind.MISSING_IMAGE, strays[0], message, level="warning"))
        self._is_placed = bool(places)
        splits = self._described_splits(places) or self._listed_splits() or self._folder_splits()
        self.splits = dict(sorted(splits.items(), key=lambda item: (*_ORDER, item[0][:2]).index(item[0][:2])))

    def _places(self) -> dict[str, list[Path]]:
        return {} if self.description is None else resolve(self.tree, self.description, self._described)

    def _described_splits(self, places: Mapping[str, Sequence[Path]]) -> dict[str, list[Path]]:
        for split, entries in self._described.entries.items():
            if split not in places and self.description is not None:
                message = f"{split}: {', '.join(entries)} is neither a folder nor a list of images here"
                self.problems.append(Problem(ProblemKind.MISSING_SPLIT, self.description, message, level="warning"))
        return {} if "train" in self._described.entries and "train" not in places else self._images_of(places)

    def _listed_splits(self) -> dict[str, list[Path]]:
        lists: dict[str, list[Path]] = {}
        for file in self.tree.with_suffix(".txt"):
            split = split_in(file.name)
            if split is not None and _is_list(self.tree.start(file)):
                lists.setdefault(split, []).append(file)
        return self._images_of(lists)

    def _images_of(self, places: Mapping[str, Sequence[Path]]) -> dict[str, list[Path]]:
        """The images in folders and lists."""
        splits: dict[str, list[Path]] = {}
        missing = {label.stem for label in self.orphans}  # they are reported
        for split, files in places.items():
            images: dict[Path, None] = {}
            for file in files:
                found, lost = images_at(self.tree, file, split)
                images |= dict.fromkeys(found)
                for number, line, error in lost:
                    if PureWindowsPath(line).stem not in missing:
                        self.problems.append(missing_image(file, error, f"line {number}"))
            for image in images:
                if image not in self.labels and not image.is_relative_to(self.tree.root):
                    label = conventional_label(image, self.tree.root)
                    if label.is_file():
                        self.labels[image] = label
            if images:
                splits[split] = list(images)
        return splits

    def _folder_splits(self) -> dict[str, list[Path]]:
        """Splits by the names of folders. An image without a label is of the data set if its folder has labels."""
        split_of = self.tree.split_of
        of_image = {image: split_of(image.parent) or split_of(label.parent) for image, label in self.labels.items()}
        # Where only the folder of a label tells the split, that of an image without a label is not known.
        untold = {image.parent for image, split in of_image.items() if split and not split_of(image.parent)}
        folders = {image.parent for image in self.labels} - untold
        splits: dict[str, list[Path]] = {}
        for image in self.tree.images:
            if image in of_image or image.parent in folders:
                splits.setdefault(of_image.get(image) or split_of(image.parent) or ALL, []).append(image)
        return splits

    @cached_property
    def names(self) -> dict[Path, Names]:
        """The names of the classes, for each folder of label files; empty where there are none."""
        used = set(self.labels.values())
        folders = dict.fromkeys((self.tree.root, *(label.parent for label in self.labels.values())))
        lists = [file for file in _names_files(self.tree) if file not in used]
        files = {file.parent: listed_names(file) for file in reversed(lists)}
        described = self._described.names
        if described and (self._is_placed or not files):
            return dict.fromkeys(folders, described)
        any_names: Names = next(reversed(files.values()), {})
        names = {
            folder: next((files[above] for above in (folder, *folder.parents) if above in files), any_names)
            for folder in folders
        }
        return dict.fromkeys(folders, described) if described and self._covers_more(described, names) else names

    def _covers_more(self, described: Names, names: Mapping[Path, Names]) -> bool:
        """Whether the description, though its folders are not here, has names for all class numbers of the label files,
        and the lists have not. If the two contradict each other, the lists must lack the names of many objects: one
        wrong number must not rename the classes of all others."""
        numbers = Counter(
            (label.parent, int(number))
            for label in self.labels.values()
            for line in lines_of(label)
            if (number := to_number(line.label)) is not None
        )
        missing = sum(count for (folder, number), count in numbers.items() if number not in names[folder])
        agree = all(described.get(number) == name for own in names.values() for number, name in own.items())
        is_whole = all(number in described for _, number in numbers)
        return missing > 0 and is_whole and (agree or missing > _MANY * numbers.total())

    def names_of(self, label: Path) -> Names:
        """The names of the classes in a label file."""
        return self.names.get(label.parent) or self.names[self.tree.root]

    @cached_property
    def convention(self) -> Convention:
        """What the numbers in the label files mean.

        Raises:
            ValueError: they mean nothing that is known.
        """
        names = max(self.names.values(), key=len)
        count = len(names) if names and set(names) == set(range(len(names))) else None
        lines = (line for label in self.labels.values() for line in lines_of(label))
        try:
            convention = convention_of(lines, count, has_keypoints=self._described.has_keypoints)
            return convention._replace(has_corners=has_corners(self._sized())) if convention.in_pixels else convention
        except ValueError as error:
            raise ValueError(f"{next(iter(self.labels.values())).parent}: {error}") from None

    def _sized(self) -> Iterator[tuple[Line, tuple[int, int]]]:
        """Each line with the size of its image; without images that cannot be read, which are reported later."""
        for image, label in self.labels.items():
            with suppress(ValueError, OSError):
                size = image_size(image)
                yield from ((line, size) for line in lines_of(label))

    @cached_property
    def _label_folders(self) -> dict[Path, Path]:
        return {image.parent: label.parent for image, label in self.labels.items()}

    def label_file(self, image: Path) -> Path:
        """The label file of an image, or where to write it: beside the others; in labels/, if the image is in images/;
        else beside the image."""
        if image in self.labels:
            return self.labels[image]
        if image.parent in self._label_folders:
            return self._label_folders[image.parent] / f"{image.stem}.txt"
        return conventional_label(image, self.tree.root)


def layout_of(tree: Tree, description: Path | None) -> Layout:
    """The layout of a tree. It is kept until the description changes, because each split needs it."""
    return _layout_of(tree, description, 0 if description is None else description.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _layout_of(tree: Tree, description: Path | None, changed: int) -> Layout:
    return Layout(tree, description)


def _names_files(tree: Tree) -> list[Path]:
    """classes.txt, obj.names and the like; those in upper folders first, .names before .txt."""
    texts = [file for file in tree.with_suffix(".txt") if _NAMES_FILE.search(file.stem)]
    files = [*tree.with_suffix(".names", ".labels"), *texts]
    return sorted(files, key=lambda file: len(file.parts))


def _is_list(start: bytes) -> bool:
    """Whether a file begins with the path of an image."""
    line = start.lstrip().split(b"\n", 1)[0].strip().lower()
    return b"\0" not in line and line.endswith(tuple(suffix.encode() for suffix in IMAGE_SUFFIXES))


def is_label_file(start: bytes) -> bool | None:
    """Whether a file is a label file by its first bytes; None: it is empty, as it is for an image without objects."""
    text = start.decode("utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", errors="replace")
    if not text.strip():
        return None
    if len(start) > _WHOLE:  # the end is truncated: a line, or a number
        text = text.rpartition("\n" if "\n" in text.strip() else " ")[0]
    return are_labels(text.splitlines())


def lines_of(file: Path) -> Iterator[Line]:
    """The lines of a label file that can be read."""
    try:
        parsed = map(parse_line, read_lines(file))
    except (ValueError, OSError):
        return
    yield from (line for line in parsed if line is not None)


def _pairs(tree: Tree) -> tuple[dict[Path, Path], dict[Path, str | ImageNotFoundError], list[Path]]:
    """The label file of each image; the label files without an image, with the reason; and the label files in folders
    where none belongs to an image.

    A label file is beside its image, or in labels/ as the image does in images/; case does not matter. Only where no
    label file does, it belongs to the image with its name, anywhere in the tree. A file that is broken counts beside
    others that are not.
    """
    kinds = {file: is_label_file(tree.start(file)) for file in tree.with_suffix(".txt")}
    good = {file.parent for file, is_label in kinds.items() if is_label}
    files = [file for file, is_label in kinds.items() if is_label is not False or file.parent in good]
    labels: dict[Path, Path] = {}
    used: set[Path] = set()
    keys: tuple[Callable[[str], str], ...] = (str, folded)  # as written first: Linux keeps A.jpg and a.jpg apart
    for key in keys:
        left = [file for file in files if file not in used]
        by_path = {key(os.path.splitext(image.as_posix())[0]): image for image in tree.images} if left else {}
        for file in left:
            path = os.path.splitext(file.as_posix())[0]
            image = by_path.get(key(path)) or by_path.get(key(_swap(path, "labels", "images")))
            if image is not None and labels.setdefault(image, file) == file:
                used.add(file)
    if any(kinds[file] for file in used):
        folders = {file.parent for file in used}
        others = [file for file in files if kinds[file] and file not in used]
        alone = [file for file in others if file.parent in folders]
        strays = [file for file in others if file.parent not in folders]
        return labels, {file: ImageNotFoundError(f"there is no image {file.stem}") for file in alone}, strays
    orphans: dict[Path, str | ImageNotFoundError] = {}
    reason: str | ImageNotFoundError
    for file in files:
        try:
            image = tree.find_image(_swap(tree.relative(file).as_posix()[: -len(".txt")], "labels", "images"), file)
            other = labels.setdefault(image, file)
            reason = f"{image.name} has another label file, {tree.relative(other)}; remove one of them"
        except ImageNotFoundError as error:
            other, reason = None, error
        if other != file and kinds[file]:
            orphans[file] = reason
    return labels, orphans, []


def conventional_label(image: Path, root: Path) -> Path:
    """The label file of an image in labels/, if the image is in images/ below the root; else beside the image."""
    label = image.with_suffix(".txt")
    if not label.is_relative_to(root):
        return Path(_swap(label.as_posix(), "images", "labels"))
    return root / _swap(label.relative_to(root).as_posix(), "images", "labels")


def _swap(path: str, before: str, after: str) -> str:
    """The path with the last folder of this name replaced."""
    *folders, name = path.split("/")
    for index in reversed(range(len(folders))):
        if folders[index].lower() == before:
            return "/".join((*folders[:index], after, *folders[index + 1 :], name))
    return path
