"""Data formats, one file each. To add one: a file with `LAYOUT`, `recognises`, `sets` and `read`, and a line here; to
write it too, `image_place` and `write`; to change single images in place, what `Editable` has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from frcnn.data.formats import csv_files, folders, map_files, pascal_voc
from frcnn.data.problems import Report
from frcnn.types import Annotation, Record

if TYPE_CHECKING:
    from frcnn.config import DataSettings


class Format(Protocol):
    """What the file of a format has."""

    LAYOUT: str
    """In one line, for messages."""

    def recognises(self, folder: Path, settings: DataSettings) -> bool:
        """Is this folder of that format?"""

    def sets(self, folder: Path, settings: DataSettings) -> list[str]:
        """The names of its sets of images, e.g. "train"."""

    def read(self, folder: Path, name: str, settings: DataSettings, report: Report) -> Iterable[Record]:
        """The images of a set. What is wrong with a line, an object or an image is reported, and that one left out.

        Raises:
            FileNotFoundError, ValueError: nothing of the set can be read.
        """


class Writable(Format, Protocol):
    """A format that can be written too."""

    def image_place(self, name: str, record: Record) -> str:
        """The folder for an image of a set, relative to that of the data."""

    def write(self, folder: Path, sets: Mapping[str, Sequence[Record]], classes: Sequence[str]) -> None:
        """Write the annotations of these sets; their images are in their places.

        Raises:
            ValueError: something that the format cannot hold.
        """


class Editable(Format, Protocol):
    """A format in which the annotation of one image can be changed in place. What we do not know of stays."""

    def images(self, folder: Path, settings: DataSettings) -> Iterable[tuple[str, Path]]:
        """Every image, annotated or not, after the name of its set."""

    def class_names(self, folder: Path, settings: DataSettings) -> list[str]:
        """The classes that the format lists, whether an image has them or not."""

    def read_image(self, folder: Path, name: str, image: Path, settings: DataSettings) -> list[Annotation] | None:
        """The objects of an image of the set `name`; None if it is not annotated yet.

        Raises:
            ValueError: its annotation cannot be read, so it cannot be changed without a loss.
        """

    def write_image(
        self, folder: Path, name: str, image: Path, objects: Sequence[Annotation] | None, settings: DataSettings
    ) -> None:
        """Write the objects of an image of the set `name`; None: it is not annotated any more.

        Raises:
            ValueError: something that the format cannot hold.
        """


WRITABLE: dict[str, Writable] = {
    "folders": folders,
    "map_files": map_files,
    "pascal_voc": pascal_voc,
    "csv": csv_files,
}
EDITABLE: dict[str, Editable] = {
    "folders": folders,
    "map_files": map_files,
    "pascal_voc": pascal_voc,
    "csv": csv_files,
}
FORMATS: dict[str, Format] = {**WRITABLE}
NOT_HERE = ""
"""Formats that cannot be read here, and why."""

try:
    from frcnn.data.formats import coco, label_studio, labelme, yolo
except ModuleNotFoundError as error:  # where exported files are run, not all of frcnn's packages have to be installed
    NOT_HERE = f"; coco, yolo, labelme and label_studio need {error.name}, which is not installed"
else:
    WRITABLE |= {"coco": coco, "yolo": yolo}
    EDITABLE |= {"coco": coco, "yolo": yolo, "labelme": labelme}
    FORMATS |= {**WRITABLE, "labelme": labelme, "label_studio": label_studio}
