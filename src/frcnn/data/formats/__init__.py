"""Data formats, one file each. To add one: a file with `LAYOUT`, `recognises`, `sets` and `read`, and a line here; to
write it too, `image_place` and `write`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from frcnn.config import DataSettings
from frcnn.data.formats import coco, csv_files, folders, label_studio, labelme, map_files, pascal_voc, yolo
from frcnn.data.problems import Report
from frcnn.types import Record


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


WRITABLE: dict[str, Writable] = {
    "folders": folders,
    "map_files": map_files,
    "pascal_voc": pascal_voc,
    "coco": coco,
    "yolo": yolo,
    "csv": csv_files,
}

FORMATS: dict[str, Format] = {**WRITABLE, "labelme": labelme, "label_studio": label_studio}
