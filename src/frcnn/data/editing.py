"""Changing annotations in place, one image at a time."""

import getpass
import hashlib
import json
import math
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from frcnn.config import DataSettings
from frcnn.data.dataset import find_format
from frcnn.data.formats import EDITABLE
from frcnn.data.images import IMAGE_SUFFIXES, image_size
from frcnn.data.problems import object_place, twins
from frcnn.types import Annotation

_BY_NAME = {"folders", "pascal_voc", "yolo", "labelme"}
"""Formats that find the annotation of an image by its name without suffix."""
_FIXED_CLASSES = {"yolo"}
"""Formats that list their classes in a file by hand."""
SMALLEST = 2
"""Pixels: the least side of a box that is drawn, since some formats cannot hold less."""


class Sheet(NamedTuple):
    """What is said of one image."""

    objects: list[Annotation] | None
    """None: it is not annotated yet."""
    version: str
    """The same as long as `objects` are."""


class ConflictError(ValueError):
    """What would be overwritten is newer than what the writer has seen."""


class Editor:
    """The annotations of a folder, in its own format; a folder of photos alone gets the files of CNTK's tutorial.

    Args:
        folder, settings: as for training.
        class_names: of classes that no object has yet.
        on_image: called with the images looked at and their total.

    Attributes:
        format: name of the format.
        images: each with its set. An image is its place in this list: nothing else can be read or written.
        counts: objects of each image, None if it is not annotated.
        broken: images that cannot be read, or their annotation, with the reason; they cannot be changed.
        class_names: those that were given and those that the format lists, then those of the objects, by name; then
            those that are new.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no image in it, a format that cannot be changed in place, or what is wrong with its files.
    """

    def __init__(
        self,
        folder: Path,
        settings: DataSettings,
        *,
        class_names: Sequence[str] = (),
        on_image: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.folder, self._settings = folder, settings
        self.format = _format_of(folder, settings)
        self._form = EDITABLE[self.format]
        # Other processes may have opened the folder, too; each file of a whole set is read, changed and written.
        digest = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self._lock = FileLock(Path(tempfile.gettempdir()) / f"frcnn-{getpass.getuser()}-{digest}.lock")
        self._turn = threading.RLock()
        self.images = list(self._form.images(folder, settings))
        if not self.images:
            raise ValueError(f"{folder}: there is no image in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
        self.counts: list[int | None] = [None] * len(self.images)
        self.broken: dict[int, str] = dict(self._refused())
        self._is_refused = frozenset(self.broken)
        known = self._form.class_names(folder, settings)
        new = [name for name in class_names if name not in known]
        if new and self.format in _FIXED_CLASSES:
            raise ValueError(
                f"--classes {','.join(new)}: {self.format} lists its classes in a file ({known}); add it there"
            )
        self.class_names = list(dict.fromkeys([*class_names, *known]))
        for index in range(len(self.images)):
            try:
                image_size(self.images[index][1])
                objects = self.read(index).objects
            except (ValueError, OSError) as error:
                self.broken[index] = str(error)
            else:
                self._note(index, objects)
            on_image(index + 1, len(self.images))
        self.class_names = list(dict.fromkeys([*class_names, *known, *sorted(self.class_names)]))
        self._were_annotated = frozenset(
            index for index, count in enumerate(self.counts) if count is not None or index in self.broken
        )

    def read(self, index: int) -> Sheet:
        """An image's annotation, as it is on the disk now.

        Raises:
            ValueError, OSError: it cannot be read.
        """
        if index in self._is_refused:
            raise ValueError(self.broken[index])
        name, image = self.images[index]
        with self._turn:
            objects = self._form.read_image(self.folder, name, image, self._settings)
        for number, thing in enumerate(objects or ()):
            if not all(map(math.isfinite, thing.box)):
                place = object_place(number, thing.name)
                raise ValueError(
                    f"{image}, {place}: has a coordinate that is no number; correct its annotation by hand"
                )
        self.broken.pop(index, None)
        content = json.dumps([str(image), objects])  # of this image: a page may mean another one
        return Sheet(objects, hashlib.sha256(content.encode()).hexdigest())

    def write(self, index: int, objects: Sequence[Annotation] | None, version: str) -> Sheet:
        """Replace an image's annotation, whole or not at all.

        Args:
            objects: None takes the annotation away, which is allowed only if it is not older than this editor.
            version: of what the writer has seen.

        Returns:
            What is on the disk then.

        Raises:
            ConflictError: there is something newer on the disk; it stays.
            ValueError, OSError: what cannot be written.
        """
        name, image = self.images[index]
        if objects is None and index in self._were_annotated:
            raise ValueError(f"{image}: was annotated before; its annotation can be emptied, but not be taken away")
        with self._turn, self._lock:
            before = self.read(index)
            if before.version != version:
                raise ConflictError(f"{image}: its annotation was changed elsewhere in the meantime")
            known = {thing[:3] for thing in before.objects or ()}
            self._require_good([thing for thing in objects or () if thing[:3] not in known], image)
            self._form.write_image(self.folder, name, image, objects, self._settings)
            sheet = self.read(index)
            self._note(index, sheet.objects)
        return sheet

    def is_inside(self, image: Path) -> bool:
        """Whether an image lies in the folder, be it a link."""
        folder = os.path.abspath(self.folder)
        return os.path.commonpath([folder, os.path.abspath(image)]) == folder

    def may_be_taken_away(self, index: int) -> bool:
        """Whether an image can go back to being not annotated."""
        return index not in self._were_annotated

    def _refused(self) -> Iterator[tuple[int, str]]:
        """Images that cannot be changed without a mistake elsewhere."""
        for index, (_, image) in enumerate(self.images):
            if not self.is_inside(image):
                yield index, f"{image}: lies outside of {self.folder}; open the folder that holds both"
        if self.format in _BY_NAME:
            images = [image for _, image in self.images]
            for problem in (*twins(images), *twins(reversed(images))):
                yield images.index(problem.path), str(problem)

    def _note(self, index: int, objects: Sequence[Annotation] | None) -> None:
        self.counts[index] = None if objects is None else len(objects)
        self.class_names = list(dict.fromkeys([*self.class_names, *(thing.name for thing in objects or ())]))

    def _require_good(self, objects: Sequence[Annotation], image: Path) -> None:
        """Of what is new or changed: mistakes that were there before must not keep others from being mended."""
        height, width = image_size(image)
        for thing in objects:
            x1, y1, x2, y2 = thing.box
            is_inside = min(x1, y1) >= 0 and x2 <= width and y2 <= height
            if not is_inside or not (x2 - x1 >= SMALLEST and y2 - y1 >= SMALLEST):
                raise ValueError(
                    f"{image}: box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) must lie inside the image ({width} x {height} "
                    f"pixels) and have sides of {SMALLEST} pixels or more"
                )
            if not thing.name.strip() or thing.name != thing.name.strip() or not thing.name.isprintable():
                raise ValueError(f"class {thing.name!r}: must have letters that can be seen, and no spaces around them")


def _format_of(folder: Path, settings: DataSettings) -> str:
    name = find_format(folder, settings, of_new="folders")
    if name not in EDITABLE:
        raise ValueError(
            f"{folder}: annotations of {name} cannot be changed in place; "
            f"`frcnn convert {folder} NEW_FOLDER --to coco` writes a copy whose can"
        )
    return name
