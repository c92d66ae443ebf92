"""Text files: lists of images with boxes, and a file of boxes for each image."""

from pathlib import Path

import pytest
from data.layouts import LAYOUTS, Photo, put, put_image
from data.reading import read_folder

from frcnn.data.formats import FORMATS, text_boxes, text_lists
from frcnn.data.problems import ProblemKind
from frcnn.data.tree import Tree

Found = dict[str, list[tuple[str, list[float]]]]


def read(folder: Path, split: str = "all") -> Found:
    splits, problems = read_folder(folder)
    assert problems == []
    return {
        record.image.name: list(zip(record.class_names, record.boxes.tolist(), strict=True)) for record in splits[split]
    }


LISTS = {
    "keras-yolo3": "images/a b.png 1,2,30,40,cat 5,6,50,60,dog\nimages/c.png 3,4,20,21,cat\n",
    "spaces": "a b.png 1 2 30 40 cat 5 6 50 60 dog\nc.png 3 4 20 21 cat\n",
    "sizes": "0 /data/a b.png 64 64 cat 1 2 30 40 dog 5 6 50 60\n1 /data/c.png 64 64 cat 3 4 20 21\n",
    "counts and sides": "a b.png 2 1 2 29 38 cat 5 6 45 54 dog\nc.png 1 3 4 17 17 cat\n",
    "a count first": "c.png 1 3 4 17 17 cat\na b.png 2 1 2 29 38 cat 5 6 45 54 dog\n",
    "tabs, absolute": "D:\\x\\images\\a b.png\t1,2,30,40,cat\t5,6,50,60,dog\r\nD:\\x\\images\\c.png\t3,4,20,21,cat\r\n",
}


def test_one_object_in_each_image(tmp_path: Path) -> None:
    put_image(tmp_path / "c.png", Photo("c.png", 64, 64, ()))
    put(tmp_path / "annotations.txt", "c.png 1 3 4 17 17 1\n")
    put(tmp_path / "classes.txt", "cat\ndog\n")
    assert read(tmp_path) == {"c.png": [("dog", [3, 4, 20, 21])]}


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
def test_lists(text: str, tmp_path: Path) -> None:
    for name in ("a b.png", "c.png"):
        put_image(tmp_path / "images" / name, Photo(name, 64, 64, ()))
    put(tmp_path / "annotations.txt", text)
    boxes: Found = {"a b.png": [("cat", [1, 2, 30, 40]), ("dog", [5, 6, 50, 60])], "c.png": [("cat", [3, 4, 20, 21])]}
    assert read(tmp_path) == boxes


ONE_CLASS = {
    "OpenCV": ("info.dat", "a b.png 2 1 2 29 38 5 6 45 54\nc.png 1 3 4 17 17\n"),
    "WIDER FACE": (
        "bbx_gt.txt",
        "0--Parade/a b.png\n2\n1 2 29 38 0 0 0 0 0 0 \n5 6 45 54 2 0 0 0 0 0 \nc.png\n1\n3 4 17 17 0 0 0 0 0 0\n"
        "d.png\n0\n0 0 0 0 0 0 0 0 0 0 \n",
    ),
}


@pytest.mark.parametrize(("name", "text"), ONE_CLASS.values(), ids=ONE_CLASS)
def test_lists_without_classes(name: str, text: str, tmp_path: Path) -> None:
    for image in ("a b.png", "c.png", "d.png"):
        put_image(tmp_path / image, Photo(image, 64, 64, ()))
    put(tmp_path / name, text)
    found = read(tmp_path)
    assert found.pop("d.png", []) == []
    assert found == {
        "a b.png": [("object", [1, 2, 30, 40]), ("object", [5, 6, 50, 60])],
        "c.png": [("object", [3, 4, 20, 21])],
    }


@pytest.mark.parametrize(
    ("numbers", "box", "kinds"),
    [("30 20 30 40", [30, 20, 60, 60], []), ("30 20 60 60", [30, 20, 60, 60], [ProblemKind.CORNERS])],
)
def test_four_numbers_are_sides_unless_the_images_say_corners(
    numbers: str, box: list[float], kinds: list[ProblemKind], tmp_path: Path
) -> None:
    """CelebA has x, y, width, height."""
    put_image(tmp_path / "a.png", Photo("a.png", 64, 64, ()))
    put(tmp_path / "list_bbox.txt", f"a.png    {numbers}\n")
    splits, problems = read_folder(tmp_path)
    assert [record.boxes.tolist() for record in splits["all"]] == [[box]]
    assert [problem.kind for problem in problems] == kinds


def test_a_list_numbers_the_classes_of_another_file(tmp_path: Path) -> None:
    put_image(tmp_path / "a.png", Photo("a.png", 64, 64, ()))
    put(tmp_path / "train.txt", "a.png 1,2,30,40,1 1,2,3,4,9\n")
    put(tmp_path / "coco_classes.txt", "cat\ndog\n")
    assert read(tmp_path, "train") == {"a.png": [("dog", [1, 2, 30, 40]), ("9", [1, 2, 3, 4])]}


def test_a_list_of_numbers_without_names(tmp_path: Path) -> None:
    put_image(tmp_path / "a.png", Photo("a.png", 64, 64, ()))
    put(tmp_path / "train.txt", "a.png 1,2,30,40,1 1,2,3,4,0\n")
    _, problems = read_folder(tmp_path)
    assert [problem.kind for problem in problems] == [ProblemKind.CLASSES_WITHOUT_NAMES]


def test_what_a_list_gets_wrong_is_left_out(tmp_path: Path) -> None:
    put_image(tmp_path / "a.png", Photo("a.png", 64, 64, ()))
    lines = ["a.png 1,2,30,40,cat 1,2,x,40,cat", "gone.png 1,2,30,40,cat", *["a.png 1,2,30,40,cat"] * 8]
    put(tmp_path / "train.txt", "\n".join(lines))
    splits, problems = read_folder(tmp_path)
    assert len(splits["train"][0].class_names) == 9
    assert [(problem.kind, problem.place) for problem in problems] == [
        (ProblemKind.INVALID_OBJECT, "line 1"),
        (ProblemKind.MISSING_IMAGE, "line 2"),
    ]


BOXES = {
    "DOTA": ("a.txt", "imagesource:x\ngsd:0.1\n1 2 30 2 30 40 1 40 big cat 0\n5 6 50 6 50 60 5 60 dog 1\n"),
    "commas": ("a.txt", "1, 2, 30, 2, 30, 40, 1, 40, big cat, 0\n5, 6, 50, 6, 50, 60, 5, 60, dog, 1\n"),
    "corners": ("a.txt", "1 2 30 40 big cat\n5 6 50 60 dog\n"),
    "counted": ("a.txt", "2\n1 2 30 40 big cat\n5 6 50 60 dog\n"),
    "toolbox": ("a.png.txt", "% bbGt version=3\nbig cat 1 2 29 38 0 0 0 0 0 0 0\ndog 5 6 45 54 0 0 0 0 0 0 0\n"),
    "PASCAL": (
        "a.txt",
        '# PASCAL Annotation Version 1.00\n\nImage filename : "x/a.png"\nObjects with ground truth : 2\n'
        'Bounding box for object 1 "big cat" (Xmin, Ymin) - (Xmax, Ymax) : (1, 2) - (30, 40)\n'
        'Bounding box for object 2 "dog" (Xmin, Ymin) - (Xmax, Ymax) : (5, 6) - (50, 60)\n',
    ),
}


@pytest.mark.parametrize(("name", "text"), BOXES.values(), ids=BOXES)
def test_boxes(name: str, text: str, tmp_path: Path) -> None:
    put_image(tmp_path / "images/a.png", Photo("a.png", 64, 64, ()))
    put(tmp_path / "ann" / name, text)
    assert read(tmp_path) == {"a.png": [("big cat", [1, 2, 30, 40]), ("dog", [5, 6, 50, 60])]}


def test_visdrone(tmp_path: Path) -> None:
    put_image(tmp_path / "images/a.png", Photo("a.png", 64, 64, ()))
    put(tmp_path / "annotations/a.txt", "1,2,29,38,1,4,0,0\n5,6,45,54,0,0,0,0,\n")
    (record,) = read_folder(tmp_path)[0]["all"]
    assert record.boxes.tolist() == [[1, 2, 30, 40], [5, 6, 50, 60]]
    assert record.class_names == ("car", "ignored regions")
    assert record.ignore.tolist() == [False, True]


def test_nwpu_and_an_image_without_objects(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        put_image(tmp_path / "positive" / name, Photo(name, 64, 64, ()))
    put(tmp_path / "ground truth/a.txt", "(1,2),(30,40),1\n( 5, 6),(50,60),10 \n")
    put(tmp_path / "ground truth/b.txt", "")
    splits, problems = read_folder(tmp_path)
    assert [(r.class_names, r.boxes.tolist()) for r in splits["all"]] == [
        (("1", "10"), [[1, 2, 30, 40], [5, 6, 50, 60]]),
        ((), []),
    ]
    assert [problem.kind for problem in problems] == [ProblemKind.CLASSES_WITHOUT_NAMES]


def test_words_in_images_are_of_one_class(tmp_path: Path) -> None:
    put_image(tmp_path / "img_1.jpg", Photo("img_1.jpg", 64, 64, ()))
    put_image(tmp_path / "img_2.jpg", Photo("img_2.jpg", 64, 64, ()))
    words = ["Tiredness", "kills, A", "###", "2016", *map(str, range(16))]
    put(tmp_path / "gt_img_1.txt", "".join(f"1,2,30,2,30,40,1,40,{word}\n" for word in words))
    put(tmp_path / "gt_img_2.txt", "1,2,30,2,30,40,1,40,2017\n")  # alone, it would be YOLO's
    splits, problems = read_folder(tmp_path)
    assert [len(record.boxes) for record in splits["all"]] == [20, 1]
    assert splits["all"].class_counts == {"text": 21}
    assert [problem.kind for problem in problems] == [ProblemKind.NO_CLASSES]


def test_files_that_are_not_as_the_others_are_reported(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        put_image(tmp_path / name, Photo(name, 64, 64, ()))
    put(tmp_path / "a.txt", "1 2 30 40 cat\n1 2 30 cat\n")
    put(tmp_path / "b.txt", "1 2 30 40 cat\n")
    put(tmp_path / "c.txt", "1;2;30;40;cat\n")
    splits, problems = read_folder(tmp_path)
    assert [record.image.name for record in splits["all"]] == ["a.png", "b.png"]
    assert [(problem.path.name, problem.kind) for problem in problems] == [
        ("a.txt", ProblemKind.INVALID_OBJECT),
        ("c.txt", ProblemKind.UNREADABLE_ANNOTATION),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "0 0.5 0.5 0.2 0.2\n",
        "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n",
        "3 120 100 300 200\n",
        "Car 0.00 0 -1.57 1 2 30 40 1.5 1.6 3.7 0 1.7 20 -1.5\n",
        "images/a.png\nimages/b.png\n",
        "a.png,1,2,30,40,cat\n",
        "cat\ndog\n",
        "# Notes\n1 2 3 4 5\n",
        "",
    ],
)
def test_other_text_is_of_other_formats(text: str, tmp_path: Path) -> None:
    put(tmp_path / "a.txt", text)
    start = Tree(tmp_path).start(tmp_path / "a.txt")
    assert not any(form.recognizes(tmp_path / "a.txt", start) for form in (text_boxes, text_lists))


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_other_layout_has_such_text(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    layout.write(tmp_path, {"train": (Photo("a1.png", 64, 64, (("cat", (1, 2, 30, 40)), ("dog", (5, 6, 50, 60)))),)})
    tree = Tree(tmp_path)
    taken = {
        form
        for form in ("text_boxes", "text_lists")
        for file in tree.with_suffix(*FORMATS[form].SUFFIXES)
        if FORMATS[form].recognizes(file, tree.start(file))
    }
    assert taken <= {layout.format}


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        ("2\n1 20 30 40 50\n3 5 6 60 62\n", [("1", [20, 30, 40, 50]), ("3", [5, 6, 60, 62])]),  # WiderPerson
        ("2\n20 30 40 50 1\n5 6 60 62 3\n", [("1", [20, 30, 40, 50]), ("3", [5, 6, 60, 62])]),  # BBox-Label-Tool
        ("1\n0 5 60 62 1\n", [("1", [0, 5, 60, 62])]),
    ],
)
def test_numbers_of_classes_may_come_first(text: str, objects: list[tuple[str, list[float]]], tmp_path: Path) -> None:
    put_image(tmp_path / "Images/a.jpg", Photo("a.jpg", 64, 64, ()))
    put(tmp_path / "Annotations/a.jpg.txt", text)
    splits, problems = read_folder(tmp_path)
    (record,) = splits["all"]
    assert list(zip(record.class_names, record.boxes.tolist(), strict=True)) == objects
    assert [problem.kind for problem in problems] == [ProblemKind.CLASSES_WITHOUT_NAMES]
