"""Data formats, one file each. The other files are helpers; their first lines say so.

A new format is a file with the names of `Format`, and one line below. To write the format, its file also has
`image_dir` and `write`; to edit single images in place, it has the functions of `Editable`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from frcnn.data.formats import (
    csv_files,
    cub,
    cvat,
    folders,
    imglab,
    kitti,
    map_files,
    mot,
    pascal_voc,
    text_boxes,
    text_lists,
    ua_detrac,
)
from frcnn.data.formats.source import Source
from frcnn.data.problems import OnProblem
from frcnn.data.records import Annotation, Record
from frcnn.data.tree import Tree

if TYPE_CHECKING:
    from frcnn.config import DataSettings


class Format(Protocol):
    """The names in the file of a format that frcnn reads."""

    LAYOUT: str
    """The files of the format in one line, for messages."""
    SUFFIXES: frozenset[str]
    """Suffixes of its annotation files, lower case."""

    def recognizes(self, file: Path, start: bytes) -> bool:
        """Whether a file is one of the format's annotation files, by its first bytes."""

    def sources(self, tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
        """Group the recognized files of a tree by split. Empty: they are of no use, e.g. a list of images alone."""

    def read(self, source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterable[Record]:
        """The images of a source. A line, object or image that is wrong is left out, and `on_problem` is called. Boxes
        are not compared with the image.

        Raises:
            FileNotFoundError, ValueError: nothing of the source can be read.
        """


class Writable(Format, Protocol):
    """A format that frcnn also writes."""

    def image_dir(self, split: str, record: Record) -> str:
        """The folder for an image of a split, relative to the data folder."""

    def write(self, folder: Path, splits: Mapping[str, Sequence[Record]], classes: Sequence[str]) -> None:
        """Write the annotations of these splits. The images are in their `image_dir` already.

        Raises:
            ValueError: the format cannot hold something.
        """


class Editable(Format, Protocol):
    """A format in which frcnn edits the annotation of one image in place. Fields that frcnn does not know are kept."""

    def images(self, source: Source, tree: Tree) -> Iterable[Path]:
        """Every image of a source, annotated or not."""

    def class_names(self, sources: Sequence[Source], tree: Tree) -> list[str]:
        """The classes that the format lists, with or without objects."""

    def read_image(self, source: Source, image: Path, tree: Tree) -> list[Annotation] | None:
        """The objects of an image; None: it is not annotated yet.

        Raises:
            ValueError: its annotation cannot be read, so an edit would lose something.
        """

    def write_image(
        self,
        source: Source,
        image: Path,
        objects: Sequence[Annotation] | None,
        tree: Tree,
    ) -> None:
        """Replace the objects of an image; None: remove its annotation.

        Raises:
            ValueError: the format cannot hold something.
        """


_JSON_AND_YAML: dict[str, Format] = {}
NOT_HERE = ""
"""For messages: the formats that cannot be read here, and why."""

try:
    from frcnn.data.formats import (
        coco,
        createml,
        csv_lists,
        json_objects,
        label_studio,
        labelme,
        supervisely,
        via,
        vott,
        yolo,
    )
except ModuleNotFoundError as error:  # exported files run without most of frcnn's packages
    NOT_HERE = f"; formats of JSON and YAML files need {error.name}, which is not installed"
else:
    _JSON_AND_YAML |= {
        "coco": coco,
        "label_studio": label_studio,
        "createml": createml,
        "vott": vott,
        "via": via,
        "supervisely": supervisely,
        "labelme": labelme,
        "json": json_objects,
        "yolo": yolo,
        "csv_lists": csv_lists,
    }

FORMATS: dict[str, Format] = {
    "folders": folders,
    "map_files": map_files,
    "cvat": cvat,
    "imglab": imglab,
    "pascal_voc": pascal_voc,
    "ua_detrac": ua_detrac,
    "kitti": kitti,
    "mot": mot,
    "cub": cub,
    "text_boxes": text_boxes,
    **_JSON_AND_YAML,
    "csv": csv_files,
    "text_lists": text_lists,
}
"""By name. A file is of the first format that recognizes it."""
WRITABLE: dict[str, Writable] = {
    name: cast("Writable", form) for name, form in FORMATS.items() if hasattr(form, "write")
}
EDITABLE: dict[str, Editable] = {
    name: cast("Editable", form) for name, form in FORMATS.items() if hasattr(form, "write_image")
}
