"""CSV: every common name and order of columns, every dialect, and edits in place."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from data.layouts import Photo, put, put_image
from data.reading import read_folder

from frcnn.config import DataSettings
from frcnn.data.discover import Discovery, discover
from frcnn.data.formats import csv_files
from frcnn.data.formats.source import Source
from frcnn.data.problems import Problem
from frcnn.data.records import Annotation, Record, Records

A, B = Photo("a b.png", 128, 96, ()), Photo("b.png", 64, 48, ())
HEAD = "path,x1,y1,x2,y2,label\n"
BOXES = {"a b.png": [("big cat", [1, 2, 30, 40.5]), ("dog", [5, 6, 70, 80])], "b.png": []}


def objects(records: Records) -> dict[str, list[tuple[str, list[float]]]]:
    return {r.image.name: list(zip(r.class_names, r.boxes.round(3).tolist(), strict=True)) for r in records}


def read(
    folder: Path, text: str, name: str = "boxes.csv"
) -> tuple[dict[str, list[tuple[str, list[float]]]], list[Problem]]:
    """The objects of the images of all splits of a file, and what was reported."""
    for photo in (A, B):
        put_image(folder / "photos" / photo.name, photo)
    put(folder / name, text)
    splits, problems = read_folder(folder)
    return {image: found for records in splits.values() for image, found in objects(records).items()}, problems


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "a b.png,1,2,30,40.5,big cat\nb.png,,,,,\na b.png,5,6,70,80,dog\n",
        "a b.png,1,2,30,40.5,big cat\nb.png,,,,,\na b.png,5,6,70,80,dog\n",
        "0,a b.png,1,2,30,40.5,big cat\n1,b.png,,,,,\n2,a b.png,5,6,70,80,dog\n",
        "a b.png,big cat,1,2,30,40.5\nb.png,,,,,\na b.png,dog,5,6,70,80\n",
        "a b.png,1,2,30,40.5,big cat,128,96\nb.png,,,,,,64,48\na b.png,5,6,70,80,dog,128,96\n",
        '"a b.png" 1 2 30 40.5 0 "big cat"\nb.png\n"a b.png" 5 6 70 80 1 dog Red\n',
        "image_path,xmin,ymin,xmax,ymax,label_orig\na b.png,1,2,30,40.5,big cat\nb.png,,,,,\na b.png,5,6,70,80,dog\n",
        "big cat,1,2,29,38.5,a b.png,128,96\n,,,,,b.png,64,48\ndog,5,6,65,74,a b.png,128,96\n",
        "\ufeffClass;xMin;xMax;yMin;yMax;FileName\r\nbig cat;1;30;2;40,5;a b.png\r\n;;;;;b.png\r\n"
        "dog;5;70;6;80;a b.png",
        "location\tx0\ty0\tx1\ty1\tclass_name\na b.png\t1\t2\t30\t40.5\tbig cat\nb.png\na b.png\t5\t6\t70\t80\tdog\n",
        ",image_name,x,y,w,h,label_name,width,height\n0,a b.png,1,2,29,38.5,big cat,128,96\n"
        "1,b.png,nan,nan,nan,nan,nan,,\n2,a b.png,5,6,65,74,dog,128,96\n",
        "file,left,top,width,height,class_id,class\na b.png,1,2,29,38.5,7,big cat\nb.png,,,,,,\n"
        "a b.png,5,6,65,74,8,dog\n",
        "image,x_center,y_center,width,height,label\na b.png,15.5,21.25,29,38.5,big cat\nb.png,,,,,\n"
        "a b.png,37.5,43,65,74,dog\n",
        'image_id,width,height,bbox,label\na b,128,96,"[1.0, 2.0, 29.0, 38.5]",big cat\nb,64,48,[],\n'
        "a b,128,96,(5 6 65 74),dog\n",
        "# a b.png is not a header\n"
        * 0
        + '"filename","class","xmin","ymin","xmax","ymax"\n"a b.png","big cat","1","2","30","40.5"\n'
        '"b.png","No finding","","","",""\n"a b.png","dog","5","6","70","80"\n',
        "name,xmin,ymin,xmax,ymax,class\n/content/x/a b.png,1,2,30,40.5,big cat\nC:\\x\\b.png,NaN,NaN,NaN,NaN,NaN\n"
        "https://x.org/a%20b.png,5,6,70,80,dog\n",
    ],
    ids=[
        "named",
        "RetinaNet",
        "RetinaNet, numbered",
        "label second",
        "SKU110K",
        "Udacity",
        "class column of another name",
        "makesense.ai",
        "another order, decimal comma",
        "tabs, from x0",
        "x y w h and the image's size",
        "left top width height",
        "center",
        "one cell",
        "quotes",
        "paths from elsewhere",
    ],
)
def test_columns(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == (BOXES, [])


@pytest.mark.parametrize("name", ["train.tsv", "labels.txt"])
def test_other_suffixes(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, "filename\txmin\tymin\txmax\tymax\tclass\nb.png\t1\t2\t30\t40\tcat\n", name)[0] == {
        "b.png": [("cat", [1, 2, 30, 40])]
    }


def test_encodings(tmp_path: Path) -> None:
    put_image(tmp_path / "b.png", B)
    text = "\r\n\r\npath\tx1\ty1\tx2\ty2\tlabel\r\nb.png\t1\t2\t30\t40\tKäse\r\n"
    (tmp_path / "boxes.csv").write_bytes(text.encode("utf-16"))
    assert objects(read_folder(tmp_path)[0]["all"]) == {"b.png": [("Käse", [1, 2, 30, 40])]}
    (tmp_path / "boxes.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"boxes\.csv, line \d, column \d+: not UTF-8 text .*; save it as UTF-8: '.+'"):
        read_folder(tmp_path)


def test_sizes_are_those_of_the_image(tmp_path: Path) -> None:
    put_image(tmp_path / "b.png", B)
    put(tmp_path / "boxes.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\nb.png,64,48,cat,1,2,30,40\n")
    assert read_folder(tmp_path)[0]["all"][0].size == (48, 64)


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        (HEAD + "b.png,0.25,0.5,0.5,1.0,cat\nb.png,0,0,1,1,cat\nb.png,0,0,0.5,1.1,cat\n", True),
        (
            "TRAIN,gs://b/b.png,cat,0.25,0.5,,,0.5,1.0,,\nTRAIN,b.png,cat,0,0,1,0,1,1,0,1\nTRAIN,b.png,cat,0,0,,,0.5,1.1,,\n",
            False,
        ),
        (
            "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\nb,xclick,/m/01,1,0.25,0.5,0.5,1,0\n"
            "b,xclick,/m/01,1,0,1,0,1,1\nb,xclick,/m/01,1,0,0.5,0,1.1,-1\n",
            False,
        ),
    ],
    ids=["any", "Google AutoML", "Open Images"],
)
def test_fractions_of_the_sides(tmp_path: Path, text: str, reported: bool) -> None:
    put(tmp_path / "class-descriptions-boxable.csv", "/m/01,cat\n/m/02,dog\n")
    found, problems = read(tmp_path, text)
    boxes = ([16, 24, 32, 48], [0, 0, 64, 48], [0, 0, 32, 52.8])
    expected: object = {"b.png": [("cat", pytest.approx(box)) for box in boxes]}
    assert found == expected
    assert [(problem.kind, problem.level) for problem in problems] == [("boxes in fractions", "repaired")] * reported


def test_fractions_are_known_though_half_of_the_boxes_leave_the_image(tmp_path: Path) -> None:
    found, _ = read(tmp_path, HEAD + "b.png,0.25,0.5,0.5,1.0,cat\nb.png,0.25,0.5,1.0625,1.0,cat\n")
    assert found == {"b.png": [("cat", [16, 24, 32, 48]), ("cat", [16, 24, 68, 48])]}


def test_groups_of_open_images_are_ignored(tmp_path: Path) -> None:
    put_image(tmp_path / "b.png", B)
    head = "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n"
    put(tmp_path / "boxes.csv", head + "b,cat,0,1,0,1,1\nb,cat,0,1,0,1,0\nb,cat,0,1,0,1,-1\n")
    assert read_folder(tmp_path)[0]["all"][0].ignore.tolist() == [True, False, False]


def test_boxes_come_as_the_file_says_them(tmp_path: Path) -> None:
    found, problems = read(tmp_path, HEAD + "b.png,30,40,1,2,cat\nb.png,-3,0,900,8,cat\nb.png,5,5,5,5,cat\n")
    assert found == {"b.png": [("cat", box) for box in ([30, 40, 1, 2], [-3, 0, 900, 8], [5, 5, 5, 5])]}
    assert problems == []


def test_lines_that_are_no_objects_are_left_out(tmp_path: Path) -> None:
    lines = "b.png,1,2,thirty,40,cat\nb.png,1,2,30,40,\nb.png,1,2,30,40,nan\n,1,2,30,40,cat\nb.png,1,2,30,40,cat\n"
    found, problems = read(tmp_path, HEAD + lines)
    assert found == {"b.png": [("cat", [1, 2, 30, 40])]}
    assert [str(problem) for problem in problems] == [
        f"{tmp_path}/boxes.csv, line 2: '1,2,thirty,40' must be four numbers: x1, y1, x2, y2; it is left out",
        f"{tmp_path}/boxes.csv, line 3: has a box without a class; it is left out",
        f"{tmp_path}/boxes.csv, line 4: has a box without a class; it is left out",
        f"{tmp_path}/boxes.csv, line 5: names no image",
    ]
    assert all((problem.level, problem.images) == ("left out", 0) for problem in problems)
    assert [problem.lost for problem in problems] == [("cat",), ("",), ("",), ("cat",)]


def test_images_that_are_missing_or_broken_are_left_out(tmp_path: Path) -> None:
    put(tmp_path / "bad.png", "no image")
    lines = "gone.png,0,0,1,1,cat\ngone.png,0,0,.5,1,cat\nbad.png,0,0,.5,1,cat\nb.png,0,0,.5,1,cat\n"
    found, problems = read(tmp_path, HEAD + lines)
    assert list(found) == ["b.png"]
    lost = [problem for problem in problems if problem.level == "left out"]
    assert [(problem.kind, problem.images, problem.objects) for problem in lost] == [
        ("missing image", 1, 2),
        ("unreadable image", 1, 1),
    ]
    assert "line 2: there is no image gone.png" in str(lost[0])


def test_a_file_without_classes_has_one(tmp_path: Path) -> None:
    found, (problem,) = read(tmp_path, 'image_id,width,height,bbox,source\nb,64,48,"[1, 2, 29, 38]",usask_1\n')
    assert found == {"b.png": [("object", [1, 2, 30, 40])]}
    assert problem.level == "warning"
    assert "no column of image_id, width, height, bbox, source has the class" in str(problem)


@pytest.mark.parametrize(
    "text",
    ["x1,y1,x2,y2,label,foto\n1,2,3,4,cat,b\n", "filename,xmin,ymin,rechts,unten,class\nb.png,1,2,3,4,cat\n"],
)
def test_a_file_that_lacks_a_column_says_which_it_has(tmp_path: Path, text: str) -> None:
    head = text.split("\n")[0].replace(",", ", ")
    with pytest.raises(ValueError, match=rf"boxes\.csv: has the columns {head}; name the needed ones path, x1"):
        read(tmp_path, text)
    put(tmp_path / "good.csv", HEAD + "b.png,1,2,30,40,cat\n")
    splits, problems = read_folder(tmp_path)
    assert (objects(splits["all"]), problems) == ({"b.png": [("cat", [1, 2, 30, 40])]}, [])
    found = discover(tmp_path, DataSettings())
    tree, (source,) = found.tree, found.sources
    assert [image.name for image in csv_files.images(source, tree)] == ["b.png", "a b.png"]


def test_a_table_of_other_columns_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no annotation file .*; boxes\.csv has the columns Foto;links;oben;Klasse;"):
        read(tmp_path, "Foto;links;oben;Klasse\n")


@pytest.mark.parametrize(
    "text",
    [
        "cat,0\ndog,1\n",
        "epoch,train/box_loss,metrics/mAP50(B)\n1,0.5,0.3\n",
        "split,class,ap,ap50,images\ntest,cat,0.5,0.8,12\n",
        "image_id,PredictionString\nb,1.0 0 0 50 50\n",
        "0 0.5 0.5 0.1 0.1\n",
        "0,0.5,0.5,0.1,0.1\n",
        "0.1\t0.2\t0.3\t0.4\n",
        "photos/b.png\n",
        "b.png 1,2,30,40,0\n",
        "torch==2.0\nnumpy\n",
        "b.png,cat\n",
        "1, 0.9, 0.8, 0.7, 0.6, 0.5\n",
        "",
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".txt"])
def test_other_tables_are_no_data(tmp_path: Path, text: str, suffix: str) -> None:
    assert not csv_files.recognizes(tmp_path / f"a{suffix}", text.encode())


# splits


def test_a_column_gives_the_split(tmp_path: Path) -> None:
    for name in "abcd":
        put_image(tmp_path / f"{name}.png", B)
    sets = ("TRAIN", "Validation", "test", "UNASSIGNED")
    lines = [f"{name}.png,1,2,30,40,cat,{split}\n" for name, split in zip("abcd", sets, strict=True)]
    put(tmp_path / "boxes.csv", "path,x1,y1,x2,y2,label,ML_USE\n" + "".join(lines))
    splits, problems = read_folder(tmp_path)
    assert {split: list(objects(records)) for split, records in splits.items()} == {
        "train": ["a.png"],
        "validation": ["b.png"],
        "test": ["c.png"],
        "all": ["d.png"],
    }
    assert problems == []


def test_folders_of_images_give_the_split(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        put_image(tmp_path / split / f"{split}.png", B)
    put(tmp_path / "boxes.csv", HEAD + "".join(f"{name}.png,1,2,30,40,cat\n" for name in ("train", "gone", "valid")))
    splits, problems = read_folder(tmp_path)
    assert {split: list(objects(records)) for split, records in splits.items()} == {
        "train": ["train.png"],
        "valid": ["valid.png"],
    }
    assert [problem.images for problem in problems] == [1]


def test_a_broken_file_among_others_is_left_out(tmp_path: Path) -> None:
    put(tmp_path / "a.csv", HEAD)
    (tmp_path / "a.csv").write_bytes(HEAD.encode() + "b.png,1,2,30,40,Käse\n".encode("latin-1"))
    found, (problem,) = read(tmp_path, HEAD + "b.png,1,2,30,40,cat\n")
    assert found == {"b.png": [("cat", [1, 2, 30, 40])]}
    assert (problem.kind, problem.path.name, problem.level) == ("unreadable annotation", "a.csv", "left out")


def test_lines_of_one_image_in_two_files_are_joined(tmp_path: Path) -> None:
    put(tmp_path / "a.csv", HEAD + "photos/b.png,1,2,30,40,cat\n")
    assert read(tmp_path, HEAD + "b.png,3,4,5,6,dog\n./photos/b.png,5,6,7,8,cow\n")[0] == {
        "b.png": [("cat", [1, 2, 30, 40]), ("dog", [3, 4, 5, 6]), ("cow", [5, 6, 7, 8])]
    }


def test_many_lines_take_little_time(tmp_path: Path) -> None:
    put_image(tmp_path / "0.png", B)
    for number in range(1, 1000):
        (tmp_path / f"{number}.png").hardlink_to(tmp_path / "0.png")
    put(tmp_path / "boxes.csv", HEAD + "".join(f"{number % 1000}.png,1,2,30,40,cat\n" for number in range(50_000)))
    start = time.perf_counter()
    assert len(read_folder(tmp_path)[0]["all"]) == 1000
    assert time.perf_counter() - start < 10


def test_vott_of_the_real_cats(shared: Path) -> None:
    splits, problems = read_folder(shared / "datasets" / "catvott")
    (records,) = splits.values()
    assert (len(records), records.class_counts, problems) == (100, {"Cat_Face": 124}, [])


# edits


def opened(folder: Path, text: str) -> tuple[Discovery, Source]:
    for photo in (A, B):
        put_image(folder / photo.name, photo)
    put(folder / "boxes.csv", text)
    found = discover(folder, DataSettings())
    return found, found.sources[0]


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("path,x1,y1,x2,y2,label,by\nb.png,1,2,30,40,cat,me\nb.png,1,2,8,9,dog,me\n", "b.png,1,2,11,22,cat,me"),
        ("label;x;y;w;h;path\ncat;1;2;29;38;b.png\ndog;1;2;7;7;b.png\n", "cat;1;2;10;20;b.png"),
        ("label,cx,cy,w,h,path\ncat,15.5,21,29,38,b.png\ndog,4.5,5.5,7,7,b.png\n", "cat,6,12,10,20,b.png"),
        ('path,label,bbox\nb,cat,"[1, 2, 29, 38]"\nb,dog,"[1, 2, 7, 7]"\n', 'b,cat,"[1, 2, 10, 20]"'),
        (
            "path,x1,y1,x2,y2,label\nb.png,0.5,0,1,1,cat\nb.png,0,0,0.5,1,dog\n",
            "b.png,0.015625,0.041666668,0.171875,0.45833334,cat",
        ),
    ],
)
def test_a_box_is_changed_in_the_columns_of_the_file(tmp_path: Path, text: str, edited: str) -> None:
    found, source = opened(tmp_path, text)
    tree = found.tree
    image = tmp_path / "b.png"
    cat, dog = csv_files.read_image(source, image, tree) or []
    csv_files.write_image(source, image, [cat, dog], tree)
    assert (tmp_path / "boxes.csv").read_text() == text
    csv_files.write_image(source, image, [cat._replace(box=(1, 2, 11, 22)), dog], tree)
    lines = (tmp_path / "boxes.csv").read_text().splitlines()
    assert lines == [text.splitlines()[0], edited, text.splitlines()[2]]
    again = csv_files.read_image(source, image, tree) or []
    assert again[0].box == pytest.approx((1, 2, 11, 22), abs=1e-4)


def test_other_lines_stay_and_new_images_get_lines(tmp_path: Path) -> None:
    text = HEAD + "b.png,1,2,30,40,cat\ngone.png,1,2,3,4,cat\nb.png,x,2,30,40,cat\n"
    found, source = opened(tmp_path, text)
    tree = found.tree
    every = list(csv_files.images(source, tree))
    assert [image.name for image in every] == ["b.png", "a b.png"]
    assert csv_files.read_image(source, tmp_path / "a b.png", tree) is None
    csv_files.write_image(source, tmp_path / "a b.png", [Annotation((1, 1, 9, 9), "dog")], tree)
    csv_files.write_image(source, tmp_path / "b.png", [], tree)
    expected = ["b.png,x,2,30,40,cat", "gone.png,1,2,3,4,cat", "a b.png,1,1,9,9,dog"]
    assert (tmp_path / "boxes.csv").read_text().splitlines()[1:] == expected
    csv_files.write_image(source, tmp_path / "a b.png", None, tree)
    assert (tmp_path / "boxes.csv").read_text().splitlines()[1:] == expected[:2]
    with pytest.raises(ValueError, match=r"boxes\.csv: has no column 'ignore'; add one"):
        csv_files.write_image(source, tmp_path / "b.png", [Annotation((1, 1, 9, 9), "a", ignore=True)], tree)


def test_new_images_are_of_the_training_split(tmp_path: Path) -> None:
    found, _ = opened(tmp_path, "path,x1,y1,x2,y2,label,split\nb.png,,,,,,test\ngone.png,,,,,,train\n")
    tree, sources = found.tree, found.sources
    names = {source.split: [i.name for i in csv_files.images(source, tree)] for source in sources}
    assert names == {"test": ["b.png"], "train": ["a b.png"]}
    csv_files.write_image(sources[1], tmp_path / "a b.png", [], tree)
    assert (tmp_path / "boxes.csv").read_text().splitlines()[-1] == "a b.png,,,,,,train"


def test_a_copy_of_a_file_counts_once(tmp_path: Path) -> None:
    text = HEAD + "a b.png,1,2,30,40.5,big cat\na b.png,5,6,70,80,dog\n"
    put(tmp_path / "boxes (1).csv", text + "a b.png,1,2,30,41,dog\n")
    found, problems = read(tmp_path, text)
    assert sorted(found["a b.png"]) == sorted([*BOXES["a b.png"], ("dog", [1, 2, 30, 41])])
    (told,) = (problem for problem in problems if problem.kind == "image annotated twice")
    assert told.level == "warning"
    assert told.message.startswith("2 lines")
    assert all(name in str(told) for name in ("boxes.csv", "boxes (1).csv"))


CLASSES_FIRST = "a b.png,1,85,35,92,89\na b.png,6,42,39,90,87\na b.png,3,19,13,48,71\nb.png,1,9,13,48,40\n"


def test_class_numbers_before_corners_without_a_head(tmp_path: Path) -> None:
    found, _ = read(tmp_path, CLASSES_FIRST)
    assert found["a b.png"][0] == ("1", [85, 35, 92, 89])
    assert found["b.png"] == [("1", [9, 13, 48, 40])]


def test_class_numbers_after_corners_without_a_head(tmp_path: Path) -> None:
    found, _ = read(tmp_path, "a b.png,85,35,92,89,1\na b.png,42,39,90,87,6\nb.png,9,13,48,40,1\n")
    assert found["b.png"] == [("1", [9, 13, 48, 40])]


def test_lines_that_two_orders_of_columns_fit_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path,x1,y1,x2,y2,label as well as path,label,x1,y1,x2,y2"):
        read(tmp_path, "a b.png,1,20,30,40,50\n")


@pytest.mark.parametrize("name", ["oidv7-class-descriptions-boxable.csv", "metadata/classes.csv"])
def test_open_images_names_its_classes_in_another_file(name: str, tmp_path: Path) -> None:
    put(tmp_path / name, "/m/01,cat\n/m/02,dog\n")
    found, _ = read(tmp_path, "ImageID,LabelName,XMin,XMax,YMin,YMax\nb,/m/02,0.25,0.5,0.25,0.5\n")
    assert [label for label, _ in found["b.png"]] == ["dog"]


def test_open_images_keeps_its_ids_when_it_is_edited(tmp_path: Path) -> None:
    put(tmp_path / "class-descriptions-boxable.csv", "/m/01,cat\n/m/02,dog\n")
    text = "ImageID,LabelName,XMin,XMax,YMin,YMax\nb,/m/02,0.25,0.5,0.25,0.5\n"
    (tree, *_), source = opened(tmp_path, text)
    assert csv_files.class_names([source], tree) == ["cat", "dog"]
    (dog,) = csv_files.read_image(source, tmp_path / "b.png", tree) or []
    assert dog.name == "dog"
    csv_files.write_image(source, tmp_path / "b.png", [dog], tree)
    assert (tmp_path / "boxes.csv").read_text() == text
    csv_files.write_image(source, tmp_path / "b.png", [dog._replace(name="cat")], tree)
    assert (tmp_path / "boxes.csv").read_text() == text.replace("/m/02", "/m/01")


def test_corners_in_one_cell_are_told(tmp_path: Path) -> None:
    """As x, y, width, height the box would leave its image."""
    put_image(tmp_path / "a.jpg", Photo("a.jpg", 40, 40, ()))
    put(tmp_path / "train.csv", 'image_id,bbox,label\na.jpg,"[20, 20, 40, 38]",cat\n')
    splits, problems = read_folder(tmp_path)
    (record,) = splits["train"]
    assert record.boxes.tolist() == [[20, 20, 40, 38]]
    assert [(problem.kind, problem.level) for problem in problems] == [("boxes as corners", "warning")]


@pytest.mark.parametrize("name", ["=1+1", "@SUM(A1)", "+x", "-2", "'=1+1", "''@x", "-", "+", "'", "a=b"])
def test_a_class_name_is_no_formula_of_a_spreadsheet(name: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    put_image(tmp_path / "images" / "a.png", A)
    record = Record(
        tmp_path / "images" / "a.png", np.array([[1, 2, 30, 40]], np.float32), (name,), np.zeros(1, bool), (96, 128)
    )
    csv_files.write(tmp_path, {"train": [record]}, [name])
    cells = (tmp_path / "train.csv").read_text().splitlines()[1].split(",")
    assert not re.match(r"[=+\-@].", cells[5])
    assert objects(read_folder(tmp_path)[0]["train"]) == {"a.png": [(name, [1, 2, 30, 40])]}
    discovery = discover(tmp_path, DataSettings())
    (image,), (source,) = discovery.tree.images, discovery.sources
    (annotation,) = csv_files.read_image(source, image, discovery.tree) or ()
    moved = [annotation._replace(box=(2, 2, 30, 40))]
    csv_files.write_image(source, image, moved, discovery.tree)
    assert objects(read_folder(tmp_path)[0]["train"]) == {"a.png": [(name, [2, 2, 30, 40])]}
