"""`frcnn check` finds each thing that would spoil a training, names it, and nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import draw_image, tiny_config, train_tiny, write_tiny

from frcnn.checking.anchors import Boxes, Shapes, at_training_size, levels_of, reach, suggest
from frcnn.checking.boxes import off_by_one
from frcnn.checking.fix import fix
from frcnn.checking.pictures import write_pictures
from frcnn.checking.report import check
from frcnn.cli import main
from frcnn.config import DataSettings, merge
from frcnn.data.convert import convert
from frcnn.data.dataset import open_dataset
from frcnn.data.records import make_record
from frcnn.ops.boxes import iou
from frcnn.types import Level

ORIENTATION = 0x0112


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
    result = check(data, tiny_config(*settings))
    return [(p.level, p.kind, p.path.name, p.place) for p in result.problems]


def test_of_good_data_there_is_nothing_to_say(data: Path) -> None:
    result = check(data, tiny_config())
    assert result.problems == []
    assert result.format == "csv"
    assert "train: 12 images (0% without objects), 24 objects: blue 12, red 12" in result.text()


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
    grey = np.asarray(Image.open(data / "3.png").convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(data / "3.png")


def another_size(data: Path) -> None:
    lines = (data / "train.csv").read_text().splitlines()
    (data / "train.csv").write_text("\n".join([lines[0] + ",width,height", *(f"{line},128,96" for line in lines[1:])]))
    draw_image([("red", (24, 2, 63, 42))], size=(192, 256)).save(data / "3.png")


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
    "zero bytes": (zero_bytes, [("error", "image cannot be read", *IMAGE)]),
    "truncated": (truncated, [("error", "image cannot be read", *IMAGE)]),
    "text": (text, [("error", "image cannot be read", *IMAGE)]),
    "gone": (gone, [("error", "image cannot be read", *IMAGE)]),
    "suffix": (saved_as("JPEG"), [("warning", "suffix of another format", *IMAGE)]),
    "turned": (saved_as("PNG", orientation=3), [("warning", "turned by a tag", *IMAGE)]),
    "a palette": (saved_as("PNG", mode="P"), [("warning", "odd mode", *IMAGE)]),
    "transparency": (saved_as("PNG", mode="RGBA"), [("warning", "odd mode", *IMAGE)]),
    "16 bits": (sixteen_bits, [("warning", "more than 8 bits", *IMAGE)]),
    "another size": (another_size, [("warning", "size in the annotation differs", *IMAGE)]),
    "no number": (rows("3.png,1,2,x,40,red"), [("error", "not a box", "train.csv", "line 26")]),
    "not finite": (rows("3.png,1,2,nan,40,red"), [("error", "box that is no number", *BOX)]),
    "degenerate": (rows("3.png,30,2,30,40,red"), [("error", "box without area", *BOX)]),
    "inverted": (rows("3.png,30,2,5,40,red"), [("error", "box inside out", *BOX)]),
    "outside": (rows("3.png,30,60,70,97,red"), [("error", "box out of the image", *BOX)]),
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
        [("error", "class never trained", "data", "")],
    ),
    "a class in training only": (
        lambda data: add(data, *(f"{n}.png,3,60,40,90,green" for n in range(10))),
        [("warning", "class never measured", "data", "")],
    ),
    "few": (
        lambda data: [add(data, f"{n}.png,3,60,40,90,green", split=s) for n, s in ((1, "train"), (12, "test"))],
        [("warning", "few objects", "data", "")],
    ),
    "case and spaces": (
        lambda data: [add(data, f"{n}.png,3,60,40,90,R ed", split="train" if n < 12 else "test") for n in range(13)],
        [("warning", "names nearly the same", "data", "")],
    ),
    "copy": (copy_within, [("warning", "same image twice", "copy.png", "")]),
    "copy across splits": (copy_across, [("warning", "same image in two splits", "copy.png", "")]),
    "nearly a copy": (nearly_a_copy, [("warning", "nearly the same image in two splits", "copy.jpg", "")]),
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
    assert {"imbalance", "class never measured"} <= kinds
    for number in range(20):
        draw_image([("red", (number * 5, number * 3, number * 5 + 30, 90))], seed=number).save(data / f"e{number}.png")
        add(data, f"e{number}.png,,,,,")
    assert "mostly without objects" in {kind for _, kind, *_ in found(data)}


@pytest.mark.parametrize(
    ("orientation", "size", "box", "says"),
    [
        (6, (96, 128), (10, 10, 120, 90), "drawn on the image lying down"),
        (6, (128, 96), (10, 10, 90, 120), "the size as seen, as it should"),
        (6, None, (10, 10, 120, 90), "its boxes fit the stored image only"),
        (6, None, (10, 10, 90, 90), "look whether they are"),
        (3, None, (10, 10, 90, 90), "look whether they are"),
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
    (rule,) = [p.rule for p in check(tmp_path, tiny_config()).problems if p.kind == "turned by a tag"]
    assert says in rule


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


def test_the_blood_cells_have_two_errors(shared: Path) -> None:
    result = check(shared / "datasets" / "bccd", tiny_config())
    assert [(p.path.stem, p.kind, p.place) for p in result.errors] == [
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
    result = check(data, tiny_config())
    with pytest.raises(ValueError, match=r"must lie inside(.|\n)*frcnn check .*data` shows everything; with --fix"):
        open_dataset(data, DataSettings())
    fixed = fix(result, tmp_path / "fixed")
    assert {path: path.read_bytes() for path in data.iterdir()} == before
    assert (tmp_path / "fixed" / "changes.txt").read_text().splitlines() == fixed.changes
    told = [change.removeprefix(f"{data}/") for change in fixed.changes]
    assert told == [
        "ghost.png: no such image: left out",
        "3.png, object 3 ('red'): box (30, 60, 70, 97.5) becomes (30, 60, 70, 96), inside the image",
        "3.png, object 4 ('red'): removed, since the box has no area",
        "3.png, object 5 ('red'): x1 and x2 change places",
        "3.png, object 6 ('red'): removed, since it was drawn twice",
        "4.png, object 3 ('red'): box (500, 2, 600, 40) becomes (128, 2, 128, 40), inside the image",
        "4.png, object 3 ('red'): removed, since the box has no area",
    ]
    again = check(tmp_path / "fixed", tiny_config())
    assert not again.errors
    (third,) = [record for record in again.splits["train"] if record.image.name == "3.png"]
    assert third.boxes[2:].tolist() == [[30, 60, 70, 96], [20, 40, 60, 60]]
    train_tiny(tmp_path / "fixed", tmp_path / "run", "train.epochs=1")


def test_a_copy_of_what_cannot_be_written_is_coco(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    draw_image([]).save(folder / "1.png")
    shapes = [{"label": "cat", "points": [[1, 2], [150, 40]], "shape_type": "rectangle"}]
    (folder / "1.json").write_text(json.dumps({"shapes": shapes, "imagePath": "1.png"}))
    assert fix(check(folder, tiny_config()), tmp_path / "fixed").format == "coco"
    assert open_dataset(tmp_path / "fixed", DataSettings()).train[0].boxes.tolist() == [[1, 2, 128, 40]]


# ------------------------------------------------------------------------------------------------------------- anchors


def test_what_the_anchors_reach_is_what_a_loop_finds() -> None:
    config = tiny_config("detector.anchors.scales=[1,3]", "train.rpn.inside_only=false")
    random = np.random.default_rng(0)
    corners = random.uniform(0, 40, (20, 2))
    boxes = np.concatenate((corners, corners + random.uniform(30, 55, (20, 2))), axis=1)
    record = make_record(Path("a.png"), [(box, "ab"[n % 2]) for n, box in enumerate(boxes)])
    found_ = reach(
        at_training_size([record], [(96, 128)], config), Shapes((1, 3), (0.5, 1, 2)), [Level(16, 0.5)], config
    )
    best = np.zeros(20)
    for row in range(6):
        for column in range(8):
            for scale in (1, 3):
                for ratio in (0.5, 1, 2):
                    width, height = 16 * scale / ratio**0.5, 16 * scale * ratio**0.5
                    x, y = 16 * (column + 0.5), 16 * (row + 0.5)
                    anchor = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
                    for number, (x1, y1, x2, y2) in enumerate(boxes):
                        common = max(0, min(x2, anchor[2]) - max(x1, anchor[0])) * max(
                            0, min(y2, anchor[3]) - max(y1, anchor[1])
                        )
                        union = (x2 - x1) * (y2 - y1) + width * height - common
                        best[number] = max(best[number], common / union)
    assert found_.share == {level: pytest.approx((best >= level).mean()) for level in (0.5, 0.7)}
    assert found_.of_class["a"][0.5] == pytest.approx((best[::2] >= 0.5).mean())
    assert 0 < found_.share[0.7] < found_.share[0.5] < 1


def test_other_anchors_are_suggested_where_they_reach_more() -> None:
    """Objects that are all of one shape, which the default's anchors have not."""
    config = tiny_config(
        "detector.anchors.scales=[8,16,32]", "detector.image.shorter_side=480", "detector.image.longer_side=640"
    )
    random = np.random.default_rng(0)
    records = []
    for _ in range(30):
        x, y = random.uniform(2, 390), random.uniform(2, 390)
        records.append(make_record(Path("a.png"), [((x, y, x + 240, y + 80), "plank")]))
    boxes = at_training_size(records, [(480, 640)] * 30, config)
    levels = levels_of(config)
    rules = config.detector.anchors
    now = reach(boxes, Shapes(rules.scales, rules.aspect_ratios), levels, config)
    suggestion = suggest(boxes, now, levels, config)
    assert now.share[0.7] < 0.2
    assert suggestion is not None
    assert suggestion.reach.share[0.7] > 0.9
    pasted = merge(overrides=suggestion.settings)
    assert Shapes(pasted.detector.anchors.scales, pasted.detector.anchors.aspect_ratios) == suggestion.reach.shapes
    assert suggest(boxes, suggestion.reach, levels, config) is None  # nothing clearly better


def test_a_rare_class_is_not_given_up_for_a_common_one() -> None:
    """Many large objects that the anchors reach badly, few small ones that they reach well."""
    config = tiny_config(
        "detector.anchors.scales=[2,9]",
        "detector.anchors.aspect_ratios=[1]",
        "detector.image.shorter_side=480",
        "detector.image.longer_side=640",
    )
    random, records = np.random.default_rng(0), []
    for _ in range(60):
        x, y = random.uniform(2, 390), random.uniform(2, 230)
        small = (16 * int(x / 16), 16 * int(y / 16), 16 * int(x / 16) + 32, 16 * int(y / 16) + 32)
        records.append(make_record(Path("a.png"), [((x, y, x + 220, y + 240), "large")]))
        if len(records) % 10 == 0:
            records.append(make_record(Path("a.png"), [(small, "small")]))
    boxes = at_training_size(records, [(480, 640)] * len(records), config)
    levels, rules = levels_of(config), config.detector.anchors
    now = reach(boxes, Shapes(rules.scales, rules.aspect_ratios), levels, config)
    suggestion = suggest(boxes, now, levels, config)
    assert suggestion is not None
    for name, shares in now.of_class.items():
        assert suggestion.reach.of_class[name][0.5] >= shares[0.5]
    assert suggestion.reach.share[0.7] > now.share[0.7] + 0.2


def test_boxes_are_taken_at_the_training_size() -> None:
    config = tiny_config("detector.image.shorter_side=48", "detector.image.longer_side=64")
    record = make_record(Path("a.png"), [((10, 20, 50, 60), "a"), ((1, 1, 1, 9), "b")])
    boxes = at_training_size([record, record], [(96, 128), None], config)
    assert boxes == Boxes([(48, 64)], boxes.boxes, [("a",)])
    assert boxes.boxes[0].tolist() == [[5, 10, 25, 30]]
    assert iou(boxes.boxes[0], boxes.boxes[0]).item() == 1


# ------------------------------------------------------------------------------------------------------- command line


def test_the_exit_status(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["check", str(data), "--set", "detector.image.width=128", "--set", "detector.image.height=128"]
    assert main(command) == 0
    assert "nothing found that would spoil a training" in capsys.readouterr().out
    orphan(data)
    assert main(command) == 0
    assert main([*command, "--strict"]) == 1
    add(data, "3.png,30,2,30,40,red")
    assert main(command) == 2
    text = capsys.readouterr().out
    assert "1 errors, 1 warnings" in text
    assert "box without area (1)" in text
    assert main(["check", str(data / "nowhere")]) == 2


def test_json_pictures_and_a_corrected_copy(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(data, "3.png,30,2,30,40,red")
    copy_across(data)
    options = ["--json", "-", "--pictures", str(tmp_path / "sheets"), "--fix", str(tmp_path / "fixed")]
    assert main(["check", str(data), *options]) == 2
    output = capsys.readouterr()
    content = json.loads(output.out)
    assert content["format"] == "csv"
    assert content["splits"]["test"] == {"images": 3, "without_objects": 0, "objects": {"blue": 3, "red": 3}}
    assert content["problems"][0] == {
        "level": "error",
        "kind": "box without area",
        "path": f"{data}/3.png",
        "place": "object 3 ('red')",
        "object": 3,
        "rule": "x2 (30) must be greater than x1 (30); correct or remove the box",
    }
    assert "3 contact sheets" in output.err
    assert "changes.txt there lists what was done" in output.err
    names = sorted(path.name for path in (tmp_path / "sheets").iterdir())
    assert names == ["box-without-area-1.jpg", "same-image-in-two-splits-1.jpg", "sample-1.jpg"]
    assert main(["check", str(tmp_path / "fixed")]) == 0


def test_contact_sheets_mark_the_defect_in_red_and_draw_all_boxes(data: Path, tmp_path: Path) -> None:
    add(data, "3.png,30,10,30,80,red")
    (area, sample) = sorted(write_pictures(check(data, tiny_config()), tmp_path / "sheets"))
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
    records = [record for part in check(data, tiny_config()).splits.values() for record in part]
    place = next(number for number, record in enumerate(records) if record.image.name == "3.png")
    left, top = place % 4 * 400, place // 4 * 334
    x1, y1, x2, _ = records[place].boxes[0] * scale
    inner = sheet[top + round(y1) + 20, left + round(x1) + 20].astype(int)
    edge = sheet[top + round(y1), left + round((x1 + x2) / 2)].astype(int)
    assert np.abs(inner - edge).max() > 40


def test_contact_sheets_show_what_cannot_be_read(tmp_path: Path) -> None:
    write_tiny(tmp_path / "data")
    (tmp_path / "data" / "positive" / "3.png").write_text("no image")
    files = write_pictures(check(tmp_path / "data", tiny_config()), tmp_path / "sheets")
    assert "image-cannot-be-read-1.jpg" in [file.name for file in files]
    with Image.open(files[0]) as sheet:
        assert sheet.width == 1600


@pytest.mark.parametrize("form", ["pascal_voc", "coco", "yolo", "csv"])
def test_all_copies_of_the_same_data_are_judged_the_same(data: Path, tmp_path: Path, form: str) -> None:
    add(data, "3.png,24,2,63,41,red")
    convert(data, tmp_path / form, form, DataSettings())
    original, copied = check(data, tiny_config()), check(tmp_path / form, tiny_config())
    assert [(p.kind, p.path.name, p.place) for p in copied.problems] == [
        (p.kind, p.path.name, p.place) for p in original.problems
    ]
    assert copied.reach == original.reach
