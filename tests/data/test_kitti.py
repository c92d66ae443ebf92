"""KITTI's label files."""

from pathlib import Path

import pytest
from reading import read_folder
from tiny import draw_image

from frcnn.data.formats import kitti

REST = "1.89 0.48 1.20 1.84 1.47 8.41 0.01"
CAR = f"Car 0.00 0 -0.20 10.50 20.00 30.00 40.25 {REST}"
CAR_BOX = [10.5, 20, 30, 40.25]


def put(folder: Path, label: str, image: str, *lines: str) -> None:
    for file in (folder / label, folder / image):
        file.parent.mkdir(parents=True, exist_ok=True)
    (folder / label).write_text("".join(f"{line}\n" for line in lines))
    draw_image([]).save(folder / image)


def test_boxes_classes_and_regions_to_ignore(tmp_path: Path) -> None:
    region = "DontCare -1 -1 -10 5.00 6.00 70.00 80.00 -1 -1 -1 -1000 -1000 -1000 -10"
    put(tmp_path, "label_2/000001.txt", "image_2/000001.png", CAR, region, f"{CAR} 0.97")
    splits, problems = read_folder(tmp_path)
    (record,) = splits["all"]
    assert record.boxes.tolist() == [CAR_BOX, [5, 6, 70, 80], CAR_BOX]
    assert record.class_names == ("Car", "DontCare", "Car")
    assert record.ignore.tolist() == [False, True, False]
    assert not problems


def test_an_empty_file_is_an_image_without_objects(tmp_path: Path) -> None:
    put(tmp_path, "labels/1.txt", "images/1.png", CAR)
    put(tmp_path, "labels/2.txt", "images/2.png")
    put(tmp_path, "labels/3.txt", "images/3.png", "", " ")
    splits, problems = read_folder(tmp_path)
    assert [len(record.boxes) for record in splits["all"]] == [1, 0, 0]
    assert not problems


@pytest.mark.parametrize(
    ("label", "image"),
    [
        ("{split}ing/label_2/1.txt", "{split}ing/image_2/1.png"),
        ("{split}/labels/1.txt", "{split}/images/1.png"),
        ("labels/{split}/1.txt", "images/{split}/1.png"),
        ("{split}/1.txt", "{split}/1.png"),
    ],
)
def test_folders_tell_splits(label: str, image: str, tmp_path: Path) -> None:
    for split in ("train", "test"):
        put(tmp_path, label.format(split=split), image.format(split=split), CAR)
    splits, problems = read_folder(tmp_path)
    found = {
        split: [str(record.image.relative_to(tmp_path)) for record in records] for split, records in splits.items()
    }
    assert found == {split: [image.format(split=split)] for split in ("test", "train")}
    assert not problems


def test_of_two_cameras_the_one_with_labels_is_read(tmp_path: Path) -> None:
    put(tmp_path, "training/label_2/1.txt", "training/image_3/1.png", CAR)
    put(tmp_path, "training/label_2/1.txt", "training/image_2/1.png", CAR)
    put(tmp_path, "testing/calib/1.txt", "testing/image_2/1.png", "P0: 7.215377e+02 0.000000e+00")
    splits, problems = read_folder(tmp_path)
    assert [record.image.parent.name for record in splits["train"]] == ["image_2"]
    assert not problems


def test_what_is_wrong_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, "labels/1.txt", "images/1.png", CAR, "Car 0 0 0 1 2", f"Car 0 0 0 1 2 three 4 {REST}")
    put(tmp_path, "labels/2.txt", "images/2.png", CAR)
    put(tmp_path, "labels/3.txt", "images/3.png", CAR)
    (tmp_path / "images" / "2.png").unlink()
    (tmp_path / "labels" / "3.txt").write_bytes(f"{CAR}\n".encode() + b"\xff\xff")
    splits, problems = read_folder(tmp_path)
    assert [record.boxes.tolist() for record in splits["all"]] == [[CAR_BOX]]
    assert [
        (problem.path.name, problem.place, problem.kind, problem.images, problem.objects) for problem in problems
    ] == [
        ("1.txt", "line 2", "invalid object", 0, 1),
        ("1.txt", "line 3", "invalid object", 0, 1),
        ("2.txt", "", "missing image", 1, 1),
        ("3.txt", "line 2, column 1", "unreadable annotation", 1, 0),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0 0.5 0.5 0.1 0.2\n",
        " ".join(["0", *["0.5"] * 14]),
        " ".join(["word"] * 15),
        "a.jpg 1 2 3 4\n",
        "0 5 Car 0 0 -1.5 1 2 3 4 1 1 1 1 1 1 1",
        "numpy==1.2\ntorch\n",
    ],
)
def test_other_files_are_not_recognized(text: str) -> None:
    assert not kitti.recognizes(Path("a.txt"), text.encode())
