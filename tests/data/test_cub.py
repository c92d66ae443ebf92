"""The text files of CUB-200."""

from pathlib import Path

import pytest
from data.layouts import put
from data.reading import read_folder
from PIL import Image

from frcnn.data.problems import ProblemKind

FILES = {
    "images.txt": "1 001.Albatross/a.png\n2 002.Crow/b.png\n3 002.Crow/c.png\n",
    "image_class_labels.txt": "1 1\n2 2\n3 2\n",
    "classes.txt": "1 001.Albatross\n2 002.Crow\n",
}


def put_data(folder: Path, boxes: str, **more: str) -> None:
    for path in ("001.Albatross/a", "002.Crow/b"):
        (folder / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 80)).save(folder / f"images/{path}.png")
    for name, text in (FILES | {"bounding_boxes.txt": boxes} | more).items():
        put(folder / name, text)


def test_splits_and_other_files_of_numbers(tmp_path: Path) -> None:
    put_data(tmp_path, "1 60.0 27.0 32.0 40.0\n2 1 2 3 4\n", **{"train_test_split.txt": "1 0\n2 1\n3 1\n"})
    put(tmp_path / "parts/part_locs.txt", "1 1 0.0 0.0 0\n1 2 31.0 18.0 1\n")
    splits, problems = read_folder(tmp_path)
    assert {split: [(r.class_names, r.boxes.tolist()) for r in records] for split, records in splits.items()} == {
        "train": [(("002.Crow",), [[1, 2, 4, 6]])],
        "test": [(("001.Albatross",), [[60, 27, 92, 67]])],
    }
    assert [problem.kind for problem in problems] == [ProblemKind.MISSING_IMAGE]


@pytest.mark.parametrize("line", ["7 1 2 3 4", "1 1 2 3", "1 1 2 x 4"])
def test_lines_that_are_no_box_are_reported(line: str, tmp_path: Path) -> None:
    put_data(tmp_path, f"1 1 2 3 4\n{line}\n2 5 6 7 8\n", **{"images.txt": "1 001.Albatross/a.png\n2 002.Crow/b.png\n"})
    splits, problems = read_folder(tmp_path)
    assert [len(record.boxes) for record in splits["all"]] == [1, 1]
    assert [(problem.kind, problem.place) for problem in problems] == [(ProblemKind.INVALID_OBJECT, "line 2")]


@pytest.mark.parametrize(
    ("missing", "name", "kind"),
    [
        ("classes.txt", "1", ProblemKind.CLASSES_WITHOUT_NAMES),
        ("image_class_labels.txt", "object", ProblemKind.NO_CLASSES),
    ],
)
def test_classes_that_are_missing_are_reported(missing: str, name: str, kind: ProblemKind, tmp_path: Path) -> None:
    put_data(tmp_path, "1 1 2 3 4\n", **{"images.txt": "1 001.Albatross/a.png\n"})
    (tmp_path / missing).unlink()
    splits, problems = read_folder(tmp_path)
    assert [record.class_names for record in splits["all"]] == [(name,)]
    assert [problem.kind for problem in problems] == [kind]
