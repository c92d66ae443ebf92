"""YOLO: every layout, every dialect of the label files, and edits in place."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from data.layouts import TOY, Photo, classes, put, put_image, put_json, write_images, yolo_lines, yolo_yaml
from data.reading import read_folder

from frcnn.config import DataSettings
from frcnn.data.dataset import open_dataset
from frcnn.data.discover import discover
from frcnn.data.formats import yolo as form
from frcnn.data.formats.yolo_description import Description, named_tree
from frcnn.data.formats.yolo_labels import parse_line
from frcnn.data.problems import Problem
from frcnn.data.records import Annotation, Records

NAMES = classes(TOY)
EXPECTED = {
    photo.name: [(name, pytest.approx(box, abs=1e-3)) for name, box in photo.objects]
    for photos in TOY.values()
    for photo in photos
}
"""The objects of each image of TOY."""


def objects(records: Records) -> dict[str, list[tuple[str, list[float]]]]:
    return {record.image.name: list(zip(record.class_names, record.boxes.tolist(), strict=True)) for record in records}


def everything(splits: dict[str, Records]) -> dict[str, list[tuple[str, list[float]]]]:
    return {name: found for records in splits.values() for name, found in objects(records).items()}


def kinds(problems: list[Problem]) -> dict[str, int]:
    return dict(Counter(problem.kind for problem in problems))


def write(
    folder: Path,
    lines: Callable[[Photo], str] = lambda photo: yolo_lines(photo, NAMES),
    image: str = "images/{}",
    label: str = "labels/{}",
) -> None:
    """Images and label files, without a description. {} is the split."""
    for split, photos in TOY.items():
        write_images(folder / image.format(split), photos)
        for photo in photos:
            put(folder / label.format(split) / f"{photo.stem}.txt", lines(photo))


def columns(line: str) -> list[str]:
    return line.split(" ")


def each_line(change: Callable[[str], str]) -> Callable[[Photo], str]:
    return lambda photo: "".join(f"{change(line)}\n" for line in yolo_lines(photo, NAMES).splitlines())


def in_pixels(photo: Photo) -> str:
    return "".join(
        f"{NAMES.index(name)} {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}\n"
        for name, (x1, y1, x2, y2) in photo.objects
    )


def oriented(photo: Photo) -> str:
    """Four points, as of oriented boxes."""
    return "".join(" ".join(line.split(" ")[:9]) + "\n" for line in yolo_lines(photo, NAMES, polygon=True).splitlines())


def mixed(photo: Photo) -> str:
    boxes, outlines = (yolo_lines(photo, NAMES, polygon=polygon).splitlines() for polygon in (False, True))
    return "".join(f"{line}\n" for line in (*outlines[:1], *boxes[1:]))


DIALECTS: dict[str, tuple[Callable[[Photo], str], dict[str, int]]] = {
    "boxes": (lambda photo: yolo_lines(photo, NAMES), {}),
    "outlines and boxes": (mixed, {}),
    "oriented boxes": (oriented, {}),
    "outlines and confidence": (
        lambda photo: yolo_lines(photo, NAMES, polygon=True).replace("\n", " 1\n"),
        {"confidence": 1},
    ),
    "confidence": (each_line(lambda line: f"{line} 0.87"), {"confidence": 1}),
    "keypoints": (each_line(lambda line: f"{line} 0.5 0.5 2 0 0 0"), {}),
    "class names": (each_line(lambda line: " ".join([NAMES[int(line[0])], *columns(line)[1:]])), {}),
    "class names in capitals": (
        each_line(lambda line: " ".join([NAMES[int(line[0])].upper(), *columns(line)[1:]])),
        {},
    ),
    "float classes": (each_line(lambda line: " ".join([f"{line[0]}.0", *columns(line)[1:]])), {}),
    "classes from 1": (each_line(lambda line: f"{int(line[0]) + 1}{line[1:]}"), {"classes from 1": 1}),
    "commas": (each_line(lambda line: line.replace(" ", ",")), {}),
    "commas and spaces": (each_line(lambda line: line.replace(" ", ", ")), {}),
    "semicolons": (each_line(lambda line: line.replace(" ", ";")), {}),
    "tabs": (each_line(lambda line: line.replace(" ", "\t")), {}),
    "decimal commas": (each_line(lambda line: line.replace(".", ",")), {}),
    "CRLF and BOM": (lambda photo: "\ufeff" + yolo_lines(photo, NAMES).replace("\n", "\r\n"), {}),
    "no last line end": (lambda photo: yolo_lines(photo, NAMES).rstrip("\n"), {}),
    "blank lines": (each_line(lambda line: f"\n  {line}  \n"), {}),
    "pixels": (in_pixels, {"boxes in pixels": 1}),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects_of_label_files(name: str, tmp_path: Path) -> None:
    lines, expected = DIALECTS[name]
    write(tmp_path, lines)
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    splits, problems = read_folder(tmp_path)
    assert list(splits) == ["train", "test"]
    assert everything(splits) == EXPECTED
    assert kinds(problems) == expected


YAMLS = {
    "list of names": f"train: images/train\ntest: images/test\nnc: 2\nnames: {NAMES}\n",
    "flow": f"{{train: images/train, test: images/test, names: {NAMES}}}",
    "path": f"path: .\ntrain: images/train\ntest: images/test\nnames: {NAMES}\n",
    "path of another computer": f"path: /content/toy\ntrain: images/train\ntest: images/test\nnames: {NAMES}\n",
    "path of Windows": f"path: C:\\Users\\me\\toy\ntrain: images\\train\ntest: .\\images\\test\nnames: {NAMES}\n",
    "absolute": f"train: /content/toy/images/train\ntest: /content/toy/images/test/\nnames: {NAMES}\n",
    "prefix": f"train: toy-1/images/train\ntest: toy-1/images/test\nnames: {NAMES}\n",
    "above": f"train: ../images/train\ntest: ../../images/test\nnames: {NAMES}\n",
    "several folders": f"train: [images/train, images/more]\ntest: [images/test]\nnames: {NAMES}\n",
    "capitals": f"train: Images/Train\ntest: Images/Test\nnames: {NAMES}\n",
    "no val": f"train: images/train\nval: null\ntest: images/test\nnames: {NAMES}\n",
    "no splits": f"nc: 2\nnames: {NAMES}\n",
    "no names": "train: images/train\ntest: images/test\nnc: 2\n",
    "CRLF": f"train: images/train\r\ntest: images/test\r\nnames: {NAMES}\r\n",
}


@pytest.mark.parametrize("place", ["data.yaml", "configs/toy.yml", "images/data.yaml"])
@pytest.mark.parametrize("name", YAMLS)
def test_paths_in_the_yaml_file(name: str, place: str, tmp_path: Path) -> None:
    write(tmp_path)
    put(tmp_path / place, YAMLS[name])
    if name == "no names":
        put(tmp_path / "classes.txt", "cat\ndog\n")
    splits, problems = read_folder(tmp_path)
    assert list(splits) == ["train", "test"]
    assert list(objects(splits["test"])) == ["c3.jpg"]
    assert everything(splits) == EXPECTED
    assert problems == []


PLACES = [
    ("images/{}", "labels/{}"),
    ("{}/images", "{}/labels"),
    ("deep/er/{}/images", "deep/er/{}/labels"),
    ("{}", "{}"),
    ("photos/{}", "annotations/{}"),
    ("photos", "annotations/{}"),
    ("{}/photos", "all"),
    ("Images/{}", "Labels/{}"),
    ("{}_images", "{}_yolo"),
]


@pytest.mark.parametrize(("image", "label"), PLACES)
def test_folders_tell_the_splits(image: str, label: str, tmp_path: Path) -> None:
    write(tmp_path, image=image, label=label)
    put(tmp_path / "classes.txt", "cat\ndog\n")
    splits, problems = read_folder(tmp_path)
    assert {split: set(objects(records)) for split, records in splits.items()} == {
        split: {photo.name for photo in photos} for split, photos in TOY.items()
    }
    assert list(splits) == ["train", "test"]
    assert everything(splits) == EXPECTED
    assert problems == []


@pytest.mark.parametrize(("image", "label"), [("images", "labels"), (".", "."), ("photos", "boxes"), ("a/b", "a")])
@pytest.mark.parametrize("names", ["classes.txt", "obj.names", "deep/class_names.txt", "labels.txt", "_darknet.labels"])
def test_names_without_yaml(image: str, label: str, names: str, tmp_path: Path) -> None:
    write(tmp_path, image=image, label=label)
    put(tmp_path / names, "cat\r\ndog\r\n\r\n")
    splits, problems = read_folder(tmp_path)
    assert list(splits) == ["all"]
    assert everything(splits) == EXPECTED
    assert problems == []


def test_each_folder_may_have_its_own_order_of_classes(tmp_path: Path) -> None:
    write(tmp_path, image="{}", label="{}")
    put(tmp_path / "train/classes.txt", "cat\ndog\n")
    put(tmp_path / "test/classes.txt", "bird\nfish\n")
    splits, _ = read_folder(tmp_path)
    assert splits["train"].class_counts == {"cat": 1, "dog": 2}
    assert splits["test"].class_counts == {"bird": 2}


ELSEWHERE = "train: ../other/train\ntest: ../other/test\nnames: {}\n"
"""A data.yaml whose folders are not here."""


@pytest.mark.parametrize(
    ("listed", "described", "expected"),
    [
        ("cat\n", "[cat, dog]", NAMES),  # it is longer, and agrees
        ("bird\n", "[cat, dog]", NAMES),  # without it, many objects would have no class
        ("cat\ndog\n", "[a, b, c]", NAMES),
        ("cat\ndog\n", "[a]", NAMES),
        ("cat\n", "[a]", ["cat"]),
    ],
)
def test_the_names_that_cover_the_class_numbers_are_used(
    listed: str, described: str, expected: list[str], tmp_path: Path
) -> None:
    write(tmp_path)
    put(tmp_path / "obj.names", listed)
    put(tmp_path / "data.yaml", ELSEWHERE.format(described))
    splits, _ = read_folder(tmp_path)
    assert sorted({name for records in splits.values() for name in records.class_counts}) == expected


def test_one_wrong_class_number_does_not_rename_all_classes(tmp_path: Path) -> None:
    write(tmp_path, lambda photo: yolo_lines(photo, NAMES) * 10)
    with (tmp_path / f"labels/train/{TOY['train'][0].stem}.txt").open("a") as file:
        file.write("2 0.5 0.5 0.1 0.1\n")
    put(tmp_path / "obj.names", "cat\ndog\n")
    put(tmp_path / "data.yaml", ELSEWHERE.format("[a, b, c]"))
    splits, problems = read_folder(tmp_path)
    assert {name for records in splits.values() for name in records.class_counts} == {"cat", "dog"}
    assert kinds(problems)["unknown class"] == 1


@pytest.mark.parametrize("labels", ["labels/{}", "images/{}"])
def test_label_files_in_folders_without_images_are_told_in_one_line(labels: str, tmp_path: Path) -> None:
    write(tmp_path, label=labels)
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    for number in range(3):
        put(tmp_path / f"predicted/{number}.txt", "0 0.5 0.5 0.1 0.1\n")
    put(tmp_path / "old/0.txt", "0 0.5 0.5 0.1 0.1\n")
    put(tmp_path / "old/readme.txt", "Made by hand.\n")
    splits, problems = read_folder(tmp_path)
    assert everything(splits) == EXPECTED
    (problem,) = problems
    assert (problem.kind, problem.level, problem.path) == ("missing image", "warning", tmp_path / "old/0.txt")
    assert problem.message == (
        "is not used, because no label file of its folder belongs to an image (4 such label files)"
    )


def test_without_names_numbers_are_the_names(tmp_path: Path) -> None:
    write(tmp_path)
    splits, problems = read_folder(tmp_path)
    assert {name for records in splits.values() for name in records.class_counts} == {"0", "1"}
    assert [(problem.level, problem.kind) for problem in problems] == [("warning", "classes without names")]


def test_names_in_the_label_files_need_no_list(tmp_path: Path) -> None:
    write(tmp_path, each_line(lambda line: " ".join(["big " + NAMES[int(line[0])], *columns(line)[1:]])))
    splits, problems = read_folder(tmp_path)
    assert splits["train"].class_counts == {"big cat": 1, "big dog": 2}
    assert problems == []


@pytest.mark.parametrize(
    "form", ["images/{}/{}", "/home/other/toy/images/{}/{}", "D:\\toy\\images\\{}\\{}", "./images/{}/{}"]
)
@pytest.mark.parametrize("description", ["data.yaml", "obj.data", "none"])
def test_lists(form: str, description: str, tmp_path: Path) -> None:
    write(tmp_path)
    for split, photos in TOY.items():
        put(tmp_path / f"{split}.txt", "".join(form.format(split, photo.name) + "\n" for photo in reversed(photos)))
    if description == "data.yaml":
        put(tmp_path / description, yolo_yaml(TOY, "{}.txt"))
    elif description == "obj.data":
        put(tmp_path / description, "classes=2\ntrain = data/train.txt\ntest=data/test.txt\nnames =data/toy.names\n")
    put(tmp_path / "toy.names", "cat\ndog\n")
    splits, problems = read_folder(tmp_path)
    assert {split: list(objects(records)) for split, records in splits.items()} == {
        split: [photo.name for photo in reversed(photos)] for split, photos in TOY.items()
    }
    assert everything(splits) == EXPECTED
    assert problems == []


def test_a_list_of_images_outside_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere")
    paths = [tmp_path / "elsewhere/images/train" / photo.name for photo in TOY["train"]]
    put(tmp_path / "data/train.txt", "".join(f"{path}\n" for path in paths))
    put(tmp_path / "data/data.yaml", f"train: train.txt\nnames: {NAMES}\n")
    splits, problems = read_folder(tmp_path / "data")
    assert everything(splits) == {name: EXPECTED[name] for name in ("a 1.jpg", "b2.jpg")}
    assert problems == []


def test_a_folder_far_above_a_description_is_no_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `train: /home` would walk all that is there."""
    monkeypatch.setattr("frcnn.data.formats.yolo_description.Tree", lambda root: root)
    file = tmp_path / "a/b/c/data.yaml"
    (tmp_path / "a/b/c/d").mkdir(parents=True)

    def root_of(entry: str) -> object:
        return named_tree(file, Description({}, {"train": [entry]}, "", has_keypoints=False))

    above = [str(folder) for folder in tmp_path.parents]
    for entry in ("../../..", "../../../..", str(tmp_path), *above):
        assert root_of(entry) is None, entry
    for entry, root in (("d", "a/b/c/d"), (".", "a/b/c"), ("..", "a/b"), ("../..", "a")):
        assert root_of(entry) == tmp_path / root


def test_absolute_paths_of_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "data")
    paths = [tmp_path / "data/images/train" / photo.name for photo in TOY["train"]]
    put(tmp_path / "data/train.txt", "".join(f"{path}\n" for path in paths))
    put(tmp_path / "data/data.yaml", f"train: {tmp_path}/data/train.txt\nnames: {NAMES}\n")
    monkeypatch.chdir(tmp_path)
    splits, problems = read_folder(Path("data"))
    assert {record.image for record in splits["train"]} == {path.relative_to(tmp_path) for path in paths}
    assert splits["train"].class_counts == {"cat": 1, "dog": 2}
    assert problems == []


def test_two_label_files_of_an_image_are_said(tmp_path: Path) -> None:
    write(tmp_path, image="photos", label="v1")
    write(tmp_path, image="photos", label="v2", lines=lambda photo: "0 .5 .5 .1 .1\n")
    splits, problems = read_folder(tmp_path)
    assert everything(splits).keys() == EXPECTED.keys()
    assert kinds(problems) == {"classes without names": 1, "missing image": 3}
    assert "v2/a 1.txt: a 1.jpg has another label file, v1/a 1.txt; remove one of them" in str(problems[2])


def test_images_with_names_like_lists_of_classes(tmp_path: Path) -> None:
    put_image(tmp_path / "images/a_labels.jpg", TOY["train"][0])
    put(tmp_path / "labels/a_labels.txt", yolo_lines(TOY["train"][0], NAMES))
    splits, problems = read_folder(tmp_path)
    assert splits["all"].class_counts == {"0": 1, "1": 1}
    assert kinds(problems) == {"classes without names": 1}


def test_an_image_that_only_a_list_names_is_lost(tmp_path: Path) -> None:
    write(tmp_path)
    put(tmp_path / "data.yaml", f"train: train.txt\nnames: {NAMES}\n")
    put(tmp_path / "train.txt", "images/train/a 1.jpg\nimages/train/gone.jpg\n")
    splits, problems = read_folder(tmp_path)
    assert list(objects(splits["train"])) == ["a 1.jpg"]
    assert [(p.kind, p.level, p.place, p.images) for p in problems] == [("missing image", "left out", "line 2", 1)]
    put(tmp_path / "labels/train/gone.txt", "0 .5 .5 .1 .1\n")
    problems = read_folder(tmp_path)[1]
    assert [(p.kind, p.images) for p in problems] == [("missing image", 1)]


def test_a_yaml_of_other_data_names_nothing(tmp_path: Path) -> None:
    write(tmp_path, image="images", label="labels")
    put(
        tmp_path / "coco128.yaml", "path: ../datasets/coco128\ntrain: images/train2017\nnames: [person, bicycle, car]\n"
    )
    put(tmp_path / "classes.txt", "cat\ndog\n")
    splits, problems = read_folder(tmp_path)
    assert everything(splits) == EXPECTED
    assert kinds(problems) == {"missing split": 1}


def test_the_split_of_an_image_without_label_is_not_guessed(tmp_path: Path) -> None:
    write(tmp_path, image="photos", label="labels/{}")
    put_image(tmp_path / "photos/new.jpg", TOY["train"][0])
    splits, _ = read_folder(tmp_path)
    assert list(splits) == ["train", "test"]
    assert everything(splits).keys() == EXPECTED.keys()


def test_a_folder_called_images_above_the_data(tmp_path: Path) -> None:
    data = tmp_path / "images/set"
    put_image(data / "train/1.jpg", TOY["train"][0])
    put(data / "train/1.txt", yolo_lines(TOY["train"][0], NAMES))
    put(data / "data.yaml", f"train: train\nnames: {NAMES}\n")
    assert read_folder(data)[0]["train"][0].class_names == ("cat", "dog")


def test_images_of_a_folder_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        put_image(tmp_path / f"images/train/{number}.jpg", TOY["train"][0])
        put(tmp_path / f"labels/train/{number}.txt", yolo_lines(TOY["train"][0], NAMES))
    put(tmp_path / "data.yaml", f"train: images/train\nnames: {NAMES}\n")
    assert [record.image.stem for record in read_folder(tmp_path)[0]["train"]] == ["1", "9", "10"]


def test_a_missing_split_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path, image="{}/images", label="{}/labels")
    put(tmp_path / "data.yaml", f"train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: {NAMES}\n")
    splits, problems = read_folder(tmp_path)
    assert list(splits) == ["train", "test"]
    assert [str(problem) for problem in problems] == [
        f"{tmp_path}/data.yaml: val: ../valid/images is neither a folder nor a list of images here"
    ]
    assert problems[0].level == "warning"


def test_the_folder_of_another_split_is_never_taken(tmp_path: Path) -> None:
    write(tmp_path, image="images/{}", label="labels/{}")
    put(tmp_path / "data.yaml", f"train: /x/images/train\nval: /x/val/images\nnames: {NAMES}\n")
    splits, problems = read_folder(tmp_path)
    assert list(splits) == ["train"]
    assert kinds(problems) == {"missing split": 1}


def test_the_yaml_that_fits_wins(tmp_path: Path) -> None:
    write(tmp_path)
    put(tmp_path / "zz.yaml", yolo_yaml(TOY, "images/{}"))
    put(tmp_path / "configs/same.yaml", yolo_yaml(TOY, "images/{}"))
    put(tmp_path / "a.yaml", "path: sliced\ntrain: train/images\nval: val/images\nnames: [a, b]\n")
    put(tmp_path / "b.yaml", "path: ../toy\ntrain: images/train\ntest: images/test\nnames: [a, b]\n")
    put(tmp_path / "args.yaml", "epochs: 3\nnames: null\ntrain: true\n")
    put(tmp_path / "hyp.yaml", "lr0: 0.01\n")
    put(tmp_path / "broken.yaml", "names: [a\ntrain: images/train")
    splits, problems = read_folder(tmp_path)
    assert everything(splits) == EXPECTED
    assert problems == []


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("train: images/train\ntest: images/test\nnames: [a, b]\n", "with different names of classes"),
        ("train: images/spare\nnames: [cat, dog]\n", "for different images"),
    ],
)
def test_two_yamls_that_fit_contradict_each_other(other: str, message: str, tmp_path: Path) -> None:
    write(tmp_path)
    put_image(tmp_path / "images/spare/1.jpg", TOY["train"][0])
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    put(tmp_path / "other.yaml", other)
    with pytest.raises(ValueError, match=rf"data\.yaml and other\.yaml describe two data sets, {message}") as error:
        read_folder(tmp_path)
    assert f"instead of the folder: `frcnn train {tmp_path}/data.yaml`" in str(error.value)
    splits, _ = read_folder(tmp_path / "data.yaml")
    assert everything(splits) == EXPECTED


@pytest.mark.parametrize("path", ["{root}/data", "../data", ""])
def test_a_yaml_apart_from_its_data(path: str, tmp_path: Path) -> None:
    write(tmp_path / "data")
    entry = "data/images/{}" if not path else "images/{}"
    text = yolo_yaml(TOY, entry)
    put(
        tmp_path / "configs/a/b/toy.yaml" if not path else tmp_path / "configs/toy.yaml",
        (f"path: {path.format(root=tmp_path)}\n" if path else "") + text,
    )
    file = next(tmp_path.rglob("toy.yaml"))
    splits, problems = read_folder(file)
    assert everything(splits) == EXPECTED
    assert problems == []
    assert "splits: train 2 images, 3 objects" in open_dataset(file, DataSettings()).summary()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"train:\timages/train\nnames:\t[a]\n", "takes spaces, no tabs"),
        ("train: images/train\nnames: [鸡蛋]\n".encode("gbk"), "not UTF-8 text"),
        (b"train: images/train\nnames: {a: x}\n", "begin with whole numbers"),
        (b"train: images/train\nnames: [cat, cat]\n", "one of its own"),
    ],
)
def test_a_yaml_that_cannot_be_read_is_an_error(text: bytes, message: str, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "data.yaml").write_bytes(text)
    with pytest.raises(ValueError, match=rf"(?s)data\.yaml.*: .*{message}"):
        read_folder(tmp_path)


def test_names_in_yaml_are_text(tmp_path: Path) -> None:
    put_image(tmp_path / "images/train/1.jpg", TOY["train"][0])
    put(tmp_path / "labels/train/1.txt", "".join(f"{n} .5 .5 .25 .5\n" for n in range(4)))
    put(tmp_path / "data.yaml", "train: images/train\nval: null\nnames: [yes, no, 01, 1.10]\n")
    assert read_folder(tmp_path)[0]["train"][0].class_names == ("yes", "no", "01", "1.10")


def test_wrong_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path)
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    file = tmp_path / "labels/train/b2.txt"
    good = file.read_text()
    put(file, good + "0 0.5 0.5 0.1\n7 .5 .5 .1 .1\n0.5 .5 .5 .1 .1\n-1 .5 .5 .1 .1\nbird .5 .5 .1 .1\n")
    splits, problems = read_folder(tmp_path)
    assert everything(splits) == EXPECTED
    assert [(problem.kind, problem.place, problem.level, problem.objects) for problem in problems] == [
        ("invalid object", "line 2", "left out", 1),
        *(("unknown class", f"line {number}", "left out", 1) for number in range(3, 7)),
    ]
    assert str(problems[1]) == f"{file}, line 3: there is no class 7; 2 classes have names; it is left out"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"<html>\n<p>moved</p>\n</html>\n"])
def test_a_broken_label_file_does_not_become_an_image_without_objects(content: bytes, tmp_path: Path) -> None:
    write(tmp_path)
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    (tmp_path / "labels/train/b2.txt").write_bytes(content)
    splits, problems = read_folder(tmp_path)
    assert list(objects(splits["train"])) == ["a 1.jpg"]
    assert [(problem.level, problem.images) for problem in problems if problem.images] == [("left out", 1)]


def test_images_without_label_file_have_no_objects_if_most_have_one(tmp_path: Path) -> None:
    write(tmp_path)
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    put_image(tmp_path / "images/train/empty.jpg", TOY["train"][0])
    splits, problems = read_folder(tmp_path)
    assert everything(splits) == EXPECTED | {"empty.jpg": []}
    message = (
        "1 image of the split 'train' without a label file; unless another format annotates such images, they count as "
        "images without objects"
    )
    assert [(problem.level, problem.message) for problem in problems] == [("warning", message)]
    for number in range(4):
        put_image(tmp_path / f"images/test/{number}.jpg", TOY["train"][0])
    splits, problems = read_folder(tmp_path)
    assert everything(splits) == EXPECTED | {"empty.jpg": []}
    assert [(problem.kind, problem.level, problem.images) for problem in problems] == [
        ("image without annotation", "warning", 0),
        *[("image without annotation", "warning", 0)] * 4,
    ]


@pytest.mark.parametrize("format", [None, "yolo"])
def test_an_image_that_another_format_annotates_is_no_background(format: str | None, tmp_path: Path) -> None:
    for number in range(30):
        put_image(tmp_path / f"images/{number}.jpg", TOY["train"][0])
        if number > 1:
            put(tmp_path / f"labels/{number}.txt", "0 .5 .5 .1 .1\n" if number > 3 else "")
    for number, shapes in ((0, 1), (2, 1), (3, 0), (4, 1)):  # without label file; empty; empty in both; with objects
        shape = {"label": "cat", "points": [[28, 21], [36, 27]], "shape_type": "rectangle"}
        put_json(tmp_path / f"images/{number}.json", {"imagePath": f"{number}.jpg", "shapes": shapes * [shape]})
    put(tmp_path / "classes.txt", "cat\n")
    dataset = open_dataset(tmp_path, DataSettings(format=format))
    assert {int(record.image.stem) for record in dataset.train} == {1, *range(3, 30)}
    left_out = [problem for problem in dataset.problems if "but in labelme" in problem.message]
    assert [(problem.path.name, str(problem.kind)) for problem in left_out] == [
        ("0.jpg", "image without annotation"),
        ("2.jpg", "image without annotation"),
    ]
    notes = dataset.discovery.notes
    assert any("of 2 images without objects in yolo" in note for note in notes) == (format is None)


def test_a_split_without_labels_is_not_used(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "labels/test/c3.txt").unlink()
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    dataset = open_dataset(tmp_path, DataSettings())
    assert (len(dataset.train), len(dataset.test)) == (2, 0)
    message = "none of the 1 image of the split 'test' has a label file, so none is used"
    assert message in [problem.message for problem in dataset.problems]


def test_empty_label_files_are_images_without_objects(tmp_path: Path) -> None:
    write(tmp_path)
    for name in ("train/b2", "test/c3"):
        put(tmp_path / f"labels/{name}.txt", "\n")
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    splits, problems = read_folder(tmp_path)
    assert everything(splits) == EXPECTED | {"b2.jpg": [], "c3.jpg": []}
    assert problems == []


def test_unlabeled_images_with_a_yaml_are_an_error(tmp_path: Path) -> None:
    for split, photos in TOY.items():
        write_images(tmp_path / "images" / split, photos)
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    with pytest.raises(ValueError, match=r"data\.yaml: none of its 2 images has a label file; add labels/NAME\.txt"):
        read_folder(tmp_path)


def test_a_label_file_without_image_is_left_out(tmp_path: Path) -> None:
    write(tmp_path)
    put(tmp_path / "labels/train/gone.txt", "0 .5 .5 .1 .1\n1 .5 .5 .1 .1\n")
    put(tmp_path / "labels/train/classes.txt", "cat\ndog\n")
    put(tmp_path / "labels/test/classes.txt", "cat\ndog\n")
    splits, problems = read_folder(tmp_path)
    assert everything(splits) == EXPECTED
    assert [str(problem) for problem in problems] == [f"{tmp_path}/labels/train/gone.txt: there is no image gone"]
    assert (problems[0].level, problems[0].objects, problems[0].images) == ("left out", 2, 1)


def test_detections_elsewhere_are_no_labels(tmp_path: Path) -> None:
    """Other programs write them in the same form, into folders of their own."""
    write(tmp_path)
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    put_image(tmp_path / "images/train/new.jpg", TOY["train"][0])
    for name in ("a 1", "new"):
        put(tmp_path / f"runs/detect/labels/{name}.txt", "0 .5 .5 .1 .1 .9\n")
    splits, problems = read_folder(tmp_path)
    assert everything(splits) == EXPECTED | {"new.jpg": []}
    assert [problem.kind for problem in problems] == ["missing image", "image without annotation"]


@pytest.mark.parametrize(("image", "label"), [("New", "new"), ("\u00fc", "u\u0308"), ("new", "NEW")])
def test_label_files_that_windows_or_macos_would_find(image: str, label: str, tmp_path: Path) -> None:
    """Case, and how a letter is written, may differ: the image must not become background."""
    write(tmp_path)
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    put_image(tmp_path / f"images/train/{image}.jpg", TOY["train"][0])
    put(tmp_path / f"labels/train/{label}.txt", yolo_lines(TOY["train"][0], NAMES))
    splits, problems = read_folder(tmp_path)
    assert everything(splits) == EXPECTED | {f"{image}.jpg": EXPECTED[TOY["train"][0].name]}
    assert problems == []


@pytest.mark.parametrize("name", ["a 1", "image.v1", "%20(1)", "é"])
def test_names_of_images(name: str, tmp_path: Path) -> None:
    photo = TOY["train"][0]
    put_image(tmp_path / f"photos/{name}.jpg", photo)
    put(tmp_path / f"boxes/{name}.txt", yolo_lines(photo, NAMES))
    splits, _ = read_folder(tmp_path)
    assert list(everything(splits)) == [f"{name}.jpg"]


@pytest.mark.parametrize(("image", "label"), [("images", "labels"), (".", "."), ("photos", "boxes")])
def test_label_files_named_after_the_whole_name_of_the_image(image: str, label: str, tmp_path: Path) -> None:
    photo = TOY["train"][0]
    put_image(tmp_path / image / "1.jpg", photo)
    put(tmp_path / label / "1.jpg.txt", yolo_lines(photo, NAMES))
    splits, _ = read_folder(tmp_path)
    assert len(everything(splits)["1.jpg"]) == 2


def test_the_same_name_in_two_folders(tmp_path: Path) -> None:
    for number, photo in enumerate(TOY["train"]):
        put_image(tmp_path / f"day{number}/pictures/1.jpg", photo)
        put(tmp_path / f"day{number}/boxes/1.txt", yolo_lines(photo, NAMES))
    put(tmp_path / "classes.txt", "cat\ndog\n")
    records = read_folder(tmp_path)[0]["all"]
    assert [record.class_names for record in records] == [("cat", "dog"), ("dog",)]


def test_keypoints_of_the_yaml_are_no_outline(tmp_path: Path) -> None:
    """With pairs of numbers, only `kpt_shape` tells keypoints from the points of an outline."""
    write(tmp_path, each_line(lambda line: f"{line} 0.5 0.5 0.1 0.2"))
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}", kpt_shape="[2, 2]"))
    splits, problems = read_folder(tmp_path)
    assert everything(splits) == EXPECTED
    assert problems == []


@pytest.mark.parametrize("start", range(4))
@pytest.mark.parametrize("shape", ["box", "quad", "hexagon"])
def test_oriented_boxes_are_never_keypoints(shape: str, start: int, tmp_path: Path) -> None:
    """If the first two corners were center and size, the others would lie in that box."""
    photo = Photo("1.jpg", 50, 50, (("cat", (30, 26, 42, 34)), ("dog", (28, 30, 38, 40))))
    lines = []
    for name, (x1, y1, x2, y2) in photo.objects:
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        points = {
            "box": [(x1, y1), (x2, y1), (x2, y2), (x1, y2)],
            "quad": [(x, y1), (x2, y), (x, y2), (x1, y)],
            "hexagon": [(x1, y1), (x, y1), (x2, y1), (x2, y2), (x, y2), (x1, y2)],
        }[shape]
        numbers = " ".join(f"{px / 50} {py / 50}" for px, py in points[start:] + points[:start])
        lines += [f"{NAMES.index(name)} {numbers}\n"] * 10
    put_image(tmp_path / "images/1.jpg", photo)
    put(tmp_path / "labels/1.txt", "".join(lines))
    put(tmp_path / "classes.txt", "cat\ndog\n")
    splits, problems = read_folder(tmp_path)
    found = everything(splits)["1.jpg"]
    assert found[::10] == [(name, pytest.approx(box, abs=1e-3)) for name, box in photo.objects]
    assert problems == []


def test_an_angle_is_no_confidence(tmp_path: Path) -> None:
    """The images do not become background either."""
    write(tmp_path, each_line(lambda line: f"{line} 87"))
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    splits, problems = read_folder(tmp_path)
    assert everything(splits) == {}
    assert [(problem.kind, problem.images) for problem in problems] == [("unreadable annotation", 1)] * 3
    assert "most of its lines cannot be read: '" in problems[0].message


def test_outlines_and_boxes_in_pixels(tmp_path: Path) -> None:
    def lines(photo: Photo) -> str:
        (name, (x1, y1, x2, y2)), *_ = photo.objects
        outline = f"{NAMES.index(name)} {x1} {y1} {x2} {y1} {x2} {y2} {x1} {y2}\n"
        return outline + "".join(in_pixels(photo).splitlines(keepends=True)[1:])

    write(tmp_path, lines)
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    splits, problems = read_folder(tmp_path)
    assert everything(splits) == EXPECTED
    assert kinds(problems) == {"boxes in pixels": 1}


def test_long_outlines_and_utf_16(tmp_path: Path) -> None:
    """A line may be longer than the part of a file that tells its format."""
    photo = TOY["train"][1]
    put_image(tmp_path / "images/1.jpg", photo)
    outline = yolo_lines(photo, NAMES, polygon=True).split()
    put(tmp_path / "labels/1.txt", " ".join(outline + 200 * outline[1:]))
    put_image(tmp_path / "images/3.jpg", photo)
    put(tmp_path / "labels/3.txt", "0  " + 1000 * "1e-1 ")  # 4096 bytes end in the middle of a number
    put_image(tmp_path / "images/2.jpg", photo)
    (tmp_path / "labels/2.txt").write_text(yolo_lines(photo, NAMES), encoding="utf-16")
    put(tmp_path / "classes.txt", "cat\ndog\n")
    splits, problems = read_folder(tmp_path)
    tiny = [("cat", pytest.approx([4.8, 6.4, 4.8, 6.4]))]
    assert everything(splits) == {"1.jpg": EXPECTED["b2.jpg"], "2.jpg": EXPECTED["b2.jpg"], "3.jpg": tiny}
    assert problems == []
    for number in (1, 2):
        (tmp_path / f"labels/{number}.txt").unlink()
    assert list(everything(read_folder(tmp_path)[0])) == ["3.jpg"]


def in_corners(photo: Photo) -> str:
    return "".join(f"{NAMES.index(name)} {' '.join(map(str, box))}\n" for name, box in photo.objects)


def test_pixels_that_are_corners_are_read(tmp_path: Path) -> None:
    write(tmp_path, in_corners)
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    splits, problems = read_folder(tmp_path)
    assert everything(splits) == EXPECTED
    assert kinds(problems) == {"boxes in pixels": 1, "boxes as corners": 1}


def test_pixels_that_are_neither_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, lambda photo: "0 1 1 900 900\n")
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    with pytest.raises(
        ValueError, match="of 3 boxes, 3 leave their images as `cx cy width height`, 3 as `x1 y1 x2 y2`"
    ):
        read_folder(tmp_path)


@pytest.mark.parametrize("num_inside", [3, 8])
def test_fractions_that_are_corners(num_inside: int, tmp_path: Path) -> None:
    """As center and size most of them leave the image, or only some: then it is not sure."""
    inside, outside = "0 .4 .4 .5 .5\n", "0 .7 .7 .9 .9\n"
    write(tmp_path, lambda photo: num_inside * inside + (12 - num_inside) * outside)
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    if num_inside == 8:
        with pytest.raises(ValueError, match="the boxes may be corners: of 36, 12 leave their images"):
            read_folder(tmp_path)
        return
    splits, problems = read_folder(tmp_path)
    photo = TOY["train"][1]
    width, height = photo.width, photo.height
    _, box = everything(splits)["b2.jpg"][0]
    assert box == pytest.approx([0.4 * width, 0.4 * height, 0.5 * width, 0.5 * height], abs=1e-3)
    assert kinds(problems) == {"boxes as corners": 1}


@pytest.mark.parametrize(
    "text", ["684,8,27,11,0,0,0,0\n", "684,8,27,11,1,4,0,1,\n", "% bbGt version=3\ncat 3 4 20 10 0 0 0 0 0 0 0\n"]
)
def test_label_files_of_other_formats_are_not_read(text: str, tmp_path: Path) -> None:
    """VisDrone and ExDark: left, top, width and height in pixels, and flags."""
    write(tmp_path, lambda photo: text, label="annotations/{}")
    assert discover(tmp_path, DataSettings()).format == "text_boxes"


def write_numbers(folder: Path, numbers: Sequence[int], names: str) -> None:
    """One image whose objects have these class numbers; each letter is the name of a class."""
    put_image(folder / "images/1.jpg", TOY["train"][0])
    put(folder / "labels/1.txt", "".join(f"{number} .5 .5 .1 .1\n" for number in numbers))
    put(folder / "classes.txt", "".join(f"{name}\n" for name in names))


@pytest.mark.parametrize(
    ("numbers", "names", "found", "problems"),
    [
        ([1, 2, 3, 3, 2], "abc", "abccb", {"classes from 1": 1}),
        ([1, 1], "a", "aa", {"classes from 1": 1}),
        ([2, 2, 2, 1, 4], "abcd", "cccb", {"unknown class": 1}),
        ([0, 1, 2, 3, 3], "abc", "abc", {"unknown class": 2}),
        ([1, 1, 2, 4], "abc", "bbc", {"unknown class": 1}),
    ],
)
def test_classes_count_from_1_if_all_do(
    numbers: list[int], names: str, found: str, problems: dict[str, int], tmp_path: Path
) -> None:
    write_numbers(tmp_path, numbers, names)
    splits, said = read_folder(tmp_path)
    assert "".join(name for name, _ in everything(splits)["1.jpg"]) == found
    assert kinds(said) == problems


@pytest.mark.parametrize("numbers", [[1, 1, 2, 2, 3], [1, 1, 3, 3]])
def test_classes_that_may_count_from_1_are_an_error(numbers: list[int], tmp_path: Path) -> None:
    """All numbers from 1 on, but the last only once; or some are missing, but the last is repeated."""
    write_numbers(tmp_path, numbers, "abc")
    with pytest.raises(
        ValueError, match="class numbers run from 1 to 3, names from 0 to 2; if the numbers count from 1"
    ):
        read_folder(tmp_path)


def test_notes_beside_the_label_files_lose_no_image(tmp_path: Path) -> None:
    write(tmp_path)
    put(tmp_path / "labels/train/notes.txt", "1 2 3 4 5\n")
    put(tmp_path / "classes.txt", "cat\ndog\n")
    splits, problems = read_folder(tmp_path)
    assert everything(splits) == EXPECTED
    assert [(problem.level, problem.images, problem.objects) for problem in problems] == [("warning", 0, 0)]


def test_lines_of_another_form_are_shown(tmp_path: Path) -> None:
    write(tmp_path, lambda photo: "7 18 cat 13 18\n", label="labelTxt/{}")
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    with pytest.raises(ValueError, match=r"the line '7 18 cat 13 18' of labelTxt/.*\.txt is not YOLO's"):
        read_folder(tmp_path)


def test_descriptions_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path / folder)
        put(tmp_path / folder / "data.yaml", yolo_yaml(TOY, "images/{}"))
    with pytest.raises(ValueError, match=r"(one|two)/data\.yaml and (one|two)/data\.yaml describe two data sets"):
        read_folder(tmp_path)


def test_a_class_beyond_the_names_does_not_move_the_others(tmp_path: Path) -> None:
    """Class 0 is used, so the numbers do not begin at 1."""
    write(tmp_path, lambda photo: yolo_lines(photo, NAMES) + "2 .5 .5 .1 .1\n")
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    splits, problems = read_folder(tmp_path)
    assert everything(splits) == EXPECTED
    assert kinds(problems) == {"unknown class": 3}


def test_rounding_at_the_border_is_no_damage(tmp_path: Path) -> None:
    """0.033691 - 0.067383 / 2 is -0.0000005: a box at the border, with six decimals."""
    write(tmp_path, lambda photo: "0 0.033691 0.097168 0.067383 0.062500\n")
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    dataset = open_dataset(tmp_path, DataSettings())
    assert dataset.train.box_counts.tolist() == [1, 1]
    assert [problem for problem in dataset.problems if problem.level != "warning"] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0 0.5 0.5 0.1",
        "a.jpg 1 2 3 4",
        "img/a.png 1,2,30,40,0",
        "Car 0.00 0 -1.57 614.24 181.78 727.31 284.77 1.57 1.73 4.15 1.65 1.73 46.70 -1.59",
        "0 |roiAndLabel 1 2 30 40 1",
        "1 2 3 4 5 6 7 8 plane 0",
        "numpy==1.2",
        "images/train/1.jpg",
        "this is a caption of a photo",
    ],
)
def test_other_lines_are_no_labels(text: str) -> None:
    assert parse_line(text) is None


@pytest.mark.parametrize("text", ["1 0.5 0.25 2 3 4\n", "epoch loss\n1 0.5 0.25 2 3\n2 0.5 0.25 2 3\n3 1 1 1 1\n"])
def test_logs_are_no_data(text: str, tmp_path: Path) -> None:
    write_images(tmp_path, TOY["train"])
    put(tmp_path / "log.txt", text)
    put(tmp_path / "train.txt", "a 1.jpg\nb2.jpg\n")
    with pytest.raises(ValueError, match="no annotation file has a known format"):
        read_folder(tmp_path)


def test_screws(shared: Path) -> None:
    splits, problems = read_folder(shared / "datasets/screws")
    counts = {split: (len(records), int(records.box_counts.sum())) for split, records in splits.items()}
    assert counts == {"train": (75, 2565), "val": (15, 548), "test": (10, 382)}
    assert set(splits["train"].class_counts) == {"Bolt", "Bottle", "Washer"}
    assert problems == []


EDITED = {
    "fractions": (lambda photo: yolo_lines(photo, NAMES), "1 0.25 0.25 0.5 0.5"),
    "pixels": (in_pixels, "1 16 12 32 24"),
    "corners": (in_corners, "1 0 0 32 24"),
    "classes from 1": (each_line(lambda line: f"{int(line[0]) + 1}{line[1:]}"), "2 0.25 0.25 0.5 0.5"),
}


@pytest.mark.parametrize("name", EDITED)
def test_edits_keep_the_convention_and_unknown_lines(name: str, tmp_path: Path) -> None:
    lines, new = EDITED[name]
    write(tmp_path, lines)
    put(tmp_path / "data.yaml", yolo_yaml(TOY, "images/{}"))
    file, odd = tmp_path / "labels/train/a 1.txt", "bird 0.5 0.5"
    first, second = file.read_text().splitlines()
    put(file, f"{first}\n{odd}\n{second}\n")
    found = discover(tmp_path, DataSettings())
    source = found.sources[0]
    image = tmp_path / "images/train/a 1.jpg"
    assert list(form.images(source, found.tree)) == [tmp_path / "images/train/b2.jpg", image]
    assert form.class_names(found.sources, found.tree) == NAMES
    cat, dog = form.read_image(source, image, found.tree) or []
    edited = [cat, dog._replace(box=(0, 0, 32, 24))]
    form.write_image(source, image, edited, found.tree)
    assert file.read_text().splitlines() == [first, new, odd]
    with pytest.raises(ValueError, match=r"there is no class 'bird' in .*data\.yaml"):
        form.write_image(source, image, [Annotation((1, 1, 9, 9), "bird")], found.tree)
    form.write_image(source, image, None, found.tree)
    assert not file.exists()
    assert form.read_image(source, image, found.tree) is None


@pytest.mark.parametrize(("image", "label"), [*PLACES[:5], (".", ".")])
def test_a_new_label_file_lies_beside_the_others(image: str, label: str, tmp_path: Path) -> None:
    write(tmp_path, image=image, label=label)
    put(tmp_path / "classes.txt", "cat\ndog\n")
    split = "all" if image == "." else "train"
    new = tmp_path / image.format(split) / "new.jpg"
    put_image(new, TOY["train"][0])
    found = discover(tmp_path, DataSettings())
    source = next(source for source in found.sources if source.split == split)
    assert form.read_image(source, new, found.tree) is None
    form.write_image(source, new, [Annotation((1, 2, 30, 40), "dog")], found.tree)
    assert (tmp_path / label.format(split) / "new.txt").is_file()
    splits, _ = read_folder(tmp_path)
    assert objects(splits[split])["new.jpg"] == [("dog", pytest.approx([1, 2, 30, 40], abs=1e-3))]
