"""LabelMe and X-AnyLabeling: every shape, images beside and apart, and edits in place."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from data.layouts import Photo, put, put_image, put_json
from data.reading import read_folder

from frcnn.config import DataSettings
from frcnn.data.discover import discover
from frcnn.data.formats import labelme
from frcnn.data.problems import Problem
from frcnn.data.records import Annotation, Records

PHOTO = Photo("1.png", 128, 96, ())
BOX = ("cat", "rectangle", [[1, 2], [30, 40]])
Objects = list[tuple[str, list[float]]]


def content(path: str | None, *shapes: tuple[Any, Any, Any], **more: Any) -> dict[str, Any]:
    listed = [{"label": label, "points": points, "shape_type": kind, "flags": {}} for label, kind, points in shapes]
    sizes = {"imageHeight": 96, "imageWidth": 128}
    return {"version": "5.5.0", "flags": {}, "shapes": listed, "imagePath": path, "imageData": None} | sizes | more


def objects(records: Records) -> dict[str, Objects]:
    return {r.image.name: list(zip(r.class_names, r.boxes.tolist(), strict=True)) for r in records}


def read(folder: Path) -> tuple[dict[str, Objects], list[Problem]]:
    splits, problems = read_folder(folder)
    return {image: found for records in splits.values() for image, found in objects(records).items()}, problems


@pytest.mark.parametrize(
    ("kind", "points", "box"),
    [
        ("rectangle", [[30, 40], [1, 2]], [1, 2, 30, 40]),  # drawn from any corner
        ("rectangle", [[1, 2], [30, 2], [30, 40], [1, 40]], [1, 2, 30, 40]),  # X-AnyLabeling
        ("polygon", [[1, 50], [60, 20], [30, 90]], [1, 20, 60, 90]),
        (None, [[1, 50], [60, 20], [30, 90]], [1, 20, 60, 90]),
        ("circle", [[50, 50], [53, 54]], [45, 45, 55, 55]),
        ("rotation", [[10, 0], [20, 10], [10, 20], [0, 10]], [0, 0, 20, 20]),
        ("oriented_rectangle", [[10, 0], [20, 10], [10, 20], [0, 10]], [0, 0, 20, 20]),
        ("mask", [[1, 2], [30, 40]], [1, 2, 30, 40]),
        ("rectangle", [["1", "2.5"], ["30", "40"]], [1, 2.5, 30, 40]),
        ("rectangle", [[-3, 2], [300, 2]], [-3, 2, 300, 2]),  # a later step clips it
    ],
)
def test_shapes(tmp_path: Path, kind: str | None, points: list[list[float]], box: list[float]) -> None:
    put_image(tmp_path / "1.png", PHOTO)
    put_json(tmp_path / "1.json", content("1.png", ("cat", kind, points), score=float("nan")))
    assert read(tmp_path) == ({"1.png": [("cat", box)]}, [])


def test_points_and_lines_are_left_out_with_one_count(tmp_path: Path) -> None:
    kinds = ("point", "points", "line", "linestrip", "point")
    for name in "12":
        put_image(tmp_path / f"{name}.png", PHOTO)
        shapes = [("tip", kind, [[5, 5], [6, 6]]) for kind in kinds]
        put_json(tmp_path / f"{name}.json", content(f"{name}.png", *shapes, BOX))
    found, (problem,) = read(tmp_path)
    assert found == {"1.png": [("cat", [1, 2, 30, 40])], "2.png": [("cat", [1, 2, 30, 40])]}
    counts = "4 of the kind point, 2 of the kind points"
    assert f"10 shapes without a box: points, lines or the like, which are no objects ({counts}" in str(problem)
    assert (problem.level, problem.objects) == ("warning", 0)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            ("cat", "polygon", [[1, 2]]),
            "object 2 ('cat'): a polygon needs two points or more of two numbers each; it has [[1, 2]]",
        ),
        (
            ("cat", "rectangle", None),
            "object 2 ('cat'): a rectangle needs two points or more of two numbers each; it has None",
        ),
        (
            ("cat", "rectangle", [[1, "x"], [2, 3]]),
            "object 2 ('cat'): a rectangle needs two points or more of two numbers",
        ),
        (
            ("cat", "rectangle", 1),
            "object 2 ('cat'): a rectangle needs two points or more of two numbers each; it has 1",
        ),
        (("cat", ["x"], [[1, 10**400], [3, 4]]), "object 2 ('cat'): a ['x'] needs two points"),
        ((" ", "rectangle", [[1, 2], [3, 4]]), "object 2 (' '): has no label"),
        ((None, "rectangle", [[1, 2], [3, 4]]), "has no label"),
    ],
)
def test_shapes_that_are_no_objects_are_left_out(tmp_path: Path, shape: tuple[Any, Any, Any], message: str) -> None:
    put_image(tmp_path / "1.png", PHOTO)
    put_json(tmp_path / "1.json", content("1.png", BOX, shape))
    found, (problem,) = read(tmp_path)
    assert found == {"1.png": [("cat", [1, 2, 30, 40])]}
    assert message in str(problem)
    assert (problem.level, problem.objects) == ("left out", 1)


@pytest.mark.parametrize(
    ("image", "annotation", "path"),
    [
        ("1.png", "1.json", "1.png"),
        ("1.png", "1.json", "Hello.jpg"),
        ("1.png", "1.json", None),
        ("1.png", "1.json", "C:\\Users\\me\\1.png"),
        ("1.png", "1.png.json", "1.png"),
        ("images/1.png", "labels/1.json", "1.png"),
        ("images/1.png", "labels/7.json", "..\\images\\1.png"),
        ("images/1.png", "labels/7.json", "/home/me/images/1.png"),
        ("images/1.PNG", "labels/1.json", "1.jpg"),
    ],
)
def test_the_image_is_found(tmp_path: Path, image: str, annotation: str, path: str | None) -> None:
    put_image(tmp_path / "1.png", PHOTO)
    (tmp_path / image).parent.mkdir(exist_ok=True)
    (tmp_path / "1.png").rename(tmp_path / image)
    put_json(tmp_path / annotation, content(path, BOX))
    splits, problems = read_folder(tmp_path)
    assert [record.image for records in splits.values() for record in records] == [tmp_path / image]
    assert problems == []


def test_the_image_beside_wins_over_an_old_path(tmp_path: Path) -> None:
    for name in "12":
        put_image(tmp_path / f"{name}.png", PHOTO)
        put_json(tmp_path / f"{name}.json", content("1.png", (name, *BOX[1:])))
    assert {name: found[0][0] for name, found in read(tmp_path)[0].items()} == {"1.png": "1", "2.png": "2"}


def test_a_second_annotation_of_an_image_is_left_out(tmp_path: Path) -> None:
    put_image(tmp_path / "1.png", PHOTO)
    put_json(tmp_path / "0.json", content("1.png", ("old", *BOX[1:])))
    put_json(tmp_path / "1.json", content("1.png", BOX))
    found, (problem,) = read(tmp_path)
    assert found == {"1.png": [("cat", [1, 2, 30, 40])]}
    assert (problem.path.name, problem.kind, problem.objects) == ("0.json", "image annotated twice", 1)


def test_an_image_that_is_only_inside_its_annotation_is_left_out(tmp_path: Path) -> None:
    put_image(tmp_path / "1.png", PHOTO)
    put_json(tmp_path / "1.json", content("1.png", BOX, imageData="iVBORw0KGgo="))
    put_json(tmp_path / "2.json", content("2.png", BOX, BOX, imageData="iVBORw0KGgo="))
    put_json(tmp_path / "3.json", content("3.png", BOX))
    found, problems = read(tmp_path)
    assert list(found) == ["1.png"]
    assert [(problem.level, problem.images, problem.objects) for problem in problems] == [
        ("left out", 1, n) for n in (2, 1)
    ]
    assert "2.json: there is no image 2.png; 1 image is in" in str(problems[0])
    assert "has the image inside (imageData)" in str(problems[0])
    assert "imageData" not in str(problems[1])


def test_a_broken_file_and_an_image_without_annotation_are_left_out(tmp_path: Path) -> None:
    for name in "123":
        put_image(tmp_path / f"{name}.png", PHOTO)
    put_json(tmp_path / "1.json", content("1.png", BOX))
    put(tmp_path / "2.json", json.dumps(content("2.png", BOX))[:200])
    found, problems = read(tmp_path)
    assert list(found) == ["1.png"]
    assert [(problem.path.name, problem.kind, problem.images) for problem in problems] == [
        ("2.json", "unreadable annotation", 1),
        ("3.png", "image without annotation", 0),
    ]


def test_folders_give_the_split(tmp_path: Path) -> None:
    put_image(tmp_path / "a" / "train" / "1.png", PHOTO)
    put_json(tmp_path / "a" / "train" / "1.json", content("1.png", BOX))
    put_image(tmp_path / "images" / "val" / "train_2.png", PHOTO)
    put_json(tmp_path / "labels" / "train_2.json", content("train_2.png", BOX))
    splits, _ = read_folder(tmp_path)
    assert {split: list(objects(records)) for split, records in splits.items()} == {
        "train": ["1.png"],
        "val": ["train_2.png"],
    }


def test_annotations_are_recognized_wherever_the_image_data_is(tmp_path: Path) -> None:
    file = tmp_path / "1.json"
    for more in ({}, {"imageData": "A" * 9000}):
        put_json(file, {**more, **content("1.png", BOX, **more)})
        assert labelme.recognizes(file, file.read_bytes()[:4096])
        file.write_bytes(json.dumps({**more, **content("1.png", BOX, **more)}).encode("utf-16"))
        assert labelme.recognizes(file, file.read_bytes()[:4096])


@pytest.mark.parametrize(
    "text",
    [
        '{"images": [{"id": 1, "file_name": "1.png"}], "annotations": [], "categories": []}',
        '[{"image": "1.png", "annotations": [{"label": "cat", "coordinates": {"x": 1, "y": 2}}]}]',
        '{"1.png9": {"filename": "1.png", "regions": [{"shape_attributes": {"name": "rect"}}]}}',
        '{"detections": [{"image": "1.png", "box": [1, 2, 3, 4]}]}',
        '{"model": {"shapes": {"input": [1, 3, 64, 64]}}}',
        "[1, 2]",
        "{",
        "",
    ],
)
def test_other_json_is_not_labelme(tmp_path: Path, text: str) -> None:
    put(tmp_path / "1.json", text)
    assert not labelme.recognizes(tmp_path / "1.json", text.encode())


def test_many_files_take_little_time(tmp_path: Path) -> None:
    put_image(tmp_path / "0.png", PHOTO)
    for number in range(2000):
        if number:
            (tmp_path / f"{number}.png").hardlink_to(tmp_path / "0.png")
        put_json(tmp_path / f"{number}.json", content(f"{number}.png", *[BOX] * 10))
    start = time.perf_counter()
    assert len(read_folder(tmp_path)[0]["all"]) == 2000
    assert time.perf_counter() - start < 10


def test_the_real_circuits(shared: Path) -> None:
    splits, (problem,) = read_folder(shared / "datasets" / "circuit")
    records = splits["all"]
    assert (len(records), sum(records.class_counts.values()), len(records.class_counts)) == (324, 7504, 27)
    assert "10229 shapes without a box: points, lines or the like" in str(problem)


# edits


def edit(folder: Path, name: str, change: Any) -> list[Annotation] | None:
    """Read an image, write what `change` makes of its objects, and read it again."""
    settings = DataSettings()
    found = discover(folder, settings)
    tree, source = found.tree, found.sources[0]
    image = next(image for image in labelme.images(source, tree) if image.name == name)
    before = labelme.read_image(source, image, tree)
    labelme.write_image(source, image, change(before), tree)
    return labelme.read_image(source, image, tree)


def test_what_the_file_says_besides_stays(tmp_path: Path) -> None:
    put_image(tmp_path / "images" / "1.png", PHOTO)
    polygon = ("cat", "polygon", [[1, 2], [30, 4], [5, 60]])
    before = content("../images/1.png", polygon, ("tip", "point", [[5, 5]]), ("dog", *polygon[1:]), by="me")
    before["shapes"][0]["difficult"] = True
    put_json(tmp_path / "labels" / "1.json", before)
    edit(tmp_path, "1.png", lambda objects: [objects[0], objects[1]._replace(box=(1, 1, 9, 9))])
    first, tip, second = before["shapes"]
    moved = second | {"points": [[1, 1], [9, 9]], "shape_type": "rectangle"}
    assert json.loads((tmp_path / "labels" / "1.json").read_text()) == before | {"shapes": [first, moved, tip]}
    assert read_folder(tmp_path)[0]["all"][0].ignore.tolist() == [True, False]
    cat, *_ = edit(tmp_path, "1.png", lambda objects: [objects[0]._replace(ignore=False), objects[1]]) or []
    assert not cat.ignore
    assert not read_folder(tmp_path)[0]["all"][0].ignore.any()


@pytest.mark.parametrize("place", ["", "labels/"])
def test_a_new_annotation_lies_where_the_others_are(tmp_path: Path, place: str) -> None:
    for name in "12":
        put_image(tmp_path / f"{name}.png", PHOTO)
    put_json(tmp_path / f"{place}1.json", content("1.png", BOX))
    assert edit(tmp_path, "2.png", lambda objects: [] if objects is None else 1 / 0) == []
    new = json.loads((tmp_path / f"{place}2.json").read_text())
    assert (new["imagePath"], new["imageWidth"], new["imageHeight"]) == ("../2.png" if place else "2.png", 128, 96)
    assert edit(tmp_path, "2.png", lambda objects: [*objects, Annotation((1, 2, 3, 4), "dog")]) is not None
    assert read(tmp_path) == ({"1.png": [("cat", [1, 2, 30, 40])], "2.png": [("dog", [1, 2, 3, 4])]}, [])
    assert edit(tmp_path, "2.png", lambda objects: None) is None
    assert not (tmp_path / f"{place}2.json").exists()
