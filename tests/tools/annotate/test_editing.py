"""Annotations are changed in place, in the format that the folder has, and nothing else is lost."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import hypothesis.strategies as st
import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
import yaml
from hypothesis import given, settings
from PIL import Image
from tiny import draw_image, write_annotated, write_tiny

from frcnn.config import DataSettings
from frcnn.data.dataset import read_annotations
from frcnn.data.discover import discover
from frcnn.data.formats import EDITABLE, WRITABLE
from frcnn.data.problems import Problem
from frcnn.data.records import Annotation
from frcnn.tools.annotate.editing import ConflictError, Editor
from frcnn.tools.convert import WITH_IGNORE, convert_dataset

SIZE = (96, 128)
Shown = dict[str, list[tuple[tuple[float, ...], str, bool]] | None]


def write(folder: Path, form: str) -> Path:
    """The tiny data set in a format, and one more image that is not annotated, where the format can have one."""
    if form == "labelme":
        for number in range(3):
            draw_image([], seed=number).save(folder / f"{number}.png")
            labelme(folder / f"{number}.png", [("red", [[2, 3], [20 + number, 30]])])
    else:
        write_tiny(folder / "original")
        convert_dataset(folder / "original", folder / "data", form, DataSettings())
        folder = folder / "data"
    extra = Editor(folder, DataSettings()).images[0][1].with_name("extra.png")
    if form == "map_files":
        with (folder / "train_img_file.txt").open("a") as rows:
            rows.write("99\ttrain_images/extra.png\t0\n")
    elif form == "pascal_voc":
        with (folder / "ImageSets/Main/train.txt").open("a") as rows:
            rows.write("extra\n")
    elif form == "yolo":
        with (folder / "train.txt").open("a") as rows:
            rows.write("./images/train/extra.png\n")
    draw_image([], seed=7).save(extra)
    return folder


def labelme(image: Path, shapes: Sequence[tuple[str, list[list[float]]]]) -> None:
    listed = [{"label": label, "points": points, "shape_type": "rectangle"} for label, points in shapes]
    content = {"shapes": listed, "imagePath": image.name, "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    image.with_suffix(".json").write_text(json.dumps(content))


def shown(editor: Editor) -> Shown:
    """What the editor says of all images."""
    sheets = {image.name: editor.read(index).objects for index, (_, image) in enumerate(editor.images)}
    return {name: objects and [thing[:3] for thing in objects] for name, objects in sheets.items()}


def as_trained(folder: Path) -> Shown:
    """What training reads."""
    problems: list[Problem] = []
    sets = read_annotations(discover(folder, DataSettings()), DataSettings(), problems.append)
    assert not [str(problem) for problem in problems if problem.kind != "image without annotation"]
    return {
        record.image.name: [
            (tuple(box), name, bool(mark))
            for box, name, mark in zip(record.boxes.tolist(), record.class_names, record.ignore, strict=True)
        ]
        for records in sets.values()
        for record in records
    }


def place_of(editor: Editor, name: str) -> int:
    return next(index for index, (_, image) in enumerate(editor.images) if image.name == name)


def change(editor: Editor, index: int, objects: Sequence[Annotation] | None) -> list[Annotation] | None:
    return editor.write(index, objects, editor.read(index).version).objects


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# ------------------------------------------------------------------------------------------------------- every format


@pytest.mark.parametrize("form", EDITABLE)
def test_what_is_shown_is_what_training_reads(form: str, tmp_path: Path) -> None:
    folder = write(tmp_path, form)
    editor = Editor(folder, DataSettings())
    assert editor.format == form
    trained, seen = as_trained(folder), shown(editor)
    assert seen.pop("extra.png") is None
    trained.pop("extra.png", None)  # YOLO takes it as an image without objects
    assert seen.keys() == trained.keys()
    for name, objects in seen.items():
        assert objects is not None
        for (box, label, mark), (other, *rest) in zip(objects, trained[name], strict=True):
            np.testing.assert_allclose(box, other, rtol=0, atol=1e-3)
            assert [label, mark] == rest
    assert editor.counts == [None if objects is None else len(objects) for objects in shown(editor).values()]


@pytest.mark.parametrize("form", EDITABLE)
@settings(max_examples=15)
@given(data=st.data())
def test_changes_are_what_training_reads_then_and_no_other_image_changes(
    form: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = write(tmp_path_factory.mktemp(form), form)
    editor = Editor(folder, DataSettings())
    index = data.draw(st.integers(0, len(editor.images) - 1))
    if editor.images[index][1].parent.name == "negative":
        return
    before = shown(editor)
    objects = list(editor.read(index).objects or [])
    if objects and data.draw(st.booleans()):
        objects.pop(data.draw(st.integers(0, len(objects) - 1)))
    ignore = st.booleans() if form in WITH_IGNORE else st.just(False)
    for number, thing in enumerate(objects):
        if data.draw(st.booleans()):
            box = tuple(map(float, data.draw(st.sampled_from([(1, 2, 3, 4), (0, 0, 128, 96)]))))
            name = data.draw(st.sampled_from(["red", "blue"]))
            objects[number] = thing._replace(box=box, name=name, ignore=data.draw(ignore))
    new = st.builds(Annotation, st.just((5.0, 6.0, 70.0, 80.0)), st.sampled_from(["red", "blue"]), ignore, st.just(""))
    objects += data.draw(st.lists(new, max_size=2))
    after = change(editor, index, objects)
    assert after is not None
    assert [thing[1:3] for thing in after] == [thing[1:3] for thing in objects]
    np.testing.assert_allclose([thing.box for thing in after], [thing.box for thing in objects], rtol=0, atol=1e-3)
    name = editor.images[index][1].name
    again = Editor(folder, DataSettings())
    assert shown(again) == before | {name: [thing[:3] for thing in after]}
    assert sorted(again.images) == sorted(editor.images)
    trained = as_trained(folder)[name]
    np.testing.assert_allclose([thing[0] for thing in trained], [thing.box for thing in after], rtol=0, atol=1e-3)
    assert [thing[1:] for thing in trained] == [thing[1:3] for thing in after]
    assert not list(folder.rglob(".partial*"))


@pytest.mark.parametrize("form", EDITABLE)
def test_saving_what_is_there_changes_nothing(form: str, tmp_path: Path) -> None:
    folder = write(tmp_path, form)
    editor = Editor(folder, DataSettings())
    before = as_trained(folder)
    for index in range(len(editor.images)):
        objects = editor.read(index).objects
        if objects is not None:
            assert change(editor, index, objects) == objects
    assert as_trained(folder) == before


@pytest.mark.parametrize("form", EDITABLE)
def test_a_first_annotation_removable_again(form: str, tmp_path: Path) -> None:
    folder = write(tmp_path, form)
    editor = Editor(folder, DataSettings())
    before = shown(editor)
    index = place_of(editor, "extra.png")
    assert editor.is_removable(index)
    assert change(editor, index, [Annotation((1, 2, 30, 40), "red")])
    assert editor.counts[index] == 1
    assert change(editor, index, []) == []
    assert as_trained(folder)["extra.png"] == []
    assert change(editor, index, None) is None
    assert editor.counts[index] is None
    assert shown(Editor(folder, DataSettings())) == before


@pytest.mark.parametrize("form", EDITABLE)
def test_a_new_class(form: str, tmp_path: Path) -> None:
    folder = write(tmp_path, form)
    if form == "yolo":
        with pytest.raises(ValueError, match=r"--classes green: yolo lists its classes in a file .*; add it there"):
            Editor(folder, DataSettings(), class_names=["green"])
    names = ["red"] if form == "yolo" else ["green"]
    editor = Editor(folder, DataSettings(), class_names=names)
    assert editor.class_names[0] == names[0]
    assert {"red", *names} <= set(editor.class_names)
    index = place_of(editor, "extra.png")
    new = [Annotation((1, 2, 30, 40), "rote Grütze")]
    if form == "yolo":
        with pytest.raises(
            ValueError, match=r"no class 'rote Grütze' in .*data\.yaml; add it to the names of the classes there"
        ):
            change(editor, index, new)
        return
    change(editor, index, new)
    assert "rote Grütze" in editor.class_names
    assert as_trained(folder)["extra.png"] == [((1, 2, 30, 40), "rote Grütze", False)]


@pytest.mark.parametrize("form", EDITABLE)
def test_what_is_newer_on_the_disk_is_not_overwritten(form: str, tmp_path: Path) -> None:
    folder = write(tmp_path, form)
    one, other = Editor(folder, DataSettings()), Editor(folder, DataSettings())
    index = place_of(one, "1.png")
    seen = one.read(index)
    assert seen.objects
    newer = change(other, index, seen.objects[:-1])
    before = contents(folder)
    with pytest.raises(ConflictError, match=r"1\.png: its annotation was changed elsewhere"):
        one.write(index, [], seen.version)
    assert contents(folder) == before
    assert one.read(index).objects == newer
    assert one.write(index, [], one.read(index).version).objects == []


@pytest.mark.parametrize("form", EDITABLE)
def test_a_change_of_another_image_is_no_conflict(form: str, tmp_path: Path) -> None:
    editor = Editor(write(tmp_path, form), DataSettings())
    first, second = place_of(editor, "1.png"), place_of(editor, "2.png")
    version = editor.read(first).version
    change(editor, second, [])
    assert editor.write(first, [], version).objects == []


def test_what_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path, "coco")
    editor = Editor(folder, DataSettings())
    before = contents(folder)
    index = place_of(editor, "1.png")
    for box in ((5, 5, 6, 20), (-1, 5, 20, 20), (5, 5, 129, 20), (20, 20, 5, 5), (float("nan"), 1, 20, 20)):
        with pytest.raises(ValueError, match=r"1\.png: .*(must be|must lie inside the image|not a finite number)"):
            change(editor, index, [Annotation(box, "red")])
    for name in ("", " ", " red", "re\nd"):
        with pytest.raises(ValueError, match="must have visible characters"):
            change(editor, index, [Annotation((1, 2, 30, 40), name)])
    with pytest.raises(ValueError, match="objects can be removed, but not the annotation itself"):
        change(editor, index, None)
    assert contents(folder) == before


def test_a_full_disk_leaves_the_old_annotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, "folders")
    editor = Editor(folder, DataSettings())
    before = contents(folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        change(editor, 0, [])
    assert contents(folder) == before


# ------------------------------------------------------------------------------------------------- what we do not know


def test_what_pascal_voc_says_besides_stays(tmp_path: Path) -> None:
    folder = write(tmp_path, "pascal_voc")
    file = folder / "Annotations" / "1.xml"
    file.write_text(
        "<annotation><!-- by hand --><filename>1.png</filename><source><camera>old</camera></source>"
        "<object><name>red</name><pose>Left</pose><bndbox><xmin>11</xmin><ymin>15</ymin><xmax>50</xmax>"
        "<ymax>58</ymax></bndbox><part><name>head</name></part></object>"
        "<object><name>blue</name><bndbox><xmin>?</xmin></bndbox></object>"
        "<object><name>blue</name><truncated>1</truncated><bndbox><ymin>1</ymin><xmin>1</xmin><ymax>20</ymax>"
        "<xmax>20</xmax></bndbox></object></annotation>"
    )
    editor = Editor(folder, DataSettings())
    index = place_of(editor, "1.png")
    red, blue = editor.read(index).objects or []
    assert blue.box == (0, 0, 20, 20)
    change(editor, index, [blue._replace(box=(1, 2, 30, 40), ignore=True), red])
    text = file.read_text()
    for kept in ("<!-- by hand -->", "old", "Left", "head", "<xmin>?</xmin>", "truncated"):
        assert kept in text, kept
    things = ElementTree.fromstring(text).findall("object")
    assert [thing.findtext("name") for thing in things] == ["blue", "red", "blue"]
    assert [things[0].findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")] == ["2", "3", "30", "40"]
    assert (things[0].findtext("truncated"), things[0].findtext("difficult")) == ("1", "1")


def test_what_coco_says_besides_stays(tmp_path: Path) -> None:
    folder = write(tmp_path, "coco")
    file = folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["info"] = {"year": 2020}
    first, second = content["annotations"][:2]
    first |= {"segmentation": [[1, 2, 3, 4, 5, 6]], "score": 0.5}
    second |= {"segmentation": [[7, 8, 9, 10, 11, 12]]}
    content["annotations"].append({"id": 77, "image_id": first["image_id"], "category_id": 99, "bbox": [1, 2, 3, 4]})
    file.write_text(json.dumps(content))
    editor = Editor(folder, DataSettings())
    index = place_of(editor, "0.png")
    one, other = editor.read(index).objects or []
    change(editor, index, [one, other._replace(box=(1, 2, 30, 40)), Annotation((5, 5, 9, 9), "blue")])
    again = json.loads(file.read_text())
    assert again["info"] == {"year": 2020}
    kept, moved, new = (a for a in again["annotations"] if a["image_id"] == first["image_id"] and a["id"] != 77)
    assert kept == first
    assert "segmentation" not in moved
    assert (moved["id"], moved["bbox"], moved["area"]) == (second["id"], [1, 2, 29, 38], 29 * 38)
    assert new["id"] not in {a["id"] for a in content["annotations"]}
    assert content["annotations"][-1] in again["annotations"]
    assert len({a["id"] for a in again["annotations"]}) == len(again["annotations"])


def test_outlines_and_odd_lines_of_yolo_stay(tmp_path: Path) -> None:
    draw_image([], seed=0).save(tmp_path / "1.png")
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"train": ".", "names": ["cat", "dog"]}))
    outline, odd = "0 0.1 0.1 0.5 0.2 0.3 0.75", "7 0.5 0.5 0.1 0.1"
    (tmp_path / "1.txt").write_text(f"{outline}\n{odd}\n1 0.500000 0.500000 0.250000 0.500000\n")
    editor = Editor(tmp_path, DataSettings())
    cat, dog = editor.read(0).objects or []
    change(editor, 0, [cat, dog, dog._replace(box=(0, 0, 64, 48), source="")])
    lines = (tmp_path / "1.txt").read_text().splitlines()
    assert lines == [outline, "1 0.500000 0.500000 0.250000 0.500000", "1 0.25 0.25 0.5 0.5", odd]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_other_columns_and_lines_of_csv_stay(tmp_path: Path, end: str) -> None:
    for name in ("a", "b"):
        draw_image([], seed=0).save(tmp_path / f"{name}.png")
    head = "\ufeffwho;class;xmin;ymin;xmax;ymax;filename"
    rows = ["me;dog;1;2;30;40;a.png", "you;cat;5;6;70;80;b.png", "me;cat;x;6;70;80;a.png", "me;cat;9;9;70;80.5;a.png"]
    (tmp_path / "boxes.csv").write_bytes(end.join([head, *rows, ""]).encode())
    editor = Editor(tmp_path, DataSettings())
    dog, cat = editor.read(0).objects or []
    change(editor, 0, [dog._replace(name="cow"), cat, Annotation((1, 1, 9, 9), "new")])
    text = (tmp_path / "boxes.csv").read_bytes().decode()
    expected = [head, "me;cow;1;2;30;40;a.png", "me;cat;9;9;70;80.5;a.png", ";new;1;1;9;9;a.png", rows[2], rows[1], ""]
    assert text == end.join(expected)


def test_csv_without_a_line_of_names_and_with_sets(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        draw_image([], seed=0).save(tmp_path / f"{name}.png")
    (tmp_path / "train.csv").write_text("a.png,1,2,30,40,cat")
    editor = Editor(tmp_path, DataSettings())
    change(editor, 1, [Annotation((1, 1, 9, 9), "dog")])
    assert (tmp_path / "train.csv").read_text() == "a.png,1,2,30,40,cat\nb.png,1,1,9,9,dog\n"
    (tmp_path / "train.csv").write_text("path,x1,y1,x2,y2,label,split\na.png,1,2,30,40,cat,train\nb.png,,,,,,val\n")
    editor = Editor(tmp_path, DataSettings())
    assert [(name, image.name) for name, image in editor.images] == [
        ("train", "a.png"),
        ("train", "c.png"),
        ("val", "b.png"),
    ]
    change(editor, 1, [])
    change(editor, 2, [Annotation((1, 1, 9, 9), "dog")])
    lines = (tmp_path / "train.csv").read_text().splitlines()
    assert lines[2:] == ["b.png,1,1,9,9,dog,val", "c.png,,,,,,train"]


def test_what_labelme_says_besides_stays(tmp_path: Path) -> None:
    draw_image([], seed=0).save(tmp_path / "1.png")
    polygon = {"label": "cat", "points": [[1, 2], [30, 4], [5, 60]], "shape_type": "polygon", "flags": {"old": True}}
    other = polygon | {"label": "dog"}
    point = {"label": "cat", "points": [[5, 5]], "shape_type": "point"}
    content = {"version": "5.4", "shapes": [polygon, point, other], "imagePath": "1.png", "imageData": "xyz"}
    (tmp_path / "1.json").write_text(json.dumps(content))
    editor = Editor(tmp_path, DataSettings())
    cat, dog = editor.read(0).objects or []
    change(editor, 0, [cat, dog._replace(box=(1, 1, 9, 9))])
    again = json.loads((tmp_path / "1.json").read_text())
    moved = other | {"points": [[1, 1], [9, 9]], "shape_type": "rectangle"}
    assert again == content | {"shapes": [polygon, moved, point]}
    (tmp_path / "0.json").write_text(json.dumps(content))  # a copy, which has no image of its own
    assert [thing.box for thing in Editor(tmp_path, DataSettings()).read(0).objects or []] == [cat.box, (1, 1, 9, 9)]


# --------------------------------------------------------------------------------------------------------- the folder


def test_a_folder_of_photos_gets_the_tutorials_files(tmp_path: Path) -> None:
    for number in (10, 9):
        draw_image([], seed=number).save(tmp_path / f"{number}.png")
    editor = Editor(tmp_path, DataSettings(), class_names=["red"])
    assert (editor.format, editor.class_names) == ("folders", ["red"])
    assert [(name, image.name) for name, image in editor.images] == [("all", "9.png"), ("all", "10.png")]
    change(editor, 0, [Annotation((1, 2, 30, 40.5), "red")])
    assert (tmp_path / "9.bboxes.tsv").read_text() == "1\t2\t30\t40.5\n"
    assert (tmp_path / "9.bboxes.labels.tsv").read_text() == "red\n"
    problems: list[Problem] = []
    train = read_annotations(discover(tmp_path, DataSettings()), DataSettings(), problems.append)["train"]
    assert [(record.image.name, record.class_names) for record in train] == [("9.png", ("red",))]
    (problem,) = problems
    assert (problem.level, problem.path.name) == ("warning", "10.png")


def test_images_of_negative_stay_empty(tmp_path: Path) -> None:
    editor = Editor(write_tiny(tmp_path / "data"), DataSettings())
    index = place_of(editor, "6.png")
    assert editor.read(index).objects == []
    with pytest.raises(ValueError, match=r"6\.png: images in negative/ must not have objects; move it"):
        change(editor, index, [Annotation((1, 2, 30, 40), "red")])
    assert change(editor, index, []) == []


@pytest.mark.parametrize("form", [form for form in WRITABLE if form not in ("csv", "coco", "map_files")])
def test_an_annotation_that_cannot_be_read_is_not_overwritten(form: str, tmp_path: Path) -> None:
    folder = write(tmp_path, form)
    name = {"folders": "positive/1.bboxes.tsv", "pascal_voc": "Annotations/1.xml", "yolo": "labels/train/1.txt"}[form]
    (folder / name).write_bytes(b"\xff\xfe broken <")
    editor = Editor(folder, DataSettings())
    index = place_of(editor, "1.png")
    assert list(editor.broken) == [index]
    assert name.rpartition("/")[2] in editor.broken[index]
    with pytest.raises(ValueError, match=r"1\."):
        editor.write(index, [], "")
    assert (folder / name).read_bytes() == b"\xff\xfe broken <"


def test_half_an_annotation_of_the_tutorial_is_not_overwritten(tmp_path: Path) -> None:
    write_annotated(tmp_path / "positive" / "1.png", [("red", (1, 2, 30, 40))])
    (tmp_path / "positive" / "1.bboxes.labels.tsv").unlink()
    assert "1.bboxes.labels.tsv is missing" in Editor(tmp_path, DataSettings()).broken[0]


def test_boxes_are_those_of_the_image_as_a_person_sees_it(tmp_path: Path) -> None:
    turned = Image.new("RGB", (128, 96))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "1.jpg", exif=exif)
    editor = Editor(tmp_path, DataSettings())
    assert change(editor, 0, [Annotation((1, 2, 96, 128), "red")])
    with pytest.raises(ValueError, match=r"96 x 128 pixels"):
        change(editor, 0, [Annotation((1, 2, 97, 128), "red")])


def test_what_cannot_be_edited_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        Editor(tmp_path / "none", DataSettings())
    with pytest.raises(ValueError, match="the folder is empty"):
        Editor(tmp_path, DataSettings())
    draw_image([], seed=0).save(tmp_path / "1.png")
    task = {"data": {"image": "1.png"}, "annotations": []}
    (tmp_path / "tasks.json").write_text(json.dumps([task]))
    with pytest.raises(
        ValueError, match=r"label_studio cannot be edited in place; edit a copy that `frcnn convert .* --to coco`"
    ):
        Editor(tmp_path, DataSettings())


# ------------------------------------------------------------------------------------------------ what a review found


def coco(folder: Path, content: dict, name: str = "train") -> Path:
    (folder / "annotations").mkdir(exist_ok=True)
    file = folder / "annotations" / f"instances_{name}.json"
    file.write_text(json.dumps(content))
    return file


def entry(number: int, name: str) -> dict:
    return {"id": number, "file_name": name, "width": 128, "height": 96}


CAT = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40]}
CATS = [{"id": 1, "name": "cat"}]


def test_coco_paths_are_compared_as_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_image([], seed=0).save(tmp_path / "a.png")
    coco(tmp_path, {"images": [entry(1, "./a.png")], "categories": CATS, "annotations": [CAT]})
    assert Editor(tmp_path, DataSettings()).counts == [1]
    monkeypatch.chdir(tmp_path)
    assert Editor(Path("."), DataSettings()).counts == [1]


def test_images_that_coco_lists_twice_are_refused(tmp_path: Path) -> None:
    draw_image([], seed=0).save(tmp_path / "a.png")
    content = {"images": [entry(1, "a.png")], "categories": CATS, "annotations": [CAT]}
    coco(tmp_path, content)
    coco(tmp_path, content, "val")
    assert "is listed in" in Editor(tmp_path, DataSettings()).broken[0]
    coco(tmp_path, content | {"images": [entry(1, "a.png"), entry(2, "a.png")]})
    (tmp_path / "annotations" / "instances_val.json").unlink()
    assert "is listed in" in Editor(tmp_path, DataSettings()).broken[0]


def test_a_new_image_of_coco_takes_no_id_that_annotations_have(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw_image([], seed=0).save(tmp_path / f"{name}.png")
    orphan = CAT | {"id": 7, "image_id": 2}
    file = coco(tmp_path, {"images": [entry(1, "a.png")], "categories": CATS, "annotations": [CAT, orphan]})
    editor = Editor(tmp_path, DataSettings())
    change(editor, 1, [Annotation((5, 5, 9, 9), "cat")])
    again = json.loads(file.read_text())
    assert orphan in again["annotations"]
    assert again["images"][1]["id"] == 3


def test_two_processes_do_not_overwrite_each_other(tmp_path: Path) -> None:
    count = 100
    for number in range(count):
        draw_image([], seed=0).save(tmp_path / f"{number}.png")
    (tmp_path / "train.csv").write_text("".join(f"{number}.png,1,2,30,40,cat\n" for number in range(count)))
    script = (
        "import sys; from pathlib import Path; from frcnn.config import DataSettings; "
        "from frcnn.tools.annotate.editing import Editor; editor = Editor(Path(sys.argv[1]), DataSettings()); "
        "print('ready', flush=True); sys.stdin.readline(); "
        f"[editor.write(i, [], editor.read(i).version) for i in range(int(sys.argv[2]), {count}, 2)]"
    )
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", script, str(tmp_path)]
    with (
        subprocess.Popen([*command, "0"], stdin=pipe, stdout=pipe, text=True) as one,
        subprocess.Popen([*command, "1"], stdin=pipe, stdout=pipe, text=True) as other,
    ):
        for process in (one, other):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        assert (one.wait(timeout=120), other.wait(timeout=120)) == (0, 0)
    assert Editor(tmp_path, DataSettings()).counts == [0] * count


def test_difficult_in_csv(tmp_path: Path) -> None:
    draw_image([], seed=0).save(tmp_path / "a.png")
    file = tmp_path / "train.csv"
    file.write_text("path,x1,y1,x2,y2,label,ignore\na.png,1,2,30,40,cat,\n")
    editor = Editor(tmp_path, DataSettings())
    (cat,) = editor.read(0).objects or []
    assert change(editor, 0, [cat._replace(ignore=True)]) != [cat]
    assert file.read_text().endswith("a.png,1,2,30,40,cat,1\n")
    file.write_text("path,x1,y1,x2,y2,label\na.png,1,2,30,40,cat\n")
    with pytest.raises(ValueError, match=r"train\.csv: has no column 'ignore'; add one"):
        change(editor, 0, [cat._replace(ignore=True, source="")])


def test_two_csv_files_of_one_set(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw_image([], seed=0).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.csv").write_text(f"path,x1,y1,x2,y2,label,split\n{name}.png,1,2,30,40,{name},train\n")
    before = (tmp_path / "a.csv").read_bytes()
    editor = Editor(tmp_path, DataSettings())
    assert editor.counts == [1, 1]
    change(editor, 1, [])
    assert (tmp_path / "a.csv").read_bytes() == before
    assert as_trained(tmp_path)["b.png"] == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_csv_of_spreadsheets_keeps_its_encoding_and_its_lines(tmp_path: Path, encoding: str) -> None:
    draw_image([], seed=0).save(tmp_path / "a.png")
    text = "path\tx1\ty1\tx2\ty2\tlabel\tnote\r\na.png\t1\t2\t30\t40\tKäse\tone\u2028two\t\r\n"
    (tmp_path / "train.csv").write_bytes(text.encode(encoding))
    editor = Editor(tmp_path, DataSettings())
    change(editor, 0, editor.read(0).objects)
    assert (tmp_path / "train.csv").read_bytes().decode(encoding) == text


def test_the_class_map_only_grows(tmp_path: Path) -> None:
    folder = write(tmp_path, "map_files")
    before = (folder / "class_map.txt").read_text() + "red\t9\n"
    (folder / "class_map.txt").write_text(before)
    editor = Editor(folder, DataSettings())
    index = place_of(editor, "extra.png")
    change(editor, index, [Annotation((1, 2, 30, 40), "new")])
    assert (folder / "class_map.txt").read_text() == before + "new\t10\n"
    with pytest.raises(ValueError, match="the background is no class"):
        change(editor, index, [Annotation((1, 2, 30, 40), "__background__")])


@pytest.mark.parametrize("form", ["folders", "pascal_voc", "labelme"])
def test_images_that_share_an_annotation_are_refused(form: str, tmp_path: Path) -> None:
    folder = write(tmp_path, form)
    first = next(image for _, image in Editor(folder, DataSettings()).images if image.name == "1.png")
    draw_image([], seed=0).save(first.with_suffix(".bmp"))
    if form == "pascal_voc":
        (folder / "ImageSets" / "Main" / "train.txt").unlink()
        (folder / "ImageSets" / "Main" / "test.txt").unlink()
    editor = Editor(folder, DataSettings())
    assert {editor.images[index][1].name for index in editor.broken} == {"1.png", "1.bmp"}
    with pytest.raises(ValueError, match="both would have one annotation"):
        editor.write(place_of(editor, "1.png"), [], "")


def test_parts_of_objects_and_lists_with_the_same_image_in_pascal_voc(tmp_path: Path) -> None:
    folder = write(tmp_path, "pascal_voc")
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text("1\n2\n")
    file = folder / "Annotations" / "1.xml"
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
    part = f"<object><name>hand</name>{box}</object>"
    file.write_text(f"<annotation><object><name>red</name>{box}{part}</object></annotation>")
    editor = Editor(folder, DataSettings())
    assert [image.name for _, image in editor.images].count("1.png") == 1
    index = place_of(editor, "1.png")
    objects = editor.read(index).objects
    assert objects is not None
    assert [thing.name for thing in objects] == ["red"]
    change(editor, index, objects)
    assert file.read_text().count("<object>") == 2


def test_a_link_to_a_file_outside_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    folder = write(tmp_path / "data", "labelme")
    target = tmp_path / "1.json"
    (folder / "1.json").rename(target)
    (folder / "1.json").symlink_to(target)
    before = target.read_bytes()
    editor = Editor(folder, DataSettings())
    assert change(editor, place_of(editor, "1.png"), []) == []
    assert target.read_bytes() == before
    assert not (folder / "1.json").is_symlink()


def test_a_link_inside_the_folder_stays_a_link(tmp_path: Path) -> None:
    folder = write(tmp_path, "labelme")
    target = tmp_path / "store" / "1.json"
    target.parent.mkdir()
    (folder / "1.json").rename(target)
    (folder / "1.json").symlink_to(target)
    target.chmod(0o640)
    editor = Editor(folder, DataSettings())
    change(editor, place_of(editor, "1.png"), [])
    assert (folder / "1.json").is_symlink()
    assert json.loads(target.read_text())["shapes"] == []
    assert target.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("form", EDITABLE)
def test_a_link_to_a_folder_outside_is_not_followed(form: str, tmp_path: Path) -> None:
    elsewhere, opened = tmp_path / "elsewhere", tmp_path / "opened"
    for folder in (tmp_path / "new", opened):
        folder.mkdir()
    write(tmp_path / "new", form).rename(elsewhere)
    (opened / "link").symlink_to(elsewhere, target_is_directory=True)
    before = contents(elsewhere)
    editor = Editor(opened, DataSettings())
    for name, objects in (("1.png", []), ("extra.png", [Annotation((1, 2, 30, 40), "red")])):
        with pytest.raises(ValueError, match=r"leads to .*elsewhere.*, which is outside of .*opened"):
            change(editor, place_of(editor, name), objects)
    assert contents(elsewhere) == before
    editor = Editor(opened / "link", DataSettings())  # the data folder itself may be a link
    assert change(editor, place_of(editor, "1.png"), []) == []


@pytest.mark.parametrize("form", EDITABLE)
def test_a_link_to_a_folder_inside_is_followed(form: str, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    for folder in (tmp_path / "new", opened):
        folder.mkdir()
    write(tmp_path / "new", form).rename(opened / "store")
    (opened / "a_link").symlink_to("store", target_is_directory=True)  # the first by name: images are seen through it
    editor = Editor(opened, DataSettings())
    index = place_of(editor, "1.png")
    assert "a_link" in editor.images[index][1].parts
    assert change(editor, index, []) == []
    assert (opened / "a_link").is_symlink()
    assert as_trained(opened / "store")["1.png"] == []


def test_no_file_is_removed_through_a_link(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    write_annotated(data / "positive" / "1.png", [("red", (1, 2, 30, 40))])
    draw_image([], seed=0).save(data / "positive" / "2.png")
    editor = Editor(data, DataSettings())
    index = place_of(editor, "2.png")
    change(editor, index, [])
    (data / "positive").rename(elsewhere)
    (data / "positive").symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(ValueError, match="which is outside of"):
        change(editor, index, None)
    assert (elsewhere / "2.bboxes.tsv").is_file()


@pytest.mark.parametrize("form", EDITABLE)
def test_what_a_killed_process_left_disturbs_nobody(form: str, tmp_path: Path) -> None:
    folder = write(tmp_path, form)
    before = as_trained(folder)
    for file in [file for file in folder.rglob("*") if file.is_file() and "original" not in file.parts]:
        file.with_name(f".partial-1-{file.name}").write_bytes(file.read_bytes()[:10])
    assert as_trained(folder) == before
    assert Editor(folder, DataSettings()).counts.count(None) == 1


@pytest.mark.parametrize("form", EDITABLE)
def test_a_process_killed_at_any_moment_leaves_the_old_annotation_or_the_new_one(form: str, tmp_path: Path) -> None:
    folder = write(tmp_path, form)
    script = Path(__file__).with_name("kill_during_save.py")
    found = json.loads(subprocess.check_output([sys.executable, script, folder, "extra.png"], text=True))
    assert found["wrong"] == []
    assert found["operations"] >= 15


def test_an_odd_file_of_labelme_does_not_shut_the_folder(tmp_path: Path) -> None:
    folder = write(tmp_path, "labelme")
    (folder / "classes.json").write_text("[1, 2]")
    (folder / "2.json").write_text("{")
    editor = Editor(folder, DataSettings())
    assert [editor.images[index][1].name for index in editor.broken] == ["2.png"]
    (folder / "2.json").unlink()
    index = place_of(editor, "2.png")
    assert editor.read(index).objects is None
    assert not editor.broken
    assert not editor.is_removable(index)


def test_images_that_cannot_be_opened_are_named_and_hidden_ones_are_none(tmp_path: Path) -> None:
    draw_image([], seed=0).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "._a.png").write_bytes(b"macOS")
    (tmp_path / "c.jpg").mkdir()
    editor = Editor(tmp_path, DataSettings())
    assert [image.name for _, image in editor.images] == ["a.png", "b.png"]
    assert list(editor.broken) == [1]


def test_an_image_on_another_drive_is_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_image([], seed=0).save(tmp_path / "a.png")
    editor = Editor(tmp_path, DataSettings())

    def commonpath(paths: Sequence[str]) -> str:
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr(os.path, "commonpath", commonpath)  # as Windows has it
    assert editor.is_inside(tmp_path / "a.png")
    assert editor.is_inside(tmp_path / "b" / ".." / "a.png")
    assert not editor.is_inside(tmp_path.with_name("elsewhere") / "a.png")
    assert not editor.is_inside(tmp_path / ".." / "a.png")


def test_a_mistake_that_was_there_does_not_keep_others_from_being_changed_twice(tmp_path: Path) -> None:
    draw_image([], seed=0).save(tmp_path / "1.png")
    box = "<bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>{}</xmax><ymax>20</ymax></bndbox>"
    objects = "".join(f"<object>\t<name>red</name>{box.format(*sides)}</object>" for sides in ((1, 130), (5, 20)))
    (tmp_path / "1.xml").write_text(f"<annotation>{objects}</annotation>")
    editor = Editor(tmp_path, DataSettings())
    wrong, right = editor.read(0).objects or []
    for x in (10.0, 20.0):  # the page keeps what it has read first
        change(editor, 0, [wrong, right._replace(box=(x, 1.0, 40.0, 20.0))])
    assert (editor.read(0).objects or [])[1].box == (20, 1, 40, 20)
