"""Data formats, one reader a file. To add one: a file with `recognises` and `read`, and a line here."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from frcnn.config import DataSettings
from frcnn.data.formats import coco, folders, map_files, pascal_voc
from frcnn.types import Record


class Format(NamedTuple):
    recognises: Callable[[Path, DataSettings], bool]
    """Is this folder of that format?"""
    read: Callable[[Path, str, DataSettings], list[Record]]
    """The images of a split, "train" or "test"; ValueError names the file, the line and the rule."""
    layout: str
    """In one line, for messages."""


FORMATS: dict[str, Format] = {
    "folders": Format(
        folders.recognises,
        folders.read,
        "positive/, negative/ and testImages/ with NAME.bboxes.tsv and NAME.bboxes.labels.tsv beside each image",
    ),
    "map_files": Format(
        map_files.recognises,
        map_files.read,
        "class_map.txt, train_img_file.txt, train_roi_file.txt, test_img_file.txt, test_roi_file.txt",
    ),
    "pascal_voc": Format(
        pascal_voc.recognises,
        pascal_voc.read,
        "Pascal VOC: Annotations/NAME.xml, ImageSets/Main/{trainval,test}.txt, JPEGImages/NAME.jpg",
    ),
    "coco": Format(
        coco.recognises,
        coco.read,
        "COCO: annotations/instances_{train,val}*.json, images in a folder of the set's name, or images/",
    ),
}

WITH_SETS = frozenset({"pascal_voc", "coco"})
"""Formats that may hold any number of sets, each with a name."""
