"""Pascal VOC's layout."""

from pathlib import Path

import numpy as np
import pytest
from tiny import draw_image

from frcnn.config import merge
from frcnn.data.dataset import open_dataset, read_split
from frcnn.data.formats import pascal_voc

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)
SETTINGS = merge().data


def write(folder: Path, name: str, *objects: tuple[object, ...]) -> None:
    for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    draw_image([]).save(folder / "JPEGImages" / f"{name}.png")
    things = "".join(OBJECT.format(*one) for one in objects)
    (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{things}</annotation>")


def image_set(folder: Path, name: str, text: str) -> None:
    (folder / "ImageSets" / "Main" / f"{name}.txt").write_text(text)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    write(tmp_path, "a", ("dog", 0, 1, 1, 10, 20), ("cat", 1, 5, 6, 128, 96))
    write(tmp_path, "b", ("dog", 0, 7, 7, 7, 7))
    write(tmp_path, "c")
    write(tmp_path, "d", ("cat", 0, "2.5", "3.5", "9.5", "8"))
    for name, text in {"train": "a\n", "val": "b\n", "trainval": "a\nb\n", "test": "c\nd\n"}.items():
        image_set(tmp_path, name, text)
    return tmp_path


def names(folder: Path, split: str, **changes: object) -> list[str]:
    settings = SETTINGS.model_copy(update=changes)
    return [record.image.stem for record in read_split(folder, split, settings)]


def test_boxes_are_one_based_and_inclusive(voc: Path) -> None:
    first, second = pascal_voc.read(voc, "train", SETTINGS)
    np.testing.assert_array_equal(first.boxes, [[0, 0, 10, 20], [4, 5, 128, 96]])  # the whole width and height
    np.testing.assert_array_equal(second.boxes, [[6, 6, 7, 7]])  # one pixel
    (empty, fractions) = pascal_voc.read(voc, "test", SETTINGS)
    assert empty.boxes.shape == (0, 4)
    np.testing.assert_array_equal(fractions.boxes, [[1.5, 2.5, 9.5, 8]])


def test_difficult_is_kept(voc: Path) -> None:
    first = pascal_voc.read(voc, "train", SETTINGS)[0]
    assert first.names == ("dog", "cat")
    assert first.difficult.tolist() == [False, True]


def test_splits(voc: Path) -> None:
    assert names(voc, "train") == ["a", "b"]
    assert names(voc, "test") == ["c", "d"]
    assert names(voc, "train", train_set="train") == ["a"]
    assert names(voc, "test", test_set="val") == ["b"]


def test_without_test_txt_it_is_train_and_val(voc: Path) -> None:
    (voc / "ImageSets" / "Main" / "test.txt").unlink()
    assert (names(voc, "train"), names(voc, "test")) == (["a"], ["b"])
    (voc / "ImageSets" / "Main" / "val.txt").unlink()
    assert names(voc, "test") == []


def test_the_file_of_one_class_leaves_out_the_images_without_it(voc: Path) -> None:
    image_set(voc, "dog_trainval", "a  1\nb -1\nd  0\n")
    assert names(voc, "train", train_set="dog_trainval") == ["a", "d"]


def test_it_opens_as_a_data_set(voc: Path) -> None:
    dataset = open_dataset(voc, SETTINGS)
    assert dataset.classes == ("cat", "dog")
    assert (len(dataset.train), len(dataset.test)) == (2, 2)


def test_a_missing_file_is_named(voc: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"mine\.txt: this file is missing"):
        names(voc, "train", train_set="mine")
    image_set(voc, "test", "c\nghost\n")
    with pytest.raises(ValueError, match=r"test\.txt, line 2: there is no image ghost in .*JPEGImages"):
        names(voc, "test")
    (voc / "Annotations" / "b.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.xml: the annotation of b\.png is missing"):
        names(voc, "train")


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([("dog", 0, 9, 1, 8, 5)], r"a\.xml, object 1 \('dog'\): xmax \(8\) must not be less than xmin \(9\)"),
        ([("dog", 0, 1, 1, 2, 5), ("cat", 0, 1, 9, 2, 5)], r"object 2 \('cat'\): .* nor ymax \(5\) than ymin \(9\)"),
        ([("dog", 0, 1, 1, "wide", 5)], r"object 1 \('dog'\): its bndbox must have the numbers xmin, ymin, xmax, ymax"),
        ([("", 0, 1, 1, 2, 5)], r"object 1 \(''\): has no name"),
        ([("dog", 0, 0, 1, 2, 5)], r"object 1 \('dog'\): box \(-1, 0, 2, 5\) must lie inside the image"),
    ],
)
def test_a_wrong_object_is_named(voc: Path, objects: list[tuple[object, ...]], message: str) -> None:
    write(voc, "a", *objects)
    with pytest.raises(ValueError, match=message):
        names(voc, "train")


def test_a_damaged_annotation_is_named(voc: Path) -> None:
    (voc / "Annotations" / "a.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match=r"a\.xml: not an XML file"):
        names(voc, "train")


def test_the_blood_cells_open(shared: Path) -> None:
    """Real photos; two of the boxes are a single pixel, and stay."""
    dataset = open_dataset(shared / "datasets" / "bccd", SETTINGS)
    assert dataset.classes == ("Platelets", "RBC", "WBC")
    assert (len(dataset.train), len(dataset.test)) == (292, 72)
    sides = np.concatenate([record.boxes[:, 2:] - record.boxes[:, :2] for record in dataset.train])
    assert (sides == 1).all(axis=1).sum() == 2
    assert sum(len(record.names) for record in [*dataset.train, *dataset.test]) == 4888
