"""The map files of CNTK's tutorial: what is read, and one clear error for each thing that is wrong."""

from pathlib import Path

import numpy as np
import pytest
from tiny import draw_image, read_split, train_tiny

from frcnn.config import DataSettings

GOOD = {
    "class_map.txt": "__background__\t0\nred\t1\nblue\t2\n",
    "train_img_file.txt": "0\timages/a.png\t0\n1\timages/b.png\t0\n2\timages/c.png\t0\n",
    "train_roi_file.txt": "0 |roiAndLabel 10 12 50 60 1 60.5 20 100 70 2\n1 |roiAndLabel\n2 |roiAndLabel 5 5 40 40 2\n",
    "test_img_file.txt": "0\timages/c.png\t0\n",
    "test_roi_file.txt": "0 |roiAndLabel 5.0 5.0 40.0 40.0 2.0\n",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    for number, name in enumerate("abc"):
        draw_image([], seed=number).save(folder / "images" / f"{name}.png")
    for file, text in GOOD.items():
        (folder / file).write_text(text)
    return folder


def test_images_boxes_and_classes_find_together(data: Path) -> None:
    records = read_split(data, "train", DataSettings())
    assert [record.image for record in records] == [data / "images" / f"{name}.png" for name in "abc"]
    assert [record.class_names for record in records] == [("red", "blue"), (), ("blue",)]
    np.testing.assert_array_equal(records[0].boxes, [[10, 12, 50, 60], [60.5, 20, 100, 70]])
    assert records[1].boxes.shape == (0, 4)

    (test,) = read_split(data, "test", DataSettings())
    assert (test.image.name, test.class_names, test.boxes.tolist()) == ("c.png", ("blue",), [[5, 5, 40, 40]])


def test_a_set_without_test_files_has_no_test_images(data: Path) -> None:
    (data / "test_img_file.txt").unlink()
    assert not read_split(data, "test", DataSettings())


def test_files_may_have_other_names(data: Path) -> None:
    (data / "train_roi_file.txt").rename(data / "boxes.txt")
    assert len(read_split(data, "train", DataSettings(train_roi_file="boxes.txt"))) == 3


def test_windows_line_ends_are_read(data: Path) -> None:
    for file, text in GOOD.items():
        (data / file).write_bytes(text.replace("\n", "\r\n").encode())
    assert [record.class_names for record in read_split(data, "train", DataSettings())] == [
        ("red", "blue"),
        (),
        ("blue",),
    ]


BAD = {
    "background as a label": (
        "train_roi_file.txt",
        "0 |roiAndLabel 1 2 30 40 0\n",
        r"train_roi_file\.txt, line 1: label 0 is not the index of a class \(0 is the background\)",
    ),
    "unknown label": (
        "train_roi_file.txt",
        "0 |roiAndLabel 1 2 30 40 1\n2 |roiAndLabel 1 2 30 40 7\n",
        r"train_roi_file\.txt, line 2: label 7 is not the index of a class",
    ),
    "half a label": ("train_roi_file.txt", "0 |roiAndLabel 1 2 30 40 1.5\n", r"line 1: label 1\.5 is not the index"),
    "four numbers": ("train_roi_file.txt", "0 |roiAndLabel 1 2 30 40\n", r"line 1: must read 'index \|roiAndLabel'"),
    "no bar": ("train_roi_file.txt", "0 1 2 30 40 1\n", r"line 1: must read 'index \|roiAndLabel'"),
    "text": ("train_roi_file.txt", "0 |roiAndLabel 1 2 30 wide 1\n", r"line 1: holds something that is not a number"),
    "box without image": ("train_roi_file.txt", "9 |roiAndLabel 1 2 30 40 1\n", r"index 9 has no image in train_img"),
    "no box file": ("train_roi_file.txt", None, r"train_roi_file\.txt: this file is missing"),
    "no test box file": ("test_roi_file.txt", None, r"test_roi_file\.txt: this file is missing"),
    "spaces for tabs": ("train_img_file.txt", "0 images/a.png 0\n", r"train_img_file\.txt, line 1: .* 3 columns"),
    "index in words": (
        "class_map.txt",
        "red\tone\n",
        r"class_map\.txt: the index of class 'red' is 'one', not a whole",
    ),
    "image index twice": ("train_img_file.txt", "0\timages/a.png\t0\n0\timages/b.png\t0\n", r"index 0 appears twice"),
    "class index twice": ("class_map.txt", "red\t1\nblue\t1\n", r"class_map\.txt: index 1 appears twice"),
    "missing image": (
        "train_img_file.txt",
        "0\timages/z.png\t0\n1\timages/b.png\t0\n2\timages/c.png\t0\n",
        r"train_img_file\.txt, index 0: there is no image images/z\.png",
    ),
    "box outside": (
        "train_roi_file.txt",
        "0 |roiAndLabel 1 2 300 40 1\n1 |roiAndLabel\n2 |roiAndLabel\n",
        r"a\.png, object 1 \('red'\): box \(1, 2, 300, 40\) leaves the image \(128 x 96 pixels\)",
    ),
    "not a number": (
        "train_roi_file.txt",
        "0 |roiAndLabel nan 2 30 40 1\n1 |roiAndLabel\n2 |roiAndLabel\n",
        r"box \(nan, 2, 30, 40\) is not finite",
    ),
    "inverted": (
        "train_roi_file.txt",
        "0 |roiAndLabel 30 2 1 40 1\n1 |roiAndLabel\n2 |roiAndLabel\n",
        r"the corners of box \(30, 2, 1, 40\) are in the wrong order",
    ),
}


@pytest.mark.parametrize(("file", "content", "message"), BAD.values(), ids=BAD)
def test_a_bad_file_stops_training_before_anything_is_written(
    data: Path, file: str, content: str | None, message: str
) -> None:
    (data / file).unlink()
    if content is not None:
        (data / file).write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train_tiny(data, data.parent / "run", "data.strict=true")
    assert not (data.parent / "run").exists()


@pytest.mark.parametrize("file", GOOD)
def test_a_file_that_is_not_utf_8_is_named(data: Path, file: str) -> None:
    (data / file).write_bytes(GOOD[file].encode() + "3\tübel\t0\n".encode("latin-1"))
    with pytest.raises(ValueError, match=file):
        train_tiny(data, data.parent / "run")


def test_two_lines_of_boxes_for_one_image_are_an_error(data: Path) -> None:
    """Else the first line's objects would silently become background."""
    (data / "train_roi_file.txt").write_text("0 |roiAndLabel 1 2 30 40 1\n0 |roiAndLabel 50 2 80 40 1\n")
    with pytest.raises(ValueError, match=r"train_roi_file\.txt.*0"):
        read_split(data, "train", DataSettings())


def test_a_set_of_map_files_trains(data: Path) -> None:
    detector = train_tiny(data, data.parent / "run", "train.epochs=1").detector.model
    assert detector.classes == ("blue", "red")


def test_paths_of_another_computer(data: Path) -> None:
    lines = GOOD["train_img_file.txt"].replace("images/", "C:\\Users\\me\\data\\images\\")
    (data / "train_img_file.txt").write_text(lines)
    records = read_split(data, "train", DataSettings())
    assert [record.image for record in records] == [data / "images" / f"{name}.png" for name in "abc"]


def test_map_files_in_a_folder_below(data: Path) -> None:
    assert len(read_split(data.parent, "train", DataSettings())) == 3
