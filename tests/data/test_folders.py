"""The folders of CNTK's tutorial: what is read, and one clear error for each thing that is wrong."""

import time
from pathlib import Path

import numpy as np
import pytest
from reading import read_folder
from tiny import draw_image, read_split, train_tiny, write_annotated, write_tiny

from frcnn.config import DataSettings
from frcnn.data.records import Record
from frcnn.tools.check.check import check

TSV = "positive/1.bboxes.tsv"
LABELS = "positive/1.bboxes.labels.tsv"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "data")


def read(data: Path, split: str = "train", **settings: object) -> list[Record]:
    return read_split(data, split, DataSettings.model_validate(settings))


def test_training_images_are_those_of_positive_then_of_negative(data: Path) -> None:
    records = read(data)
    assert [record.image for record in records] == [
        *(data / "positive" / f"{number}.png" for number in range(4)),
        data / "negative" / "6.png",
    ]
    assert [record.class_names for record in records] == [("red", "blue")] * 4 + [()]
    np.testing.assert_array_equal(records[1].boxes, [[10, 14, 50, 58], [58, 43, 98, 75]])
    assert records[1].boxes.dtype == np.float32
    assert records[4].boxes.shape == (0, 4)
    assert not any(record.ignore.any() for record in records)


def test_test_images_are_those_of_test_images(data: Path) -> None:
    assert [record.image for record in read(data, "test")] == [data / "testImages" / f"{n}.png" for n in (4, 5)]


def test_a_folder_without_test_images_or_negatives_has_none(tmp_path: Path) -> None:
    write_annotated(tmp_path / "positive" / "1.png", [("red", (10, 10, 50, 50))])
    assert not read(tmp_path, "test")
    assert len(read(tmp_path)) == 1


def test_negatives_can_be_left_out(data: Path) -> None:
    assert len(read(data, use_negative=False)) == 4


def test_the_first_images_can_be_asked_for(data: Path) -> None:
    assert [record.image.name for record in read(data, num_train_images=2)] == ["0.png", "1.png"]
    assert [record.image.name for record in read(data, "test", num_test_images=1)] == ["4.png"]


def test_numbered_images_are_in_order_of_number(tmp_path: Path) -> None:
    for number in (10, 9, 2):
        write_annotated(tmp_path / "positive" / f"{number}.png", [("red", (10, 10, 50, 50))])
    assert [record.image.stem for record in read(tmp_path)] == ["2", "9", "10"]


def test_other_files_and_hidden_suffix_cases_do_not_disturb(data: Path) -> None:
    (data / "positive" / "notes.txt").write_text("hello")
    (data / "positive" / "1.png").rename(data / "positive" / "1.PNG")
    assert [record.image.name for record in read(data)][:4] == ["0.png", "1.PNG", "2.png", "3.png"]


@pytest.mark.parametrize(
    "text", ["10\t14\t50\t58\r\n\r\n58\t43\t98\t75\r\n\r\n", "\ufeff10 14 50 58\n58.0  43e0 98 75"], ids=["crlf", "bom"]
)
def test_what_other_programs_write_is_read_too(data: Path, text: str) -> None:
    (data / TSV).write_bytes(text.encode())
    np.testing.assert_array_equal(read(data)[1].boxes, [[10, 14, 50, 58], [58, 43, 98, 75]])


def test_class_names_may_hold_any_letters(data: Path) -> None:
    (data / LABELS).write_text("rote Grütze\n橙\n", encoding="utf-8")
    assert read(data)[1].class_names == ("rote Grütze", "橙")


def test_an_annotated_image_may_hold_no_objects(data: Path) -> None:
    (data / TSV).write_text("")
    (data / LABELS).write_text("")
    assert read(data)[1].class_names == ()


BAD_FILES = {
    "missing boxes": (TSV, None, r"positive/1\.png: 1\.bboxes\.tsv is missing; there must"),
    "missing labels": (LABELS, None, r"positive/1\.png: 1\.bboxes\.labels\.tsv is missing; there must"),
    "too few labels": (LABELS, "red\n", r"1\.bboxes\.tsv: has 2 boxes, but 1\.bboxes\.labels\.tsv has 1 label; there"),
    "too few boxes": (TSV, "1 2 30 40\n", r"1\.bboxes\.tsv: has 1 box, but 1\.bboxes\.labels\.tsv has 2 labels"),
    "text": (TSV, "1 2 30 40\n1 2 wide 40\n", r"1\.bboxes\.tsv, line 2: '1 2 wide 40' is not a box; four numbers"),
    "three numbers": (
        TSV,
        "1 2 30\n5 5 50 50\n",
        r"1\.bboxes\.tsv, line 1: '1 2 30' is not a box; four numbers are needed",
    ),
    "not UTF-8": (LABELS, b"red\nbl\xfce\n", r"1\.bboxes\.labels\.tsv, line 2, column 3: not UTF-8 text .*: 'bl.e'"),
}
BAD_BOXES = {
    "NaN": ("nan 2 30 40", r"box \(nan, 2, 30, 40\) is not finite"),
    "infinite": ("1 2 inf 40", r"box \(1, 2, inf, 40\) is not finite"),
    "inverted x": ("30 2 1 40", r"the corners of box \(30, 2, 1, 40\) are in the wrong order"),
    "inverted y": ("1 40 30 2", r"the corners of box \(1, 40, 30, 2\) are in the wrong order"),
    "no width": ("30 2 30 40", r"box \(30, 2, 30, 40\) has no area"),
    "no height": ("1 40 30 40", r"box \(1, 40, 30, 40\) has no area"),
    "left of the image": ("-1 2 30 40", r"box \(-1, 2, 30, 40\) leaves the image \(128 x 96 pixels\)"),
    "above the image": ("1 -0.5 30 40", r".* leaves the image \(128 x 96 pixels\)"),
    "right of the image": ("1 2 128.5 40", r".* leaves the image \(128 x 96 pixels\)"),
    "below the image": ("1 2 30 97", r".* leaves the image \(128 x 96 pixels\)"),
}


@pytest.mark.parametrize(("file", "content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_annotation_file_stops_training_before_anything_is_written(
    data: Path, file: str, content: str | bytes | None, message: str
) -> None:
    (data / file).unlink()
    if content is not None:
        (data / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        train_tiny(data, data.parent / "run", "data.strict=true")
    assert not (data.parent / "run").exists()


@pytest.mark.parametrize("part", ["positive/1", "testImages/4"])
@pytest.mark.parametrize(("box", "message"), BAD_BOXES.values(), ids=BAD_BOXES)
def test_an_impossible_box_is_named(data: Path, part: str, box: str, message: str) -> None:
    (data / f"{part}.bboxes.tsv").write_text(f"1 2 30 40\n{box}\n")
    with pytest.raises(ValueError, match=rf"{part}\.png, object 2 \('blue'\): {message}"):
        read(data, "train" if part.startswith("positive") else "test", strict=True)


@pytest.mark.parametrize("box", ["0 0 128 96", "127 95 128 96"])
def test_a_box_may_reach_the_border(data: Path, box: str) -> None:
    (data / TSV).write_text(f"1 2 30 40\n{box}\n")
    assert len(read(data)) == 5


def test_boxes_are_in_pixels_of_the_turned_image(tmp_path: Path) -> None:
    """A portrait photo is stored lying down, with a tag; its annotations are of what a person sees."""
    image = tmp_path / "positive" / "1.png"
    write_annotated(image, [("red", (1, 2, 90, 120))])
    with pytest.raises(ValueError, match=r"128 x 96 pixels"):
        read(tmp_path, strict=True)
    turned = draw_image([])
    turned.getexif()[0x0112] = 6
    turned.save(image, exif=turned.getexif())
    assert len(read(tmp_path, strict=True)) == 1


def test_every_bad_object_is_named_at_once(data: Path) -> None:
    (data / TSV).write_text("30 2 1 40\n1 2 300 40\n")
    (data / "positive" / "2.png").write_text("no image")
    with pytest.raises(ValueError, match="object 1") as error:
        read(data, strict=True)
    lines = str(error.value).splitlines()
    assert [line.split(":")[0].removeprefix(f"{data}/positive/") for line in lines[:-1]] == [
        "1.png, object 1 ('red')",
        "1.png, object 2 ('blue')",
        "2.png",
    ]


def test_of_many_bad_objects_the_first_ten_are_named(data: Path) -> None:
    (data / TSV).write_text("1 2 300 40\n" * 30)
    (data / LABELS).write_text("red\n" * 30)
    with pytest.raises(ValueError, match="and 20 more") as error:
        read(data, strict=True)
    assert len(str(error.value).splitlines()) == 12  # and the way out


def test_more_boxes_than_allowed_are_named(data: Path) -> None:
    assert len(read(data, max_boxes=2)) == 5
    with pytest.raises(ValueError, match=r"positive/0\.png: has 2 boxes, but data\.max_boxes allows 1; raise it"):
        read(data, max_boxes=1)


def test_an_image_with_too_many_boxes_is_soon_an_error(data: Path) -> None:
    """Comparing each with each other, or with all anchors, would take hours, or hundreds of gigabytes."""
    (data / TSV).write_text("1 2 30 40\n" * 50_000)
    (data / LABELS).write_text("red\n" * 50_000)
    start = time.process_time()
    with pytest.raises(ValueError, match=r"has 50000 boxes, but data\.max_boxes allows 20000; raise it"):
        read(data)
    assert [problem.kind for problem in check(data).errors] == ["too many boxes"]
    assert time.process_time() - start < 20


def test_boxes_in_negative_are_an_error(data: Path) -> None:
    (data / "negative" / "6.bboxes.tsv").write_text("1 2 30 40\n")
    with pytest.raises(ValueError, match=r"negative/6\.png: has boxes, but images in negative/ must not have objects"):
        read(data)


def test_boxes_without_an_image_are_left_out(data: Path) -> None:
    (data / "positive" / "1.png").unlink()
    splits, problems = read_folder(data)
    assert [record.image.stem for record in splits["train"]] == ["0", "2", "3", "6"]
    assert [(problem.kind, problem.level, problem.images, problem.objects) for problem in problems] == [
        ("missing image", "left out", 1, 2)
    ]


def test_folders_of_other_names(tmp_path: Path) -> None:
    write_annotated(tmp_path / "photos" / "train" / "1.png", [("red", (10, 10, 50, 50))])
    write_annotated(tmp_path / "photos" / "test" / "2.png", [("red", (10, 10, 50, 50))])
    draw_image([]).save(tmp_path / "photos" / "train" / "3.png")
    splits, problems = read_folder(tmp_path)
    found = {split: [record.image.stem for record in records] for split, records in splits.items()}
    assert found == {"train": ["1"], "test": ["2"]}
    assert [(problem.path.stem, problem.kind, problem.level) for problem in problems] == [
        ("3", "image without annotation", "warning")
    ]


def test_the_photos_of_a_refrigerator(shared: Path) -> None:
    splits, problems = read_folder(shared / "datasets" / "grocery")
    assert {split: len(records) for split, records in splits.items()} == {"train": 25, "test": 5}
    assert not problems
