"""A folder becomes a data set: its format is recognized, its classes are collected."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from tiny import draw_image, tiny_config, train_tiny, write_annotated, write_tiny

from frcnn.config import DataSettings
from frcnn.data import images
from frcnn.data.dataset import Dataset, open_dataset
from frcnn.data.discover import discover
from frcnn.data.loader import load_batch
from frcnn.evaluation.evaluate import known_objects
from frcnn.tools.convert import convert_dataset


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


def two_formats(folder: Path) -> None:
    write_tiny(folder)
    write_annotated(folder / "more" / "9.png", [("red", (10, 10, 50, 50))])
    (folder / "more" / "9.csv").write_text("path,x1,y1,x2,y2,label\nmore/9.png,1,2,30,40,red\n")
    for file in (folder / "more").glob("*.tsv"):
        file.unlink()


def negatives_only(folder: Path) -> None:
    write_tiny(folder)
    for file in (folder / "positive").glob("*.tsv"):
        file.write_text("")


def text_for_an_image(folder: Path) -> None:
    write_tiny(folder)
    (folder / "negative" / "6.png").write_text("hello")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, r"data: no such folder of data"),
        (empty, r"data: the folder is empty; likely layouts: coco: .*; or yolo: .*; or pascal_voc: .* also reads"),
        (
            unknown,
            r"data: the folder has no images \(found: 1 \.zip file in the folder itself\); frcnn does not read \.zip: ",
        ),
        (
            two_formats,
            r"data: has annotations in two formats for different images: .*; choose one with --format \(data\.format\) "
            r"or name its file: `frcnn train .*data/more/9\.csv` or `frcnn train .*data --format folders`",
        ),
        (negatives_only, r"data: no training image has an object"),
        (
            text_for_an_image,
            r"data: 1 of 7 images would be left out .*--force .*\n.*6\.png: not an image in a format that frcnn reads",
        ),
    ],
)
def test_a_folder_that_cannot_be_learned_from_stops_training_before_anything_is_written(
    tmp_path: Path, make: object, message: str
) -> None:
    make(tmp_path / "data")  # type: ignore[operator]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train_tiny(tmp_path / "data", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_class_that_only_test_images_have_is_left_out_of_the_evaluation(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path)
    (folder / "testImages" / "5.bboxes.labels.tsv").write_text("red\ngreen\n")
    dataset = open_dataset(folder, DataSettings())
    assert [(problem.kind, problem.level) for problem in dataset.problems] == [("class never trained", "warning")]
    message = (
        "class 'green' is not among the training classes, so the evaluation leaves out 1 object of it in the split"
    )
    assert message in str(dataset.problems[0])
    with pytest.warns(UserWarning, match=r"left out, because the model does not know the class: 'green' \(1 object\)"):
        assert "green" not in known_objects(dataset.test, dataset.classes).class_counts


def test_a_file_names_its_folder(tmp_path: Path) -> None:
    write_annotated(tmp_path / "images" / "1.png", [("red", (10, 10, 50, 50))])
    for name in ("one", "two"):
        file = tmp_path / "annotations" / f"{name}.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text("path,x1,y1,x2,y2,label\n1.png,1,2,30,40,red\n")
    dataset = open_dataset(tmp_path / "annotations" / "two.csv", DataSettings(format="csv"))
    assert dataset.train[0].boxes.tolist() == [[1, 2, 30, 40]]
    assert dataset.discovery.sources[0].files == (tmp_path / "annotations" / "two.csv",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("data", "is neither a folder nor an annotation file; name the folder of the data set"),
        ("data.zip", "is an archive; unpack it and name the folder that comes out"),
    ],
)
def test_other_files_in_place_of_the_folder_are_named(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("hello")
    with pytest.raises(ValueError, match=message):
        open_dataset(tmp_path / name, DataSettings())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"3 of 12 objects would be left out \(invalid object: 3\)"),
        ({"strict": True}, r"0\.bboxes\.tsv, line 1: '1 2 3' is not a box"),
        ({"force": True}, None),
    ],
)
def test_strict_and_force(settings: dict[str, bool], message: str | None, tmp_path: Path) -> None:
    folder = write_tiny(tmp_path)
    for number in range(3):
        boxes = folder / "positive" / f"{number}.bboxes.tsv"
        boxes.write_text("1 2 3\n" + boxes.read_text().split("\n", 1)[1])
    if message is not None:
        with pytest.raises(ValueError, match=message):
            open_dataset(folder, DataSettings(**settings))
        return
    dataset = open_dataset(folder, DataSettings(**settings))
    assert [problem.kind for problem in dataset.problems] == ["invalid object"] * 3
    report = json.loads(dataset.report())
    assert report["counts"] == [{"level": "left out", "kind": "invalid object", "count": 3}]
    assert str(folder) not in dataset.report()


def test_strict_stops_at_damage_only(tmp_path: Path) -> None:
    """Points are no objects, and an image without annotation loses none. A box outside the image is damage."""
    for number in range(3):
        draw_image([], seed=number).save(tmp_path / f"{number}.png")
    shapes = [
        {"label": "red", "points": [[1, 2], [40, 50]], "shape_type": "rectangle"},
        {"label": "red", "points": [[9, 9]], "shape_type": "point"},
    ]
    for number in range(2):
        (tmp_path / f"{number}.json").write_text(json.dumps({"shapes": shapes, "imagePath": f"{number}.png"}))
    dataset = open_dataset(tmp_path, DataSettings(strict=True))
    assert Counter((problem.kind, problem.level) for problem in dataset.problems) == {
        ("shape without box", "warning"): 1,
        ("image without annotation", "warning"): 1,
    }
    shapes[0]["points"] = [[1, 2], [129, 50]]
    (tmp_path / "0.json").write_text(json.dumps({"shapes": shapes, "imagePath": "0.png"}))
    assert len(open_dataset(tmp_path, DataSettings()).train) == 2
    with pytest.raises(ValueError, match=r"0\.png, object 1 \('red'\): box .* leaves the image"):
        open_dataset(tmp_path, DataSettings(strict=True))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image was opened."""
    counts: Counter[str] = Counter()

    def count(path: Path, in_archive=images._in_archive) -> tuple[Path, str | None]:
        counts[path.name] += 1
        return in_archive(path)

    monkeypatch.setattr(images, "_in_archive", count)
    return counts


def test_a_split_is_read_and_verified_once_and_only_if_it_is_used(tmp_path: Path, opened: Counter[str]) -> None:
    dataset = open_dataset(write_tiny(tmp_path), DataSettings(), ("test",))
    assert set(opened) == {"4.png", "5.png"}
    once = opened["4.png"]
    assert (len(dataset.test), len(dataset.train), len(dataset.train)) == (2, 5, 5)
    assert dataset.fingerprint() == open_dataset(tmp_path, DataSettings()).fingerprint()
    assert len(opened) == 7
    assert set(opened.values()) == {2 * once}  # by both data sets


def test_a_drawn_split_is_drawn_once(tmp_path: Path, opened: Counter[str]) -> None:
    for number in range(10):
        write_annotated(tmp_path / f"{number}.png", [("red", (10 * number, 10, 10 * number + 30, 90))], seed=number)
    settings = DataSettings(split=(0.6, 0.2, 0.2))
    open_dataset(tmp_path, settings)
    once = dict(opened)
    opened.clear()
    dataset = open_dataset(tmp_path, settings, ("test",))
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (6, 2, 2)
    assert dataset.classes == ("red",)
    assert dict(opened) == once


def test_the_images_to_validate_on_are_chosen_once(tmp_path: Path) -> None:
    dataset = open_dataset(write_tiny(tmp_path), DataSettings())
    val = dataset.test.take([0, 1])
    replaced = dataset.replace(train=dataset.train.of_classes({"red"}), val=val)
    replaced._classes = ("red",)
    assert replaced.val is replaced.val
    assert set(replaced.val.class_counts) == {"red"}
    assert replaced.replace(val=val[:1]).val.paths == val[:1].paths
    assert replaced.records("val") is val


def test_splits_can_be_replaced(tmp_path: Path) -> None:
    dataset = open_dataset(write_tiny(tmp_path), DataSettings())
    smaller = dataset.replace(train=dataset.train[:2])
    assert (len(smaller.train), len(smaller.test), len(dataset.train)) == (2, 2, 5)
    assert smaller.fingerprint() != dataset.fingerprint()


def test_an_error_is_raised_each_time_a_split_is_used(tmp_path: Path) -> None:
    dataset = open_dataset(write_tiny(tmp_path), DataSettings(), ())
    boxes = tmp_path / "positive" / "0.bboxes.tsv"
    boxes.write_text("1 2 3\n1 2 3 4\n")
    for _ in range(2):
        with pytest.raises(ValueError, match="is not a box"):
            len(dataset.train)
    assert len(dataset.test) == 2


def test_classes_of_ignored_objects_alone_are_not_learned(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "data")
    convert_dataset(folder, tmp_path / "csv", "csv", DataSettings())
    with (tmp_path / "csv" / "train.csv").open("a") as file:
        file.write("images/0.png,50,50,90,90,DontCare,1\n")
    with (tmp_path / "csv" / "test.csv").open("a") as file:
        file.write("images/4.png,50,50,90,90,DontCare,1\n")
    dataset = open_dataset(tmp_path / "csv", DataSettings())
    assert dataset.classes == ("blue", "red")
    assert not dataset.problems
    record = dataset.train[0]
    batch = load_batch([record], dataset.classes, tiny_config().detector.resizing)
    assert batch.targets[0].labels.tolist()[-1] == -1
    assert batch.targets[0].ignore.tolist()[-1]
    with pytest.raises(KeyError, match="red"):
        load_batch([record], ("blue",), tiny_config().detector.resizing)
    assert len(known_objects(dataset.test, dataset.classes)) == 2
    result = train_tiny(tmp_path / "csv", tmp_path / "run", "train.epochs=1")
    assert result.metrics is not None


def write_boxes(file: Path, *rows: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(("path,x1,y1,x2,y2,label", *rows)) + "\n")


def test_a_missing_image_is_not_replaced_by_that_of_another_split(tmp_path: Path) -> None:
    for number in range(12):
        draw_image([], seed=number).save(mkdir(tmp_path / "train") / f"{number}.png")
        if number != 3:
            draw_image([], seed=50 + number).save(mkdir(tmp_path / "val") / f"{number}.png")
    for split in ("train", "val"):
        rows = [f"{number}.png,1,2,30,{40 + (split == 'val')},red" for number in range(12)]
        write_boxes(tmp_path / f"{split}.csv", *rows)
    dataset = open_dataset(tmp_path, DataSettings())
    assert (len(dataset.train), len(dataset.test)) == (12, 11)
    assert {record.image.parent.name for record in dataset.test} == {"val"}
    (problem,) = [problem for problem in dataset.problems if problem.images]
    assert str(problem).endswith(
        "train/3.png: belongs to the split 'train'; the image of the split 'val' seems to be missing"
    )
    assert len(open_dataset(tmp_path, DataSettings(), ("test",)).test) == 11


@pytest.mark.parametrize(("x2", "level"), [(30, "warning"), (31, "error")])
def test_an_image_that_is_annotated_twice(x2: int, level: str, tmp_path: Path) -> None:
    for number in range(3):
        draw_image([], seed=number).save(tmp_path / f"{number}.png")
    for name, numbers in (("a", (0, 1)), ("b", (1, 2))):
        annotations = [
            {
                "image": f"{number}.png",
                "annotations": [
                    {"label": "red", "coordinates": {"x": 20, "y": 20, "width": x2 if name == "b" else 30, "height": 9}}
                ],
            }
            for number in numbers
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(annotations))
    dataset = Dataset(tmp_path, DataSettings())
    if level == "error":
        message = (
            r"1\.png: is annotated twice in a\.json, b\.json; the annotations differ; .*: `frcnn train .*/a\.json`"
        )
        with pytest.raises(ValueError, match=message):
            dataset.verify()
        return
    assert len(dataset.train) == 3
    assert [(problem.kind, problem.level) for problem in dataset.problems] == [("image annotated twice", "warning")]


@pytest.mark.parametrize(("x1", "level"), [(1, None), (2, "error")])
def test_json_files_that_contradict_each_other(x1: int, level: str | None, tmp_path: Path) -> None:
    draw_image([]).save(tmp_path / "1.png")
    for name, left in (("a", 1), ("b", x1)):
        content = [{"filename": "1.png", "objects": [{"class": "red", "bbox": [left, 2, 30, 40]}]}]
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    dataset = Dataset(tmp_path, DataSettings())
    if level is None:
        assert len(dataset.train) == 1
        assert dataset.problems == ()
        return
    with pytest.raises(ValueError, match=r"1\.png: is annotated twice in a\.json, b\.json; the annotations differ"):
        dataset.verify()


def test_a_command_in_a_message_can_be_typed(tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    folder.mkdir()
    draw_image([]).save(folder / "1.png")
    coco = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "categories": [{"id": 1, "name": "red"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40]}],
    }
    for name in ("a", "b"):
        (folder / f"{name}.json").write_text(json.dumps(coco))
    with pytest.raises(ValueError, match=r"or name the file to use: `frcnn train '.*/my photos/a\.json'`") as error:
        open_dataset(folder, DataSettings())
    assert str(error.value).count("1.png") == 1  # that the image is annotated twice follows from it
    assert len(open_dataset(folder / "a.json", DataSettings()).train) == 1


def test_objects_of_a_file_that_repeats_the_splits_count_once(tmp_path: Path) -> None:
    for number in range(4):
        draw_image([], seed=number).save(tmp_path / f"{number}.png")
        write_voc(tmp_path, str(number), (1, 2, 30, 40))
    rows = [f"{number}.png,1,2,30,40,red" for number in range(4)]
    write_boxes(tmp_path / "labels.csv", *rows)
    write_boxes(tmp_path / "train.csv", *rows[:2])
    write_boxes(tmp_path / "test.csv", *rows[2:])
    (note,) = discover(tmp_path, DataSettings()).notes
    assert note.startswith("pascal_voc annotations of 4 of the same images (4 objects; csv has 4)")


def test_a_broken_file_of_another_format_does_not_stop(tmp_path: Path) -> None:
    draw_image([]).save(tmp_path / "1.png")
    write_boxes(tmp_path / "train.csv", "1.png,1,2,30,40,red")
    (tmp_path / "data.yaml").write_text("names:\n\t- red\ntrain: images\n")
    dataset = open_dataset(tmp_path, DataSettings())
    assert len(dataset.train) == 1
    assert any("data.yaml" in note for note in dataset.discovery.notes)


def mkdir(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_voc(folder: Path, name: str, *boxes: tuple[int, ...]) -> None:
    objects = "".join(
        f"<object><name>red</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        f"</bndbox></object>"
        for x1, y1, x2, y2 in boxes
    )
    (folder / f"{name}.xml").write_text(f"<annotation><filename>{name}.png</filename>{objects}</annotation>")


BOXES = [(10, 10, 50, 50), (60, 10, 90, 40)]
MOVED = [(10, 50, 50, 90), (90, 50, 120, 80)]


SAME = "csv annotations of {} of the same images"


@pytest.mark.parametrize(
    ("shared", "boxes", "own", "chosen", "says"),
    [
        (20, BOXES, 0, "pascal_voc", rf"{SAME.format(20)} \(40 objects; pascal_voc has 40\); --format csv uses them"),
        (20, BOXES[:1], 0, "pascal_voc", SAME.format(20)),
        (20, [*BOXES, *MOVED], 0, "csv", r"pascal_voc annotations of 20 of the same images \(40 objects; csv has 80\)"),
        (9, BOXES, 0, "pascal_voc", SAME.format(9)),
        (20, [BOXES[0], MOVED[1]], 0, "pascal_voc", SAME.format(20)),
        (9, BOXES, 1, "pascal_voc", f"{SAME.format(9)} and of 1 image without objects in pascal_voc"),
        (1, MOVED, 0, "pascal_voc", SAME.format(1)),
        (
            2,
            MOVED,
            0,
            None,
            r"same images, pascal_voc and csv, with different boxes: 4 of 4 objects have no box",
        ),
        (20, MOVED, 0, None, r"40 of 40 objects have no box in the other format .* --format"),
        (20, MOVED[:1], 0, None, r"20 of 20 objects have no box in the other format"),
        (
            0,
            BOXES,
            2,
            None,
            r"formats for different images: pascal_voc for 20 images, csv for 2, 0 of them the same",
        ),
    ],
)
def test_two_formats(
    shared: int, boxes: list[tuple[int, ...]], own: int, chosen: str | None, says: str, tmp_path: Path
) -> None:
    """The one that says more is chosen. Only a contradiction asks."""
    for number in range(20 + own):
        draw_image([], seed=number).save(tmp_path / f"{number}.png")
        if number < 20:
            write_voc(tmp_path, str(number), *BOXES)
    in_csv = [*range(shared), *range(20, 20 + own)]
    write_boxes(tmp_path / "train.csv", *(f"{n}.png,{','.join(map(str, box))},red" for n in in_csv for box in boxes))
    if chosen is None:
        with pytest.raises(ValueError, match=says):
            discover(tmp_path, DataSettings())
        return
    found = discover(tmp_path, DataSettings())
    assert found.format == chosen
    assert any(re.match(says, note) for note in found.notes)


@pytest.mark.parametrize("name", ["test", "val", "instances_val2017"])
def test_the_only_split_is_trained_on_whatever_its_name(name: str, tmp_path: Path) -> None:
    for number in range(3):
        draw_image([], seed=number).save(tmp_path / f"{number}.png")
    write_boxes(tmp_path / f"{name}.csv", *(f"{number}.png,1,2,30,40,red" for number in range(3)))
    dataset = open_dataset(tmp_path, DataSettings())
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (3, 0, 0)
    assert f"splits: train ({name.removeprefix('instances_')}) 3 images, 3 objects" in dataset.summary()


def test_the_summary_names_what_is_left_aside(tmp_path: Path) -> None:
    """A class has the name of a split; a file has no annotations that frcnn knows."""
    for number, folder in enumerate(("train", "bus", "bus", "car")):
        draw_image([], seed=number).save(mkdir(tmp_path / folder) / f"{number}.png")
        write_voc(tmp_path / folder, str(number), *BOXES)
    (tmp_path / "boxes.json").write_text('{"shapes": "all"}')
    dataset = open_dataset(tmp_path, DataSettings())
    assert dataset.summary().split("\n") == [
        "format: pascal_voc",
        "annotations: bus/, car/, train/",
        "splits: train 1 image, 2 objects",
        "not used: annotations outside of the splits (bus/1.xml, ...); data.train_split, data.val_split or "
        "data.test_split=all uses it",
        "not used: 1 file without annotations that frcnn recognizes (boxes.json)",
    ]
    assert json.loads(dataset.report())["left_aside"] == [
        line.removeprefix("not used: ") for line in dataset.summary().split("\n")[3:]
    ]
