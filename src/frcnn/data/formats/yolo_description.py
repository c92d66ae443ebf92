"""data.yaml and darknet's .data files: the names of classes, the images of each split. (Helper, not a format.)"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import yaml

from frcnn.data.formats.lines import read_lines, read_text
from frcnn.data.problems import ImageNotFoundError
from frcnn.data.tree import Tree, split_in
from frcnn.files import expand_home
from frcnn.messages import train_command
from frcnn.yaml_text import load_yaml

Names = Mapping[int, str]
_SPLITS = ("train", "val", "valid", "validation", "test")
_MAX_ABOVE = 2
"""Largest number of levels that a data set may lie above the folder of its description, e.g. 1 for configs/data.yaml.
Folders above that, such as /home, are not walked."""
_KEY = re.compile(r"""(?:^|[{,])["' ]*(names|nc|path|train|val|valid|test)["']?[ \t]*:""", re.MULTILINE)


class Description(NamedTuple):
    """A data.yaml, or darknet's .data file."""

    names: Names
    """Empty: it names no classes."""
    entries: dict[str, list[str]]
    """Folders or lists of images of each split, as they are written."""
    path: str
    """The folder that they are relative to, as it is written."""
    has_keypoints: bool


def is_description(text: str) -> bool:
    """Whether the text of a YAML file looks like a data.yaml."""
    keys = set(_KEY.findall(text))
    return bool(keys & {"names", "nc"}) and len(keys) > 1


def choose_description(tree: Tree, files: Iterable[Path]) -> Path | None:
    """The description that fits the folders best: with most splits in the very place, then most splits, most images.

    Raises:
        ValueError: it cannot be read, or two descriptions contradict each other.
    """
    files = list(files)
    if len(files) < 2:
        return next(iter(files), None)
    read: dict[Path, Description] = {}
    images: dict[Path, set[Path]] = {}
    fits: dict[Path, tuple[int, int, int, bool]] = {}
    errors = []
    for file in files:
        try:
            read[file] = read_description(file)
        except ValueError as error:
            errors.append(error)
            continue
        places = resolve(tree, file, read[file])
        images[file] = {image for found in places.values() for place in found for image in images_at(tree, place).found}
        exact = resolve(tree, file, read[file], is_exact=True)
        fits[file] = (len(exact), len(places), len(images[file]), bool(read[file].names))
    if not read:
        raise errors[0]
    best = max(fits, key=lambda file: fits[file])
    for file in fits:
        has_others = not images[file] <= images[best]
        other_names = fits[file] == fits[best] and images[file] and read[file].names != read[best].names
        if has_others or other_names:
            what = "for different images" if has_others else "with different names of classes"
            raise ValueError(
                f"{tree.root}: {tree.relative(best)} and {tree.relative(file)} describe two data sets, {what}; name "
                f"one of these files instead of the folder: {train_command(best)}"
            )
    return best


def read_description(file: Path) -> Description:
    """Read data.yaml, or a .data file.

    Raises:
        ValueError: it cannot be read, or its names are not one name for each number.
    """
    if file.suffix.lower() == ".data":
        return _read_darknet(file)
    text = read_text(file)
    try:
        content = load_yaml(text, yaml.BaseLoader)  # names are text: no is not False
    except yaml.YAMLError as error:
        tab = "; YAML takes spaces, no tabs" if "\t" in text else ""
        raise ValueError(f"{file}: not a YAML file that can be read ({error}){tab}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file}: not a data.yaml with `train` and `names`")
    entries = {}
    for split in _SPLITS:
        value = content.get(split)
        listed = value if isinstance(value, list) else [value]
        entries[split] = [entry for entry in listed if isinstance(entry, str) and entry not in ("", "null", "~")]
    return Description(
        _names(content.get("names"), file),
        {split: listed for split, listed in entries.items() if listed},
        str(content.get("path") or ""),
        has_keypoints=isinstance(content.get("kpt_shape"), list),
    )


def _read_darknet(file: Path) -> Description:
    pairs = [line.partition("=") for line in read_lines(file)]
    content = {key.strip().lower(): value.strip() for key, is_pair, value in pairs if is_pair}
    names_file = file.parent / PureWindowsPath(content.get("names", "obj.names")).name
    names = listed_names(names_file) if names_file.is_file() else {}
    entries = {split: [content[split]] for split in _SPLITS if content.get(split)}
    return Description(names, entries, "", has_keypoints=False)


def _names(names: object, file: Path) -> Names:
    if not isinstance(names, list | dict):
        return {}
    numbered = enumerate(names) if isinstance(names, list) else names.items()
    try:
        classes = {int(number): name for number, name in numbered}
    except ValueError:
        raise ValueError(f"{file}: names must be a list, or begin with whole numbers: 0: cat") from None
    has_names = all(isinstance(name, str) and name for name in classes.values())
    if not has_names or len(set(classes.values())) < len(classes):
        raise ValueError(f"{file}: every class in names must have a name, and one of its own: {names}")
    return classes


def listed_names(file: Path) -> Names:
    """The names of a file with one per line, counted from 0."""
    return {number: line.strip() for number, line in enumerate(read_lines(file)) if line.strip()}


def resolve(tree: Tree, file: Path, description: Description, *, is_exact: bool = False) -> dict[str, list[Path]]:
    """The folders and lists of the tree that a description means, for each split that is there.

    Args:
        is_exact: do not drop the first parts of paths.
    """
    found = {}
    for split, entries in description.entries.items():
        places = [_place(tree, description.path, entry, file.parent, is_exact=is_exact) for entry in entries]
        if any(places):
            found[split] = [place for place in places if place is not None]
    return found


def _place(tree: Tree, path: str, entry: str, base: Path, *, is_exact: bool) -> Path | None:
    """A folder or list of the tree. Its path is relative to the description, to the root, or of another computer: then
    its first parts are dropped, but never the part that tells the split."""
    places = _places(tree)
    entry, path = (PureWindowsPath(text.strip()).as_posix() for text in (entry, path))
    whole = entry if re.match(r"([a-z]:)?/", entry, re.IGNORECASE) else f"{path}/{entry}"
    bases = [tree.relative(base).as_posix() if base.is_relative_to(tree.root) else ".", "."]
    root = tree.root.absolute()
    if Path(whole).is_relative_to(root):
        whole = Path(whole).relative_to(root).as_posix()
    parts = [part for part in os.path.normpath(whole).replace(os.sep, "/").split("/") if part]
    split = split_in(entry)
    for start in range(1 if is_exact else len(parts)):
        rest = "/".join(parts[start:])
        if start and split is not None and split_in(rest) is None:
            return None
        for above in bases:
            key = os.path.normpath(f"{above}/{rest}").replace(os.sep, "/").lower()
            if key in places:
                return places[key]
    return None


@lru_cache(maxsize=2)
def _places(tree: Tree) -> dict[str, Path]:
    """The folders with images below them, and the files that may be lists, by path relative to the root."""
    folders: set[Path] = {tree.root}
    for folder in {image.parent for image in tree.images}:
        while folder not in folders:
            folders.add(folder)
            folder = folder.parent
    return {tree.relative(place).as_posix().lower(): place for place in (*tree.with_suffix(".txt"), *folders)}


def named_tree(file: Path, description: Description) -> Tree | None:
    """The tree of a data set of this computer that a description names by its path, relative to the description or to
    a folder above it; None: there is none, or it lies too far above the description."""
    too_far = Path(os.path.abspath(file.parent)).parents[_MAX_ABOVE:]
    entries = [entry for listed in description.entries.values() for entry in listed]
    path = expand_home(description.path)
    for base in (file.parent, *file.parent.parents):
        places = [Path(os.path.abspath(base / path / entry)) for entry in entries]
        folders = [place if place.is_dir() else place.parent for place in places if place.exists()]
        if folders:
            root = Path(os.path.commonpath(folders))
            root = next((folder.parent for folder in (root, *root.parents) if folder.name == "images"), root)
            return None if len(root.parts) == 1 or root in too_far else Tree(root)
    return None


class Images(NamedTuple):
    """The images of a folder or list."""

    found: list[Path]
    missing: list[tuple[int, str, ImageNotFoundError]]
    """Number and text of the lines of a list that name no image, and why."""


def images_at(tree: Tree, place: Path, split: str | None = None) -> Images:
    """The images below a folder, or of a list."""
    if place == tree.root:
        return Images(tree.images, [])
    if place.is_dir():
        start = f"{place}{os.sep}"
        return Images([image for image in tree.images if str(image).startswith(start)], [])
    images = Images([], [])
    for number, line in enumerate(read_lines(place), start=1):
        try:
            if line.strip():
                images.found.append(tree.find_image(line, place, split=split))
        except ImageNotFoundError as error:
            images.missing.append((number, line, error))
    return images
