"""Edit annotations in place, one image at a time."""

import hashlib
import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from frcnn.config import DataSettings
from frcnn.data.discover import discover
from frcnn.data.formats import EDITABLE
from frcnn.data.formats.source import ALL, Source
from frcnn.data.images import IMAGE_SUFFIXES, image_size
from frcnn.data.problems import duplicate_stems, format_box, object_place
from frcnn.data.records import Annotation
from frcnn.files import only_inside
from frcnn.tools.annotate.private import folder_key, private_folder

_BY_NAME = {"folders", "pascal_voc", "yolo", "labelme"}
"""Formats that find the annotation of an image by the image's name without suffix."""
_LOCK_TIMEOUT = 10  # seconds
_FIXED_CLASSES = {"yolo"}
"""Formats whose list of classes a person writes."""
SMALLEST = 2
"""The shortest side of a box that is drawn, pixels; some formats cannot hold a shorter one."""


class ImageAnnotations(NamedTuple):
    """The annotation of one image."""

    objects: list[Annotation] | None
    """None: the image is not annotated yet."""
    version: str
    """Changes whenever `objects` change."""


class ConflictError(ValueError):
    """The annotation on the disk is newer than the one that was edited."""


class Editor:
    """Reads and writes the annotations of a folder, in its own format. A folder without annotations gets the files of
    CNTK's tutorial.

    Args:
        folder, settings: as for training.
        class_names: classes that no object has yet.
        on_image: called with the number of images that are read, and with their total.

    Attributes:
        format: name of the format.
        images: (split, path) of each image. An image is named by its index here, so no other file can be reached.
        counts: number of objects of each image; None: it is not annotated.
        broken: for images that cannot be edited, because they or their annotations cannot be read: the reason.
        class_names: the given classes, those that the format lists, those of the objects by name, and new ones.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no image in the folder, a format that cannot be edited in place, or a file that cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        settings: DataSettings,
        *,
        class_names: Sequence[str] = (),
        on_image: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.folder = folder
        discovery = discover(folder, settings, new="folders")
        self.format, self._tree = discovery.format, discovery.tree
        if self.format not in EDITABLE:
            raise ValueError(
                f"{folder}: annotations in the format {self.format} cannot be edited in place; "
                f"edit a copy that `frcnn convert {folder} NEW_FOLDER --to coco` writes"
            )
        self._form = EDITABLE[self.format]
        # Several processes may edit the folder, and a file of a whole split is read, changed and written by each.
        self._lock = FileLock(private_folder() / f"{folder_key(folder)}.lock", timeout=_LOCK_TIMEOUT)
        self._turn, self._saving = threading.RLock(), threading.Lock()
        sources = discovery.sources or [Source(ALL, ())]
        images = {
            image: source for source in sources for image in self._form.images(source, self._tree)
        }  # an image that two lists name comes once
        self.images = [(source.split, image) for image, source in images.items()]
        self._sources = list(images.values())
        if not self.images:
            raise ValueError(f"{folder}: has no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
        self.counts: list[int | None] = [None] * len(self.images)
        self.broken: dict[int, str] = dict(self._refused())
        self._is_refused = frozenset(self.broken)
        known = self._form.class_names(sources, self._tree)
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

    @property
    def root(self) -> Path:
        """The folder that image paths in reports of `frcnn check` are relative to."""
        return self._tree.root

    def read(self, index: int) -> ImageAnnotations:
        """The annotation of an image, as it is on the disk now.

        Raises:
            ValueError, OSError: it cannot be read.
        """
        if index in self._is_refused:
            raise ValueError(self.broken[index])
        image = self.images[index][1]
        with self._turn:
            objects = self._form.read_image(self._sources[index], image, self._tree)
        for number, annotation in enumerate(objects or ()):
            if not all(map(math.isfinite, annotation.box)):
                place = object_place(number, annotation.name)
                raise ValueError(
                    f"{image}, {place}: has a coordinate that is not a finite number; correct the file by hand"
                )
        self.broken.pop(index, None)
        content = json.dumps([str(image), objects])  # the path, because a page may mean another image
        return ImageAnnotations(objects, hashlib.sha256(content.encode()).hexdigest())

    def write(self, index: int, objects: Sequence[Annotation] | None, version: str) -> ImageAnnotations:
        """Replace the annotation of an image, whole or not at all.

        Args:
            objects: None removes the annotation, which is allowed only if this editor made it.
            version: of the annotation that was edited.

        Returns:
            The annotation that is on the disk then.

        Raises:
            ConflictError: a newer annotation is on the disk, and is kept.
            ValueError, OSError: the annotation cannot be written.
        """
        image = self.images[index][1]
        if objects is None and index in self._were_annotated:
            raise ValueError(
                f"{image}: was annotated before; its objects can be removed, but not the annotation itself"
            )
        with self._saving, self.locked(), self._turn:  # in this order, so that reads do not wait for another process
            before = self.read(index)
            if before.version != version:
                raise ConflictError(f"{image}: its annotation was changed elsewhere in the meantime")
            known = {annotation[:3] for annotation in before.objects or ()}
            self._require_good([annotation for annotation in objects or () if annotation[:3] not in known], image)
            with only_inside(self.folder):
                self._form.write_image(self._sources[index], image, objects, self._tree)
            annotation = self.read(index)
            self._note(index, annotation.objects)
        return annotation

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing to the folder, and from storing decisions about it.

        Raises:
            OSError: another program has held the lock for too long.
        """
        try:
            self._lock.acquire()
        except Timeout:
            raise OSError(
                f"{self.folder}: not saved, because another program has held {self._lock.lock_file} for "
                f"{_LOCK_TIMEOUT:g} s; stop the other `frcnn annotate` of this folder, or that program"
            ) from None
        try:
            yield
        finally:
            self._lock.release()

    def is_inside(self, image: Path) -> bool:
        """Whether an image, or a link to it, is in the folder."""
        # Not os.path.commonpath, which raises an error for two drives of Windows.
        return Path(os.path.abspath(image)).is_relative_to(os.path.abspath(self.folder))

    def is_removable(self, index: int) -> bool:
        """Whether the annotation of an image can be removed."""
        return index not in self._were_annotated

    def _refused(self) -> Iterator[tuple[int, str]]:
        """Images whose edits would go wrong or damage others."""
        for index, (_, image) in enumerate(self.images):
            if not self.is_inside(image):
                yield index, f"{image}: is outside of {self.folder}; open the folder that holds both"
        if self.format in _BY_NAME:
            images = [image for _, image in self.images]
            for problem in (*duplicate_stems(images), *duplicate_stems(reversed(images))):
                yield images.index(problem.path), str(problem)

    def _note(self, index: int, objects: Sequence[Annotation] | None) -> None:
        self.counts[index] = None if objects is None else len(objects)
        self.class_names = list(dict.fromkeys([*self.class_names, *(annotation.name for annotation in objects or ())]))

    def _require_good(self, objects: Sequence[Annotation], image: Path) -> None:
        """Check new and changed objects. Errors that were there before must not block other edits."""
        size = image_size(image)
        for annotation in objects:
            defect = _defect(annotation.box, size)
            if defect is not None:
                raise ValueError(f"{image}: {defect}")
            name = annotation.name
            if not name or name != name.strip() or not name.isprintable():
                raise ValueError(f"class {name!r}: must have visible characters, and no spaces around them")


def _defect(box: Sequence[float], size: tuple[int, int]) -> str | None:
    """Why a drawn box cannot be saved; None: it is good. Training repairs boxes instead.

    Args:
        box: x1, y1, x2, y2, pixels.
        size: (height, width) of the image.
    """
    height, width = size
    x1, y1, x2, y2 = box
    if not all(map(math.isfinite, box)):
        return f"box {format_box(box)} has a coordinate that is not a finite number"
    for axis, low, high in (("x", x1, x2), ("y", y1, y2)):
        if high <= low:
            return f"{axis}2 ({high:g}) must be greater than {axis}1 ({low:g})"
    if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
        return f"box {format_box(box)} must lie inside the image ({width} x {height} pixels)"
    if min(x2 - x1, y2 - y1) <= SMALLEST - 1:
        return f"box {format_box(box)} must be more than {SMALLEST - 1:g} px wide and high"
    return None
