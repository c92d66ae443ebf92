"""Every format: found by looking, read, written, and the same after both."""

import json
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import hypothesis.strategies as st
import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
import yaml
from hypothesis import given, settings
from PIL import Image
from tiny import draw_image, train_tiny, write_tiny

from frcnn.config import DataSettings
from frcnn.data.convert import WITH_DIFFICULT, convert, write_dataset
from frcnn.data.dataset import open_dataset, read_annotations, read_split
from frcnn.data.formats import FORMATS, WRITABLE
from frcnn.data.problems import Problem
from frcnn.data.records import make_record
from frcnn.types import Record

SIZE = (96, 128)
LETTERS = st.characters(categories=("L", "N", "P", "S"), include_characters=" ")
NAMES = st.text(LETTERS, min_size=1, max_size=8).filter(lambda name: name == name.strip() and name.isprintable())
STEMS = st.text(st.characters(categories=("L", "N"), include_characters=" -_"), min_size=1, max_size=8).filter(
    lambda name: name == name.strip()
)


@st.composite
def boxes(draw: st.DrawFn, whole: bool) -> list[float]:
    height, width = SIZE
    x1, y1 = draw(st.integers(0, width - 3)), draw(st.integers(0, height - 3))
    box = [x1, y1, draw(st.integers(x1 + 2, width)), draw(st.integers(y1 + 2, height))]
    return (
        [float(value) for value in box]
        if whole
        else [value * draw(st.floats(0.9, 0.999)) for value in (x1, y1)] + [float(value) for value in box[2:]]
    )


@st.composite
def data_sets(draw: st.DrawFn) -> dict[str, list[tuple[str, list[tuple[list[float], str, bool]]]]]:
    """For each set, images with their objects: box, class, difficult."""
    whole = draw(st.booleans())
    thing = st.tuples(boxes(whole), NAMES, st.booleans())
    stems = iter(draw(st.lists(STEMS, min_size=3, max_size=5, unique_by=str.lower)))
    test = next(stems)
    sets = {"train": [(stem, draw(st.lists(thing, max_size=3))) for stem in stems], "test": []}
    sets["train"][0][1].append(draw(thing))
    sets["test"].append((test, draw(st.lists(thing, max_size=2))))
    return sets


def write_images(folder: Path, drawn: dict) -> dict[str, list[Record]]:
    sets: dict[str, list[Record]] = {}
    for name, images in drawn.items():
        for stem, things in images:
            image = folder / name / f"{stem}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", SIZE[::-1]).save(image)
            record = make_record(image, [(box, label) for box, label, _ in things])
            difficult = np.array([mark for *_, mark in things], bool)
            sets.setdefault(name, []).append(record._replace(difficult=difficult))
    return sets


def by_name(records: Sequence[Record]) -> dict[str, Record]:
    return {record.image.name: record for record in records}


@pytest.mark.parametrize("form", WRITABLE)
@settings(max_examples=25)
@given(drawn=data_sets())
def test_what_is_written_is_read_again(form: str, drawn: dict, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("round")
    sets = write_images(folder / "from", drawn)
    write_dataset(sets, folder / "to", form)
    problems: list[Problem] = []
    again = read_annotations(folder / "to", DataSettings(), problems.append)
    assert not problems
    assert not list(folder.glob(".*"))
    whole = all((record.boxes == record.boxes.round()).all() for records in sets.values() for record in records)
    for name, records in sets.items():
        expected, found = by_name(records), by_name(again[name])
        assert list(found) == list(expected) or form == "folders"  # images without objects come last there
        assert set(found) == set(expected)
        for image, record in found.items():
            np.testing.assert_allclose(record.boxes, expected[image].boxes, rtol=0, atol=0 if whole else 1e-3)
            assert record.names == expected[image].names
            difficult = expected[image].difficult
            np.testing.assert_array_equal(record.difficult, difficult & (form in WITH_DIFFICULT))
            assert record.image.read_bytes() == expected[image].image.read_bytes()
            assert record.size in (None, SIZE)


@pytest.mark.parametrize("form", WRITABLE)
def test_a_copy_opens_and_trains(form: str, tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    notes = convert(data, tmp_path / form, form, DataSettings()).notes
    assert not notes
    dataset, original = open_dataset(tmp_path / form, DataSettings()), open_dataset(data, DataSettings())
    assert dataset.classes == original.classes
    assert [record.image.name for record in dataset.train] == [record.image.name for record in original.train]
    _, run = train_tiny(tmp_path / form, tmp_path / "run", "train.epochs=1")
    assert (run / "model.safetensors").is_file()


@pytest.mark.parametrize("form", WRITABLE)
def test_a_copy_of_links_takes_no_room(form: str, tmp_path: Path) -> None:
    convert(write_tiny(tmp_path / "data"), tmp_path / form, form, DataSettings(), link=True)
    images = [record.image for record in open_dataset(tmp_path / form, DataSettings()).train]
    assert all(image.is_symlink() for image in images)


# ------------------------------------------------------------------------------------------------------------ convert


def test_a_conversion_is_whole_or_not_at_all(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    (data / "positive" / "3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"3\.png: not an image"):
        convert(data, tmp_path / "out", "coco", DataSettings())
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    (tmp_path / "out").mkdir()
    convert(data, tmp_path / "out", "coco", DataSettings())  # empty
    with pytest.raises(FileExistsError, match="out: exists and is not overwritten"):
        convert(data, tmp_path / "out", "csv", DataSettings())


def test_wrong_annotations_are_not_converted(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    (data / "positive" / "1.bboxes.tsv").write_text("1 2 wide 4\n1 2 3 4\n")
    with pytest.raises(ValueError, match=r"line 1: '1 2 wide 4' is not a box(.|\n)*frcnn check"):
        convert(data, tmp_path / "out", "coco", DataSettings())


def test_names_that_are_taken_are_changed_and_told(tmp_path: Path) -> None:
    sets = {}
    for name in ("train", "test"):
        draw_image([]).save((tmp_path / name).with_suffix(".png"))
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.png").rename(tmp_path / name / "1.png")
        sets[name] = [make_record(tmp_path / name / "1.png", [([1, 2, 30, 40], "a")])]
    conversion = write_dataset(sets, tmp_path / "out", "pascal_voc")
    assert conversion.notes == [f"{tmp_path}/test/1.png: is test-1.png there, since its name is taken"]
    assert [record.image.name for record in read_split(tmp_path / "out", "test", DataSettings())] == ["test-1.png"]


def test_what_a_format_cannot_hold_is_told_or_refused(tmp_path: Path) -> None:
    image = tmp_path / "1.png"
    draw_image([]).save(image)
    record = make_record(image, [([1, 2, 30, 40], "a")])
    lost = write_dataset({"train": [record._replace(difficult=np.array([True]))]}, tmp_path / "yolo", "yolo").notes
    assert lost == ["1 objects marked as difficult are plain objects there, since yolo has no such mark"]
    for sets, form, message in (
        (
            {"train": [make_record(image, [([1, 2, 2, 40], "a")])]},
            "pascal_voc",
            r"1 x 38 pixels, and Pascal VOC cannot",
        ),
        ({"val": [record]}, "map_files", r"--to map_files: has no place for the set 'val'; it knows train and test"),
        ({"train": [make_record(image, [([1, 2, 30, 40], "a\n")])]}, "csv", r"class 'a\\n': spaces around a name"),
        ({"train": [record]}, "labelme", r"--to labelme: cannot be written; choose one of folders, map_files"),
    ):
        with pytest.raises(ValueError, match=message):
            write_dataset(sets, tmp_path / "out", form)
        assert not (tmp_path / "out").exists()


def test_a_split_can_be_drawn_and_written(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    for file in (data / "testImages").iterdir():
        file.unlink()
    (data / "testImages").rmdir()
    conversion = convert(data, tmp_path / "coco", "coco", DataSettings(split=(0.6, 0.2, 0.2)))
    assert conversion.images == {"train": 3, "val": 1, "test": 1}
    written = read_annotations(tmp_path / "coco", DataSettings(val_set="val"), lambda problem: None)
    assert {name: len(records) for name, records in written.items()} == {"train": 3, "val": 1, "test": 1}


# ------------------------------------------------------------------------------------------------------------- formats


def images(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        draw_image([], seed=number).save(folder / name)


def read(folder: Path, split: str = "train", **changes: object) -> tuple[list[tuple], list[str]]:
    """Name, boxes and classes of each image; and what was reported."""
    problems: list[Problem] = []
    records = read_annotations(folder, DataSettings.model_validate(changes), problems.append, (split,))[split]
    return [(r.image.name, r.boxes.tolist(), r.names) for r in records], [str(problem) for problem in problems]


def test_a_format_can_be_named(tmp_path: Path) -> None:
    data = write_tiny(tmp_path)
    (tmp_path / "train.csv").write_text("path,x1,y1,x2,y2,label\npositive/1.png,1,2,30,40,cat\n")
    with pytest.raises(ValueError, match=r"fits several formats \(folders, csv\); say which with --format"):
        read(data)
    assert read(data, format="csv") == ([("1.png", [[1, 2, 30, 40]], ("cat",))], [])
    with pytest.raises(ValueError, match=r"is not coco \(COCO: .*\); it looks like folders and csv"):
        read(data, format="coco")
    with pytest.raises(ValueError, match=r"there is no format 'voc'; choose one of folders, map_files, pascal_voc"):
        read(data, format="voc")
    assert set(WRITABLE) < set(FORMATS)


def test_images_in_archives(tmp_path: Path) -> None:
    """As the tutorial's map files write them."""
    images(tmp_path, "a.png")
    with ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "inside/a.png")
    (tmp_path / "a.png").unlink()
    for name in ("train", "test"):
        (tmp_path / f"{name}_img_file.txt").write_text("0\tphotos.zip@/inside/a.png\t0\n")
        (tmp_path / f"{name}_roi_file.txt").write_text("0 |roiAndLabel 1 2 30 40 1\n")
    (tmp_path / "class_map.txt").write_text("__background__\t0\ncat\t1\n")
    dataset = open_dataset(tmp_path, DataSettings())
    assert str(dataset.train[0].image) == f"{tmp_path}/photos.zip@/inside/a.png"
    train_tiny(tmp_path, tmp_path / "run", "train.epochs=1")
    convert(tmp_path, tmp_path / "coco", "coco", DataSettings(format="map_files"), link=True)
    assert len(open_dataset(tmp_path / "coco", DataSettings()).test) == 1
    (tmp_path / "train_img_file.txt").write_text("0\tphotos.zip@/inside/b.png\t0\n")
    with pytest.raises(ValueError, match=r"inside/b\.png: no such image"):
        open_dataset(tmp_path, DataSettings())


YOLO = {"names": ["cat", "dog"], "train": "images/train", "val": "images/val"}


def yolo(folder: Path, content: dict, labels: dict[str, str]) -> None:
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    for name, text in labels.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_yolo(tmp_path: Path) -> None:
    images(tmp_path, "images/train/10.png", "images/train/9.png", "images/val/v.png")
    labels = {"labels/train/9.txt": "1 0.5 0.5 0.25 0.5\n", "labels/val/v.txt": "0 0.1 0.1 0.5 0.2 0.3 0.75\n"}
    yolo(tmp_path, YOLO, labels)
    expected = [("9.png", [[48, 24, 80, 72]], ("dog",)), ("10.png", [], ())]
    assert read(tmp_path) == (expected, [])
    outline = pytest.approx([12.8, 9.6, 64, 72])
    assert read(tmp_path, "test") == ([("v.png", [outline], ("cat",))], [])
    assert read(tmp_path, "val", val_set="val")[0][0][0] == "v.png"


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("train/images", {"train": "../train/images", "names": {0: "cat", 1: "dog"}}),  # as Roboflow exports it
        ("images/train", {"path": "/somewhere/else", "train": ["images/train"], "names": ["cat", "dog"]}),
        ("set/images/train", {"path": "set", "train": "images/train", "names": ["cat", "dog"]}),
        ("photos", {"train": "photos", "names": ["cat", "dog"]}),  # labels beside the images
    ],
)
def test_yolo_in_other_places(tmp_path: Path, place: str, content: dict) -> None:
    images(tmp_path, f"{place}/1.png")
    label = f"{'labels'.join(place.rsplit('images', 1))}/1.txt"
    yolo(tmp_path, content, {label: "1 0.5 0.5 0.25 0.5\n"})
    assert read(tmp_path) == ([("1.png", [[48, 24, 80, 72]], ("dog",))], [])


def test_wrong_lines_of_yolo_are_named(tmp_path: Path) -> None:
    images(tmp_path, "images/train/1.png")
    yolo(tmp_path, YOLO, {"labels/train/1.txt": "0 0.5 0.5 0.1\n2 .5 .5 .1 .1\n0.5 .5 .5 .1 .1\n0 .5 .5 .25 .5\n"})
    found, problems = read(tmp_path)
    assert found == [("1.png", [[48, 24, 80, 72]], ("cat",))]
    file = tmp_path / "labels" / "train" / "1.txt"
    assert problems == [
        f"{file}, line 1: '0 0.5 0.5 0.1' must be a class and four shares: cx cy width height (or an outline's points)",
        f"{file}, line 2: there is no class 2; data.yaml has 2 names",
        f"{file}, line 3: there is no class 0.5; data.yaml has 2 names",
    ]
    yolo(tmp_path, YOLO | {"train": "pictures"}, {})
    assert read(tmp_path)[1] == [f"{tmp_path}/data.yaml: there is no {tmp_path}/pictures"]


@pytest.mark.parametrize(
    "text",
    [
        "path,x1,y1,x2,y2,label\na b.png,1,2,30,40.5,big cat\nb.png,,,,,\na b.png,5,6,70,80,dog\n",
        "a b.png,1,2,30,40.5,big cat\nb.png,,,,,\na b.png,5,6,70,80,dog\n",
        "\ufeffClass;xMin;xMax;yMin;yMax;FileName\r\nbig cat;1;30;2;40.5;a b.png\r\n;;;;;b.png\r\n"
        "dog;5;70;6;80;a b.png",
    ],
    ids=["named", "without names", "in another order"],
)
def test_csv(tmp_path: Path, text: str) -> None:
    images(tmp_path, "images/a b.png", "b.png")
    (tmp_path / "boxes.csv").write_text(text)
    expected = [("a b.png", [[1, 2, 30, 40.5], [5, 6, 70, 80]], ("big cat", "dog")), ("b.png", [], ())]
    assert read(tmp_path) == (expected, [])


def test_csv_says_which_set_a_line_belongs_to(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png", "c.png")
    rows = [f"{name}.png,1,2,30,40,cat,{split}" for name, split in zip("abc", ("train", "val", "test"), strict=True)]
    (tmp_path / "all.csv").write_text("\n".join(["path,x1,y1,x2,y2,label,split", *rows]))
    assert [read(tmp_path, split, val_set="val")[0][0][0] for split in ("train", "val", "test")] == [
        "a.png",
        "b.png",
        "c.png",
    ]


def test_wrong_lines_of_csv_are_named(tmp_path: Path) -> None:
    images(tmp_path, "a.png")
    lines = ("a.png,1,2,thirty,40,cat", "a.png,1,2,30,40,", ",1,2,30,40,cat", "a.png,1,2,30,40,cat")
    (tmp_path / "train.csv").write_text("\n".join(["path,x1,y1,x2,y2,label", *lines]))
    found, problems = read(tmp_path)
    assert found == [("a.png", [[1, 2, 30, 40]], ("cat",))]
    assert problems == [
        f"{tmp_path}/train.csv, line 2: '1,2,thirty,40' must be four numbers: x1, y1, x2, y2",
        f"{tmp_path}/train.csv, line 3: has a box without a label",
        f"{tmp_path}/train.csv, line 4: has no path",
    ]


def labelme(file: Path, image: str, *shapes: tuple[str, str | None, list[list[float]]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "version": "5.5.0",
        "shapes": [
            {"label": label, "points": points, **({"shape_type": kind} if kind else {})}
            for label, kind, points in shapes
        ],
        "imagePath": image,
        "imageData": None,
        "imageHeight": 96,
        "imageWidth": 128,
    }
    file.write_text(json.dumps(content))


def test_labelme(tmp_path: Path) -> None:
    images(tmp_path, "1.png", "2.png")
    shapes = [
        ("cat", "rectangle", [[30, 40], [1, 2]]),  # drawn from any corner
        ("dog", None, [[1, 50], [60, 20], [30, 90]]),
        ("ball", "circle", [[50, 50], [53, 54]]),
    ]
    labelme(tmp_path / "1.json", "..\\photos\\1.png", *shapes)
    labelme(tmp_path / "2.json", "2.png", ("cat", "point", [[1, 2]]), ("cat", "rectangle", [[1, 2], [3, 4]]))
    found, problems = read(tmp_path)
    assert found == [
        ("1.png", [[1, 2, 30, 40], [1, 20, 60, 90], [45, 45, 55, 55]], ("cat", "dog", "ball")),
        ("2.png", [[1, 2, 3, 4]], ("cat",)),
    ]
    assert problems == [
        f"{tmp_path}/2.json, object 1 ('cat'): a point of 1 points has no box; draw one of: rectangle, polygon, "
        f"circle, rotation, or remove it"
    ]


def test_folders_of_labelme_are_sets(tmp_path: Path) -> None:
    for name in ("train", "test"):
        images(tmp_path, f"{name}/1.png")
        labelme(tmp_path / name / "1.json", "1.png", ("cat", "rectangle", [[30, 40], [1, 2]]))
    assert [len(read(tmp_path, split)[0]) for split in ("train", "test")] == [1, 1]
    (tmp_path / "train" / "2.json").write_text("{}")
    assert read(tmp_path)[1] == [
        f"{tmp_path}/train/2.json: not LabelMe's format, which has 'shapes' and 'imagePath': "
        f"Object missing required field `shapes`"
    ]


def shape(x: float, y: float, width: float, height: float, *labels: str, **more: object) -> dict[str, object]:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": list(labels)} | more
    return {"type": "rectanglelabels", "original_width": 128, "original_height": 96, "value": value}


def test_label_studio(tmp_path: Path) -> None:
    images(tmp_path, "images/1.png", "0a1b2c3d-2.png", "sub/3.png", "4.png")
    box = shape(25, 25, 50, 50, "cat")
    tasks = [
        {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-1.png"}, "annotations": [{"result": [box]}]},
        {"id": 2, "data": {"photo": "/data/upload/1/0a1b2c3d-2.png"}, "annotations": [{"result": []}]},
        {
            "id": 3,
            "data": {"image": "/data/local-files/?d=sub/3.png"},
            "annotations": [
                {"result": [box]},
                {
                    "result": [
                        shape(50, 50, 12.5, 50, "dog", rotation=90),
                        {"type": "choices", "value": {"choices": ["a"]}},
                    ]
                },
                {"result": [box], "was_cancelled": True},
            ],
        },
        {"id": 4, "data": {"image": "4.png"}, "annotations": []},
        {"id": 5, "data": {"image": "4.png"}, "annotations": [{"result": [shape(1, 2, 3, 4, "cat", "dog"), box]}]},
        {"id": 6, "data": {"text": "hello"}, "annotations": []},
    ]
    (tmp_path / "project-1.json").write_text(json.dumps(tasks))
    found, problems = read(tmp_path)
    assert found == [
        ("1.png", [[32, 24, 96, 72]], ("cat",)),
        ("0a1b2c3d-2.png", [], ()),
        ("3.png", [pytest.approx([64 - 48, 48, 64, 64])], ("dog",)),  # turned about its corner
        ("4.png", [[32, 24, 96, 72]], ("cat",)),
    ]
    file = tmp_path / "project-1.json"
    assert problems == [
        f"{file}, task 3: has 2 annotations; the last one is taken",
        f"{file}, task 4: 4.png is not annotated; annotate it, or leave it out of the export",
        f"{file}, task 5: a shape has 2 labels; a rectangle or polygon with one label is needed",
        f"{file}, task 6: names no image",
    ]


def test_the_short_form_of_label_studio(tmp_path: Path) -> None:
    images(tmp_path, "1.png")
    (one,) = [shape(25, 25, 50, 50, "cat")]
    flat = one["value"] | {"original_width": 128, "original_height": 96}  # type: ignore[operator]
    (tmp_path / "min.json").write_text(json.dumps([{"image": "/data/upload/1.png", "id": 1, "label": [flat]}]))
    assert read(tmp_path) == ([("1.png", [[32, 24, 96, 72]], ("cat",))], [])


def test_coco_beside_its_images(tmp_path: Path) -> None:
    """As Roboflow exports it: train/, valid/ and test/."""
    for name in ("train", "valid", "test"):
        images(tmp_path, f"{name}/1.png")
        content = {
            "images": [{"id": 0, "file_name": "1.png", "height": 96, "width": 128}],
            "categories": [{"id": 0, "name": "cat", "supercategory": "none"}],
            "annotations": [{"id": 0, "image_id": 0, "category_id": 0, "bbox": [1, 2, 29, 38], "iscrowd": 0}],
        }
        (tmp_path / name / "_annotations.coco.json").write_text(json.dumps(content))
    expected = [("1.png", [[1, 2, 30, 40]], ("cat",))]
    assert read(tmp_path) == (expected, [])
    assert read(tmp_path, "val", val_set="valid") == (expected, [])


# ------------------------------------------------------------------------------------ what goes wrong without a word


def three_sets(folder: Path) -> Path:
    rows = [f"{name}.png,1,2,30,40,cat,{name}" for name in ("train", "Valid", "test")]
    images(folder, "train.png", "Valid.png", "test.png")
    (folder / "all.csv").write_text("\n".join(["path,x1,y1,x2,y2,label,split", *rows]))
    return folder


def test_three_sets_stay_three(tmp_path: Path) -> None:
    convert(three_sets(tmp_path / "data"), tmp_path / "coco", "coco", DataSettings())
    for folder in ("data", "coco"):
        found_ = read_annotations(tmp_path / folder, DataSettings(), lambda problem: None)
        assert [record.image.name for records in found_.values() for record in records] == [
            "train.png",
            "Valid.png",
            "test.png",
        ]


def test_the_val_of_a_trainval_does_not_validate(tmp_path: Path) -> None:
    data = three_sets(tmp_path / "data")
    convert(data, tmp_path / "voc", "pascal_voc", DataSettings())
    sets = tmp_path / "voc" / "ImageSets" / "Main"
    (sets / "trainval.txt").write_text("train\nValid\n")
    assert [len(read(tmp_path / "voc", split)[0]) for split in ("train", "val", "test")] == [2, 0, 1]
    assert [len(read(tmp_path / "voc", split, train_set="train")[0]) for split in ("train", "test")] == [1, 1]


def test_sets_of_other_names_ask_for_one(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    for name in "ab":
        (tmp_path / f"part-{name}.csv").write_text(f"{name}.png,1,2,30,40,cat\n")
    with pytest.raises(ValueError, match=r"has sets part-a, part-b; name the one to train on with data\.train_set"):
        read(tmp_path)
    assert read(tmp_path, train_set="part-a")[0][0][0] == "a.png"


def test_nothing_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,x1,y1,x2,y2,label\n")
    for settings_ in (DataSettings(), DataSettings(split=(0.8, 0.1, 0.1))):
        with pytest.raises(ValueError, match="there are no images to write"):
            convert(tmp_path, tmp_path / "out", "coco", settings_)


def test_names_in_yaml_are_text(tmp_path: Path) -> None:
    images(tmp_path, "images/train/1.png")
    text = "train: images/train\nval: null\nnames: [yes, no, 01, 1.10]\n"
    yolo(tmp_path, YOLO, {"labels/train/1.txt": "".join(f"{n} .5 .5 .25 .5\n" for n in range(4))})
    (tmp_path / "data.yaml").write_text(text)
    assert read(tmp_path)[0][0][2] == ("yes", "no", "01", "1.10")
    for names, message in (("{a: x}", "begin with whole numbers"), ("[cat, cat]", "one of its own")):
        (tmp_path / "data.yaml").write_text(f"train: images/train\nnames: {names}\n")
        with pytest.raises(ValueError, match=rf"data\.yaml: .*{message}"):
            read(tmp_path)


def test_yolo_below_a_folder_called_images(tmp_path: Path) -> None:
    data = tmp_path / "images" / "set"
    images(data, "train/1.png")
    yolo(data, {"train": "train", "names": ["cat"]}, {"train/1.txt": "0 .5 .5 .25 .5\n"})
    assert read(data)[0] == [("1.png", [[48, 24, 80, 72]], ("cat",))]


def test_ids_and_names_of_coco_that_come_twice(tmp_path: Path) -> None:
    images(tmp_path, "images/1.png", "images/2.png")
    image = {"id": 1, "file_name": "1.png", "height": 96, "width": 128}
    content = {
        "images": [image, image | {"file_name": "2.png"}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}],
        "annotations": [{"image_id": 1, "category_id": n, "bbox": [1, 2, 29, 38]} for n in (1, 2)],
    }
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "instances_train.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    problems: list[Problem] = []
    records = read_annotations(tmp_path, DataSettings(), problems.append)["train"]
    assert [str(problem) for problem in problems] == [f"{file}: image id 1 appears twice; give every image its own"]
    assert records.class_counts == {"cat": 2}


def test_rectangles_and_labels_of_label_studio(tmp_path: Path) -> None:
    """Drawn with one tool, labelled with another; and a shape that has no box."""
    images(tmp_path, "1.png")
    one = shape(25, 25, 50, 50)
    one["value"] = {"x": 25, "y": 25, "width": 50, "height": 50, "labels": ["cat"]}
    brush = one | {"value": {"rle": [1, 2], "brushlabels": ["cat"]}}
    tasks = [{"id": 1, "data": {"image": "1.png"}, "annotations": [{"result": [one, brush]}]}]
    (tmp_path / "a.json").write_text(json.dumps(tasks))
    found_, problems = read(tmp_path)
    assert found_ == [("1.png", [[32, 24, 96, 72]], ("cat",))]
    assert len(problems) == 1
    (tmp_path / "a.json").write_text(json.dumps([{"data": {"image": "1.png"}, "annotations": [{"result": None}]}]))
    assert read(tmp_path) == ([("1.png", [], ())], [])


def test_boxes_in_negative_and_two_images_of_one_name(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    convert(data, tmp_path / "voc", "pascal_voc", DataSettings())
    (data / "negative" / "6.bboxes.tsv").write_text("1 2 30 40\n")
    assert "lies in negative/, whose images hold no objects" in read(data)[1][0]
    draw_image([]).save(tmp_path / "voc" / "JPEGImages" / "0.jpg")
    assert "0.png: has the name of 0.jpg, so both would have one annotation" in read(tmp_path / "voc")[1][0]


@pytest.mark.parametrize("size", [(1, 1), (5, 50), (7, 7)])
def test_images_of_a_few_pixels_are_images(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "1.jpg")
    (tmp_path / "train.csv").write_text(f"1.jpg,0,0,{size[0]},{size[1]},cat\n")
    assert len(open_dataset(tmp_path, DataSettings()).train) == 1


# ---------------------------------------------------------------------------------------- what other programs write


def test_numbers_and_names_of_other_json_writers(tmp_path: Path) -> None:
    images(tmp_path, "images/a.png")
    content = {
        "images": [{"id": 1, "file_name": ".\\a.png", "width": 128.0, "height": None}],
        "categories": [{"id": 1, "name": 7}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "iscrowd": False}],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    assert read(tmp_path) == ([("a.png", [[1, 2, 31, 42]], ("7",))], [])
    assert open_dataset(tmp_path, DataSettings()).classes == ("7",)


def test_numbers_and_sizes_of_other_labelme_writers(tmp_path: Path) -> None:
    images(tmp_path, "a.png")
    shape = {"label": 3, "points": [[1, 2], [30, 40]], "shape_type": "rectangle"}
    content = {"shapes": [shape], "imagePath": "a.png", "imageHeight": 96.0, "imageWidth": 128.0}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert read(tmp_path) == ([("a.png", [[1, 2, 30, 40]], ("3",))], [])


def test_csv_as_spreadsheets_write_it(tmp_path: Path) -> None:
    images(tmp_path, "images/a.png")
    text = "\r\n\r\npath\tx1\ty1\tx2\ty2\tlabel\r\nimages\\a.png\t1\t2\t30\t40\tKäse\r\n"
    (tmp_path / "train.csv").write_bytes(text.encode("utf-16"))
    assert read(tmp_path) == ([("a.png", [[1, 2, 30, 40]], ("Käse",))], [])
    (tmp_path / "train.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"train\.csv: not UTF-8 text .*; save it as UTF-8, or move it away"):
        read(tmp_path)


def test_paths_with_backslashes_in_map_files(tmp_path: Path) -> None:
    images(tmp_path, "photos/a.png")
    (tmp_path / "class_map.txt").write_text("__background__\t0\ncat\t1\n")
    (tmp_path / "train_img_file.txt").write_text("0\tphotos\\a.png\t0\n")
    (tmp_path / "train_roi_file.txt").write_text("0 |roiAndLabel 1 2 30 40 1\n")
    assert read(tmp_path)[0][0][0] == "a.png"
    assert open_dataset(tmp_path, DataSettings()).train[0].image == tmp_path / "photos" / "a.png"


@pytest.mark.parametrize("form", ["folders", "yolo", "pascal_voc"])
def test_two_images_with_one_annotation_are_an_error(form: str, tmp_path: Path) -> None:
    convert(write_tiny(tmp_path / "data"), tmp_path / form, form, DataSettings())
    first = open_dataset(tmp_path / form, DataSettings()).train[0].image
    Image.new("RGB", SIZE[::-1]).save(first.with_suffix(".jpg"))
    if form == "yolo":
        with (tmp_path / form / "train.txt").open("a") as rows:
            rows.write(f"./images/train/{first.stem}.jpg\n")
    with pytest.raises(
        ValueError, match=rf"has the name of {first.stem}\.(png|jpg), so both would have one annotation"
    ):
        open_dataset(tmp_path / form, DataSettings())


def test_label_files_of_yolo_without_an_image_are_named(tmp_path: Path) -> None:
    images(tmp_path, "images/train/1.png", "images/val/2.png")
    box = "0 0.5 0.5 0.25 0.5\n"
    names = ("train/1", "train/gone", "val/2", "train/classes")
    yolo(tmp_path, YOLO, {f"labels/{name}.txt": box for name in names})
    _, problems = read(tmp_path)
    gone = tmp_path / "labels" / "train" / "gone.txt"
    assert problems == [
        f"{gone}: there is no image gone for it in the set 'train'; add the image or remove the file",
    ]


def test_what_is_not_converted_is_said(tmp_path: Path) -> None:
    images(tmp_path, "images/a.png", "images/b.png")
    rows = ["path,x1,y1,x2,y2,label,split", "a.png,1,2,30,40,cat,train", "b.png,1,2,30,40,cat,spare"]
    (tmp_path / "all.csv").write_text("\n".join(rows))
    notes = convert(tmp_path, tmp_path / "out", "coco", DataSettings()).notes
    assert notes == ["not written: spare, since training would use train only"]


def test_coco_in_a_file_of_the_folder_itself(tmp_path: Path) -> None:
    images(tmp_path, "images/a.png", "images/b.png")
    content = {
        "images": [{"id": 0, "file_name": "images/a.png", "width": 128, "height": 96}],
        "categories": [{"id": 0, "name": "cat"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 0, "bbox": [1, 2, 30, 40]}],
    }
    (tmp_path / "result.json").write_text(json.dumps(content))
    assert read(tmp_path) == ([("a.png", [[1, 2, 31, 42]], ("cat",))], [])


def test_shares_in_csv_are_no_pixels(tmp_path: Path) -> None:
    images(tmp_path, "a.png")
    (tmp_path / "train.csv").write_text("path,x1,y1,x2,y2,label\na.png,0.1,0.2,0.5,1.0,cat\n")
    assert read(tmp_path)[1] == [
        f"{tmp_path}: all coordinates of the set 'train' are 1 or less: shares of the sides? Pixels are needed"
    ]


def test_a_format_that_is_asked_for_says_what_it_stumbles_over(tmp_path: Path) -> None:
    images(tmp_path, "a.png")
    (tmp_path / "a.json").write_text('{"shapes": [{"points": 1}], "imagePath": "a.png"}')
    with pytest.raises(ValueError, match=r"--format NAME says why one does not fit"):
        read(tmp_path)
    with pytest.raises(
        ValueError, match=r"is not labelme .*a\.json: not LabelMe's format.* Expected `array`, got `int`"
    ):
        read(tmp_path, format="labelme")
    (tmp_path / "data.yaml").write_text("names: [cat\ntrain: x")
    with pytest.raises(ValueError, match=r"data\.yaml: not a YAML file that can be read"):
        read(tmp_path)
