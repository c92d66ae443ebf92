"""The walk over a data set's folder, and the search for images."""

import os
import time
from pathlib import Path

import pytest

from frcnn.data.problems import ImageNotFoundError
from frcnn.data.tree import MAX_DEPTH, Tree, split_in


def make(root: Path, *names: str) -> Tree:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return Tree(root)


def names(tree: Tree, paths: list[Path]) -> list[str]:
    return [tree.relative(path).as_posix() for path in paths]


def test_junk_is_skipped(tmp_path: Path) -> None:
    tree = make(
        tmp_path,
        "images/10.jpg",
        "images/2.JPG",
        "labels/2.txt",
        "images/._2.jpg",
        "__MACOSX/images/2.jpg",
        ".ipynb_checkpoints/2.jpg",
        "Thumbs.db",
        "images/.DS_Store",
        "images/2.jpgZone.Identifier",
        "images/2.jpg:Zone.Identifier",
        "labels.cache",
        "runs/a/config.yaml",
        "runs/a/local.yaml",
        "runs/a/images/2.jpg",
    )
    assert names(tree, tree.images) == ["images/2.JPG", "images/10.jpg"]
    assert names(tree, tree.files) == ["labels/2.txt"]
    assert tree.skipped == {
        "hidden files": 2,
        "hidden folders": 2,
        "files of other programs": 4,
        "run directories of frcnn": 1,
    }


def test_linked_folders_are_walked_once(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", "1.jpg")
    make(tmp_path / "data", "x.txt")
    (tmp_path / "data/images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/again").symlink_to(tmp_path / "data")
    tree = Tree(tmp_path / "data")
    assert names(tree, tree.images) == ["images/1.jpg"]


def test_too_many_files_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frcnn.data.tree.MAX_FILES", 3)
    make(tmp_path, "1.jpg", "a/2.jpg", "a/b/3.txt", ".hidden")
    with pytest.raises(ValueError, match="has more than 3 files; name the data set's own folder"):
        make(tmp_path, "c/4.jpg")


def test_folders_are_walked_to_a_limited_depth(tmp_path: Path) -> None:
    tree = make(tmp_path, f"{'d/' * (MAX_DEPTH - 1)}1.jpg", f"{'d/' * MAX_DEPTH}2.jpg")
    assert [image.name for image in tree.images] == ["1.jpg"]


@pytest.mark.parametrize(
    ("written", "annotation", "expected"),
    [
        ("images/1.jpg", "a.json", "images/1.jpg"),
        ("1.jpg", "a.json", "images/1.jpg"),
        ("1.JPG", "a.json", "images/1.jpg"),
        ("1.png", "a.json", "images/1.jpg"),
        ("1", "xml/1.xml", "images/1.jpg"),
        ("C:\\Users\\me\\photos\\1.jpg", "a.json", "images/1.jpg"),
        ("/home/me/set/images/1.jpg", "a.json", "images/1.jpg"),
        ("../../media/upload/images/1.jpg", "a.json", "images/1.jpg"),
        ("https://host/data/local-files/?d=images/1.jpg", "a.json", "images/1.jpg"),
        ("/data/local-files/?d=images%2F1.jpg", "a.json", "images/1.jpg"),
        ("file:///home/me/1.jpg", "a.json", "images/1.jpg"),
        ("my%20photo.jpg", "a.json", "images/my photo.jpg"),
        ("cat%20(3).jpg", "a.json", "images/cat%20(3).jpg"),
        ("ä.jpg", "a.json", "images/a\u0308.jpg"),
        ("2.jpg", "train.json", "train/2.jpg"),
        ("2.jpg", "annotations/instances_val2017.json", "valid/2.jpg"),
        ("valid/2.jpg", "a.json", "valid/2.jpg"),
        ("x/valid/2.jpg", "train.json", "valid/2.jpg"),
        ("2.jpg", "train/a.json", "train/2.jpg"),
        ("3", "labels/3.txt", "images/3.jpg"),
        ("4", "labels/cats/4.xml", "images/cats/4.jpg"),
    ],
)
def test_images_are_found(written: str, annotation: str, expected: str, tmp_path: Path) -> None:
    tree = make(
        tmp_path,
        "images/1.jpg",
        "images/my photo.jpg",
        "images/cat%20(3).jpg",
        "images/a\u0308.jpg",
        "train/2.jpg",
        "valid/2.jpg",
        "images/3.jpg",
        "masks/3.png",
        "images/cats/4.jpg",
        "images/dogs/4.jpg",
    )
    assert tree.relative(tree.find_image(written, tmp_path / annotation)).as_posix() == expected


def test_the_search_names_what_it_saw(tmp_path: Path) -> None:
    tree = make(tmp_path, "one/1.jpg", "two/1.jpg")
    with pytest.raises(ImageNotFoundError, match=r"the image 1.jpg may be one/1.jpg or two/1.jpg; remove one"):
        tree.find_image("1.jpg", tmp_path / "a.json")
    with pytest.raises(ImageNotFoundError, match=r"there is no image 9.jpg; 1 image is in .*one"):
        tree.find_image("9.jpg", tmp_path / "a.json")
    with pytest.raises(ImageNotFoundError, match="the folder has no images at all"):
        make(tmp_path / "three", "a.txt").find_image("9.jpg", tmp_path / "three/a.json")


def test_names_that_differ_in_case_are_two_images(tmp_path: Path) -> None:
    """Linux keeps them apart in one folder."""
    tree = make(tmp_path, "images/IMG_1.JPG", "images/img_1.jpg")
    if len(tree.images) < 2:
        pytest.skip("this disk does not tell case")
    for name, found in {
        "IMG_1.JPG": "IMG_1.JPG",
        "img_1.jpg": "img_1.jpg",
        "C:/me/img_1.jpg": "img_1.jpg",
        "IMG_1": "IMG_1.JPG",
    }.items():
        assert tree.find_image(name, tmp_path / "a.json").name == found
    with pytest.raises(ImageNotFoundError, match=r"the image Img_1.jpg may be images/"):
        tree.find_image("Img_1.jpg", tmp_path / "a.json")


def test_many_folders_with_the_same_names_take_little_time(tmp_path: Path) -> None:
    """Frames of 200 videos: each name is in 200 folders."""
    names = [f"{video}/images/{frame}.jpg" for video in range(200) for frame in range(20)]
    tree = make(tmp_path, *names)
    start = time.process_time()
    for name in names:
        video, _, frame = name.split("/")
        found = tree.find_image(Path(frame).stem, tmp_path / video / "xml" / f"{frame}.xml")
        assert found == tmp_path / name
    assert time.process_time() - start < 2


def test_an_absolute_path_on_another_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, no relative path leads from one drive to another."""

    def relpath(path: str, start: str) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    make(tmp_path / "photos", "1.jpg")
    tree = make(tmp_path / "data", "a.json", "2.jpg")
    monkeypatch.setattr("os.path.relpath", relpath)
    assert tree.find_image(str(tmp_path / "photos/1.jpg"), tmp_path / "data/a.json") == tmp_path / "photos/1.jpg"
    assert tree.find_image(str(tmp_path / "data/2.jpg"), tmp_path / "data/a.json") == tmp_path / "data/2.jpg"


def test_images_outside_the_folder(tmp_path: Path) -> None:
    make(tmp_path / "photos", "1.jpg")
    tree = make(tmp_path / "data", "a.json")
    assert os.path.samefile(tree.find_image("../photos/1.jpg", tmp_path / "data/a.json"), tmp_path / "photos/1.jpg")
    assert tree.find_image(str(tmp_path / "photos/1.jpg"), tmp_path / "data/a.json") == tmp_path / "photos/1.jpg"


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("annotations/instances_train2017.json", "train2017"),
        ("train_labels.csv", "train"),
        ("a/valid/labels/1.txt", "valid"),
        ("Training_Images/x.jpg", "train"),
        ("Testing/x", "test"),
        ("ImageSets/Main/trainval.txt", "trainval"),
        ("test-dev2017.json", "test"),
        ("train_val/x", None),
        ("latest/strain/x", None),
        ("trainImages/1.jpg", "train"),
        ("TestSet/1.jpg", "test"),
        ("trainset2017/x", "train2017"),
        ("TRAIN/1.jpg", "train"),
        ("VAL2017/1.jpg", "val2017"),
        ("TEST_IMAGES/1.jpg", "test"),
        ("TESTSET/1.jpg", "test"),
        ("VALVES/1.jpg", None),
        ("TRAINS/1.jpg", None),
        ("TESTBENCH.json", None),
        ("trainer/x", None),
        ("testament.json", None),
        ("values/x", None),
        ("", None),
    ],
)
def test_splits_in_names(path: str, split: str | None) -> None:
    assert split_in(path) == split
