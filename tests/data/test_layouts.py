"""Every layout gives the same records."""

from pathlib import Path

import numpy as np
import pytest
from data.layouts import LAYOUTS, TOY, Splits, all_photos

from frcnn.cli import options
from frcnn.config import DataSettings
from frcnn.data.dataset import SPLITS, Dataset
from frcnn.data.formats import EDITABLE, FORMATS, WRITABLE


def objects(dataset: Dataset, split: str) -> dict[str, list[tuple[str, list[float]]]]:
    """The classes and boxes of each image of a split, by the image's name."""
    return {
        record.image.name: [
            (name, box.round(2).tolist()) for name, box in zip(record.class_names, record.boxes, strict=True)
        ]
        for record in dataset.records(split)
    }


def expected(splits: Splits, split: str, *, has_splits: bool) -> dict[str, list[tuple[str, list[float]]]]:
    photos = splits.get(split, ()) if has_splits else (all_photos(splits) if split == "train" else ())
    return {photo.name: [(name, [float(side) for side in box]) for name, box in photo.objects] for photo in photos}


def test_every_format_has_a_layout() -> None:
    assert {layout.format for layout in LAYOUTS.values()} == set(FORMATS)
    assert list(FORMATS) == list(options._FORMATS)  # for --help


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    layout.write(tmp_path, TOY)
    dataset = Dataset(tmp_path, DataSettings())
    assert dataset.discovery.format == layout.format
    for split in SPLITS:
        assert objects(dataset, split) == expected(TOY, split, has_splits=layout.has_splits)
    assert [problem for problem in dataset.problems if problem.level in ("error", "repaired") or problem.objects] == []
    assert not any(np.isnan(record.boxes).any() for split in SPLITS for record in dataset.records(split))


def test_the_docs_list_every_layout() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    for layout in LAYOUTS.values():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{layout.format}` |")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert layout.files in cells[1].split("<br>")
        assert cells[2:] == ["yes" if layout.format in forms else "no" for forms in (WRITABLE, EDITABLE)]
