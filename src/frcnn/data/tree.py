"""The files of a data set's folder: one bounded walk, and the search for the images that annotations name."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from frcnn.data.images import IMAGE_SUFFIXES
from frcnn.data.problems import AmbiguousImageError, ImageNotFoundError
from frcnn.files import JOURNAL, PARTIAL, finish_changes
from frcnn.messages import clipped, plural
from frcnn.run_files import CONFIG_FILE, LOCAL_FILE, MODEL_FILE

MAX_FILES = 5_000_000
MAX_DEPTH = 16
_START = 4096  # bytes of a file that tell its format
_START_OF_XML = 1 << 16  # it may begin with a long comment
_JUNK_DIRS = frozenset({"__macosx", "__pycache__", "node_modules", "$recycle.bin", "system volume information"})
_JUNK_FILES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})
_JUNK_SUFFIXES = frozenset({".cache", ".pyc", ".tmp", ".part", ".lock", ".py", ".ipynb"})
_IMAGE_DIRS = frozenset({"images", "image", "jpegimages", "imgs", "img", "photos", "pictures", "data"})
_SPLIT = re.compile(
    r"(?<![a-zA-Z])(?i:(trainval|training|train|validation|valid|val|testing|test))(\d*)"
    r"(?:(?<![A-Z])(?![a-z])|(?<=[A-Z])(?![a-zA-Z]))|"  # trainImages, but not VALVES
    r"(?<![a-zA-Z])(?i:(train|val|test))(?i:set|images|labels|data)(\d*)(?![a-z])"
)
_GENERIC_WORDS = {"training": "train", "testing": "test"}


class Tree:
    """The files of a folder, at any depth, without hidden files, junk and frcnn's own run directories.

    Attributes:
        root: the folder.
        images: files with the suffix of an image, sorted by folder, 2.jpg before 10.jpg.
        files: all other files, sorted in the same way.
        skipped: numbers of files that are no data, by kind, e.g. {"hidden files": 3}.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the folder has too many files.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise FileNotFoundError(f"{root}: no such folder of data")
        self.root = root
        self.skipped: Counter[str] = Counter()
        images: list[str] = []
        files: list[str] = []
        for path in self._walk():
            (images if _suffix(path) in IMAGE_SUFFIXES else files).append(path)
        images.sort(key=_order)
        self.images = [root / path for path in images]
        self._images = dict(zip(map(_normal, images), self.images, strict=True))
        """By their paths relative to the root."""
        self._folders: dict[Path, str] = {}
        self._fits: tuple[object, dict[str, tuple[int, ...]]] = None, {}
        """What `_nearest` was asked last, and how well each folder fits: the next image often asks the same."""
        self._splits: dict[Path, str | None] = {}
        self.files = [root / path for path in sorted(files, key=_order)]

    def _walk(self) -> Iterator[str]:
        """The paths of all data files, relative to the root, with slashes."""
        seen: set[str] = set()
        waiting = [""]
        count = 0
        while waiting:
            prefix = waiting.pop()
            real = os.path.realpath(self.root / prefix)
            if real in seen or prefix.count("/") >= MAX_DEPTH:  # a link to a folder that contains it
                continue
            seen.add(real)
            folders, files = _listed(self.root / prefix)
            if prefix and CONFIG_FILE in files and (LOCAL_FILE in files or MODEL_FILE in files):
                self.skipped["run directories of frcnn"] += 1
                continue
            junk = [name for name in folders if name.startswith(".") or name.lower() in _JUNK_DIRS]
            self.skipped["hidden folders"] += len(junk)
            waiting += [f"{prefix}{name}/" for name in sorted(set(folders) - set(junk), reverse=True)]
            for name, is_regular in files.items():
                kind = _junk(name) if is_regular else "pipes, devices and broken entries"
                if kind:
                    self.skipped[kind] += 1
                    continue
                count += 1
                if count > MAX_FILES:
                    raise ValueError(f"{self.root}: has more than {MAX_FILES:,} files; name the data set's own folder")
                yield prefix + name
        self.skipped = +self.skipped  # without zeros

    def with_suffix(self, *suffixes: str) -> list[Path]:
        """The files with one of these suffixes, e.g. ".json"; images have their own list."""
        return [path for suffix in suffixes for path in self._by_suffix.get(suffix, ())]

    @cached_property
    def _by_suffix(self) -> dict[str, list[Path]]:
        by_suffix: dict[str, list[Path]] = {}
        for file in self.files:
            by_suffix.setdefault(file.suffix.lower(), []).append(file)
        return by_suffix

    def relative(self, path: Path) -> PurePosixPath:
        """The path of a file of the tree, relative to the root."""
        return PurePosixPath(path.relative_to(self.root).as_posix())

    def split_of(self, path: Path) -> str | None:
        """The split that the names of a file and of its folders tell: the file's name first, then the nearest folder;
        e.g. "train2017" for annotations/instances_train2017.json, "valid" for valid/labels/1.txt."""
        if path not in self._splits:
            is_inside = path.is_relative_to(self.root)
            self._splits[path] = split_in(self.relative(path).as_posix()) if is_inside else None
        return self._splits[path]

    def find_image(self, name: str, annotation: Path, *, split: str | None = None) -> Path:
        """The image that an annotation names.

        The name is tried as it is written: absolute, relative to the annotation, relative to the root. Then all images
        of the tree with this file name are compared, ignoring case; then those with this name and another suffix. The
        best has the most folders in common with the name, belongs to the annotation's split, is nearest to the
        annotation, and is in a folder for images. Of names that differ in case only, the one as it is written is best.
        Paths of Windows and of other computers, URLs and %20 are understood.

        Args:
            name: a path, or the name without suffix.
            annotation: the file that names the image.
            split: of the annotation, if it is known by other means than `annotation`.

        Raises:
            ImageNotFoundError: no image has this name.
            AmbiguousImageError: several fit equally well.
        """
        if not name.strip():
            raise ImageNotFoundError("names no image")
        if ".zip@/" in name:  # a path into an archive, in the map files of CNTK's tutorial
            return self.root / name.replace("\\", "/")
        for spelling in _spellings(name):
            for base in (self._folder(annotation), ""):
                path = os.path.normpath(os.path.join(base, spelling)).replace(os.sep, "/")
                image = self._images.get(_normal(path))
                if image is not None:
                    return image
            if os.path.isabs(spelling) and os.path.isfile(spelling):
                file, root = Path(os.path.normpath(spelling)), os.path.abspath(self.root)
                if file.is_relative_to(root):  # on Windows, it may be on another drive
                    image = self._images.get(_normal(file.relative_to(root).as_posix()))
                return image or Path(spelling)
        for index in (self._by_name, self._by_stem):
            for spelling in _spellings(name):
                file_name = spelling.rpartition("/")[2]
                key = file_name if index is self._by_name else _stem(file_name)
                found = index.get(folded(key), [])
                if found:
                    return self._images[self._nearest(found, spelling, annotation, split)]
        outside = annotation.parent / _spellings(name)[-1]
        if outside.suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(outside):
            return outside  # e.g. ../photos/1.jpg, beside the folder
        raise ImageNotFoundError(f"there is no image {clipped(name)}{self._hint}")

    def _folder(self, file: Path) -> str:
        """The folder of a file, relative to the root."""
        folder = self._folders.get(file)
        if folder is None:
            folder = self._folders[file] = self.relative(file).parent.as_posix()
        return folder

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        by_name: dict[str, list[str]] = {}
        for path in self._images:
            by_name.setdefault(path.rpartition("/")[2].lower(), []).append(path)
        return by_name

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        by_stem: dict[str, list[str]] = {}
        for path in self._images:
            by_stem.setdefault(_stem(path.rpartition("/")[2]).lower(), []).append(path)
        return by_stem

    def _nearest(self, paths: list[str], spelling: str, annotation: Path, split: str | None) -> str:
        if len(paths) == 1:
            return paths[0]
        *folders, name = _normal(spelling).split("/")
        asked = folders, self._folder(annotation), split or self.split_of(annotation)
        kept, fits = self._fits
        if kept != asked:
            fits = {}
            self._fits = asked, fits

        def fit(path: str) -> tuple[int, ...]:
            folder = path.rpartition("/")[0]
            if folder not in fits:
                fits[folder] = _fit(folder, *asked)
            return fits[folder]

        fitting = list(map(fit, paths))
        best = max(fitting)
        equal = [path for path, own in zip(paths, fitting, strict=True) if own == best]
        if len(equal) > 1:  # IMG_1.JPG and img_1.jpg can be in one folder
            names = {path: path.rpartition("/")[2] for path in equal}
            same = [path for path in equal if names[path] == name]
            equal = same or [path for path in equal if _stem(names[path]) == _stem(name)] or equal
        if len(equal) > 1:
            raise AmbiguousImageError(
                f"the image {spelling} may be {equal[0]} or {equal[1]}; remove one of them, or write the image's "
                f"folder into the annotation"
            )
        return equal[0]

    @cached_property
    def _hint(self) -> str:
        if not self.images:
            return "; the folder has no images at all"
        folders = Counter(image.parent for image in self.images)
        (folder, count), *_ = folders.most_common(1)
        return f"; {plural(count, 'image is', 'images are')} in {folder}"

    def start(self, file: Path) -> bytes:
        """The first bytes of a file, without a byte order mark."""
        with file.open("rb") as opened:
            return opened.read(_START_OF_XML if file.suffix.lower() == ".xml" else _START).removeprefix(b"\xef\xbb\xbf")


def _listed(folder: Path) -> tuple[list[str], dict[str, bool]]:
    """The subfolders; and other entries, name -> whether it is a regular file (or a link to nothing). Both are empty if
    the folder cannot be read."""
    folders, files = [], {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_dir():
                        folders.append(entry.name)
                    else:
                        files[entry.name] = entry.is_file() or not os.path.exists(entry.path)  # a link to nothing
                except OSError:  # e.g. a link to itself
                    files[entry.name] = False
    except OSError:
        return [], {}
    if any(name.startswith((JOURNAL, PARTIAL)) for name in files):  # a process was killed while it changed annotations
        changed = finish_changes(folder)
        files = {name: is_file for name, is_file in files.items() if changed.get(name, True)}
        files |= {name: True for name, is_new in changed.items() if is_new}
    return folders, files


def images_outside(root: Path, images: Iterable[Path | str]) -> list[str]:
    """The images that lie outside of `root` after symbolic links are resolved."""
    real = os.path.join(os.path.realpath(root), "")
    folders: dict[str, bool] = {}  # folder -> whether it is inside `root`
    found = []
    for image in map(str, images):
        file = image.partition("@/")[0] if ".zip@/" in image else image
        folder = os.path.dirname(file)
        if folder not in folders:
            folders[folder] = f"{os.path.realpath(folder)}{os.sep}".startswith(real)
        if not (os.path.realpath(file).startswith(real) if os.path.islink(file) else folders[folder]):
            found.append(image)
    return found


def split_in(path: str) -> str | None:
    """The split that a path tells, in lower case, with the number of a year: "train2017", "valid", "test"; None: none.
    The file's name counts first, then the nearest folder."""
    for part in reversed(path.split("/")):
        words = [(first or second, number or year) for first, number, second, year in _SPLIT.findall(part)]
        if len({word.lower() for word, _ in words}) == 1:
            word, number = words[-1]
            return _GENERIC_WORDS.get(word.lower(), word.lower()) + number
    return None


def split_word(split: str | None) -> str | None:
    """ "val" for "validation", "valid" and "val2017"."""
    if split is None:
        return None
    return next((word for word in ("trainval", "train", "val", "test") if split.lower().startswith(word)), split)


def _spellings(name: str) -> list[str]:
    """A name as it is written, then as a path with slashes, without the address of a server, without %20."""
    plain = name.strip().replace("\\", "/")
    spellings = [name, plain]
    if "://" in plain:
        with suppress(ValueError):  # not an address
            parts = urlsplit(plain)
            plain = parse_qs(parts.query).get("d", [parts.path or parts.netloc])[0]
            spellings.append(plain.lstrip("/"))
    if "?d=" in plain:  # a file on Label Studio's own server
        spellings.append(plain.partition("?d=")[2])
    spellings += [unquote(spelling) for spelling in spellings if "%" in spelling]
    return list(dict.fromkeys(spelling for spelling in spellings if spelling))


def _junk(name: str) -> str | None:
    """Why a file is no data; None: it may be data."""
    low = name.lower()
    if low.startswith("."):
        return "hidden files"
    if low in _JUNK_FILES or "zone.identifier" in low or _suffix(low) in _JUNK_SUFFIXES:
        return "files of other programs"
    return None


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _stem(name: str) -> str:
    return name[: -len(_suffix(name))] if _suffix(name) in IMAGE_SUFFIXES else name


def _normal(path: str) -> str:
    """macOS writes ä as a and two dots."""
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def folded(path: str) -> str:
    """Equal for paths that Windows and macOS take for the same."""
    return _normal(path).lower()


def _order(path: str) -> tuple[str, int, str]:
    folder, _, name = path.rpartition("/")
    return folder, len(os.path.splitext(name)[0]), name


def _fit(folder: str, wanted: list[str], beside: str, split: str | None) -> tuple[int, ...]:
    """How well a folder fits that an annotation means; the largest fits best.

    Args:
        wanted: the folders in the name of the image.
        beside: the folder of the annotation, relative to the root.
        split: of the annotation.
    """
    own, near = (path.split("/") if path else [] for path in (folder, beside))
    lower, written = ([part.lower() for part in parts] for parts in (own, wanted))
    is_own_split = split is not None and split_word(split_in(folder)) == split_word(split)
    # images/cats/1.jpg belongs to annotations/cats/1.xml: the folders may agree at their end, too.
    ends = _common(lower[::-1], written[::-1]), is_own_split, _common(own[::-1], near[::-1])
    return *ends, _common(own, near), not _IMAGE_DIRS.isdisjoint(lower)


def _common(first: list[str] | tuple[str, ...], second: list[str] | tuple[str, ...]) -> int:
    """How many parts two sequences have in common at their beginning."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count
