"""Pascal VOC's layout."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import draw_image

from frcnn.config import merge
from frcnn.data.dataset import find_errors, open_dataset, read_annotations, read_split
from frcnn.data.problems import Problem

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
    write(tmp_path, "b", ("dog", 0, 7, 7, 8, 8))
    write(tmp_path, "c")
    write(tmp_path, "d", ("cat", 0, "2.5", "3.5", "9.5", "8"))
    for name, text in {"train": "a\n", "val": "b\n", "trainval": "a\nb\n", "test": "c\nd\n"}.items():
        image_set(tmp_path, name, text)
    return tmp_path


def names(folder: Path, split: str, **changes: object) -> list[str]:
    settings = SETTINGS.model_copy(update=changes)
    return [record.image.stem for record in read_split(folder, split, settings)]


def test_boxes_are_one_based_and_inclusive(voc: Path) -> None:
    first, second = read_split(voc, "train", SETTINGS)
    np.testing.assert_array_equal(first.boxes, [[0, 0, 10, 20], [4, 5, 128, 96]])  # the whole width and height
    np.testing.assert_array_equal(second.boxes, [[6, 6, 8, 8]])
    (empty, fractions) = read_split(voc, "test", SETTINGS)
    assert empty.boxes.shape == (0, 4)
    np.testing.assert_array_equal(fractions.boxes, [[1.5, 2.5, 9.5, 8]])


def test_difficult_is_kept(voc: Path) -> None:
    first = read_split(voc, "train", SETTINGS)[0]
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
    with pytest.raises(ValueError, match=r"no set 'mine' \(data\.train_set\); its sets: test, train, trainval, val"):
        names(voc, "train", train_set="mine")
    image_set(voc, "test", "c\nghost\n")
    with pytest.raises(ValueError, match=r"test\.txt, line 2: there is no image ghost in .*JPEGImages"):
        names(voc, "test")
    (voc / "Annotations" / "b.xml").unlink()
    with pytest.raises(ValueError, match=r"b\.xml: the annotation of b\.png is missing"):
        names(voc, "train")


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([("dog", 0, 9, 1, 8, 5)], r"a\.png, object 1 \('dog'\): x2 \(8\) must be greater than x1 \(9\)"),
        (
            [("dog", 0, 1, 1, 2, 5), ("cat", 0, 1, 9, 2, 5)],
            r"object 2 \('cat'\): y2 \(5\) must be greater than y1",
        ),
        (
            [("dog", 0, 4, 1, 4, 5)],
            r"object 1 \('dog'\): x2 \(4\) must be greater than x1 \(4\)",
        ),  # no pixel, a mistake
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


def test_of_the_blood_cells_two_boxes_are_wrong(shared: Path) -> None:
    """Real photos; whoever labelled them clicked twice without drawing."""
    problems: list[Problem] = []
    splits = read_annotations(shared / "datasets" / "bccd", SETTINGS, problems.append)
    assert {name: len(records) for name, records in splits.items()} == {"train": 292, "val": 0, "test": 72}
    assert sum(sum(records.class_counts.values()) for records in splits.values()) == 4888
    problems += find_errors([*splits["train"], *splits["test"]], SETTINGS)
    assert [(problem.path.stem, problem.kind, problem.place) for problem in problems] == [
        ("BloodImage_00338", "box without area", "object 13 ('RBC')"),
        ("BloodImage_00343", "box without area", "object 4 ('RBC')"),
    ]
    with pytest.raises(ValueError, match=r"x2 \(181\) must be greater than x1 \(181\)(.|\n)*frcnn check .* --fix"):
        open_dataset(shared / "datasets" / "bccd", SETTINGS)


def test_without_image_sets_all_annotations_are_one_set(voc: Path) -> None:
    shutil.rmtree(voc / "ImageSets")
    assert names(voc, "train") == ["a", "b", "c", "d"]
    assert names(voc, "test") == []
    for part in ("Annotations", "JPEGImages"):  # as a labelling tool leaves them, all in one folder
        for file in (voc / part).iterdir():
            file.rename(voc / file.name)
        (voc / part).rmdir()
    assert names(voc, "train") == ["a", "b", "c", "d"]


def test_names_with_spaces_are_whole_lines(voc: Path) -> None:
    write(voc, "my photo 1", ("dog", 0, 1, 1, 10, 20))
    image_set(voc, "train", "my photo 1\na\n")
    assert names(voc, "train", train_set="train") == ["my photo 1", "a"]


def test_a_folder_for_each_set(tmp_path: Path) -> None:
    """As Roboflow exports it."""
    for name in ("train", "valid", "test"):
        write(tmp_path / name, name, ("dog", 0, 1, 1, 10, 20))
        for file in [*(tmp_path / name / "Annotations").iterdir(), *(tmp_path / name / "JPEGImages").iterdir()]:
            file.rename(tmp_path / name / file.name)
        for part in ("Annotations", "JPEGImages", "ImageSets"):
            shutil.rmtree(tmp_path / name / part)
    assert [names(tmp_path, split) for split in ("train", "val", "test")] == [["train"], ["valid"], ["test"]]
