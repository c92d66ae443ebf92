"""CSV with a line for each image, and all its objects in one cell."""

from pathlib import Path

import pytest
from data.layouts import put
from data.reading import read_folder
from PIL import Image

from frcnn.config import DataSettings
from frcnn.data.discover import discover
from frcnn.data.problems import ProblemKind

Found = dict[str, list[tuple[str, list[float]]]]


def read(folder: Path, text: str) -> tuple[Found, list[ProblemKind]]:
    """The classes and boxes of each image, and what was reported. There are three images of 100 x 100."""
    for name in ("a", "b", "c"):
        Image.new("RGB", (100, 100)).save(folder / f"{name}.png")
    put(folder / "boxes.csv", text)
    assert discover(folder, DataSettings()).format == "csv_lists"
    splits, problems = read_folder(folder)
    (records,) = splits.values()
    found = {r.image.stem: list(zip(r.class_names, r.boxes.tolist(), strict=True)) for r in records}
    return found, [problem.kind for problem in problems]


@pytest.mark.parametrize(
    ("head", "a", "b", "names"),
    [
        ("image_id,PredictionString", "cat 1.0 10 20 30 40 dog 1.0 5 6 7 8", "dog 1 1 2 3 4", ("cat", "dog", "dog")),
        ("image_id,labels", "U+306F 10 20 30 40 U+304C 5 6 7 8", "U+304C 1 2 3 4", ("U+306F", "U+304C", "U+304C")),
        ("image_id,PredictionString", "1.0 10 20 30 40 1.0 5 6 7 8", "1.0 1 2 3 4", ("object",) * 3),
        ("image_name,BoxesString", "10 20 30 40;5 6 7 8", "1 2 3 4", ("object",) * 3),
        ("file,label,boxes", "cat|[[10, 20, 30, 40], [5, 6, 7, 8]]", "dog|[[1, 2, 3, 4]]", ("cat", "cat", "dog")),
        (
            "file,names,bboxes",
            "['cat', 'dog']|[[10, 20, 30, 40], [5, 6, 7, 8]]",
            "['dog']|[[1, 2, 3, 4]]",
            ("cat", "dog", "dog"),
        ),
    ],
)
def test_forms(head: str, a: str, b: str, names: tuple[str, ...], tmp_path: Path) -> None:
    cells = {"a.png": a.split("|"), "b.png": b.split("|")}
    lines = [",".join([name, *(f'"{cell}"' for cell in own)]) for name, own in cells.items()]
    found, _ = read(tmp_path, "\n".join([head, *lines, "c.png" + "," * head.count(",")]))
    boxes = [[10.0, 20.0, 40.0, 60.0], [5.0, 6.0, 12.0, 14.0], [1.0, 2.0, 4.0, 6.0]]
    assert found == {"a": [(names[0], boxes[0]), (names[1], boxes[1])], "b": [(names[2], boxes[2])], "c": []}


def test_corners_and_images_without_objects(tmp_path: Path) -> None:
    text = "id,label\na,0 1 60 60 90 90 1 1 5 6 70 80\nb,14 1 0 0 1 1\nc,none 1 0 0 1 1\n"
    found, kinds = read(tmp_path, text)
    assert found == {"a": [("0", [60, 60, 90, 90]), ("1", [5, 6, 70, 80])], "b": [], "c": []}
    assert kinds == [ProblemKind.CORNERS, ProblemKind.CLASSES_WITHOUT_NAMES]


def test_numbers_have_the_names_of_classes_txt(tmp_path: Path) -> None:
    put(tmp_path / "classes.txt", "cat\ndog\n")
    found, kinds = read(tmp_path, "id,label\na,0 1 10 20 30 40 1 1 5 6 7 8\nb,\nc,\n")
    assert found["a"] == [("cat", [10, 20, 40, 60]), ("dog", [5, 6, 12, 14])]
    assert kinds == []


def test_detections_are_left_out(tmp_path: Path) -> None:
    found, kinds = read(tmp_path, "id,PredictionString\na,0.7 10 20 30 40 1.0 5 6 7 8\nb,\nc,\n")
    assert found["a"] == [("object", [5, 6, 12, 14])]
    assert set(kinds) == {ProblemKind.CONFIDENCE, ProblemKind.NO_CLASSES}


def test_an_example_of_a_submission_is_no_annotation(tmp_path: Path) -> None:
    put(tmp_path / "sample_submission.csv", "id,label\na,cat 1 0 0 50 50\nb,cat 1 0 0 50 50\n")
    put(tmp_path / "more.csv", "image,bbox,label\na,10 20 30 40,x\nb,5 6 7 8,y\n")  # a line for each box is `csv`
    for name in ("a", "b"):
        Image.new("RGB", (100, 100)).save(tmp_path / f"{name}.png")
    assert discover(tmp_path, DataSettings()).format == "csv"


@pytest.mark.parametrize("cells", [("cat 1.0 10 20 30 40 dog 1.0 5 6 7 8", ""), ('"[{""bbox"": [1, 2, 3, 4]}]"', "[]")])
def test_a_column_gives_the_split(cells: tuple[str, str], tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        Image.new("RGB", (100, 100)).save(tmp_path / f"{name}.png")
    lines = zip("abc", ("train", "Test", ""), (*cells, cells[0]), strict=True)
    put(tmp_path / "boxes.csv", "\n".join(["image_id,Subset,objects", *map(",".join, lines)]))
    splits, _ = read_folder(tmp_path)
    found = {split: [record.image.stem for record in records] for split, records in splits.items()}
    assert found == {"train": ["a"], "test": ["b"], "all": ["c"]}
