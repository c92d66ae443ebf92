"""A folder becomes a data set: its format is recognised, its classes are collected."""

from pathlib import Path

import pytest
from tiny import train_tiny, write_annotated, write_tiny

from frcnn.config import DataSettings
from frcnn.data.dataset import open_dataset


def test_name_classes_and_splits(tmp_path: Path) -> None:
    dataset = open_dataset(write_tiny(tmp_path / "shelf"), DataSettings())
    assert dataset.name == "shelf"
    assert dataset.classes == ("blue", "red")
    assert (len(dataset.train), len(dataset.test)) == (5, 2)
    assert open_dataset(tmp_path / "shelf", DataSettings(name="mine")).name == "mine"


def test_classes_do_not_depend_on_the_order_of_images(tmp_path: Path) -> None:
    for number, name in enumerate(("zebra", "ape", "cow")):
        image = tmp_path / "positive" / f"{number}.png"
        write_annotated(image, [("red", (10, 10, 50, 50))])
        image.with_suffix(".bboxes.labels.tsv").write_text(name)
    assert open_dataset(tmp_path, DataSettings()).classes == ("ape", "cow", "zebra")


def missing(folder: Path) -> None:
    pass


def empty(folder: Path) -> None:
    folder.mkdir()


def unknown(folder: Path) -> None:
    folder.mkdir()
    (folder / "photos.zip").write_text("")


def both(folder: Path) -> None:
    write_tiny(folder)
    (folder / "class_map.txt").write_text("red\t1\n")
    (folder / "train_img_file.txt").write_text("")


def negatives_only(folder: Path) -> None:
    write_tiny(folder)
    for file in (folder / "positive").iterdir():
        file.unlink()


def class_in_the_test_set_only(folder: Path) -> None:
    write_tiny(folder)
    (folder / "testImages" / "5.bboxes.labels.tsv").write_text("red\ngreen\n")


def text_for_an_image(folder: Path) -> None:
    write_tiny(folder)
    (folder / "negative" / "6.png").write_text("hello")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, r"data: no such folder of data"),
        (empty, r"data: the folder is empty; known layouts: folders: positive/, .* map_files: class_map\.txt"),
        (unknown, r"data: the folder has no known layout; known layouts: folders: .* map_files: "),
        (both, r"data: fits several formats \(folders, map_files\); say which with --format, or data\.format"),
        (negatives_only, r"data: no training image has an object"),
        (
            class_in_the_test_set_only,
            r"5\.png: class 'green' is in the test images only, .* Add training images of it, .* blue, red",
        ),
        (text_for_an_image, r"6\.png: not an image that Pillow can read; replace or remove it"),
    ],
)
def test_a_folder_that_cannot_be_learned_from_stops_training_before_anything_is_written(
    tmp_path: Path, make: object, message: str
) -> None:
    make(tmp_path / "data")  # type: ignore[operator]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train_tiny(tmp_path / "data", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("hello")
    with pytest.raises(FileNotFoundError, match="data: no such folder of data"):
        open_dataset(tmp_path / "data", DataSettings())
