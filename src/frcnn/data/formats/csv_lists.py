"""CSV with a line for each image: a cell has its objects, as Kaggle's `image_id,PredictionString`, or as JSON.

In text, an object is its class, its confidence and four numbers; class or confidence or both may be missing. Boxes of
four numbers are read as in other JSON: x, y, width, height, or corners if the images say so.
"""

from __future__ import annotations

from pathlib import Path

from frcnn.data.formats import json_objects
from frcnn.data.formats.csv_cells import has_lists
from frcnn.data.formats.csv_columns import columns_in

LAYOUT = "CSV with a line for each image: image_id,PredictionString (Kaggle), or a cell of JSON"
SUFFIXES = frozenset({".csv", ".tsv"})
_SUBMISSION = "submission"
"""Kaggle's sample_submission.csv, and those of participants, have no annotations."""

sources = json_objects.sources
read = json_objects.read


def recognizes(file: Path, start: bytes) -> bool:
    columns = columns_in(start)
    has_corners = columns is not None and (len(columns.form) > 1 or bool(columns.fitting))
    return not has_corners and _SUBMISSION not in file.stem.lower() and has_lists(file)
