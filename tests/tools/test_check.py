"""`frcnn check` finds each thing that would spoil a training, names it, and nothing else."""

import json
import shutil
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tiny import draw_image, tiny_config, train_tiny, trained_run, write_tiny

import frcnn
from frcnn.cli import main
from frcnn.config import DataSettings, make_config
from frcnn.data.dataset import open_dataset
from frcnn.data.near_duplicates import ImageHash
from frcnn.data.records import make_record
from frcnn.tools.check.boxes import odd_boxes, off_by_one
from frcnn.tools.check.check import check_dataset
from frcnn.tools.check.duplicates import _partners, find_duplicates
from frcnn.tools.check.fix import fix
from frcnn.tools.check.pictures import CELL, _shown, empty_cell, write, write_pictures
from frcnn.tools.check.suspects import judge
from frcnn.tools.convert import convert_dataset

ORIENTATION = 0x0112


def test_objects_of_classes_that_a_detector_does_not_know_explain_what_is_there() -> None:
    """With `--crossval`, the class of a single image is unknown to the detector that judges it."""
    photo = trained_run().parent / "data" / "testImages" / "4.png"
    record = make_record(photo, [((6, 8, 46, 52), "red"), ((60, 8, 100, 52), "green")])
    with pytest.warns(UserWarning, match="does not know the class: 'green'"):
        detections, (judged,) = judge(frcnn.load(trained_run()), [record])
    assert len(detections) == 1
    assert judged.class_names == ("red", "green")
    assert judged.ignore.tolist() == [False, True]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve training and two test images that nothing is to be said about."""
    folder, rows = tmp_path / "data", {"train": ["path,x1,y1,x2,y2,label"], "test": ["path,x1,y1,x2,y2,label"]}
    folder.mkdir()
    for number in range(14):
        x, y = 3 + 7 * (number % 5), 2 + 9 * (number % 3)
        objects = [("red", (x, y, x + 33 + 2 * number, y + 40)), ("blue", (x + 64, 80 - y - number, 126, 95 - y))]
        draw_image(objects, seed=number).save(folder / f"{number}.png")
        split = "train" if number < 12 else "test"
        rows[split] += [f"{number}.png,{','.join(map(str, box))},{name}" for name, box in objects]
    for split, lines in rows.items():
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return folder


def add(data: Path, *lines: str, split: str = "train") -> None:
    with (data / f"{split}.csv").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def found(data: Path, *settings: str) -> list[tuple[str, str, str, str]]:
    """Level, kind, file and place of each."""
    result = check_dataset(data, tiny_config(*settings))
    return [(p.level, p.kind, p.path.name, p.place) for p in result.problems]


def test_of_good_data_there_is_nothing_to_say(data: Path) -> None:
    result = check_dataset(data, tiny_config())
    assert result.problems == []
    assert result.discovery.format == "csv"
    lines = str(result).splitlines()
    assert lines[1:4] == [
        "  format: csv",
        "  annotations: test.csv, train.csv",
        "  splits: train 12 images, 24 objects; test 2 images, 4 objects",
    ]
    assert "  classes in train: blue 12, red 12 (0 images without objects)" in lines


def zero_bytes(data: Path) -> None:
    (data / "3.png").write_bytes(b"")


def truncated(data: Path) -> None:
    whole = (data / "3.png").read_bytes()
    (data / "3.png").write_bytes(whole[: len(whole) // 2])


def text(data: Path) -> None:
    (data / "3.png").write_text("hello")


def gone(data: Path) -> None:
    (data / "3.png").unlink()


def saved_as(form: str, mode: str | None = None, orientation: int | None = None) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        image = Image.open(data / "3.png")
        image = image.convert(mode) if mode is not None else image
        exif = image.getexif()
        if orientation is not None:
            exif[ORIENTATION] = orientation
        image.save(data / "3.png", format=form, exif=exif)

    return change


def sixteen_bits(data: Path) -> None:
    gray = np.asarray(Image.open(data / "3.png").convert("L")).astype(np.uint16) * 257
    Image.fromarray(gray).save(data / "3.png")


def another_size(data: Path, size: tuple[int, int] = (192, 256)) -> None:
    lines = (data / "train.csv").read_text().splitlines()
    (data / "train.csv").write_text("\n".join([lines[0] + ",width,height", *(f"{line},128,96" for line in lines[1:])]))
    draw_image([("red", (24, 2, 63, 42))], size=size).save(data / "3.png")


def another_shape(data: Path) -> None:
    another_size(data, (192, 200))


def rows(*lines: str) -> Callable[[Path], None]:
    return lambda data: add(data, *lines)


def copy_within(data: Path) -> None:
    shutil.copy(data / "3.png", data / "copy.png")
    add(data, "copy.png,24,2,63,42,red")


def copy_across(data: Path) -> None:
    shutil.copy(data / "3.png", data / "copy.png")
    add(data, "copy.png,24,2,63,42,red", "copy.png,88,70,126,93,blue", split="test")


def nearly_a_copy(data: Path) -> None:
    Image.open(data / "3.png").save(data / "copy.jpg", quality=70)
    add(data, "copy.jpg,24,2,63,42,red", "copy.jpg,88,70,126,93,blue", split="test")


def annotation_copied(data: Path) -> None:
    draw_image([("blue", (5, 5, 100, 90))], seed=99).save(data / "other.png")
    add(data, "other.png,3,20,50,60,red", "other.png,67,61,126,77,blue")
    add(data, split="test")
    lines = (data / "train.csv").read_text().replace("\n2.png,17,20,54,60", "\n2.png,3,20,50,60")
    (data / "train.csv").write_text(lines.replace("\n2.png,81,58,126,75", "\n2.png,67,61,126,77"))


def orphan(data: Path) -> None:
    draw_image([], seed=77).save(data / "orphan.png")


IMAGE, BOX = ("3.png", ""), ("3.png", "object 3 ('red')")
DEFECTS: dict[str, tuple[Callable[[Path], None], list[tuple[str, str, str, str]]]] = {
    "zero bytes": (zero_bytes, [("left out", "unreadable image", *IMAGE)]),
    "truncated": (truncated, [("left out", "unreadable image", *IMAGE)]),
    "text": (text, [("left out", "unreadable image", *IMAGE)]),
    "gone": (gone, [("left out", "missing image", "train.csv", "line 8")]),
    "suffix": (saved_as("JPEG"), [("warning", "suffix of another format", *IMAGE)]),
    "turned": (saved_as("PNG", orientation=3), [("warning", "rotated by EXIF", *IMAGE)]),
    "a palette": (saved_as("PNG", mode="P"), [("warning", "unusual mode", *IMAGE)]),
    "transparency": (saved_as("PNG", mode="RGBA"), [("warning", "unusual mode", *IMAGE)]),
    "16 bits": (sixteen_bits, [("warning", "more than 8 bits", *IMAGE)]),
    "another size": (another_size, [("repaired", "annotation of another resolution", *IMAGE)]),
    "another shape": (another_shape, [("warning", "size in the annotation differs", *IMAGE)]),
    "no number": (rows("3.png,1,2,x,40,red"), [("left out", "invalid object", "train.csv", "line 26")]),
    "not finite": (rows("3.png,1,2,nan,40,red"), [("left out", "non-finite box", *BOX)]),
    "degenerate": (rows("3.png,30,2,30,40,red"), [("left out", "box without area", *BOX)]),
    "inverted": (rows("3.png,30,2,5,40,red"), [("repaired", "swapped corners", *BOX)]),
    "outside": (rows("3.png,30,60,70,97,red"), [("repaired", "box outside the image", *BOX)]),
    "tiny": (rows("3.png,10,60,16,80,red"), [("warning", "tiny box", *BOX)]),
    "huge": (
        rows("3.png,0,0,128,96,red"),
        [("warning", "huge box", *BOX), ("warning", "box inside another", "3.png", "object 1 ('red')")],
    ),
    "extreme": (rows("3.png,1,60,86,70,red"), [("warning", "extreme shape", *BOX)]),
    "twice": (rows("3.png,24,2,63,41,red"), [("warning", "box drawn twice", *BOX)]),
    "two classes": (
        rows("3.png,24,2,63,41,blue"),
        [("warning", "two classes for one box", "3.png", "object 3 ('blue')")],
    ),
    "contained": (rows("3.png,30,10,50,40,red"), [("warning", "box inside another", *BOX)]),
    "a class in the test only": (
        lambda data: add(data, "12.png,3,60,40,90,green", split="test"),
        [("warning", "class never trained", "data", "")],
    ),
    "a class in training only": (
        lambda data: add(data, *(f"{n}.png,3,60,40,90,green" for n in range(10))),
        [("warning", "class never evaluated", "data", "")],
    ),
    "few": (
        lambda data: [add(data, f"{n}.png,3,60,40,90,green", split=s) for n, s in ((1, "train"), (12, "test"))],
        [("warning", "few objects", "data", "")],
    ),
    "case and spaces": (
        lambda data: [add(data, f"{n}.png,3,60,40,90,R ed", split="train" if n < 12 else "test") for n in range(13)],
        [("warning", "similar class names", "data", "")],
    ),
    "copy": (copy_within, [("warning", "duplicate images", "copy.png", "")]),
    "copy across splits": (copy_across, [("warning", "duplicate images in two splits", "copy.png", "")]),
    "nearly a copy": (nearly_a_copy, [("warning", "near-duplicate images in two splits", "copy.jpg", "")]),
    "annotation copied": (annotation_copied, [("warning", "annotation of another image", "other.png", "")]),
    "orphan": (orphan, [("warning", "image not used", "orphan.png", "")]),
}


@pytest.mark.parametrize(("spoil", "expected"), DEFECTS.values(), ids=DEFECTS)
def test_each_defect_is_found_and_nothing_else(data: Path, spoil: Callable[[Path], None], expected: list) -> None:
    spoil(data)
    assert found(data, "data.format=csv") == expected


def test_imbalance_and_images_without_objects(data: Path) -> None:
    add(data, *(f"{n % 12}.png,{n % 60},{n // 60},{n % 60 + 30},{n // 60 + 30},common" for n in range(1300)))
    kinds = {kind for _, kind, *_ in found(data)}
    assert {"imbalance", "class never evaluated"} <= kinds
    for number in range(20):
        draw_image([("red", (number * 5, number * 3, number * 5 + 30, 90))], seed=number).save(data / f"e{number}.png")
        add(data, f"e{number}.png,,,,,")
    assert "mostly without objects" in {kind for _, kind, *_ in found(data)}


@pytest.mark.parametrize(
    ("orientation", "size", "box", "says"),
    [
        (6, (96, 128), (10, 10, 120, 90), "drawn before its EXIF orientation (6) was applied; they are rotated"),
        (6, (128, 96), (10, 10, 90, 120), "the size as seen, which is right"),
        (6, None, (10, 10, 120, 90), "drawn before its EXIF orientation (6) was applied; they are rotated"),
        (6, None, (10, 10, 90, 90), "assumes that the boxes were drawn on the rotated image"),
        (3, None, (10, 10, 90, 90), "assumes that the boxes were drawn on the rotated image"),
    ],
)
def test_of_a_turned_image_it_says_when_the_boxes_were_drawn(
    tmp_path: Path, orientation: int, size: tuple[int, int] | None, box: tuple[int, ...], says: str
) -> None:
    image = draw_image([])
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    image.save(tmp_path / "1.png", exif=exif)
    height, width = size or ("", "")
    text = f"path,x1,y1,x2,y2,label,width,height\n1.png,{','.join(map(str, box))},red,{width},{height}\n"
    (tmp_path / "train.csv").write_text(text)
    kinds = ("rotated by EXIF", "boxes of the unrotated image")
    (rule,) = [p.message for p in check_dataset(tmp_path, tiny_config()).problems if p.kind in kinds]
    assert says in rule


def test_ten_thousand_boxes_of_one_image_take_seconds() -> None:
    """Each box is inside of the next one."""
    boxes = [((1000 - size, 1000 - size, 1000 + size, 1000 + size), "red") for size in np.linspace(100, 900, 10_000)]
    start = time.process_time()
    problems = list(odd_boxes(make_record(Path("a.jpg"), boxes), (2000, 2000), make_config().detector.resizing))
    assert time.process_time() - start < 3
    assert Counter(problem.kind for problem in problems) == {"box drawn twice": 9_999, "box inside another": 1}


def test_a_long_class_name_is_not_copied_for_each_box() -> None:
    boxes = [((x, y, x + 90, y + 90), "x" * 10_000) for x in range(0, 5000, 100) for y in range(0, 4000, 100)]
    record = make_record(Path("a.jpg"), boxes)
    tracemalloc.start()
    assert list(odd_boxes(record, (4000, 5000), make_config().detector.resizing)) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_each_of_many_near_duplicates_has_one_warning() -> None:
    """Frames of a camera that stands still: each file has another digest."""
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    hashes = [ImageHash(number.to_bytes(16, "big"), gray) for number in range(40_000)]
    records = [make_record(Path(f"{number}.jpg"), []) for number in range(1000)]
    problems = list(find_duplicates(records, hashes[:1000], ["train"] * 999 + ["test"]))
    kinds = {"near-duplicate images": 998, "near-duplicate images in two splits": 1}
    assert Counter(problem.kind for problem in problems) == kinds
    assert {problem.other for problem in problems} == {Path("0.jpg")}
    start = time.process_time()
    pairs = list(_partners(range(40_000), hashes, ["train"] * 40_000))
    assert time.process_time() - start < 3
    assert pairs == [(number, 0) for number in range(1, 40_000)]


@pytest.mark.parametrize(
    ("boxes", "says"),
    [
        ([(0, 0, 128, 96)] * 6, None),
        ([(1, 1, 128, 96)] * 6, "count pixels from 1"),
        ([(0, 0, 127, 95)] * 6, "add 1 to x2, y2"),
        ([(-1, 3, 50, 60)] * 6, "count pixels from 0 where the format counts from 1"),
        ([(1, 1, 128, 96)] * 4, None),  # too few to say so
        ([(1.5, 1, 128, 96)] * 6, None),
        ([], None),
    ],
)
def test_numbers_that_are_a_pixel_off(boxes: list[tuple[float, ...]], says: str | None) -> None:
    records = [make_record(Path("a.png"), [(box, "a")]) for box in boxes]
    rule = off_by_one(records, [(96, 128)] * len(records))
    assert rule is None if says is None else says in str(rule)


# ----------------------------------------------------------------------------------------------------- the real defect


def test_two_blood_cells_are_left_out(shared: Path) -> None:
    result = check_dataset(shared / "datasets" / "bccd", tiny_config())
    assert [(p.path.stem, p.kind, p.place) for p in result.repairs] == [
        ("BloodImage_00338", "box without area", "object 13 ('RBC')"),
        ("BloodImage_00343", "box without area", "object 4 ('RBC')"),
    ]
    copies = [(p.path.stem, p.other.stem) for p in result.warnings if p.other is not None]
    assert copies == [("BloodImage_00038", "BloodImage_00037")]


# ---------------------------------------------------------------------------------------------------------- corrected


def test_a_corrected_copy(data: Path, tmp_path: Path) -> None:
    add(data, "3.png,30,60,70,97.5,red", "3.png,30,2,30,40,red", "3.png,60,40,20,60,red", "3.png,24,2,63,41,red")
    add(data, "4.png,500,2,600,40,red", "ghost.png,1,2,30,40,red")
    before = {path: path.read_bytes() for path in data.iterdir()}
    result = check_dataset(data, tiny_config())
    with pytest.raises(
        ValueError, match=r"line 31: .*ghost\.png(.|\n)*`frcnn check .*data` to see every problem, with --fix"
    ):
        open_dataset(data, DataSettings(strict=True))
    fixed = fix(result, tmp_path / "fixed")
    assert {path: path.read_bytes() for path in data.iterdir()} == before
    assert (tmp_path / "fixed" / "changes.txt").read_text().splitlines() == fixed.changes
    assert fixed.changes == [  # without the path of the data: the copy can be passed on
        f"train.csv, line 31: there is no image ghost.png; 14 images are in {data.name}",
        "3.png, object 3 ('red'): box (30, 60, 70, 97.5) leaves the image (128 x 96 pixels); it is clipped",
        "3.png, object 4 ('red'): box (30, 2, 30, 40) has no area (x2 must be greater than x1, y2 greater than y1); it "
        "is left out",
        "3.png, object 5 ('red'): the corners of box (60, 40, 20, 60) are in the wrong order",
        "4.png, object 3 ('red'): box (500, 2, 600, 40) leaves the image (128 x 96 pixels) wholly; it is left out",
        "3.png, object 6 ('red'): nearly equals object 1 ('red') (IoU 0.98); remove one; it is removed",
    ]
    again = check_dataset(tmp_path / "fixed", tiny_config())
    assert not again.errors
    assert not again.repairs
    (third,) = [record for record in again.splits["train"] if record.image.name == "3.png"]
    assert third.boxes[2:].tolist() == [[30, 60, 70, 96], [20, 40, 60, 60]]
    train_tiny(tmp_path / "fixed", tmp_path / "run", "train.epochs=1")


def test_a_corrected_copy_of_an_image_with_an_exif_orientation(tmp_path: Path) -> None:
    data = tmp_path / "data"
    image = draw_image([("red", (90, 10, 125, 50))])
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for folder in ("Annotations", "JPEGImages"):
        (data / folder).mkdir(parents=True)
    image.save(data / "JPEGImages" / "1.jpg", exif=exif)
    box = "<xmin>91</xmin><ymin>11</ymin><xmax>125</xmax><ymax>50</ymax>"
    size = "<size><width>128</width><height>96</height><depth>3</depth></size>"
    (data / "Annotations" / "1.xml").write_text(
        f"<annotation><filename>1.jpg</filename>{size}<object><name>red</name><bndbox>{box}</bndbox></object></annotation>"
    )
    before = check_dataset(data, tiny_config())
    assert [problem.kind for problem in before.repairs] == ["boxes of the unrotated image"]
    fix(before, tmp_path / "fixed")
    after = check_dataset(tmp_path / "fixed", tiny_config())
    assert after.repairs == []
    boxes = [[record.boxes.tolist() for record in result.repaired["train"]] for result in (before, after)]
    assert boxes[0] == boxes[1] == [[[46, 90, 86, 125]]]


def test_a_copy_of_what_cannot_be_written_is_coco(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    draw_image([]).save(folder / "1.png")
    shapes = [{"label": "cat", "points": [[1, 2], [150, 40]], "shape_type": "rectangle"}]
    (folder / "1.json").write_text(json.dumps({"shapes": shapes, "imagePath": "1.png"}))
    assert fix(check_dataset(folder, tiny_config()), tmp_path / "fixed").format == "coco"
    assert open_dataset(tmp_path / "fixed", DataSettings()).train[0].boxes.tolist() == [[1, 2, 128, 40]]


def test_the_public_function_takes_keyword_arguments(data: Path) -> None:
    report = frcnn.check(data, format="csv", settings={"detector.anchors.scales": [2, 4]})
    assert report.anchor_recall is not None
    assert report.anchor_recall.shapes.scales == (2, 4)
    assert not report.errors
    assert str(report).startswith(f"{data}\n  format: csv\n")
    assert repr(report) == f"<CheckReport {data}: 0 errors, 0 repairs, 0 warnings>"
    assert json.loads(report.to_json())["format"] == "csv"


# ------------------------------------------------------------------------------------------------------- command line


def test_the_exit_status(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "check",
        str(data),
        "--set",
        "detector.image.shorter_side=128",
        "--set",
        "detector.image.longer_side=128",
    ]
    assert main(command) == 0
    assert "no problems" in capsys.readouterr().out
    orphan(data)
    assert main(command) == 0
    assert main([*command, "--strict"]) == 1
    add(data, "3.png,30,2,30,40,red")
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "0 errors, 1 repair, 1 warning" in text
    assert "box without area (1)" in text
    add(data, *(f"{number}.png,30,2,30,40,red" for number in range(4)))
    assert main(command) == 2
    assert "5 of 33 objects would be left out; correct the data, or train with --force" in capsys.readouterr().out
    assert main(["check", str(data / "nowhere")]) == 2


def test_json_pictures_and_a_corrected_copy(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(data, "3.png,30,2,30,40,red")
    copy_across(data)
    options = ["--json", "-", "--pictures", str(tmp_path / "sheets"), "--fix", str(tmp_path / "fixed")]
    assert main(["check", str(data), *options]) == 0
    output = capsys.readouterr()
    content = json.loads(output.out)
    assert (content["folder"], content["format"]) == (data.name, "csv")
    assert str(data) not in output.out  # the report can be passed on
    assert content["splits"]["test"] == {"images": 3, "without_objects": 0, "objects": {"blue": 3, "red": 3}}
    assert content["problems"][0] == {
        "level": "left out",
        "kind": "box without area",
        "path": "3.png",
        "place": "object 3 ('red')",
        "object": 3,
        "message": "box (30, 2, 30, 40) has no area (x2 must be greater than x1, y2 greater than y1); it is left out",
    }
    assert "3 contact sheets" in output.err
    assert "changes.txt lists the changes" in output.err
    names = sorted(path.name for path in (tmp_path / "sheets").iterdir())
    assert names == ["box-without-area-1.jpg", "duplicate-images-in-two-splits-1.jpg", "sample-1.jpg"]
    assert main(["check", str(tmp_path / "fixed")]) == 0


@pytest.mark.parametrize("length", [5, 40, 60, 300])
def test_a_caption_that_does_not_fit_ends_in_dots(length: int) -> None:
    cell = empty_cell()
    write(ImageDraw.Draw(cell), (6, CELL[1]), "4" * length, (255, 255, 255))
    columns = np.flatnonzero((np.asarray(cell) > 100).any(axis=(0, 2)))
    assert columns.max() < CELL[0] - 6
    end = np.asarray(cell)[CELL[1] :, CELL[0] - 40 :]
    assert (end > 100).any() == (length > 50)  # dots, or letters


def test_contact_sheets_mark_the_defect_in_red_and_draw_all_boxes(data: Path, tmp_path: Path) -> None:
    add(data, "3.png,30,10,30,80,red")
    (area, sample) = sorted(write_pictures(check_dataset(data, tiny_config()), tmp_path / "sheets"))
    assert (area.name, sample.name) == ("box-without-area-1.jpg", "sample-1.jpg")
    scale = 400 / 128  # of the one cell, which the image fills

    def is_red(x: float, y: float) -> bool:
        red, green, blue = sheet[round(y), round(x)].astype(int)
        return red > 120 and red > 2 * max(green, blue)

    sheet = np.asarray(Image.open(area))
    for side in (30 * scale - 5, 30 * scale + 5):  # a frame around the line that the box is
        assert any(is_red(side + shift, 45 * scale) for shift in (-2, -1, 0, 1, 2))
    assert not is_red(30 * scale - 15, 45 * scale)
    sheet = np.asarray(Image.open(sample))
    records = [record for part in check_dataset(data, tiny_config()).splits.values() for record in part]
    place = next(number for number, record in enumerate(records) if record.image.name == "3.png")
    left, top = place % 4 * 400, place // 4 * 334
    x1, y1, x2, _ = records[place].boxes[0] * scale
    inner = sheet[top + round(y1) + 20, left + round(x1) + 20].astype(int)
    edge = sheet[top + round(y1), left + round((x1 + x2) / 2)].astype(int)
    assert np.abs(inner - edge).max() > 40


def test_many_problems_of_one_kind_are_one_line(data: Path) -> None:
    for number in range(6):
        draw_image([], seed=70 + number).save(data / f"orphan{number}.png")
    lines = [line for line in str(check_dataset(data, tiny_config())).splitlines() if "orphan" in line]
    assert len(lines) == 1
    assert lines[0].startswith("  image not used (6; --json has all), e.g. orphan0.png: is in no split")


def test_a_copy_of_a_used_image_is_no_unused_image(data: Path) -> None:
    """VoTT copies the images that it exports."""
    (data / "export").mkdir()
    shutil.copy(data / "3.png", data / "export" / "3.png")
    draw_image([], seed=70).save(data / "export" / "4.png")
    unused = [p.path.name for p in check_dataset(data, tiny_config()).problems if p.kind == "image not used"]
    assert unused == ["4.png"]


def test_similar_names_say_how_many_objects_each_has(data: Path) -> None:
    add(data, *(f"{n}.png,3,60,40,90,R ed" for n in range(12)))
    (problem,) = [p for p in check_dataset(data, tiny_config()).problems if p.kind == "similar class names"]
    assert "the classes 'R ed' (12 objects) and 'red' (14 objects) differ in case" in problem.message
    assert "write one name in all annotations" in problem.message


def test_contact_sheets_and_warnings_are_about_repaired_boxes(data: Path) -> None:
    """Object 3 is left out, object 4 has swapped corners, object 5 equals it."""
    add(data, "3.png,30,2,30,40,red", "3.png,60,40,20,60,red", "3.png,20,40,60,60,red")
    report = check_dataset(data, tiny_config())
    assert [(p.kind, p.place, p.object) for p in report.warnings] == [("box drawn twice", "object 5 ('red')", 4)]
    (record,) = [record for image, record in _shown(report).items() if image.name == "3.png"]
    assert record.boxes[2:].tolist() == [[30, 2, 30, 40], [20, 40, 60, 60], [20, 40, 60, 60]]


def test_the_size_in_an_annotation_is_judged_by_training_as_by_check(data: Path) -> None:
    another_shape(data)
    dataset = open_dataset(data, DataSettings())
    assert dataset.problems == tuple(check_dataset(data, tiny_config()).problems)
    assert [(p.kind, p.level) for p in dataset.problems] == [("size in the annotation differs", "warning")]
    (reported,) = json.loads(dataset.report())["problems"]
    assert reported["message"] == (
        "its annotation says 128 x 96 pixels, the file has 200 x 192 pixels; were the boxes drawn on another version "
        "of it? They are not scaled"
    )


@pytest.mark.parametrize("kind", ["rescaled", "rotated"])
def test_objects_that_are_left_out_are_drawn_where_they_are_on_the_image(data: Path, kind: str) -> None:
    box: tuple[float, ...]
    if kind == "rescaled":
        add(data, "3.png,30,2,30,40,red")
        another_size(data)
        box = (60, 4, 60, 80)
    else:
        add(data, "3.png,100,2,100,40,red", "3.png,100,2,120,40,red")
        saved_as("PNG", orientation=6)(data)
        box = (96 - 40, 100, 96 - 2, 100)
    report = check_dataset(data, tiny_config())
    (lost,) = [p for p in report.problems if p.level == "left out"]
    (record,) = [record for image, record in _shown(report).items() if image.name == "3.png"]
    assert lost.object is not None
    assert record.boxes[lost.object].tolist() == list(box)


def test_an_image_whose_annotation_cannot_be_read_is_not_told_again(tmp_path: Path) -> None:
    for number in range(12):
        draw_image([], seed=number).save(tmp_path / f"{number}.png")
        box = f"<xmin>11</xmin><ymin>12</ymin><xmax>{60 + number}</xmax><ymax>70</ymax>"
        object_ = f"<object><name>red</name><bndbox>{box}</bndbox></object>"
        (tmp_path / f"{number}.xml").write_text(f"<annotation>{object_}</annotation>"[: 40 if number == 3 else None])
    kinds = [p.kind for p in check_dataset(tmp_path, tiny_config()).problems]
    assert "unreadable annotation" in kinds
    assert "image not used" not in kinds


def test_two_images_for_one_annotation_are_not_told_again(data: Path) -> None:
    for folder, seed in (("x", 50), ("y", 51)):
        (data / folder).mkdir()
        draw_image([], seed=seed).save(data / folder / "new.png")
    add(data, "new.png,1,2,30,40,red")
    kinds = [p.kind for p in check_dataset(data, tiny_config()).problems]
    assert "two images for one annotation" in kinds
    assert "image not used" not in kinds


def test_one_error_tells_all_that_is_lost_with_the_images(data: Path) -> None:
    for number in range(12):
        (data / f"{number}.png").unlink()
    report = check_dataset(data, tiny_config())
    assert [(p.kind, p.message) for p in report.errors] == [
        (
            "much is left out",
            "12 of 14 images would be left out; 24 of 28 objects would be left out; correct the data, or train with "
            "--force (data.force)",
        ),
        ("nothing to learn", "no training image has an object (24 objects were left out)"),
    ]
    assert [p.message for p in report.warnings] == [
        f"class '{name}' is in the test images only, so it is not learned, and left out of the evaluation (12 objects "
        f"were left out)"
        for name in ("blue", "red")
    ]


def test_classes_that_are_lost_are_one_reason(data: Path) -> None:
    add(data, "gone.png,1,2,30,40,green", "gone.png,1,2,30,40,white")
    assert [p.message for p in check_dataset(data, tiny_config()).errors] == [
        "all objects of the classes 'green' (1), 'white' (1) would be left out; correct the data, or train with "
        "--force (data.force)"
    ]


def test_without_test_images_the_report_says_how_many_are_left_out(data: Path) -> None:
    for number in (12, 13):
        (data / f"{number}.png").unlink()
    assert "no test images (2 images were left out), so nothing is evaluated" in str(check_dataset(data, tiny_config()))


def test_contact_sheets_show_what_cannot_be_read(tmp_path: Path) -> None:
    write_tiny(tmp_path / "data")
    (tmp_path / "data" / "positive" / "3.png").write_text("no image")
    files = write_pictures(check_dataset(tmp_path / "data", tiny_config()), tmp_path / "sheets")
    assert "unreadable-image-1.jpg" in [file.name for file in files]
    with Image.open(files[0]) as sheet:
        assert sheet.width == 1600


@pytest.mark.parametrize("form", ["pascal_voc", "coco", "yolo", "csv"])
def test_all_copies_of_the_same_data_are_judged_the_same(data: Path, tmp_path: Path, form: str) -> None:
    add(data, "3.png,24,2,63,41,red")
    convert_dataset(data, tmp_path / form, form, DataSettings())
    original, copied = check_dataset(data, tiny_config()), check_dataset(tmp_path / form, tiny_config())
    assert [(p.kind, p.path.name, p.place) for p in copied.problems] == [
        (p.kind, p.path.name, p.place) for p in original.problems
    ]
    assert copied.anchor_recall == original.anchor_recall
