"""Every format: found by looking, read, written, and the same after both."""

import json
import shutil
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import hypothesis.strategies as st
import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
from data.reading import read_folder
from hypothesis import given, settings
from PIL import Image
from tiny import draw_image, read_split, train_tiny, write_tiny

from frcnn.config import DataSettings
from frcnn.data.dataset import SPLITS, open_dataset, read_annotations
from frcnn.data.discover import discover
from frcnn.data.formats import FORMATS, WRITABLE
from frcnn.data.problems import Problem
from frcnn.data.records import Record, make_record
from frcnn.tools.convert import WITH_IGNORE, convert_dataset, write_dataset

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
    """For each set, images with their objects: box, class, ignore."""
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
            ignore = np.array([mark for *_, mark in things], bool)
            sets.setdefault(name, []).append(record._replace(ignore=ignore))
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
    again, problems = read_folder(folder / "to")
    assert not problems
    assert not list(folder.glob(".*"))
    whole = all((record.boxes == record.boxes.round()).all() for records in sets.values() for record in records)
    for name, records in sets.items():
        expected, found = by_name(records), by_name(again[name])
        assert list(found) == list(expected) or form == "folders"  # images without objects come last there
        assert set(found) == set(expected)
        for image, record in found.items():
            np.testing.assert_allclose(record.boxes, expected[image].boxes, rtol=0, atol=0 if whole else 1e-3)
            assert record.class_names == expected[image].class_names
            ignore = expected[image].ignore
            np.testing.assert_array_equal(record.ignore, ignore & (form in WITH_IGNORE))
            assert record.image.read_bytes() == expected[image].image.read_bytes()
            assert record.size in (None, SIZE)


@pytest.mark.parametrize("form", WRITABLE)
def test_a_copy_opens_and_trains(form: str, tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    notes = convert_dataset(data, tmp_path / form, form, DataSettings()).notes
    assert not notes
    dataset, original = open_dataset(tmp_path / form, DataSettings()), open_dataset(data, DataSettings())
    assert dataset.classes == original.classes
    assert [record.image.name for record in dataset.train] == [record.image.name for record in original.train]
    run = train_tiny(tmp_path / form, tmp_path / "run", "train.epochs=1").run_dir
    assert (run / "model.safetensors").is_file()


@pytest.mark.parametrize("form", WRITABLE)
def test_a_copy_of_links_takes_no_room(form: str, tmp_path: Path) -> None:
    convert_dataset(write_tiny(tmp_path / "data"), tmp_path / form, form, DataSettings(), link=True)
    images = [record.image for record in open_dataset(tmp_path / form, DataSettings()).train]
    assert all(image.is_symlink() for image in images)


# ------------------------------------------------------------------------------------------------------------ convert


def test_a_conversion_is_whole_or_not_at_all(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    (data / "positive" / "3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"3\.png: not an image"):
        convert_dataset(data, tmp_path / "out", "coco", DataSettings())
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    (tmp_path / "out").mkdir()
    convert_dataset(data, tmp_path / "out", "coco", DataSettings())  # empty
    with pytest.raises(FileExistsError, match="out: exists and is not overwritten"):
        convert_dataset(data, tmp_path / "out", "csv", DataSettings())


def test_a_conversion_repairs_as_training_does(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    (data / "positive" / "1.bboxes.tsv").write_text("1 2 wide 4\n1 2 3 4\n")
    conversion = convert_dataset(data, tmp_path / "out", "coco", DataSettings())
    (note,) = conversion.notes
    assert "line 1: '1 2 wide 4' is not a box" in note
    assert conversion.objects == 11
    with pytest.raises(ValueError, match=r"line 1: '1 2 wide 4' is not a box(.|\n)*frcnn check"):
        convert_dataset(data, tmp_path / "strict", "coco", DataSettings(strict=True))


def test_names_that_are_taken_are_changed_and_told(tmp_path: Path) -> None:
    sets = {}
    for name in ("train", "test"):
        draw_image([]).save((tmp_path / name).with_suffix(".png"))
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.png").rename(tmp_path / name / "1.png")
        sets[name] = [make_record(tmp_path / name / "1.png", [([1, 2, 30, 40], "a")])]
    conversion = write_dataset(sets, tmp_path / "out", "pascal_voc")
    assert conversion.notes == [f"{tmp_path}/test/1.png: is written as test-1.png, because another image has its name"]
    assert [record.image.name for record in read_split(tmp_path / "out", "test", DataSettings())] == ["test-1.png"]


def test_what_a_format_cannot_hold_is_told_or_refused(tmp_path: Path) -> None:
    image = tmp_path / "1.png"
    draw_image([]).save(image)
    record = make_record(image, [([1, 2, 30, 40], "a")])
    lost = write_dataset({"train": [record._replace(ignore=np.array([True]))]}, tmp_path / "yolo", "yolo").notes
    assert lost == ["1 ignored objects become plain objects, because yolo cannot mark them"]
    small = write_dataset({"train": [make_record(image, [([1, 2, 2, 40], "a")])]}, tmp_path / "voc", "pascal_voc")
    assert small.notes == [
        f"{image}, object 1 ('a'): is left out, because it is only 1 pixels wide or high; Pascal VOC needs more than "
        "one"
    ]
    assert small.objects == 0
    for sets, form, message in (
        ({"val": [record]}, "map_files", r"to map_files: this format has no split 'val'; it has train and test"),
        ({"train": [make_record(image, [([1, 2, 30, 40], "a\n")])]}, "csv", r"class 'a\\n': a name with spaces"),
        (
            {"train": [record]},
            "labelme",
            r"to labelme: frcnn cannot write this format; choose one of folders",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            write_dataset(sets, tmp_path / "out", form)
        assert not (tmp_path / "out").exists()


def test_a_split_can_be_drawn_and_written(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    for file in (data / "testImages").iterdir():
        file.unlink()
    (data / "testImages").rmdir()
    conversion = convert_dataset(data, tmp_path / "coco", "coco", DataSettings(split=(0.6, 0.2, 0.2)))
    assert conversion.images == {"train": 3, "val": 1, "test": 1}
    written = open_dataset(tmp_path / "coco", DataSettings(val_split="val"))
    assert {name: len(written.records(name)) for name in SPLITS} == {"train": 3, "val": 1, "test": 1}


# ------------------------------------------------------------------------------------------------------------- formats


def images(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        draw_image([], seed=number).save(folder / name)


def read(folder: Path, split: str = "train", **changes: object) -> tuple[list[tuple], list[str]]:
    """Name, boxes and classes of each image; and what was reported."""
    problems: list[Problem] = []
    settings = DataSettings.model_validate(changes)
    records = read_annotations(discover(folder, settings), settings, problems.append, (split,))[split]
    return [(r.image.name, r.boxes.tolist(), r.class_names) for r in records], [str(problem) for problem in problems]


def test_a_format_can_be_named(tmp_path: Path) -> None:
    data = write_tiny(tmp_path)
    (tmp_path / "train.csv").write_text("path,x1,y1,x2,y2,label\npositive/1.png,10,14,50,59,cat\n")
    (note,) = discover(data, DataSettings()).notes
    assert note == "csv annotations of 1 of the same images (1 object; folders has 12); --format csv uses them"
    assert read(data, format="csv") == ([("1.png", [[10, 14, 50, 59]], ("cat",))], [])
    with pytest.raises(ValueError, match=r"is not coco \(COCO: .*\); it looks like folders and csv"):
        read(data, format="coco")
    with pytest.raises(ValueError, match=r"there is no format 'voc'; choose one of folders, map_files, "):
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
    convert_dataset(tmp_path, tmp_path / "coco", "coco", DataSettings(format="map_files"), link=True)
    assert len(open_dataset(tmp_path / "coco", DataSettings()).test) == 1
    shutil.rmtree(tmp_path / "coco")
    (tmp_path / "train_img_file.txt").write_text("0\tphotos.zip@/inside/b.png\t0\n")
    with pytest.raises(ValueError, match=r"inside/b\.png: no such image"):
        open_dataset(tmp_path, DataSettings())


# ------------------------------------------------------------------------------------ what goes wrong without a word


def three_sets(folder: Path) -> Path:
    rows = [f"{name}.png,1,2,30,40,cat,{name}" for name in ("train", "Valid", "test")]
    images(folder, "train.png", "Valid.png", "test.png")
    (folder / "all.csv").write_text("\n".join(["path,x1,y1,x2,y2,label,split", *rows]))
    return folder


def test_three_sets_stay_three(tmp_path: Path) -> None:
    convert_dataset(three_sets(tmp_path / "data"), tmp_path / "coco", "coco", DataSettings())
    for folder in ("data", "coco"):
        dataset = open_dataset(tmp_path / folder, DataSettings())
        assert [record.image.name for split in SPLITS for record in dataset.records(split)] == [
            "train.png",
            "Valid.png",
            "test.png",
        ]


def test_the_val_of_a_trainval_does_not_validate(tmp_path: Path) -> None:
    data = three_sets(tmp_path / "data")
    convert_dataset(data, tmp_path / "voc", "pascal_voc", DataSettings())
    sets = tmp_path / "voc" / "ImageSets" / "Main"
    (sets / "trainval.txt").write_text("train\nValid\n")
    assert [len(read(tmp_path / "voc", split)[0]) for split in ("train", "val", "test")] == [2, 0, 1]
    assert [len(read(tmp_path / "voc", split, train_split="train")[0]) for split in ("train", "test")] == [1, 1]


def test_files_of_no_split_are_one(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    for name in "ab":
        (tmp_path / f"part-{name}.csv").write_text(f"{name}.png,1,2,30,40,cat\n")
    assert [name for name, *_ in read(tmp_path)[0]] == ["a.png", "b.png"]


def test_splits_of_other_names_ask_for_one(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    rows = [f"{name}.png,1,2,30,40,cat,part-{name}" for name in "ab"]
    (tmp_path / "all.csv").write_text("\n".join(["path,x1,y1,x2,y2,label,split", *rows]))
    with pytest.raises(
        ValueError, match=r"has several splits part-a, part-b; choose the one to train on with data\.train_split"
    ):
        read(tmp_path)
    assert read(tmp_path, train_split="part-a")[0][0][0] == "a.png"


def test_nothing_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,x1,y1,x2,y2,label\n")
    for settings_ in (DataSettings(), DataSettings(split=(0.8, 0.1, 0.1))):
        with pytest.raises(ValueError, match="there are no images to write"):
            convert_dataset(tmp_path, tmp_path / "out", "coco", settings_)


def test_boxes_in_negative_and_two_images_of_one_name(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    convert_dataset(data, tmp_path / "voc", "pascal_voc", DataSettings())
    (data / "negative" / "6.bboxes.tsv").write_text("1 2 30 40\n")
    assert "images in negative/ must not have objects" in read(data)[1][0]
    draw_image([]).save(tmp_path / "voc" / "JPEGImages" / "0.jpg")
    assert next(name for name, *_ in read(tmp_path / "voc")[0]) == "0.png"  # its XML names it


@pytest.mark.parametrize("size", [(1, 1), (5, 50), (7, 7)])
def test_images_of_a_few_pixels_are_images(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "1.jpg")
    (tmp_path / "train.csv").write_text(f"1.jpg,0,0,{size[0]},{size[1]},cat\n")
    assert len(open_dataset(tmp_path, DataSettings()).train) == 1


# ---------------------------------------------------------------------------------------- what other programs write


def test_paths_with_backslashes_in_map_files(tmp_path: Path) -> None:
    images(tmp_path, "photos/a.png")
    (tmp_path / "class_map.txt").write_text("__background__\t0\ncat\t1\n")
    (tmp_path / "train_img_file.txt").write_text("0\tphotos\\a.png\t0\n")
    (tmp_path / "train_roi_file.txt").write_text("0 |roiAndLabel 1 2 30 40 1\n")
    assert read(tmp_path)[0][0][0] == "a.png"
    assert open_dataset(tmp_path, DataSettings()).train[0].image == tmp_path / "photos" / "a.png"


@pytest.mark.parametrize("form", ["folders", "yolo"])
def test_two_images_with_one_annotation_are_an_error(form: str, tmp_path: Path) -> None:
    convert_dataset(write_tiny(tmp_path / "data"), tmp_path / form, form, DataSettings())
    first = open_dataset(tmp_path / form, DataSettings()).train[0].image
    Image.new("RGB", SIZE[::-1]).save(first.with_suffix(".jpg"))
    if form == "yolo":
        with (tmp_path / form / "train.txt").open("a") as rows:
            rows.write(f"./images/train/{first.stem}.jpg\n")
    with pytest.raises(
        ValueError, match=rf"has the name of {first.stem}\.(png|jpg), so both would have one annotation"
    ):
        open_dataset(tmp_path / form, DataSettings())


def test_what_is_not_converted_is_said(tmp_path: Path) -> None:
    images(tmp_path, "images/a.png", "images/b.png")
    rows = ["path,x1,y1,x2,y2,label,split", "a.png,1,2,30,40,cat,train", "b.png,1,2,30,40,cat,spare"]
    (tmp_path / "all.csv").write_text("\n".join(rows))
    notes = convert_dataset(tmp_path, tmp_path / "out", "coco", DataSettings()).notes
    assert notes == [
        "not used: the split 'spare' (all.csv); data.train_split, data.val_split or data.test_split=spare uses it"
    ]


def test_a_format_that_is_asked_for_says_what_it_stumbles_over(tmp_path: Path) -> None:
    images(tmp_path, "a.png")
    (tmp_path / "a.json").write_text('{"shapes": [{"points": 1}], "imagePath": "a.png"}')
    with pytest.raises(
        ValueError, match=r"1 of 1 objects would be left out \(invalid object: 1\).*\n.*a\.json, object 1"
    ):
        open_dataset(tmp_path, DataSettings())
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no annotation file has a known format \(found: 1 \.json file in the folder"):
        read(tmp_path)
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(ValueError, match=r"is not coco .*; it looks like yolo"):
        read(tmp_path, format="coco")


HUGE = "1" + "0" * 400
COCO = (
    '{"images": [{"id": 1, "file_name": "a.png", "width": %s, "height": 96}], '
    '"categories": [{"id": 1, "name": "cat"}], "annotations": [{"image_id": 1, "category_id": 1, "bbox": %s}]}'
)
STUDIO = '[{"data": {"image": "a.png"}, "annotations": %s}]'
SHAPE = (
    '[{"result": [{"original_width": %s, "original_height": 96, "value": '
    '{"x": 1, "y": 1, "width": 9, "height": 9, "rotation": %s, "rectanglelabels": ["cat"]}}]}]'
)
OBJECT = "<annotation><object><name>cat</name>%s</object></annotation>"
ROTATED = OBJECT % "<robndbox><cx>9</cx><cy>9</cy><w>9</w><h>9</h><angle>inf</angle></robndbox>"
HUGE_BOX = OBJECT % "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>1e300</xmax><ymax>9</ymax></bndbox>"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("boxes.json", COCO % (HUGE, "[1, 1, 9, 9]")),
        ("boxes.json", COCO % (128, f"[1, 1, {HUGE}, 9]")),
        ("boxes.json", COCO % (128, f'["1", 1, {HUGE}, 9]')),
        ("boxes.json", COCO % (128, "[1, 1, 1e300, 9]")),
        ("boxes.json", COCO % (128, "[1e308, 1, 1e308, 9]")),
        ("tasks.json", STUDIO % '[]}, {"annotations": 0.5'),
        ("tasks.json", STUDIO % '[{"result": 0.5}]'),
        ("tasks.json", STUDIO % SHAPE % ("Infinity", 0)),
        ("tasks.json", STUDIO % SHAPE % ("NaN", 0)),
        ("tasks.json", STUDIO % SHAPE % (1e12, 0)),
        ("tasks.json", STUDIO % SHAPE % (128, "Infinity")),
        ("a.xml", ROTATED),
        ("a.xml", HUGE_BOX),
        ("boxes.csv", "path,x1,y1,x2,y2,label\na.png,1,1,1e300,9,cat\n"),
    ],
)
def test_numbers_that_are_too_large_are_an_error_of_a_file_at_most(name: str, text: str, tmp_path: Path) -> None:
    """Boxes that are not finite are a problem that every format has; a size that is none is not used."""
    images(tmp_path, "a.png")
    (tmp_path / name).write_text(text)
    try:
        splits, _ = read_folder(tmp_path)
    except ValueError as error:
        assert name in str(error)  # noqa: PT017
    else:
        assert all(record.size in (None, (96, 128)) for records in splits.values() for record in records)


def test_images_inside_of_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/cats.tfrecord").write_bytes(b"x")
    (tmp_path / "train/images.zip").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"frcnn does not read \.tfrecord, \.zip: unpack the images, or export them"):
        discover(tmp_path, DataSettings())


def test_two_formats_with_many_boxes_of_one_image_fit_into_the_memory(tmp_path: Path) -> None:
    images(tmp_path, "a.png")
    lines = [f"a.png,{number / 100},1,{number / 100 + 9},9,cat" for number in range(4000)]
    (tmp_path / "boxes.csv").write_text("\n".join(["path,x1,y1,x2,y2,label", *lines]))
    boxes = [{"id": n, "image_id": 1, "category_id": 1, "bbox": [n / 100, 50, 9, 8]} for n in range(4000)]
    content = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "boxes.json").write_text(json.dumps({**content, "annotations": boxes}))
    tracemalloc.start()
    try:
        with pytest.raises(
            ValueError, match=r"two formats for the same images, .* with different boxes: (\d+) of \1 obj"
        ):
            discover(tmp_path, DataSettings())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50_000_000  # all pairs at once take eight times as much


def test_an_empty_first_file_does_not_hide_the_others(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    (tmp_path / "a.xml").write_bytes(b"")
    (tmp_path / "b.xml").write_text(HUGE_BOX.replace("1e300", "30"))
    found = discover(tmp_path, DataSettings())
    assert found.format == "pascal_voc"
    assert found.notes == ["1 file without annotations that frcnn recognizes (a.xml)"]
    assert read(tmp_path)[0] == [("b.png", [[0, 0, 30, 9]], ("cat",))]


@pytest.mark.parametrize("first", ["x" * 200_000, "image,boxes\n" + "x" * 200_000])
def test_a_table_with_a_long_line_beside_the_data_is_named(first: str, tmp_path: Path) -> None:
    images(tmp_path, "a.png")
    (tmp_path / "a_first.csv").write_text(f"{first}\n1\n")
    (tmp_path / "boxes.csv").write_text("path,x1,y1,x2,y2,label\na.png,1,2,30,40,cat\n")
    found = discover(tmp_path, DataSettings())
    assert found.format == "csv"
    assert found.notes == ["1 file without annotations that frcnn recognizes (a_first.csv)"]
    assert read(tmp_path) == ([("a.png", [[1, 2, 30, 40]], ("cat",))], [])
